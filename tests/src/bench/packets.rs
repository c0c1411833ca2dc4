//! Packets as an edge gets them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use ringsteer_ebpf::{
    cookie::{Tuple, make, mss_class},
    layout::{bench, mapped, secret::Secrets},
    tunnel::DEFAULT_PORT,
};

use crate::{
    kernel::addresses,
    lab::Family,
    packet::{Datagram, Flags, Frame, Segment, TcpOption},
};

/// The clients' initial sequence number.
const INITIAL_SEQUENCE: u32 = 1000;
/// The clients' MSS.
const MSS: u16 = 1460;
/// Bytes of payload of a segment in the middle of a connection: a short websocket frame.
const MESSAGE: usize = 32;

/// The first of the client addresses; connections count up from its last byte. 96 addresses follow in its network.
const FIRST_CLIENT: [u8; 4] = [203, 0, 113, 64];

/// Address and port of a connection's client, by the rule that `bench_restore` follows.
pub fn client(connection: u32) -> SocketAddrV4 {
    let (last_byte, port) = bench::client(connection);
    let [a, b, c, d] = FIRST_CLIENT;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d + last_byte), port)
}

/// What the client of a connection acknowledges in its first segment, if it got its cookie in `slot`.
pub fn first_acknowledgement(secrets: &Secrets, connection: u32, slot: u32) -> u32 {
    let client = client(connection);
    let SocketAddr::V4(server) = service() else { unreachable!("the benchmark's service is IPv4") };
    let tuple = Tuple {
        client: mapped(client.ip().octets()),
        server: mapped(server.ip().octets()),
        client_port: client.port(),
        server_port: server.port(),
    };
    make(secrets.current(), &tuple, slot, INITIAL_SEQUENCE, mss_class(MSS)).wrapping_add(1)
}

/// A SYN as Linux sends it.
pub fn syn() -> Vec<u8> {
    let options = vec![
        TcpOption::MaximumSegmentSize(MSS),
        TcpOption::SackPermitted,
        TcpOption::Timestamps(1, 0),
        TcpOption::Nop,
        TcpOption::WindowScale(7),
    ];
    frame(Segment { options, ..segment(Flags::SYN, INITIAL_SEQUENCE, &[]) }.to_bytes())
}

/// A first segment; its acknowledgement number is filled in each round.
pub fn first(request: &str) -> Vec<u8> {
    frame(segment(Flags::ACK | Flags::PSH, INITIAL_SEQUENCE + 1, request.as_bytes()).to_bytes())
}

/// A segment with a message, in the middle of a connection.
pub fn established() -> Vec<u8> {
    frame(message().to_bytes())
}

/// The same, as another node tunnels it to us.
pub fn tunnelled() -> Vec<u8> {
    let [us, from] = [1, 2].map(|number| addresses::node(Family::V4, number));
    let tunnel = Datagram::new((from, 0xc123), (us, DEFAULT_PORT), message().to_bytes());
    frame(tunnel.to_bytes())
}

/// A websocket handshake with `sendID` as the first parameter.
pub fn request_with_key_first(user: &str) -> String {
    request(&format!("sendID={user}&token={}&platformID=5&operationID=1700000000000", "t".repeat(TOKEN)))
}

/// The same with `sendID` last, some 750 bytes into the request.
pub fn request_with_key_late(user: &str) -> String {
    request(&format!(
        "compression=gzip&operationID=1700000000000&platformID=5&token={}&sendID={user}",
        "t".repeat(TOKEN)
    ))
}

/// Bytes of a token that put the parameter after it near byte 750.
const TOKEN: usize = 681;

fn request(query: &str) -> String {
    format!(
        "GET /?{query} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        service().ip()
    )
}

fn service() -> SocketAddr {
    addresses::virtual_address(Family::V4)
}

fn message() -> Segment {
    let flags = Flags::ACK | Flags::PSH;
    Segment { acknowledgement: 77_777, ..segment(flags, INITIAL_SEQUENCE + 5000, &[0x2a; MESSAGE]) }
}

/// A segment of connection 0, with timestamps.
fn segment(flags: Flags, sequence: u32, payload: &[u8]) -> Segment {
    let options = vec![TcpOption::Nop, TcpOption::Nop, TcpOption::Timestamps(1, 1)];
    Segment { sequence, options, payload: payload.to_vec(), ..Segment::new(client(0), service(), flags) }
}

fn frame(packet: Vec<u8>) -> Vec<u8> {
    let (destination, source) = (addresses::link(1), addresses::link(addresses::CLIENTS));
    Frame { destination, source, ether_type: Family::V4.ether_type(), payload: packet }.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_late_key_is_near_byte_750() {
        let at = request_with_key_late("u").find("sendID=").unwrap();
        assert!((740..760).contains(&at), "{at}");
        assert!(first(&request_with_key_late("user-0001")).len() <= 1514);
    }
}
