//! The state in which this node announces itself, where nodes do (etcd).
//!
//! A node that drains is to go on draining when its agent is started again, so a file says so: `draining`, beside the
//! control socket. It is empty; that it is there is what it says.
//!
//! A node whose gateway has been told to stop drains, too, until it has a gateway that stays. That is not written down: an
//! agent that is started again hears it from the gateway.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
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
    /// Has the source announce this node in another state, and gives the one that is announced then: a node whose gateway is
    /// about to leave drains anyway.
    ///
    /// # Errors
    /// If nodes do not announce themselves there: then the state stands where the members are listed.
    pub(super) fn announce(&self, state: MemberState) -> Result<MemberState> {
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
        self.say_whether_we_stay();
        Ok(*self.announced.borrow())
    }

    /// Announces the state that this node has now.
    fn say_whether_we_stay(&self) {
        let leaving = self.gateways.staffing();
        self.announced.send_if_modified(|announced| {
            let state = if leaving.borrow().leaving { MemberState::Draining } else { read(&self.config().node.socket) };
            if *announced == state {
                return false;
            }
            info!("this node announces itself as {state}");
            *announced = state;
            true
        });
    }
}

/// Announces what follows from the gateways' coming and going, for as long as the agent lives.
pub(super) async fn keep(agent: Arc<Agent>) {
    let mut staffing = agent.gateways.staffing();
    loop {
        agent.say_whether_we_stay();
        if staffing.changed().await.is_err() {
            return;
        }
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
