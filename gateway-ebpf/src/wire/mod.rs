//! Packet headers as both sides need them: where fields stand, checksums, TCP options.

pub mod checksum;
pub mod headers;
pub mod options;
