//! From the configuration's words to those of the maps.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use ringsteer_ebpf::layout;

use crate::{
    config::{Config, XdpMode},
    control::ProgramStatus,
    dataplane::{Dataplane, attach::Mode, publish::Service},
    ring::Ring,
    segment_size,
};

/// The modes to try, in this order.
pub fn modes(configured: XdpMode) -> Vec<Mode> {
    match configured {
        XdpMode::Auto => vec![Mode::Native, Mode::Generic],
        XdpMode::Native => vec![Mode::Native],
        XdpMode::Generic => vec![Mode::Generic],
    }
}

/// Refuses a ring whose nodes cannot all reach each other through the tunnel.
///
/// # Errors
/// Says which member, and what its address should be.
pub fn check_nodes(ring: &Ring) -> Result<()> {
    let mut family = None;
    for member in ring.members() {
        let (number, address) = (member.number, member.address.ip());
        ensure!(
            !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()),
            "member {number} has the link-local address {address}, which the kernel finds no route to: give it a \
             global or unique local one"
        );
        let first = *family.get_or_insert(address.is_ipv4());
        ensure!(
            first == address.is_ipv4(),
            "member {number} has the address {address}, and others have {} ones: a tunnel has one family, so all nodes \
             need addresses of the same. (Clients and services may have both)",
            if first { "IPv4" } else { "IPv6" }
        );
    }
    Ok(())
}

/// The services, with the segment size their interfaces allow.
pub fn services(config: &Config) -> Result<Vec<Service>> {
    let mut services = Vec::new();
    for one in &config.services {
        let address = match one.address.ip() {
            IpAddr::V4(v4) => layout::mapped(v4.octets()),
            IpAddr::V6(v6) => v6.octets(),
        };
        services.push(Service {
            address,
            port: one.address.port(),
            parameter: one.parameter.as_ref().map(|name| name.as_str().as_bytes().to_vec()).unwrap_or_default(),
            mss: segment_size::of(one.address.ip(), &config.node.interfaces)
                .with_context(|| format!("the service `{}`", one.name))?,
        });
    }
    Ok(services)
}

/// What `status` says about the programs.
pub fn programs(dataplane: &mut Dataplane) -> Result<Vec<ProgramStatus>> {
    let steer = dataplane.steer().info()?;
    let admit = dataplane.admit().map(|admit| admit.info()).transpose()?;
    let one = |name: &str, info: aya::programs::ProgramInfo| ProgramStatus {
        name: name.into(),
        id: info.id(),
        tag: format!("{:016x}", info.tag()),
    };
    Ok([one("steer", steer)].into_iter().chain(admit.map(|admit| one("admit", admit))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, Epoch, NodeAddress, fixtures};

    /// A ring of nodes with these addresses.
    fn ring_at(addresses: &[&str]) -> Ring {
        let member = |(number, address): (u16, &&str)| crate::ring::Member {
            address: NodeAddress::new(address.parse().unwrap()).unwrap(),
            ..fixtures::member(number, &format!("node-{number}:88"))
        };
        Ring::new(Epoch(1), Algorithm::OpenIm, (1..).zip(addresses).map(member).collect()).unwrap()
    }

    #[test]
    fn nodes_share_a_family_and_have_routable_addresses() {
        check_nodes(&ring_at(&["198.51.100.1", "198.51.100.2"])).unwrap();
        check_nodes(&ring_at(&["2001:db8::1", "fd00::2"])).unwrap();
        for (addresses, expected) in [
            (["198.51.100.1", "2001:db8::2"], "member 2 has the address 2001:db8::2, and others have IPv4 ones"),
            (["2001:db8::1", "198.51.100.2"], "member 2 has the address 198.51.100.2, and others have IPv6 ones"),
            (["2001:db8::1", "fe80::2"], "member 2 has the link-local address fe80::2"),
        ] {
            let message = check_nodes(&ring_at(&addresses)).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
