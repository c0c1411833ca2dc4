//! Packets as an edge gets them.

use std::net::Ipv4Addr;

use anyhow::Result;
use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};
use ringsteer_ebpf::{
    cookie::{Tuple, make, mss_class},
    layout::{bench, mapped, secret::Secrets},
    tunnel::DEFAULT_PORT,
};

use crate::lab::addresses;

/// The service's port.
pub const PORT: u16 = 80;
/// The clients' initial sequence number.
const INITIAL_SEQUENCE: u32 = 1000;
/// The clients' MSS.
const MSS: u16 = 1460;
/// Bytes of payload of a segment in the middle of a connection: a short websocket frame.
const MESSAGE: usize = 32;

/// The first of the client addresses; connections count up from its last byte. 96 addresses follow in its network.
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 64);

/// Address and port of a connection's client, by the rule that `bench_restore` follows.
pub fn client(connection: u32) -> (Ipv4Addr, u16) {
    let (last_byte, port) = bench::client(connection);
    let [a, b, c, d] = FIRST_CLIENT.octets();
    (Ipv4Addr::new(a, b, c, d + last_byte), port)
}

/// What the client of a connection acknowledges in its first segment, if it got its cookie in `slot`.
pub fn first_acknowledgement(secrets: &Secrets, connection: u32, slot: u32) -> u32 {
    let (address, client_port) = client(connection);
    let tuple = Tuple {
        client: mapped(address.octets()),
        server: mapped(addresses::VIRTUAL.v4.octets()),
        client_port,
        server_port: PORT,
    };
    make(secrets.current(), &tuple, slot, INITIAL_SEQUENCE, mss_class(MSS)).wrapping_add(1)
}

/// A SYN as Linux sends it.
pub fn syn() -> Result<Vec<u8>> {
    let options = [
        TcpOptionElement::MaximumSegmentSize(MSS),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(1, 0),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(7),
    ];
    let mut header = TcpHeader { syn: true, ..header(INITIAL_SEQUENCE) };
    header.set_options(&options)?;
    segment(header, &[])
}

/// A first segment; its acknowledgement number is filled in each round.
pub fn first(request: &str) -> Result<Vec<u8>> {
    let mut header = TcpHeader { ack: true, psh: true, ..header(INITIAL_SEQUENCE + 1) };
    header.set_options(&timestamps())?;
    segment(header, request.as_bytes())
}

/// A segment with a message, in the middle of a connection.
pub fn established() -> Result<Vec<u8>> {
    let mut header =
        TcpHeader { ack: true, psh: true, acknowledgment_number: 77_777, ..header(INITIAL_SEQUENCE + 5000) };
    header.set_options(&timestamps())?;
    segment(header, &[0x2a; MESSAGE])
}

/// The same, as another node tunnels it to us.
pub fn tunnelled(from: Ipv4Addr, to: Ipv4Addr) -> Result<Vec<u8>> {
    let inner = established()?;
    let builder =
        PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(from.octets(), to.octets(), 64).udp(0xc123, DEFAULT_PORT);
    let mut packet = Vec::new();
    builder.write(&mut packet, &inner[ETHERNET..])?;
    Ok(packet)
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
        addresses::VIRTUAL
    )
}

const ETHERNET: usize = 14;
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

fn timestamps() -> [TcpOptionElement; 3] {
    [TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(1, 1)]
}

fn header(sequence: u32) -> TcpHeader {
    TcpHeader::new(client(0).1, PORT, sequence, 64_240)
}

fn segment(header: TcpHeader, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4(client(0).0.octets(), addresses::VIRTUAL.v4.octets(), 64)
        .tcp_header(header);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload)?;
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_late_key_is_near_byte_750() {
        let at = request_with_key_late("u").find("sendID=").unwrap();
        assert!((740..760).contains(&at), "{at}");
        assert!(first(&request_with_key_late("user-0001")).unwrap().len() <= 1514);
    }
}
