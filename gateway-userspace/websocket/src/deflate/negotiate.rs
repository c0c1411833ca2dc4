//! Which of a client's offers is accepted: RFC 7692, sections 5 and 7.1.

use super::Deflate;
use crate::request::{Head, is_token};

/// A `Sec-WebSocket-Extensions` line that does not follow the grammar of RFC 6455, section 9.1. The client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Sec-WebSocket-Extensions is no list of extensions")]
pub struct BadExtensions;

/// One extension that the client offers.
#[derive(Debug, PartialEq, Eq)]
struct Offer<'a> {
    name: &'a [u8],
    /// Names, and values without their quotes.
    parameters: Vec<(&'a [u8], Option<Vec<u8>>)>,
}

/// The first offer of the extension that this server can accept, as the client ranks them; none if there is no such
/// offer, and then the connection goes without.
///
/// # Errors
/// If the lines follow no grammar, and the client may mean anything.
pub fn choose(head: &Head<'_>) -> Result<Option<Deflate>, BadExtensions> {
    let mut chosen = None;
    for line in head.header("Sec-WebSocket-Extensions") {
        for offer in offers(line)? {
            chosen = chosen.or_else(|| accept(&offer));
        }
    }
    Ok(chosen)
}

/// The answer to the offer that led to this.
pub fn response(deflate: Deflate) -> String {
    let mut response = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
    // Promised only to who asked for it. `client_max_window_bits` is never answered: any window of the client will do.
    if deflate.window_bits < Deflate::MAX_WINDOW_BITS {
        response.push_str(&format!("; server_max_window_bits={}", deflate.window_bits));
    }
    response
}

/// What an offer leads to. A parameter that is unknown, there twice, or of a value that it cannot have, makes it
/// unacceptable as a whole.
fn accept(offer: &Offer<'_>) -> Option<Deflate> {
    if offer.name != b"permessage-deflate" {
        return None;
    }
    let mut window_bits = Deflate::MAX_WINDOW_BITS;
    for (index, (name, value)) in offer.parameters.iter().enumerate() {
        if offer.parameters[..index].iter().any(|(earlier, _)| earlier == name) {
            return None;
        }
        match (*name, value) {
            // Done in any case.
            (b"server_no_context_takeover" | b"client_no_context_takeover", None) => {}
            (b"server_max_window_bits", Some(value)) => window_bits = bits(value)?,
            // A hint of what the client will use, or that it could be told to use less.
            (b"client_max_window_bits", None) => {}
            (b"client_max_window_bits", Some(value)) => {
                bits(value)?;
            }
            _ => return None,
        }
    }
    Deflate::try_from(window_bits).ok()
}

/// 8 to 15, without leading zeros.
fn bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The elements of one line: `name; parameter; parameter=value, name …`. Empty elements are allowed, as in every list of
/// HTTP.
fn offers(line: &[u8]) -> Result<Vec<Offer<'_>>, BadExtensions> {
    let mut rest = line;
    let mut offers = Vec::new();
    loop {
        skip_spaces(&mut rest);
        match rest.first() {
            None => return Ok(offers),
            Some(b',') => rest = &rest[1..],
            Some(_) => {
                offers.push(offer(&mut rest)?);
                if !matches!(rest.first(), None | Some(b',')) {
                    return Err(BadExtensions);
                }
            }
        }
    }
}

fn offer<'a>(rest: &mut &'a [u8]) -> Result<Offer<'a>, BadExtensions> {
    let mut offer = Offer { name: token(rest)?, parameters: Vec::new() };
    while skip(rest, b';') {
        let name = token(rest)?;
        let value = if skip(rest, b'=') { Some(value(rest)?) } else { None };
        offer.parameters.push((name, value));
    }
    Ok(offer)
}

