//! Segments that we make ourselves: SYN+ACK, and every RST there is.

use super::{
    checksum,
    family::{Family, Words},
    headers::{TCP, Tcp, flag, protocol},
};

/// IP and TCP headers, one after the other as in a packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Headers<F: Family> {
    /// Of the family.
    pub ip: F::Header,
    /// Without options.
    pub tcp: Tcp,
}

/// The ends of a connection, seen from one of them.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Who sends.
    pub from: Words,
    /// Who receives.
    pub to: Words,
    /// The sender's port, bytes as in memory.
    pub from_port: u16,
    /// The receiver's port, bytes as in memory.
    pub to_port: u16,
}

/// What is particular about a segment of our own.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: u8,
    /// Receive window.
    pub window: u16,
    /// Bytes of options that follow, a multiple of four.
    pub options_length: u32,
    /// Their sum, in 16-bit words as in memory.
    pub options_sum: u32,
}

impl Answer {
    /// A RST at `sequence`, which a receiver believes if that is exactly what it expects next (RFC 5961 section 3.2).
    #[inline(always)]
    pub fn reset_at(sequence: u32) -> Self {
        Self { sequence, acknowledgement: 0, flags: flag::RST, window: 0, options_length: 0, options_sum: 0 }
    }

    /// The RST for somebody whose segment acknowledges nothing: it acknowledges the segment, up to `end`, where the
    /// sequence space that the segment takes ends (RFC 9293 section 3.10.7.1).
    #[inline(always)]
    pub fn reset_acknowledging(end: u32) -> Self {
        Self { acknowledgement: end, flags: flag::RST | flag::ACK, ..Self::reset_at(0) }
    }

    /// The headers that carry it from end to end.
    #[inline(always)]
    pub fn headers<F: Family>(&self, ends: &Ends) -> Headers<F> {
        let (source, destination) = (F::narrow(&ends.from), F::narrow(&ends.to));
        let tcp_length = TCP as u32 + self.options_length;
        let offset_reserved = ((tcp_length >> 2) << 4) as u8;
        let mut tcp = Tcp {
            source: ends.from_port,
            destination: ends.to_port,
            sequence: self.sequence.to_be(),
            acknowledgement: self.acknowledgement.to_be(),
            offset_reserved,
            flags: self.flags,
            window: self.window.to_be(),
            checksum: 0,
            urgent: 0,
        };
        // The pseudo-headers of both families have the same sum: addresses, length and protocol (RFC 9293 section 3.1).
        let sum = F::sum(source)
            + F::sum(destination)
            + ((protocol::TCP as u32) << 8)
            + (tcp_length as u16).to_be() as u32
            + tcp.source as u32
            + tcp.destination as u32
            + checksum::halves(tcp.sequence)
            + checksum::halves(tcp.acknowledgement)
            + (offset_reserved as u32 | (self.flags as u32) << 8)
            + tcp.window as u32
            + self.options_sum;
        tcp.checksum = checksum::finish(sum);
        Headers { ip: F::tcp_header(tcp_length as u16, source, destination), tcp }
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{
        family::{V4, V6},
        headers::{IPV4, IPV6},
    };

    /// The headers' bytes, as far as they are `length` long.
    #[allow(unsafe_code)]
    fn bytes<F: Family>(headers: &Headers<F>, length: usize) -> Vec<u8> {
        assert_eq!(size_of::<Headers<F>>(), length);
        // SAFETY: plain integers without padding, as the assertion on the size shows.
        unsafe { core::slice::from_raw_parts((headers as *const Headers<F>).cast::<u8>(), length) }.to_vec()
    }

    /// RFC 1071, on bytes as they are sent.
    fn sum(bytes: &[u8]) -> u16 {
        let mut total: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    fn ends() -> impl Strategy<Value = (Ends, Answer, [u32; 2])> {
        any::<([u32; 4], [u32; 4], [u16; 3], [u32; 2], u8, [u32; 2])>().prop_map(
            |(from, to, [from_port, to_port, window], [sequence, acknowledgement], flags, options)| {
                let options_sum = checksum::halves(options[0]) + checksum::halves(options[1]);
                let ends = Ends { from, to, from_port, to_port };
                (ends, Answer { sequence, acknowledgement, flags, window, options_length: 8, options_sum }, options)
            },
        )
    }

    proptest! {
        #[test]
        fn over_ipv4_all_sums_are_right((ends, answer, options) in ends()) {
            let packet = bytes(&answer.headers::<V4>(&ends), IPV4 + TCP);
            prop_assert_eq!(sum(&packet[..IPV4]), 0xffff);
            let mut covered = vec![0, 6, 0, 28];
            covered.extend(&packet[12..]);
            options.iter().for_each(|word| covered.extend(word.to_ne_bytes()));
            prop_assert_eq!(sum(&covered), 0xffff);
            prop_assert_eq!(&packet[2..4], &[0, 48]);
        }

        #[test]
        fn over_ipv6_the_sum_is_right((ends, answer, options) in ends()) {
            let packet = bytes(&answer.headers::<V6>(&ends), IPV6 + TCP);
            prop_assert_eq!(&packet[..8], &[0x60, 0, 0, 0, 0, 28, 6, 64]);
            let mut covered = vec![0, 0, 0, 28, 0, 0, 0, 6];
            covered.extend(&packet[8..]);
            options.iter().for_each(|word| covered.extend(word.to_ne_bytes()));
            prop_assert_eq!(sum(&covered), 0xffff);
        }
    }
}
