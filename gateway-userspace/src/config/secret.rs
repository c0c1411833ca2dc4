//! The fleet secret, which keys the cookies (promise 6).

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use ringsteer_ebpf::layout;

use super::{ConfigError, Problem};

/// Where a secret comes from. Files are read when the secret is wanted: only the agent may be able to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// It stands in the configuration.
    Inline(Secret),
    /// A file holds it.
    File(PathBuf),
}

/// A 128-bit secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 16]);

/// The secrets in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// New cookies are made with this one.
    pub current: Secret,
    /// Cookies made with this one are still accepted, while the fleet changes from it to `current` or is about to.
    pub previous: Option<Secret>,
}

// === impl SecretSource ===

impl SecretSource {
    /// The secret itself.
    pub(super) fn read(&self) -> Result<Secret, ConfigError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let text = read_start(path)
                    .map_err(|error| ConfigError::elsewhere(Problem::UnreadableSecret { path: path.clone(), error }))?;
                Secret::from_hex(text.trim_ascii(), || format!("the file {}", path.display()))
                    .map_err(ConfigError::elsewhere)
            }
        }
    }
}

/// As much of the file as can matter: one that is longer holds no secret.
fn read_start(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut text)?;
    Ok(text)
}

// === impl Secret ===

impl Secret {
    /// The secret that 32 hexadecimal digits stand for; `place` says where they were found.
    pub(crate) fn from_hex(digits: &[u8], place: impl Fn() -> String) -> Result<Self, Problem> {
        let malformed = |digits: String| Problem::MalformedSecret { place: place(), digits };
        if digits.len() != 32 {
            return Err(malformed(format!("{} characters", digits.len())));
        }
        let digit = |c: u8| char::from(c).to_digit(16).map(|value| value as u8);
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(malformed("something other than hexadecimal digits".to_owned()));
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }

    /// The secret itself, to derive other keys from.
    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The secret as SipHash takes it: two little-endian halves.
    fn words(&self) -> [u64; 2] {
        let whole = u128::from_le_bytes(self.0);
        [whole as u64, (whole >> 64) as u64]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

// === impl Secrets ===

impl Secrets {
    /// The secrets as the kernel's `secrets` map holds them.
    pub fn to_kernel(&self) -> layout::secret::Secrets {
        let current = self.current.words();
        layout::secret::Secrets { current, previous: self.previous.as_ref().map_or(current, Secret::words) }
    }
}
