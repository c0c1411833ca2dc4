//! Packet headers as both sides need them.
//!
//! * [`headers`]: where fields stand;
//! * [`family`]: what IPv4 and IPv6 have in common, so that one text serves both;
//! * [`answer`]: segments that we make ourselves;
//! * [`options`]: TCP options;
//! * [`checksum`]: the internet checksum.

pub mod answer;
pub mod checksum;
pub mod family;
pub mod headers;
pub mod options;
