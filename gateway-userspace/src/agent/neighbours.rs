//! Keeps the link-layer addresses of the other nodes known.
//!
//! The kernel's route lookup from XDP (`bpf_fib_lookup`) uses the neighbour table but never asks the network to fill it.
//! An ordinary datagram does: one to each node, now and then, to the discard port (RFC 863).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, sync::watch};
use tracing::{debug, warn};

use crate::config::Config;

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);

/// The discard port.
const DISCARD: u16 = 9;

/// Sends them, for as long as the agent runs and at once when the members change.
pub async fn keep(mut configuration: watch::Receiver<Arc<Config>>) {
    let socket = match UdpSocket::bind(("0.0.0.0", 0)).await {
        Ok(socket) => socket,
        Err(error) => {
            warn!("cannot keep the neighbour table filled: {error}");
            return;
        }
    };
    loop {
        let config = Arc::clone(&configuration.borrow_and_update());
        for member in config.ring().members().iter().filter(|member| member.number != config.node.member) {
            let to = SocketAddr::new(member.address.ip(), DISCARD);
            if let Err(error) = socket.send_to(&[], to).await {
                // "Connection refused" is the other host's answer, and all that was wanted.
                debug!(%to, "{error}");
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(INTERVAL) => {}
            changed = configuration.changed() => if changed.is_err() { return },
        }
    }
}
