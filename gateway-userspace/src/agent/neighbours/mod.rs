//! Keeps the link-layer addresses of the other nodes known, by asking the kernel to.
//!
//! The kernel's route lookup from XDP (`bpf_fib_lookup`) reads the neighbour table but never fills it, and the tunnel's packets
//! are sent by nobody who would. So the next hop to each node is made a *managed* neighbour (`NTF_EXT_MANAGED`, Linux
//! 5.16; `ip neigh` shows it as `managed`): the kernel then resolves it and probes it every `interval_probe_time_ms`, whether
//! or not an agent runs (promise 4). The agent follows routes and links, for the next hop may become another.
//!
//! * [`plan`]: which entries to keep and which to let go, pure;
//! * [`table`]: the kernel's side.

mod plan;
mod table;

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use self::{plan::Step, table::Table};

/// How long to wait after a look before the next one, however much changes.
const PAUSE: Duration = Duration::from_millis(500);
/// How often to look although nothing was heard: the kernel drops notifications when too many wait.
const INTERVAL: Duration = Duration::from_secs(30);

/// Keeps the next hops to `nodes` known, for as long as somebody can change these.
pub async fn keep(mut nodes: watch::Receiver<Vec<IpAddr>>) {
    let (table, mut changes) = match table::open() {
        Ok(opened) => opened,
        Err(error) => {
            warn!("cannot keep the next hops to other nodes known: {error}; connections to some may be dropped");
            return;
        }
    };
    // Said once, not at every look.
    let mut complaint = String::new();
    loop {
        changes.forget();
        let wanted = nodes.borrow_and_update().clone();
        let said = look(&table, &wanted).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        if said != complaint && !said.is_empty() {
            warn!("{said}");
        }
        complaint = said;
        sleep(PAUSE).await;
        tokio::select! {
            () = changes.next() => {}
            () = sleep(INTERVAL) => {}
            changed = nodes.changed() => if changed.is_err() { return },
        }
    }
}

/// Has the kernel keep what it should. Goes on after what fails, and tells the last failure.
async fn look(table: &Table, nodes: &[IpAddr]) -> Result<()> {
    let mut wanted = BTreeSet::new();
    let mut result = Ok(());
    for &node in nodes {
        match table.next_hop(node).await {
            Ok(next_hop) => wanted.extend(next_hop),
            Err(error) => {
                result =
                    Err(error.context(format!("there is no route to node {node}; `ip route` shows those there are")))
            }
        }
    }
    for step in plan::steps(&wanted, &table.entries().await?) {
        match (table.take(step).await, step) {
            (Ok(()), Step::Keep(neighbour)) => info!("the kernel keeps the next hop {} known", neighbour.address),
            (Ok(()), Step::Release(neighbour)) => info!("the next hop {} is not needed any more", neighbour.address),
            (Err(error), _) => {
                result = Err(error).with_context(|| format!("cannot have the kernel keep a neighbour: {step:?}"));
            }
        }
    }
    result
}

/// Lets go of every neighbour that an agent in this network namespace asked the kernel to keep.
pub async fn release() -> Result<()> {
    table::open()?.0.release_all().await
}
