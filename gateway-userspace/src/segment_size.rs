//! The largest segment that clients of a service may send.
//!
//! What they send must fit the tunnel between the nodes in one piece. Agent and gateway say it to them, depending on who
//! answers the SYN.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use ringsteer_ebpf::{
    tunnel,
    wire::family::{Family as _, V4},
};

/// That of a service at this address whose packets arrive by these interfaces, in bytes.
///
/// # Errors
/// If the MTU of an interface cannot be read or is too small.
pub fn of(service: IpAddr, interfaces: &[String]) -> Result<u16> {
    segment_size(service, smallest_mtu(interfaces)?)
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

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
