//! Packets, as plain bytes. Sums are computed here byte by byte as RFC 1071 has it, apart from the code under test.

use std::net::Ipv4Addr;

/// TCP flags, see RFC 9293 section 3.1.
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// Where the IPv4 header of a frame starts.
pub const ETHERNET: usize = 14;
/// Where its TCP header starts.
pub const IPV4: usize = ETHERNET + 20;

/// The bit that asks for admission, in the byte of the data offset.
pub const MARK: u8 = 0x08;

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const EDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub address: Ipv4Addr,
    pub port: u16,
}

/// A TCP segment, as its sender thinks of it.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from: End,
    pub to: End,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgement: u32,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Segment {
    /// The frame that carries it.
    pub fn frame(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.from.port.to_be_bytes());
        tcp.extend(self.to.port.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        assert!(self.options.len().is_multiple_of(4) && self.options.len() <= 40);
        tcp.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
        tcp.extend(64_240u16.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let sum = !sum_with_pseudo_header(self.from.address, self.to.address, 6, &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        ethernet(&ipv4(self.from.address, self.to.address, 6, &tcp))
    }
}

/// An Ethernet frame with an IPv4 packet in it.
pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    [&EDGE_MAC[..], &CLIENT_MAC, &[8, 0], packet].concat()
}

/// An IPv4 packet.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total_length = 20 + payload.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(total_length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 57, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = !sum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A UDP datagram without a checksum.
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

/// "Fragmentation needed", quoting the first bytes of `packet`, an IPv4 one.
pub fn fragmentation_needed(packet: &[u8]) -> Vec<u8> {
    let mut message = vec![3, 4, 0, 0, 0, 0, 5, 0];
    message.extend(&packet[..packet.len().min(28)]);
    let sum = !sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A TCP segment as received, its sums verified.
#[derive(Clone, Debug)]
pub struct Received {
    pub from: End,
    pub to: End,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub marked: bool,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

/// Reads a frame with a TCP segment in it.
///
/// # Panics
/// If lengths or sums are wrong.
pub fn receive(frame: &[u8]) -> Received {
    assert_eq!(&frame[12..15], [8, 0, 0x45], "not plain IPv4: {frame:02x?}");
    let total_length = usize::from(u16_at(frame, 16));
    assert_eq!(frame.len(), ETHERNET + total_length, "IPv4 length");
    assert_eq!(sum(&frame[ETHERNET..IPV4]), 0xffff, "IPv4 checksum");
    assert_eq!(frame[23], 6, "not TCP");
    let (source, destination) = (address_at(frame, 26), address_at(frame, 30));
    let tcp = &frame[IPV4..];
    assert_eq!(sum_with_pseudo_header(source, destination, 6, tcp), 0xffff, "TCP checksum");
    let header = usize::from(tcp[12] >> 4) * 4;
    assert!((20..=tcp.len()).contains(&header), "TCP data offset");
    Received {
        from: End { address: source, port: u16_at(tcp, 0) },
        to: End { address: destination, port: u16_at(tcp, 2) },
        flags: tcp[13],
        sequence: u32_at(tcp, 4),
        acknowledgement: u32_at(tcp, 8),
        marked: tcp[12] & MARK != 0,
        options: tcp[20..header].to_vec(),
        payload: tcp[header..].to_vec(),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn address_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    u32_at(bytes, at).into()
}

/// The one's complement sum; all ones over bytes that contain their own checksum.
fn sum(bytes: &[u8]) -> u16 {
    let mut total: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn sum_with_pseudo_header(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, bytes: &[u8]) -> u16 {
    let length = bytes.len() as u16;
    sum(&[&from.octets()[..], &to.octets(), &[0, protocol], &length.to_be_bytes(), bytes].concat())
}
