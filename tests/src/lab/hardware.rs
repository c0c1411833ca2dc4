//! Links nearer to hardware than a plain veth is. Benchmarks use them: what a network card or a switch does by itself
//! would otherwise count as work of the hosts, and more of it the more hosts a packet passes.
//!
//! * Every interface receives as a card does: it polls, into pages with room in front. A veth does so with an XDP
//!   program on it. Without, it hands over the sender's own buffer, and whoever needs room or a page in it copies it:
//!   the first XDP program on the way, or the kernel where it forwards to an interface with one.
//! * Between nodes a switch forwards that takes none of their time: XDP on the router's ends instead of its bridge.
//!
//! A node hears from its neighbours once it has an XDP program, such as its agent's, and never before.

use super::topology::{INTERFACE, Link, Place};
use super::{Host, xdp_pass};
use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::xdp::DevMapHash;
use aya::programs::{Xdp, XdpMode};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// In place as long as it lives.
pub struct Hardware {
    _switch: Ebpf,
    _cards: Vec<OwnedFd>,
}

/// The programs that only the lab loads.
///
/// # Errors
/// If they were not built, or the kernel refuses their maps.
pub fn programs() -> Result<Ebpf> {
    let directory = std::env::var_os("RINGSTEER_BPF_DIR")
        .context("RINGSTEER_BPF_DIR is not set; run this through `cargo xtask`")?;
    let path = PathBuf::from(directory).join("lab.bpf.o");
    Ebpf::load_file(&path).with_context(|| format!("cannot load {}", path.display()))
}

impl Hardware {
    /// Puts the programs on all interfaces but those of the nodes, whose agents bring their own.
    pub(super) fn install(router: &Host, hosts: &[Host], links: &[Link]) -> Result<Self> {
        let (clients, fleet): (Vec<&Link>, Vec<&Link>) = links.iter().partition(|link| link.place == Place::Client);
        let switch = router.run(|| switch(&fleet))?;
        let mut cards = router.run(|| xdp_pass::attach(clients.iter().map(|link| link.router_interface.as_str())))?;
        for (host, _) in hosts.iter().zip(links).filter(|(_, link)| link.place != Place::Node) {
            cards.extend(host.run(|| xdp_pass::attach([INTERFACE].into_iter()))?);
        }
        Ok(Self { _switch: switch, _cards: cards })
    }
}

/// Makes a switch of the router's ends of these links. The kernel looks for their numbers in the namespace of the
/// thread.
fn switch(links: &[&Link]) -> Result<Ebpf> {
    let mut programs = programs()?;
    let mut ports: DevMapHash<_> =
        programs.take_map("switch_ports").context("lab.bpf.o has no map `switch_ports`")?.try_into()?;
    for link in links {
        let interface = link.router_interface.as_str();
        let number = nix::net::if_::if_nametoindex(interface)
            .with_context(|| format!("looking for the interface {interface}"))?;
        // A host's link address ends in its IPv4 one.
        ports.insert(u32::from_ne_bytes(link.addresses.v4.octets()), number, None, 0)?;
    }
    let program: &mut Xdp = programs.program_mut("lab_switch").context("lab.bpf.o has no `lab_switch`")?.try_into()?;
    program.load().context("the kernel refused `lab_switch`")?;
    for link in links {
        program.attach(&link.router_interface, XdpMode::Driver)?;
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Family, Lab, addresses};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn nodes_hear_each_other_without_the_bridge() -> Result<()> {
        let lab = Lab::builder().nodes(2).hardware().build()?;
        let mut programs = Vec::new();
        for (index, host) in lab.nodes().iter().enumerate() {
            let other = lab.node(1 - index);
            let link = addresses::link_address(other.addresses(), 0);
            for address in other.addresses().each() {
                let neighbour = address.to_string();
                let permanent = ["neigh", "replace", &neighbour, "lladdr", &link, "dev", INTERFACE, "nud", "permanent"];
                host.command("ip", &permanent)?;
            }
            lab.router().command("ip", &["link", "set", host.router_interface(), "nomaster"])?;
            programs.extend(host.run(|| xdp_pass::attach([INTERFACE].into_iter()))?);
        }
        for family in Family::ALL {
            let address = SocketAddr::new(lab.node(1).address(family), 7);
            let _listener = lab.node(1).run(|| TcpListener::bind(address))?;
            lab.node(0).run(|| TcpStream::connect_timeout(&address, LIMIT))?;
        }
        Ok(())
    }
}
