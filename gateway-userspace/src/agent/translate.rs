//! From the configuration's words to those of the maps.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use ringsteer_ebpf::{
    layout, tunnel,
    wire::family::{Family as _, V4},
};

use crate::{
    config::{Config, XdpMode},
    control::ProgramStatus,
    dataplane::{Dataplane, attach::Mode, publish::Service},
    ring::Ring,
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
    let mtu = smallest_mtu(&config.node.interfaces)?;
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
            mss: segment_size(one.address.ip(), mtu).with_context(|| format!("the service `{}`", one.name))?,
        });
    }
    Ok(services)
}

/// The largest segment that clients of a service at this address may send where packets have up to `mtu` bytes, all in
/// bytes. It leaves room for the tunnel.
fn segment_size(service: IpAddr, mtu: u32) -> Result<u16> {
    // IP and TCP headers; and the least a segment must have to be admitted, or, over IPv6, the least MTU there is (RFC
    // 8200 section 5).
    let (headers, least) = match service {
        IpAddr::V4(_) => (40, u32::from(V4::DEFAULT_MSS) + 40 + tunnel::RESERVED),
        IpAddr::V6(_) => (60, 1280),
    };
    ensure!(mtu >= least, "an MTU of {mtu} is too small to tunnel its packets between nodes: {least} is the least");
    Ok(u16::try_from(mtu - headers - tunnel::RESERVED).unwrap_or(u16::MAX))
}

fn smallest_mtu(interfaces: &[String]) -> Result<u32> {
    let mut smallest = u32::MAX;
    for interface in interfaces {
        smallest = smallest.min(mtu_of(interface).with_context(|| format!("cannot read the MTU of {interface}"))?);
    }
    Ok(smallest)
}

/// SIOCGIFMTU: unlike `/sys/class/net`, it speaks of the network namespace we are in, whatever is mounted at `/sys`.
fn mtu_of(interface: &str) -> std::io::Result<u32> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request is an `ifreq` with a zero-terminated name, and the kernel fills in the MTU.
    let (result, mtu) = unsafe {
        let result = libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCGIFMTU, &raw mut request);
        (result, request.ifr_ifru.ifru_mtu)
    };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(mtu as u32) }
}

/// What `status` says about the programs.
pub fn programs(dataplane: &mut Dataplane) -> Result<Vec<ProgramStatus>> {
    let steer = dataplane.steer().info()?;
    let admit = dataplane.admit().info()?;
    let one = |name: &str, info: aya::programs::ProgramInfo| ProgramStatus {
        name: name.into(),
        id: info.id(),
        tag: format!("{:016x}", info.tag()),
    };
    Ok(vec![one("steer", steer), one("admit", admit)])
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

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

    #[test]
    fn a_segment_leaves_room_for_the_tunnel() {
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        assert_eq!(segment_size(v4, 1500).unwrap(), 1412);
        assert_eq!(segment_size(v6, 1500).unwrap(), 1392);
        assert_eq!(segment_size(v4, 624).unwrap(), 536);
        assert_eq!(segment_size(v6, 1280).unwrap(), 1172);
        for (address, mtu) in [(v4, 623), (v6, 1279), (v4, 0)] {
            let message = segment_size(address, mtu).unwrap_err().to_string();
            assert!(message.contains(&format!("an MTU of {mtu} is too small")), "{message}");
        }
    }
}
