//! What the ring hashes for a member.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest identity, in bytes: the longest DNS name (253), a colon and the longest port.
pub const MAX_IDENTITY: usize = 259;

/// The string that stands for a member on the ring, such as `openim-msggateway-0.svc.cluster.local:88`.
///
/// It is hashed and nothing else. Where packets go is a [`NodeAddress`](super::NodeAddress); one string for both is how
/// OpenIM's two sides came to compute two rings. For the same reason an identity carries a port unless it was made by
/// [`Identity::port_optional`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity(String);

/// Why a string cannot be an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing to hash.
    #[error("an identity is empty; write the name the pushers know the member by, such as `gateway-0.example:88`")]
    Empty,
    /// Longer than any DNS name with a port.
    #[error(
        "an identity of {0} bytes is too long; the limit is {MAX_IDENTITY}, the longest DNS name and a port: shorten it"
    )]
    TooLong(usize),
    /// White space or a control character, most likely by accident.
    #[error("the identity {0:?} holds white space or a control character; remove it")]
    NotPrintable(String),
    /// The mistake that split the ring in two.
    #[error(
        "the identity {0:?} has no port: OpenIM's pushers hash `name:port`, so they would compute another ring; append \
         the port (`:88` by default), or set `allow_identities_without_port = true` if no such pusher exists"
    )]
    NoPort(String),
}

// === impl Identity ===

impl Identity {
    /// The identity `name:port`.
    ///
    /// # Errors
    /// If `text` is empty, too long, not printable, or does not end in a port from 1 to 65535.
    pub fn new(text: impl Into<String>) -> Result<Self, IdentityError> {
        let identity = Self::port_optional(text)?;
        match identity.port() {
            Some(_) => Ok(identity),
            None => Err(IdentityError::NoPort(identity.0)),
        }
    }

    /// The identity `text`, with a port or without: for a fleet whose pushers hash bare names.
    ///
    /// # Errors
    /// If `text` is empty, too long or not printable.
    pub fn port_optional(text: impl Into<String>) -> Result<Self, IdentityError> {
        let text = text.into();
        if text.is_empty() {
            return Err(IdentityError::Empty);
        }
        if text.len() > MAX_IDENTITY {
            return Err(IdentityError::TooLong(text.len()));
        }
        // Line breaks would also let two rings share one canonical form, see `Digest`.
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(IdentityError::NotPrintable(text));
        }
        Ok(Self(text))
    }

    /// The string as it is hashed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity without the port it is qualified with.
    pub fn name(&self) -> &str {
        self.split().map_or(&self.0, |(name, _)| name)
    }

    /// The port the identity is qualified with, if it is.
    pub fn port(&self) -> Option<u16> {
        self.split().map(|(_, port)| port)
    }

    /// Name and port, if it has a port.
    fn split(&self) -> Option<(&str, u16)> {
        let (name, port) = self.0.rsplit_once(':')?;
        // A colon inside the name is an IPv6 address without brackets, whose last group is no port.
        let named = !name.is_empty() && (!name.contains(':') || (name.starts_with('[') && name.ends_with(']')));
        // One spelling only: `str::parse` alone would take `+88` and `088`, which hash differently.
        let canonical = port.starts_with(|c: char| ('1'..='9').contains(&c));
        if named && canonical { Some((name, port.parse().ok()?)) } else { None }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Identity {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        Self::new(text)
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_a_port() {
        for (text, port) in [("gw-0:88", 88), ("[2001:db8::1]:88", 88), ("198.51.100.1:65535", 65535), ("ü:1", 1)] {
            let identity = Identity::new(text).unwrap();
            assert_eq!(identity.port(), Some(port), "{text}");
            assert_eq!(format!("{}:{port}", identity.name()), text);
        }
    }

    #[test]
    fn without_a_port_only_on_request() {
        for text in ["gw-0", "gw-0:", ":88", "gw-0:0", "gw-0:088", "gw-0:+88", "gw-0:65536", "gw-0:x", "2001:db8::1"] {
            assert_eq!(Identity::new(text), Err(IdentityError::NoPort(text.into())));
            let identity = Identity::port_optional(text).unwrap();
            assert_eq!((identity.as_str(), identity.name()), (text, text));
        }
    }

    #[test]
    fn is_one_printable_word() {
        assert_eq!(Identity::port_optional(""), Err(IdentityError::Empty));
        for text in ["gw 0:88", "gw-0:88\n", "gw\u{0}0:88", "gw\u{a0}0:88"] {
            assert_eq!(Identity::port_optional(text), Err(IdentityError::NotPrintable(text.into())));
        }
        assert!(Identity::port_optional("x".repeat(MAX_IDENTITY)).is_ok());
        assert_eq!(Identity::port_optional("x".repeat(MAX_IDENTITY + 1)), Err(IdentityError::TooLong(260)));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let cases = [
            ("", "an identity is empty; write the name the pushers know the member by, such as `gateway-0.example:88`"),
            ("gw 0:88", "the identity \"gw 0:88\" holds white space or a control character; remove it"),
            (
                "gw-0",
                "the identity \"gw-0\" has no port: OpenIM's pushers hash `name:port`, so they would compute another ring; \
                 append the port (`:88` by default), or set `allow_identities_without_port = true` if no such pusher exists",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(Identity::new(text).unwrap_err().to_string(), message);
        }
        assert_eq!(
            Identity::new("x".repeat(300)).unwrap_err().to_string(),
            "an identity of 300 bytes is too long; the limit is 259, the longest DNS name and a port: shorten it"
        );
    }

    #[test]
    fn deserializing_checks_too() {
        assert_eq!(serde_json::from_str::<Identity>("\"gw-0:88\"").unwrap().as_str(), "gw-0:88");
        let error = serde_json::from_str::<Identity>("\"gw-0\"").unwrap_err().to_string();
        assert!(error.contains("has no port") && error.contains("allow_identities_without_port"), "{error}");
    }
}
