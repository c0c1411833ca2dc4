//! `ringsteer load`: the one step that takes more rights than the agent has while it runs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use tracing::info;

use crate::{
    config::{self, Config, Mode},
    dataplane::{Dataplane, Settings},
};

/// Load the kernel programs and pin them, without attaching them to anything
///
/// For hosts where the agent shall run with as few rights as it can. Loading needs CAP_BPF, CAP_NET_ADMIN and
/// CAP_PERFMON; the agent finds the programs loaded and needs CAP_BPF and CAP_NET_ADMIN alone. In Kubernetes this is an
/// init container's work. Where the agent has all three, it loads the programs itself and this command is not needed.
///
/// Running it again finds them loaded and is content. What an older version has attached goes on running.
#[derive(Debug, Parser)]
pub struct Load {
    /// The node's configuration file
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Load the kernel programs from this object file instead of the embedded ones
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
}

impl Load {
    /// Loads and pins, and returns.
    ///
    /// # Errors
    /// If the configuration cannot be used, or the kernel refuses the programs.
    pub fn run(self) -> Result<()> {
        let config = Config::load(&self.config)?;
        let dataplane = Dataplane::load(&settings(&config, self.object))?;
        let what = if dataplane.was_loaded_before() { "found the programs loaded" } else { "loaded the programs" };
        info!("{what}, pinned in {}", config.node.pin_dir.display());
        Ok(())
    }
}

/// What the configuration says about loading.
pub(super) fn settings(config: &Config, object: Option<PathBuf>) -> Settings {
    Settings {
        pin_dir: config.node.pin_dir.clone(),
        max_flows: config.node.max_flows,
        slot_shift: config.node.handshake_slot_shift,
        accept: config.node.mode == Mode::Accept,
        object,
    }
}
