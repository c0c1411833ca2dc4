//! The secret that tokens are signed with, from a file.

use std::{fs::File, io::Read as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use ringsteer_openim::token::Keys;

/// Largest file taken for a secret, in bytes.
const MAX_BYTES: u64 = 4096;

/// Where the secret is.
#[derive(Clone, Debug, clap::Args)]
pub struct SecretFile {
    /// The file with the secret that gateways check tokens with. A line end after it does not count
    #[arg(long, value_name = "FILE", env = "RINGSTEER_TOKEN_SECRET_FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretFile {
    /// The keys made of it.
    pub(super) fn keys(&self) -> Result<Keys> {
        let Some(path) = &self.secret_file else {
            bail!("name the file with the token secret: --secret-file, or RINGSTEER_TOKEN_SECRET_FILE");
        };
        let name = path.display();
        let mut secret = Vec::new();
        let file = File::open(path).with_context(|| format!("cannot open the token secret {name}"))?;
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut secret)
            .with_context(|| format!("cannot read the token secret {name}"))?;
        if secret.len() as u64 > MAX_BYTES {
            bail!("the token secret {name} has more than {MAX_BYTES} bytes");
        }
        while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            secret.pop();
        }
        Keys::new([secret], Duration::ZERO).with_context(|| format!("the token secret {name} cannot be used"))
    }
}
