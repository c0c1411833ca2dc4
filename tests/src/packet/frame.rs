//! An Ethernet frame with an IP packet in it.

/// A link-layer address.
pub type LinkAddress = [u8; 6];

/// Bytes in front of the packet.
pub const ETHERNET: usize = 14;

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// To whom.
    pub destination: LinkAddress,
    /// From whom.
    pub source: LinkAddress,
    /// What the payload is.
    pub ether_type: u16,
    /// The packet, and perhaps padding.
    pub payload: Vec<u8>,
}

// === impl Frame ===

impl Frame {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.destination[..], &self.source, &self.ether_type.to_be_bytes(), &self.payload].concat()
    }

    /// Reads a frame without VLAN tags; none if it is shorter than its header.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, payload) = bytes.split_at_checked(ETHERNET)?;
        let address = |at: usize| <LinkAddress>::try_from(&header[at..at + 6]).ok();
        Some(Self {
            destination: address(0)?,
            source: address(6)?,
            ether_type: u16::from_be_bytes([header[12], header[13]]),
            payload: payload.to_vec(),
        })
    }
}
