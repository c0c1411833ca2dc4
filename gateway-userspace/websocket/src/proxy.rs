//! The PROXY protocol, versions 1 and 2: what a proxy that is trusted says about a client before the client's own first
//! byte.
//!
//! The kernel program passes over such a header, too, whoever sent it, and finds the key behind it. A header that ends
//! elsewhere for it than for us would give the client two users; so where a line of version 1 could be read in two ways it
//! is malformed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, in bytes.
pub const MAX_TEXT: usize = 107;

/// Longest header of version 2 that is taken, in bytes: addresses, and what proxies like to add to them.
pub const MAX_BINARY: usize = 1024;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const TEXT: &[u8] = b"PROXY ";

/// What stands at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// No header: the proxy itself speaks, to see whether we live, say.
    None,
    /// More bytes are needed to tell.
    Incomplete,
    /// A header of so many bytes, and the client it names; none if it speaks of no client.
    Whole(usize, Option<SocketAddr>),
}

/// A header that is none of this protocol. The proxy's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the PROXY header is malformed")]
pub struct BadHeader;

/// Reads the header that `bytes` begin with.
///
/// # Errors
/// If they begin like one and cannot become one.
pub fn read(bytes: &[u8]) -> Result<Header, BadHeader> {
    let begins = |with: &[u8]| {
        let length = bytes.len().min(with.len());
        bytes[..length] == with[..length]
    };
    if begins(SIGNATURE) {
        if bytes.len() < SIGNATURE.len() { Ok(Header::Incomplete) } else { binary(bytes) }
    } else if begins(TEXT) {
        if bytes.len() < TEXT.len() { Ok(Header::Incomplete) } else { text(bytes) }
    } else {
        Ok(Header::None)
    }
}

fn text(bytes: &[u8]) -> Result<Header, BadHeader> {
    let within = &bytes[..bytes.len().min(MAX_TEXT)];
    let Some(newline) = within.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < MAX_TEXT { Ok(Header::Incomplete) } else { Err(BadHeader) };
    };
    let line = within[..newline].strip_suffix(b"\r").ok_or(BadHeader)?;
    let line = str::from_utf8(line).map_err(|_| BadHeader)?;
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family, source, destination, source_port, destination_port] => {
            let address = |text: &str| -> Result<IpAddr, BadHeader> {
                let address: IpAddr = text.parse().map_err(|_| BadHeader)?;
                let right = match family {
                    "TCP4" => address.is_ipv4(),
                    "TCP6" => address.is_ipv6(),
                    _ => false,
                };
                if right { Ok(address) } else { Err(BadHeader) }
            };
            let port = |text: &str| {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().ok().filter(|_| digits).ok_or(BadHeader)
            };
            address(destination)?;
            port(destination_port)?;
            Some(SocketAddr::new(address(source)?, port(source_port)?))
        }
        _ => return Err(BadHeader),
    };
    Ok(Header::Whole(newline + 1, client))
}

fn binary(bytes: &[u8]) -> Result<Header, BadHeader> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<16>() else { return Ok(Header::Incomplete) };
    let (version, command) = (fixed[12] >> 4, fixed[12] & 0xf);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if version != 2 || command > 1 || 16 + length > MAX_BINARY {
        return Err(BadHeader);
    }
    let Some(block) = rest.get(..length) else { return Ok(Header::Incomplete) };
    let port = |block: &[u8], at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let client = match (command, fixed[13]) {
        // The proxy speaks for itself.
        (0, _) => None,
        (_, 0x11) if length >= 12 => {
            let source = block.first_chunk::<4>().copied().map(Ipv4Addr::from);
            source.map(|source| SocketAddr::new(source.into(), port(block, 8)))
        }
        (_, 0x21) if length >= 36 => {
            let source = block.first_chunk::<16>().copied().map(Ipv6Addr::from);
            source.map(|source| SocketAddr::new(source.into(), port(block, 32)))
        }
        (_, 0x11 | 0x21) => return Err(BadHeader),
        // Another family, which says nothing that we could use.
        _ => None,
    };
    Ok(Header::Whole(16 + length, client))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = (block.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, block].concat()
    }

    fn examples() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v4 = [&[203, 0, 113, 7, 192, 0, 2, 1][..], &4711u16.to_be_bytes(), &80u16.to_be_bytes()].concat();
        let v6 = [
            &"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()[..],
            &[0; 16],
            &4711u16.to_be_bytes(),
            &80u16.to_be_bytes(),
            b"\x03\x00\x04\0\0\0\0",
        ]
        .concat();
        vec![
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n".to_vec(), Some("203.0.113.7:4711")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n".to_vec(), Some("[2001:db8::7]:4711")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 whatever\r\n".to_vec(), None),
            (v2(1, 0x11, &v4), Some("203.0.113.7:4711")),
            (v2(1, 0x21, &v6), Some("[2001:db8::7]:4711")),
            (v2(0, 0, b""), None),
            (v2(1, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn headers_name_the_client() {
        for (header, client) in examples() {
            let length = header.len();
            let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let expected = Header::Whole(length, client.map(|client| client.parse().unwrap()));
            assert_eq!(read(&bytes), Ok(expected), "{}", header.escape_ascii());
            for cut in 1..length {
                assert_eq!(read(&bytes[..cut]), Ok(Header::Incomplete), "{cut} of {}", header.escape_ascii());
            }
        }
    }

    #[test]
    fn a_request_is_no_header() {
        for bytes in [&b"GET / HTTP/1.1"[..], b"POST", b"PRO_Y", b"\r\n\r\n\x01"] {
            assert_eq!(read(bytes), Ok(Header::None), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_begins_like_a_header_has_to_be_one() {
        let long = [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat();
        let cases: &[&[u8]] = &[
            b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n",
            b"PROXY TCP4 2001:db8::7 192.0.2.1 4711 80\r\n",
            b"PROXY TCP5 203.0.113.7 192.0.2.1 4711 80\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 65536\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 +4711 80\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\n",
            b"PROXY UNKNOWN\nGET / HTTP/1.1\r\n",
            b"PROXY  TCP4 203.0.113.7 192.0.2.1 4711 80\r\n",
            b"PROXY \r\n",
            &long,
            &v2(2, 0x11, &[0; 12]),
            &v2(1, 0x11, &[0; 11]),
            &v2(1, 0x21, &[0; 35]),
            &v2(1, 0x11, &[0; 2000]),
        ];
        for bytes in cases {
            assert_eq!(read(bytes), Err(BadHeader), "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), line in "[ A-Z0-9.:]{0,110}") {
            let _ = read(&bytes);
            let _ = read(&[&SIGNATURE[..], &bytes].concat());
            let _ = read(format!("PROXY {line}\r\n").as_bytes());
        }
    }
}
