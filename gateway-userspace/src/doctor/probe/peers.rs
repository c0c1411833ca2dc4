//! The other agents: a connection to each one's port, and what its handshake tells.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{net::TcpStream, time::timeout};

use crate::doctor::facts::PeerAnswer;

/// How long one may take. The kernel gives up asking for a link-layer address after three seconds, and then says so.
const PATIENCE: Duration = Duration::from_secs(4);

/// What agents at these addresses answer on their port, in the same order.
pub async fn ask(addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Vec<PeerAnswer> {
    join_all(addresses.into_iter().map(|address| answer(SocketAddr::new(address, port)))).await
}

async fn answer(address: SocketAddr) -> PeerAnswer {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => PeerAnswer::Connected { mtu: mtu(&stream, address).ok() },
        Ok(Err(error)) => PeerAnswer::Failed(error.to_string()),
        Err(_) => PeerAnswer::Failed(format!("{address} did not answer within {} s", PATIENCE.as_secs())),
    }
}

/// The MTU by which the other side has told us how much to send at once, if that is less than our own: the segment size
/// agreed on, and the headers.
fn mtu(stream: &TcpStream, address: SocketAddr) -> io::Result<u32> {
    /// `TCPI_OPT_TIMESTAMPS`, and the bytes that timestamps take in each segment.
    const TIMESTAMPS: (u8, u32) = (1, 12);
    // SAFETY: all-zero is a valid `tcp_info`.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of the struct that it knows by this name.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let options = if info.tcpi_options & TIMESTAMPS.0 != 0 { TIMESTAMPS.1 } else { 0 };
    let headers = if address.is_ipv4() { 40 } else { 60 };
    Ok(info.tcpi_snd_mss + options + headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn somebody_there_and_nobody() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let here = listener.local_addr().unwrap();
        let answers = ask([here.ip()], here.port()).await;
        // The loopback interface takes 65536 bytes, and a segment is at most 65483 long.
        assert!(matches!(answers[..], [PeerAnswer::Connected { mtu: Some(1500..) }]), "{answers:?}");
        drop(listener);
        let answers = ask([here.ip()], here.port()).await;
        assert!(matches!(&answers[..], [PeerAnswer::Failed(why)] if why.contains("refused")), "{answers:?}");
    }
}
