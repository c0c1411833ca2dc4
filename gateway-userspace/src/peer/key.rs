//! From the fleet secret to the links' keys.
//!
//! The secret keys the cookies as it is; each kind of link has a key derived from it (HKDF with SHA-256, RFC 5869), so
//! that no use can tell anything about another.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::config::{Secret, Secrets};

/// Whose links a key is for. Another use of the secret gets another key, so an agent's link does not open at a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// Agents.
    Agents,
    /// Gateways.
    Gateways,
}

/// The block length of SHA-256 in bytes, which HMAC needs to know (RFC 2104 section 2).
const BLOCK: usize = 64;

/// The key that both ends of a link must have: a pre-shared key of the Noise protocol. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkKey([u8; 32]);

/// The keys that links may have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkKeys {
    /// The one to dial with.
    pub current: LinkKey,
    /// Another that is valid, while one secret replaces the other.
    pub previous: Option<LinkKey>,
}

// === impl Between ===

impl Between {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Agents => b"ringsteer peer link 1",
            Self::Gateways => b"ringsteer gateway link 1",
        }
    }
}

// === impl LinkKey ===

impl LinkKey {
    /// The key that follows from a secret.
    pub fn of(secret: &Secret, between: Between) -> Self {
        Self(hkdf(b"", secret.bytes(), between.label()))
    }

    /// The key as Noise takes it.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

// === impl LinkKeys ===

impl LinkKeys {
    /// The keys that follow from the secrets in use.
    pub fn of(secrets: &Secrets, between: Between) -> Self {
        let key = |secret| LinkKey::of(secret, between);
        Self { current: key(&secrets.current), previous: secrets.previous.as_ref().map(key) }
    }

    /// All of them, the one to dial with first.
    pub fn iter(&self) -> impl Iterator<Item = &LinkKey> {
        [&self.current].into_iter().chain(&self.previous)
    }
}

/// HKDF, one block of output: extract (RFC 5869 section 2.2), then expand (section 2.3).
fn hkdf(salt: &[u8], secret: &[u8], label: &[u8]) -> [u8; 32] {
    let key = hmac(salt, &[secret]);
    hmac(&key, &[label, &[1]])
}

/// HMAC (RFC 2104) with SHA-256. The key must not be longer than a block.
pub(crate) fn hmac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut padded = [0; BLOCK];
    padded[..key.len()].copy_from_slice(key);
    let mut inner = Sha256::new_with_prefix(padded.map(|byte| byte ^ 0x36));
    message.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new_with_prefix(padded.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 5869, appendix A.1 and A.3; the first 32 of the 42 bytes given there.
    #[test]
    fn the_derivation_is_hkdf() {
        let output = hkdf(&hex("000102030405060708090a0b0c"), &[0x0b; 22], &hex("f0f1f2f3f4f5f6f7f8f9"));
        assert_eq!(output[..], hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
        let output = hkdf(b"", &[0x0b; 22], b"");
        assert_eq!(output[..], hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
    }

    #[test]
    fn secrets_make_keys_and_keys_are_not_shown() {
        let secret = |digit: &str| Secret::from_hex(digit.repeat(32).as_bytes(), String::new).unwrap();
        let (old, new) = (secret("a"), secret("b"));
        let secrets = Secrets { current: new.clone(), previous: Some(old.clone()) };
        let keys = LinkKeys::of(&secrets, Between::Agents);
        let agents = |secret| LinkKey::of(secret, Between::Agents);
        assert_eq!(keys.iter().collect::<Vec<_>>(), [&agents(&new), &agents(&old)]);
        assert_ne!(agents(&new), agents(&old));
        assert_ne!(agents(&new), LinkKey::of(&new, Between::Gateways));
        assert_eq!(format!("{keys:?}"), "LinkKeys { current: LinkKey(…), previous: Some(LinkKey(…)) }");
    }
}
