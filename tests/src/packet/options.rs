//! TCP options, as a list and as bytes.

/// An option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// Padding. Only written: what is read leaves it out.
    Nop,
    /// The largest segment the sender takes (RFC 9293 section 3.7.1).
    MaximumSegmentSize(u16),
    /// The shift of the sender's window (RFC 7323 section 2).
    WindowScale(u8),
    /// The sender takes selective acknowledgements (RFC 2018 section 2).
    SackPermitted,
    /// The sender's timestamp and the one it echoes (RFC 7323 section 3).
    Timestamps(u32, u32),
    /// Another kind, with its data.
    Other(u8, Vec<u8>),
    /// Bytes that need not be an option. Only written.
    Raw(Vec<u8>),
}

// === impl TcpOption ===

impl TcpOption {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Nop => vec![1],
            Self::MaximumSegmentSize(bytes) => [&[2, 4], &bytes.to_be_bytes()[..]].concat(),
            Self::WindowScale(shift) => vec![3, 3, *shift],
            Self::SackPermitted => vec![4, 2],
            Self::Timestamps(value, echo) => [&[8, 10], &value.to_be_bytes()[..], &echo.to_be_bytes()].concat(),
            Self::Other(kind, data) => [&[*kind, 2 + data.len() as u8], &data[..]].concat(),
            Self::Raw(bytes) => bytes.clone(),
        }
    }

    /// A list, padded to the words that a TCP header is made of.
    pub fn area(list: &[Self]) -> Vec<u8> {
        let mut area: Vec<u8> = list.iter().flat_map(Self::to_bytes).collect();
        area.resize(area.len().next_multiple_of(4), 0);
        area
    }

    /// Reads an option area, padding left out; none if it is malformed.
    pub fn list(mut area: &[u8]) -> Option<Vec<Self>> {
        let mut list = Vec::new();
        while let [kind, rest @ ..] = area {
            match kind {
                // Nothing but the padding of a word can follow the end.
                0 => return (area.len() < 4 && area.iter().all(|byte| *byte == 0)).then_some(list),
                1 => area = rest,
                _ => {
                    let length = usize::from(*rest.first()?);
                    let data = area.get(2..length)?;
                    area = &area[length..];
                    list.push(match (kind, data) {
                        (2, &[high, low]) => Self::MaximumSegmentSize(u16::from_be_bytes([high, low])),
                        (3, &[shift]) => Self::WindowScale(shift),
                        (4, []) => Self::SackPermitted,
                        (8, &[a, b, c, d, e, f, g, h]) => {
                            Self::Timestamps(u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
                        }
                        (2 | 3 | 4 | 8, _) => return None,
                        (kind, data) => Self::Other(*kind, data.to_vec()),
                    });
                }
            }
        }
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_sends_in_a_syn_is_read() {
        let syn = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7];
        let list = [
            TcpOption::MaximumSegmentSize(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps(7, 0),
            TcpOption::WindowScale(7),
        ];
        assert_eq!(TcpOption::list(&syn).expect("well-formed"), list);
        assert_eq!(TcpOption::area(&[&list[..3], &[TcpOption::Nop], &list[3..]].concat()), syn);
    }

    #[test]
    fn what_is_malformed_is_no_list() {
        for area in [&[2, 4, 5][..], &[2], &[2, 0, 0, 0], &[3, 4, 1, 1], &[0, 2, 4, 5], &[0, 0, 0, 0], &[1, 0, 1, 0]] {
            assert_eq!(TcpOption::list(area), None, "{area:?}");
        }
    }
}
