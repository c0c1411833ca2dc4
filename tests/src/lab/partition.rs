//! Hosts that cannot reach each other, until they can again.
//!
//! Packets are dropped where they come in from one side's link, before bridge and routes, by an nftables table on the
//! router: whatever sent them, be it an XDP program, and whoever they claim to come from. It goes with the router's
//! namespace, so nothing has to be swept.

use super::{Host, Lab, command};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU32, Ordering};

/// A partition in force. Dropping it heals it.
#[must_use = "it is healed when dropped"]
pub struct Partition {
    router: Host,
    /// None once healed.
    table: Option<String>,
}

// === impl Lab ===

impl Lab {
    /// Cuts each host of one side off from each of the other: nothing that leaves one for an address of the other
    /// arrives, questions for its link address included. It vanishes without a word, as on a broken link. The router is
    /// on neither side, and the virtual addresses are no host's: packets to them pass.
    ///
    /// # Errors
    /// If nft is not installed or refuses the rules.
    pub fn partition(&self, one: &[&Host], other: &[&Host]) -> Result<Partition> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let table = format!("partition{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let rules = rules(&table, one, other);
        self.router()
            .run(|| command::run_with_input("nft", &["-f", "-"], &rules))
            .with_context(|| format!("rules given to nft:\n{rules}"))?;
        Ok(Partition { router: self.router().clone(), table: Some(table) })
    }

    /// Cuts a host off from all others.
    ///
    /// # Errors
    /// As [`partition`](Self::partition).
    pub fn isolate(&self, host: &Host) -> Result<Partition> {
        let others: Vec<&Host> = self.links().filter(|other| other.name() != host.name()).collect();
        self.partition(&[host], &others)
    }
}

// === impl Partition ===

impl Partition {
    /// Lets the hosts hear each other again.
    ///
    /// # Errors
    /// If nft fails.
    pub fn heal(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        let Some(table) = self.table.take() else { return Ok(()) };
        self.router.command("nft", &["delete", "table", "netdev", &table]).map(drop)
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            // Where the lab goes at the same time, this does not matter.
            eprintln!("lab: a partition was not healed: {error:#}");
        }
    }
}

/// The table: for each host a chain on the router's end of its link.
fn rules(table: &str, one: &[&Host], other: &[&Host]) -> String {
    let mut rules = format!("table netdev {table} {{\n");
    for (hosts, unreachable) in [(one, other), (other, one)] {
        let set = |element: &dyn Fn(&Host) -> String| {
            unreachable.iter().map(|host| element(host)).collect::<Vec<_>>().join(", ")
        };
        let v4 = set(&|host| host.v4().to_string());
        let v6 = set(&|host| format!("{}, {}", host.v6(), solicited_node(host.v6())));
        for host in hosts {
            let interface = host.router_interface();
            let _ = writeln!(
                rules,
                "chain {interface} {{\n\
                 type filter hook ingress device \"{interface}\" priority 0;\n\
                 ip daddr {{ {v4} }} drop\n\
                 ip6 daddr {{ {v6} }} drop\n\
                 arp daddr ip {{ {v4} }} drop\n\
                 }}"
            );
        }
    }
    rules + "}\n"
}

/// The group that is asked for the link address of a host with this address (RFC 4291, section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., last_but_one, last] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | last_but_one & 0xff, last)
}
