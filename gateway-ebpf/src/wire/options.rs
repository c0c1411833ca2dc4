//! TCP options, as far as a handshake needs them.

/// The longest option area a TCP header can have, in bytes.
pub const MAX: usize = 40;

/// Bytes of memory that are set aside for it: a power of two.
pub const AREA: u32 = 64;

/// Option kinds.
pub mod kind {
    /// End of the list.
    pub const END: u8 = 0;
    /// Padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size, in a SYN.
    pub const MSS: u8 = 2;
    /// Window scale, in a SYN.
    pub const WINDOW_SCALE: u8 = 3;
    /// Selective acknowledgements permitted, in a SYN.
    pub const SACK_PERMITTED: u8 = 4;
    /// Timestamps (RFC 7323).
    pub const TIMESTAMPS: u8 = 8;
}

/// What a segment's options say. All zero to start with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Timestamp value, if `has_timestamps`.
    pub timestamp: u32,
    /// Timestamp echo, if `has_timestamps`.
    pub echo: u32,
    /// MSS, or 0 without one.
    pub mss: u16,
    /// Window scale, if `has_window_scale`.
    pub window_scale: u8,
    /// 1 if a window scale is present.
    pub has_window_scale: u8,
    /// 1 if selective acknowledgements are permitted.
    pub sack_permitted: u8,
    /// 1 if timestamps are present.
    pub has_timestamps: u8,
    /// No padding the compiler chose.
    pub unused: u16,
}

/// Reads the options in the first `length` bytes of `area` into `parsed`.
///
/// What is found goes straight to memory instead of being returned: options kept in registers multiply the paths the
/// verifier walks. A malformed option ends the list, as in Linux (`tcp_parse_options`).
#[inline(always)]
pub fn parse(area: &[u8; AREA as usize], length: u32, parsed: &mut Parsed) {
    /// Keeps an index inside the area for the compiler and the verifier.
    const MASK: u32 = AREA - 1;
    let at = |position: u32| area[(position & MASK) as usize];
    let mut position = 0u32;
    // Every round consumes at least one byte.
    for _ in 0..MAX {
        if position >= length {
            return;
        }
        let kind = at(position);
        if kind == kind::END {
            return;
        }
        if kind == kind::NOP {
            position = (position + 1) & MASK;
            continue;
        }
        let size = at(position + 1) as u32;
        if size < 2 || position + size > length {
            return;
        }
        match (kind, size) {
            (kind::MSS, 4) => parsed.mss = u16::from_be_bytes([at(position + 2), at(position + 3)]),
            (kind::WINDOW_SCALE, 3) => {
                parsed.window_scale = at(position + 2);
                parsed.has_window_scale = 1;
            }
            (kind::SACK_PERMITTED, 2) => parsed.sack_permitted = 1,
            (kind::TIMESTAMPS, 10) => {
                parsed.timestamp =
                    u32::from_be_bytes([at(position + 2), at(position + 3), at(position + 4), at(position + 5)]);
                parsed.echo =
                    u32::from_be_bytes([at(position + 6), at(position + 7), at(position + 8), at(position + 9)]);
                parsed.has_timestamps = 1;
            }
            _ => {}
        }
        position = (position + size) & MASK;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(options: &[u8]) -> Parsed {
        let mut area = [0; 64];
        area[..options.len()].copy_from_slice(options);
        let mut parsed = Parsed::default();
        parse(&area, options.len() as u32, &mut parsed);
        parsed
    }

    #[test]
    fn reads_what_linux_sends() {
        let syn = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(
            parsed(&syn),
            Parsed {
                timestamp: 7,
                echo: 0,
                mss: 1460,
                window_scale: 7,
                has_window_scale: 1,
                sack_permitted: 1,
                has_timestamps: 1,
                unused: 0
            }
        );
    }

    proptest! {
        #[test]
        fn never_reads_past_the_end(options in prop::collection::vec(any::<u8>(), 0..=MAX), tail: u8) {
            let mut area = [tail; 64];
            area[..options.len()].copy_from_slice(&options);
            let mut with_tail = Parsed::default();
            parse(&area, options.len() as u32, &mut with_tail);
            prop_assert_eq!(with_tail, parsed(&options));
        }
    }
}
