//! From the configuration's words to those of the maps.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer_ebpf::{layout, tunnel};

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

/// The services, with the segment size their interfaces allow.
pub fn services(config: &Config, ring: &Ring) -> Result<Vec<Service>> {
    for member in ring.members() {
        ensure!(
            member.address.ip().is_ipv4(),
            "member {} has an IPv6 address; nodes need IPv4 ones so far",
            member.number.get()
        );
    }
    /// IPv4 and TCP headers.
    const HEADERS: u32 = 40;
    /// What a virtual LAN of minimal MTU still carries; less cannot be admitted.
    const LEAST_MSS: u32 = 536;
    let mtu = smallest_mtu(&config.node.interfaces)?;
    let mss = mtu.saturating_sub(HEADERS + tunnel::RESERVED);
    ensure!(mss >= LEAST_MSS, "an MTU of {mtu} is too small to tunnel packets between nodes: 624 is the least");
    let mut services = Vec::new();
    for one in &config.services {
        let SocketAddr::V4(address) = one.address else {
            bail!("the service `{}` has an IPv6 address; services need IPv4 ones so far", one.name);
        };
        services.push(Service {
            address: layout::mapped(address.ip().octets()),
            port: address.port(),
            parameter: one.parameter.as_ref().map(|name| name.as_str().as_bytes().to_vec()).unwrap_or_default(),
            mss: u16::try_from(mss).unwrap_or(u16::MAX),
        });
    }
    Ok(services)
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
    let steer = dataplane.steer()?.info()?;
    let admit = dataplane.admit()?.info()?;
    let one = |name: &str, info: aya::programs::ProgramInfo| ProgramStatus {
        name: name.into(),
        id: info.id(),
        tag: format!("{:016x}", info.tag()),
    };
    Ok(vec![one("steer", steer), one("admit", admit)])
}
