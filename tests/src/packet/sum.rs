//! The Internet checksum, byte by byte as RFC 1071 has it: apart from the code under test, which adds words as they
//! stand in memory.

use std::net::IpAddr;

/// The one's complement sum of big-endian 16-bit words; behind an odd last byte, a zero is thought. Over bytes that
/// contain their own checksum it is 0xffff.
pub fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    let mut total: u64 = bytes.chunks(2).map(word).sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// The sum over a message of an upper-layer protocol with its pseudo-header: RFC 9293 section 3.1 between IPv4
/// addresses, RFC 8200 section 8.1 between IPv6 ones.
///
/// # Panics
/// If the addresses are of different families.
pub fn sum_between(from: IpAddr, to: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let length = message.len() as u32;
    let pseudo = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            [&from.octets()[..], &to.octets(), &[0, protocol], &(length as u16).to_be_bytes()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            [&from.octets()[..], &to.octets(), &length.to_be_bytes(), &[0, 0, 0, protocol]].concat()
        }
        _ => panic!("{from} and {to} are of different families"),
    };
    sum(&[&pseudo[..], message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071 section 3.
    #[test]
    fn the_sum_is_that_of_the_rfc() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[0x00, 0x01, 0xf2]), 0xf201);
        assert_eq!(sum(&[]), 0);
    }

    /// Whatever of addresses, length and protocol changes, changes the sum.
    #[test]
    fn the_pseudo_header_covers_addresses_length_and_protocol() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        for [a, b, c] in [["192.0.2.1", "192.0.2.2", "192.0.3.2"], ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::2"]] {
            let [a, b, c] = [a, b, c].map(address);
            let reference = sum_between(a, b, 6, &[1, 2]);
            assert_ne!(sum_between(a, c, 6, &[1, 2]), reference);
            assert_ne!(sum_between(c, b, 6, &[1, 2]), reference);
            assert_ne!(sum_between(a, b, 17, &[1, 2]), reference);
            assert_ne!(sum_between(a, b, 6, &[1, 2, 0]), reference);
        }
    }
}