/// A token, and the spaces around it.
fn token<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadExtensions> {
    skip_spaces(rest);
    let length = rest.iter().position(|&byte| !is_token(byte)).unwrap_or(rest.len());
    let (token, after) = rest.split_at(length);
    *rest = after;
    skip_spaces(rest);
    if token.is_empty() { Err(BadExtensions) } else { Ok(token) }
}

/// A token, or a quoted string that is one without its quotes and backslashes.
fn value(rest: &mut &[u8]) -> Result<Vec<u8>, BadExtensions> {
    skip_spaces(rest);
    let Some(mut quoted) = rest.strip_prefix(b"\"") else { return token(rest).map(<[u8]>::to_vec) };
    let mut value = Vec::new();
    loop {
        let (&byte, after) = quoted.split_first().ok_or(BadExtensions)?;
        quoted = after;
        match byte {
            b'"' => break,
            b'\\' => {
                let (&escaped, after) = quoted.split_first().ok_or(BadExtensions)?;
                quoted = after;
                value.push(escaped);
            }
            byte => value.push(byte),
        }
    }
    *rest = quoted;
    skip_spaces(rest);
    if !value.is_empty() && value.iter().all(|&byte| is_token(byte)) { Ok(value) } else { Err(BadExtensions) }
}

/// Skips `byte` and tells whether it was there.
fn skip(rest: &mut &[u8], byte: u8) -> bool {
    match rest.split_first() {
        Some((&first, after)) if first == byte => {
            *rest = after;
            true
        }
        _ => false,
    }
}

fn skip_spaces(rest: &mut &[u8]) {
    *rest = rest.trim_ascii_start();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::parse_head;

    fn chosen(lines: &[&str]) -> Result<Option<u8>, BadExtensions> {
        let lines: String = lines.iter().map(|line| format!("Sec-WebSocket-Extensions: {line}\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let (head, _) = parse_head(request.as_bytes()).unwrap().unwrap();
        choose(&head).map(|deflate| deflate.map(Deflate::window_bits))
    }

    #[test]
    fn good_offers_are_accepted() {
        for (offer, window_bits) in [
            ("permessage-deflate", 15),
            ("permessage-deflate; client_max_window_bits", 15),
            ("permessage-deflate;client_max_window_bits=9", 15),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", 15),
            ("permessage-deflate; server_max_window_bits=8", 8),
            ("permessage-deflate ; server_max_window_bits = \"1\\0\" ; client_max_window_bits", 10),
            ("permessage-deflate; server_max_window_bits=15", 15),
            (" , x-webkit-deflate-frame, ,permessage-deflate,", 15),
        ] {
            assert_eq!(chosen(&[offer]), Ok(Some(window_bits)), "{offer}");
        }
    }

    #[test]
    fn an_offer_with_anything_else_in_it_is_declined() {
        for offer in [
            "",
            "permessage-bzip2",
            "Permessage-deflate",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; client_max_window_bits=-9",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; mux",
        ] {
            assert_eq!(chosen(&[offer]), Ok(None), "{offer}");
        }
    }

    #[test]
    fn of_several_offers_the_first_acceptable_one_counts() {
        let offers = "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=12";
        assert_eq!(chosen(&[offers, "permessage-deflate"]), Ok(Some(12)));
        assert_eq!(chosen(&["mux; a=b", "permessage-deflate; future", "permessage-deflate"]), Ok(Some(15)));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for line in [
            ";",
            "=",
            "permessage-deflate;",
            "permessage-deflate; =9",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=\"a b\"",
            "permessage-deflate; client_max_window_bits=\"9\\",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate, a/b",
        ] {
            assert_eq!(chosen(&[line]), Err(BadExtensions), "{line}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_promised() {
        let always = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(response(Deflate::default()), always);
        assert_eq!(response(Deflate::try_from(9).unwrap()), format!("{always}; server_max_window_bits=9"));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[a-z0-9 ,;=\"\\\\]{0,40}", odd in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = offers(line.as_bytes());
            let _ = offers(&odd);
        }
    }
}
