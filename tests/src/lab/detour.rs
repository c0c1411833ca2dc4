//! A longer way to a host, through another one that forwards by its routing table.

use super::topology::BRIDGE;
use super::{Family, Host, Lab, command};
use anyhow::Result;
use std::fmt::Write;

/// A detour in force. Dropping it gives the shortest way back.
#[must_use = "the shortest way is taken again when it is dropped"]
pub struct Detour {
    router: Host,
    to: Host,
    through: Host,
}

// === impl Lab ===

impl Lab {
    /// Has the router send what is for `to` to `through` instead, which passes it on. Both are on the fleet's network.
    /// What `to` sends takes no detour.
    ///
    /// # Errors
    /// If the routes cannot be set.
    pub fn detour(&self, to: &Host, through: &Host) -> Result<Detour> {
        through.set_sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // It would tell the router of the shorter way.
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/eth0/send_redirects", "0"),
        ])?;
        let detour = Detour { router: self.router().clone(), to: to.clone(), through: through.clone() };
        detour.routes("replace")?;
        Ok(detour)
    }
}

// === impl Detour ===

impl Detour {
    fn routes(&self, verb: &str) -> Result<()> {
        let mut batch = String::new();
        for family in Family::ALL {
            let (to, via) = (self.to.address(family), self.through.address(family));
            let _ = writeln!(batch, "route {verb} {to}/{} via {via} dev {BRIDGE}", family.bits());
        }
        command::ip_batch(Some(self.router.namespace()), &batch)
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        if let Err(error) = self.routes("del") {
            eprintln!("lab: {} is still reached through {}: {error:#}", self.to.name(), self.through.name());
        }
    }
}
