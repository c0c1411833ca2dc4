//! TCP listeners, and whose they are.

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use nix::sys::socket::SockProtocol;

use super::netlink;
use crate::doctor::facts::{Fact, Listener, Owner, Unknown};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// Length of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// Length of `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// `1 << TCP_LISTEN`.
const LISTENING: u32 = 1 << 10;
/// `INET_DIAG_REQ_PROTOCOL`: a protocol whose number is more than a byte.
const PROTOCOL: u16 = 3;
/// `INET_DIAG_SKV6ONLY`.
const ONLY_IPV6: u16 = 11;

/// A listener as the kernel lists it.
struct Listed {
    address: SocketAddr,
    only_ipv6: bool,
    inode: u32,
}

/// All listeners of this network namespace.
pub fn listeners() -> Fact<Vec<Listener>> {
    let unknown = |error: io::Error| Unknown(format!("cannot list the listening sockets: {error}"));
    let tcp = list(libc::IPPROTO_TCP).map_err(unknown)?;
    // A kernel that cannot list them has none, or hides them.
    let mptcp = match list(libc::IPPROTO_MPTCP) {
        Ok(listed) => listed,
        Err(error) if has_mptcp() => return Err(unknown(error)),
        Err(_) => Vec::new(),
    };
    let owners = owners();
    // Behind an MPTCP listener stands a TCP one with the same address; a process has the former.
    let one = |listed: &Listed| {
        let behind = mptcp.iter().find(|one| one.address == listed.address);
        let inode = behind.map_or(listed.inode, |one| one.inode);
        Listener {
            address: listed.address,
            only_ipv6: listed.only_ipv6,
            mptcp: behind.is_some(),
            owner: owners.get(&inode).cloned(),
        }
    };
    Ok(tcp.iter().map(one).collect())
}

/// Whether any MPTCP socket is open. Columns of `/proc/net/protocols`: protocol, size, sockets.
fn has_mptcp() -> bool {
    let text = fs::read_to_string("/proc/net/protocols").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("MPTCP")).any(|line| line.split_whitespace().nth(2) != Some("0"))
}

fn list(protocol: i32) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        // Family, protocol, extensions, padding, states; no socket in particular.
        let mut body = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
        body.extend(LISTENING.to_ne_bytes());
        body.resize(REQUEST, 0);
        body.extend(netlink::attribute(PROTOCOL, &protocol.cast_unsigned().to_ne_bytes()));
        let answers = netlink::request(SockProtocol::NetlinkSockDiag, BY_FAMILY, netlink::DUMP, &body)?;
        listed.extend(answers.iter().filter_map(|answer| read(answer)));
    }
    Ok(listed)
}

fn read(answer: &[u8]) -> Option<Listed> {
    let (family, port) = (i32::from(*answer.first()?), u16::from_be_bytes(answer.get(4..6)?.try_into().ok()?));
    let bytes: [u8; 16] = answer.get(8..24)?.try_into().ok()?;
    let ip: IpAddr = match family {
        libc::AF_INET => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(),
        _ => return None,
    };
    let only_ipv6 = netlink::attributes(answer.get(ANSWER..)?).any(|(kind, value)| kind == ONLY_IPV6 && value == [1]);
    Some(Listed { address: SocketAddr::new(ip, port), only_ipv6, inode: netlink::word(answer, 68)? })
}

/// Processes by the sockets they hold, as far as this one may look.
fn owners() -> HashMap<u32, Owner> {
    let mut owners = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let inodes: Vec<u32> =
            files.flatten().filter_map(|file| socket_inode(&fs::read_link(file.path()).ok()?)).collect();
        if inodes.is_empty() {
            continue;
        }
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned();
        owners.extend(inodes.into_iter().map(|inode| (inode, Owner { pid, name: name.clone() })));
    }
    owners
}

/// The number in `socket:[…]`.
fn socket_inode(target: &std::path::Path) -> Option<u32> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::fd::{FromRawFd as _, RawFd},
    };

    use super::*;

    fn ours(address: SocketAddr) -> Listener {
        listeners().unwrap().into_iter().find(|one| one.address == address).expect("is listed")
    }

    #[test]
    fn a_listener_is_found_with_its_owner() {
        let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let found = ours(socket.local_addr().unwrap());
        assert!(!found.mptcp);
        assert_eq!(found.owner.unwrap().pid, std::process::id());
    }

    #[test]
    fn an_mptcp_listener_is_told_from_a_plain_one() {
        // SAFETY: no pointers.
        let fd: RawFd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
        if fd < 0 {
            eprintln!("this kernel has no MPTCP, so there is nothing to tell apart");
            return;
        }
        // SAFETY: the descriptor is new, nobody else has it, and it is a stream socket. listen(2) binds it by itself.
        let socket = unsafe {
            assert_eq!(libc::listen(fd, 1), 0);
            TcpListener::from_raw_fd(fd)
        };
        let port = socket.local_addr().unwrap().port();
        let found = ours(SocketAddr::from(([0, 0, 0, 0], port)));
        assert!(found.mptcp);
        assert_eq!(found.owner.unwrap().pid, std::process::id());
    }
}
