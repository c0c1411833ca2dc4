//! JSON Web Tokens signed with HMAC-SHA-256 (RFC 7519, RFC 7515), and nothing else of that family.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;

/// The one algorithm. A token that names another is not looked at any further: the choice is not the sender's.
pub(super) const ALGORITHM: &str = "HS256";

/// A token taken apart, not believed yet.
pub(super) struct Parts<'a> {
    header: Vec<u8>,
    claims: Vec<u8>,
    /// What is signed: header and claims as they stand in the token.
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// It is not what it should be.
pub(super) struct Malformed;

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: String,
}

impl<'a> Parts<'a> {
    pub(super) fn of(token: &'a str) -> Result<Self, Malformed> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Malformed)?;
        // A fourth part would have a dot in the claims, which base64url has not.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed);
        Ok(Self {
            header: decode(header)?,
            claims: decode(claims)?,
            signed: signed.as_bytes(),
            signature: decode(signature)?,
        })
    }

    /// The algorithm that the token says it is signed with.
    pub(super) fn algorithm(&self) -> Result<String, Malformed> {
        let header: Header = serde_json::from_slice(&self.header).map_err(|_| Malformed)?;
        Ok(header.alg)
    }

    /// The claims, believed or not.
    pub(super) fn claims<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        // Serde would take an array for a structure.
        let claims: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&self.claims).map_err(|_| Malformed)?;
        serde_json::from_value(claims.into()).map_err(|_| Malformed)
    }

    /// Whether `secret` made the signature. Takes the same time wherever they differ.
    pub(super) fn is_signed_with(&self, secret: &[u8]) -> bool {
        mac(secret, self.signed).verify_slice(&self.signature).is_ok()
    }
}

/// A token with these claims.
pub(super) fn sign(claims: &impl Serialize, secret: &[u8]) -> String {
    let header = Header { alg: ALGORITHM.into(), typ: "JWT".into() };
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let mut token = encode(&serde_json::to_vec(&header).expect("two strings are JSON"));
    token.push('.');
    token += &encode(&serde_json::to_vec(claims).expect("claims are strings and numbers"));
    let signature = mac(secret, token.as_bytes()).finalize().into_bytes();
    token.push('.');
    token + &encode(&signature)
}

fn mac(secret: &[u8], signed: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key for HMAC may have any length");
    mac.update(signed);
    mac
}
