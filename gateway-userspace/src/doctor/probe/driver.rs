//! What a network card's driver tells.

use std::{io, net::UdpSocket, os::fd::AsRawFd as _, process::Command};

use nix::sys::socket::SockProtocol;

use super::netlink;
use crate::doctor::facts::{Driver, Unknown, XdpFeatures};

/// Asks the driver of an interface.
pub fn read(name: &str, index: u32) -> Driver {
    Driver {
        name: driver_name(name)
            .map_err(|error| Unknown(format!("the driver of {name} does not say its name: {error}"))),
        xdp: xdp_features(index)
            .map_err(|error| Unknown(format!("the kernel does not say what {name} can do with XDP: {error}"))),
        lro: lro(name).map_err(|error| Unknown(format!("the driver of {name} does not say its offloads: {error}"))),
        xdp_errors: xdp_errors(name),
    }
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// Versions, addresses and lengths that are not looked at.
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `ETHTOOL_GDRVINFO`.
const GET_DRIVER_INFO: u32 = 0x03;
/// `ETHTOOL_GFLAGS`.
const GET_FLAGS: u32 = 0x25;
/// `ETH_FLAG_LRO`.
const FLAG_LRO: u32 = 1 << 15;
/// `SIOCETHTOOL`.
const ETHTOOL: libc::c_ulong = 0x8946;

fn driver_name(interface: &str) -> io::Result<String> {
    let mut info = DriverInfo { command: GET_DRIVER_INFO, driver: [0; 32], rest: [0; 160] };
    // SAFETY: for this command the kernel writes a `struct ethtool_drvinfo`, which is 196 bytes long, as ours is.
    unsafe { ethtool(interface, &mut info) }?;
    let name = info.driver.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn lro(interface: &str) -> io::Result<bool> {
    let mut value = Value { command: GET_FLAGS, data: 0 };
    // SAFETY: for this command the kernel writes a `struct ethtool_value`, as ours is.
    unsafe { ethtool(interface, &mut value) }?;
    Ok(value.data & FLAG_LRO != 0)
}

/// Calls ioctl(2) with SIOCETHTOOL.
///
/// # Safety
/// `T` must be what the kernel reads and writes for the command that it begins with.
unsafe fn ethtool<T>(interface: &str, request: &mut T) -> io::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut envelope: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in envelope.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    envelope.ifr_ifru.ifru_data = (&raw mut *request).cast();
    // SAFETY: the envelope is an `ifreq` with a zero-terminated name; the caller answers for what it points to, which
    // outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL as _, &raw mut envelope) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The generic netlink family `netdev` (Linux 6.3), as in `linux/netdev.h`.
fn xdp_features(index: u32) -> io::Result<XdpFeatures> {
    /// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_NAME`, `CTRL_ATTR_FAMILY_ID`.
    const CONTROLLER: (u16, u8, u16, u16) = (0x10, 3, 2, 1);
    /// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES`.
    const DEVICE: (u8, u16, u16) = (1, 1, 3);
    /// `enum netdev_xdp_act`.
    const BASIC: u64 = 1;
    const TRANSMIT: u64 = 4;
    let missing = || io::Error::other("no answer; Linux 6.3 or newer gives one");
    let (controller, get_family, family_name, family_id) = CONTROLLER;
    let family = generic(controller, get_family, &netlink::attribute(family_name, b"netdev\0"))?;
    let family = find(&family, family_id).ok_or_else(missing)?;
    let family = u16::from_ne_bytes(family.as_slice().try_into().map_err(io::Error::other)?);
    let (get_device, ifindex, features) = DEVICE;
    let device = generic(family, get_device, &netlink::attribute(ifindex, &index.to_ne_bytes()))?;
    let features = find(&device, features).ok_or_else(missing)?;
    let features = u64::from_ne_bytes(features.as_slice().try_into().map_err(io::Error::other)?);
    Ok(XdpFeatures { native: features & BASIC != 0, transmit: features & TRANSMIT != 0 })
}

/// Length of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

fn generic(family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    /// Of the command set; both families understand it.
    const VERSION: u8 = 1;
    let body = [&[command, VERSION, 0, 0], attributes].concat();
    netlink::request(SockProtocol::NetlinkGeneric, family, netlink::ONE, &body)
}

fn find(answers: &[Vec<u8>], wanted: u16) -> Option<Vec<u8>> {
    let attributes = netlink::attributes(answers.first()?.get(GENERIC_HEADER..)?);
    attributes.into_iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec())
}

/// The driver's own counters of what XDP sent in vain, from ethtool(8): the system call behind it lets the kernel write
/// as much as it has by then, whatever room there is. Without the tool there are none.
fn xdp_errors(interface: &str) -> Vec<(String, u64)> {
    let output = Command::new("ethtool").args(["-S", interface]).env("LC_ALL", "C").output();
    output.map(|output| counters(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// Names differ from driver to driver. Drops on the receiving side are mostly the programs' own verdicts.
fn counters(text: &str) -> Vec<(String, u64)> {
    let is_failure = |name: &str| {
        let failed = ["err", "full"].iter().any(|part| name.contains(part));
        name.contains("xdp") && (failed || name.contains("xdp_tx_drop"))
    };
    let one = |line: &str| {
        let (name, value) = line.trim().split_once(':')?;
        Some((name.trim().to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(one).filter(|(name, _): &(String, u64)| is_failure(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_to_send_are_told_from_verdicts() {
        let text = "NIC statistics:\n     peer_ifindex: 3\n     rx_queue_0_xdp_drops: 183\n     rx_queue_0_xdp_tx: 245\n     \
                    rx_queue_0_xdp_tx_errors: 1\n     tx_queue_0_xdp_xmit_errors: 2\n     tx_queue_0_xdp_tx_drops: 3\n     \
                    rx_xdp_tx_full: 4\n     rx_errors: 5\n";
        let expected = [
            ("rx_queue_0_xdp_tx_errors", 1),
            ("tx_queue_0_xdp_xmit_errors", 2),
            ("tx_queue_0_xdp_tx_drops", 3),
            ("rx_xdp_tx_full", 4),
        ];
        assert_eq!(counters(text), expected.map(|(name, count)| (name.to_owned(), count)));
        assert!(counters("no stats available\n").is_empty());
    }

    #[test]
    fn the_kernel_answers_for_the_loopback_interface() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        assert_eq!(xdp_features(index).unwrap(), XdpFeatures { native: false, transmit: false });
        assert!(xdp_features(0x7fff_ffff).is_err());
        assert!(!lro("lo").unwrap());
    }
}
