//! The secret that tokens are signed with: from a file, or from those that the gateway's configuration names.

use std::{fs::File, io::Read as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use ringsteer_openim::token::Keys;

use crate::config::{self, Config};

/// Largest file taken for a secret, in bytes.
const MAX_BYTES: u64 = 4096;

/// Where the secret is.
#[derive(Clone, Debug, clap::Args)]
pub struct SecretFile {
    /// The file with the secret that gateways check tokens with, if it is not the one that the configuration names. A
    /// line end after it does not count
    #[arg(long, value_name = "FILE", env = "RINGSTEER_TOKEN_SECRET_FILE")]
    secret_file: Option<PathBuf>,
    /// The gateway's configuration: its `token_secret_files` in `[openim]`, of which the first one signs
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

impl SecretFile {
    /// The keys made of it.
    pub(super) fn keys(&self) -> Result<Keys> {
        let Some(path) = &self.secret_file else { return self.configured() };
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
    /// Those of the gateway's configuration.
    fn configured(&self) -> Result<Keys> {
        const HINT: &str = "there is no token secret: name its file (--secret-file, RINGSTEER_TOKEN_SECRET_FILE) or the \
                            configuration of a gateway (--config, RINGSTEER_CONFIG)";
        let config = Config::load(&self.config).context(HINT)?;
        let openim = config.openim.with_context(|| format!("{} serves no OpenIM's clients", self.config.display()));
        Ok(openim.context(HINT)?.keys()?)
    }
}
