//! What a ring is called: its epoch (when) and its digest (what).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Algorithm, Member};

/// A ring's place in time: of two rings the one with the higher epoch is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A ring's content: SHA-256 of its canonical form. Rings of equal digest place every key alike.
///
/// The canonical form is text, so that anybody can check a digest with `sha256sum`. Each line ends in a line feed:
///
/// ```text
/// ringsteer ring 1
/// algorithm openim
/// member 1 active 198.51.100.11 gateway-0.example:88
/// member 2 draining 198.51.100.12 gateway-1.example:88
/// ```
///
/// Members stand in ring order, which decides collisions, with number, state, address (IPv6 as in RFC 5952) and
/// identity. The
/// epoch is left out: it says when, not what.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// The first eight bytes of a digest: what fits the kernel's map and a log line. For recognising, not for trusting.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortDigest(u64);

/// Epoch and digest together: which ring it is. Two nodes agree if they name the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingName {
    /// When.
    pub epoch: Epoch,
    /// What.
    pub digest: Digest,
}

/// A string that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no ring digest, which has 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

// === impl Digest ===

impl Digest {
    pub(super) fn of(algorithm: Algorithm, members: &[Member]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(format!("ringsteer ring 1\nalgorithm {algorithm}\n"));
        for Member { number, identity, address, state } in members {
            hasher.update(format!("member {number} {state} {address} {identity}\n"));
        }
        Self(hasher.finalize().into())
    }

    /// The part that the kernel's `ring` map carries.
    pub fn short(&self) -> ShortDigest {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        ShortDigest(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError(text.to_owned());
        if text.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| match c {
                b'0'..=b'9' => Ok(c - b'0'),
                b'a'..=b'f' => Ok(c - b'a' + 10),
                _ => Err(wrong()),
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

// === impl RingName ===

impl fmt::Display for RingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of epoch {}", self.digest.short(), self.epoch)
    }
}

// === impl ShortDigest ===

impl ShortDigest {
    /// As a number: the eight bytes in network order.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for ShortDigest {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortDigest({self})")
    }
}
