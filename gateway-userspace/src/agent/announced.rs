//! The state in which this node announces itself, where nodes do (etcd).
//!
//! A node that drains is to go on draining when its agent is started again, so a file says so: `draining`, beside the
//! control socket. It is empty; that it is there is what it says.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tracing::info;

use super::shared::Agent;
use crate::{config::Membership, ring::MemberState};

/// The file's name.
const FILE: &str = "draining";

/// Where it lies, for a control socket at `socket`.
pub fn path(socket: &Path) -> PathBuf {
    socket.with_file_name(FILE)
}

/// The state that was announced last.
pub fn read(socket: &Path) -> MemberState {
    if path(socket).exists() { MemberState::Draining } else { MemberState::Active }
}

/// Remembers the state for the next start.
fn write(socket: &Path, state: MemberState) -> io::Result<()> {
    match state {
        MemberState::Draining => fs::write(path(socket), b""),
        MemberState::Active => match fs::remove_file(path(socket)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

impl Agent {
    /// Has the source announce this node in another state.
    ///
    /// # Errors
    /// If nodes do not announce themselves there: then the state stands where the members are listed.
    pub(super) fn announce(&self, state: MemberState) -> Result<()> {
        let config = self.config();
        match &config.membership {
            Membership::Etcd(_) => {}
            Membership::File { .. } => bail!(
                "the members are listed in a file, and so is their state: set `state = \"{state}\"` of {} there and \
                 raise the epoch, on every node",
                config.node.identity
            ),
            Membership::Kubernetes(_) => bail!(
                "in Kubernetes a node drains when its pod ends: delete the pod, or cordon and drain the host it runs on"
            ),
        }
        write(&config.node.socket, state).context("cannot remember the state for the next start")?;
        self.announced.send_replace(state);
        info!("this node announces itself as {state}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        assert_eq!(read(&socket), MemberState::Active);
        for state in [MemberState::Active, MemberState::Draining, MemberState::Draining, MemberState::Active] {
            write(&socket, state).unwrap();
            assert_eq!(read(&socket), state);
        }
    }
}
