//! Tokens: who a user is, for how long, signed by somebody who shares a secret with us.
//!
//! | file | subject |
//! |---|---|
//! | `jwt` | the format: three parts, HMAC |
//! | `digest` | a token's name where the token itself should not stand |
//! | `kicked` | tokens that another login has ended |
//!
//! A token is a JWT signed with HS256. Its claims are `UserID`, `PlatformID`, `exp`, `nbf` and `iat`, times in seconds
//! since 1970. What is wrong with one decides what the client is told:
//!
//! | defect | code |
//! |---|---|
//! | not three parts of base64url, or header or claims are not the JSON they should be | 1503 malformed |
//! | another algorithm, no key of ours made the signature, or `iat` is in the future | 1505 unknown |
//! | `exp` has come | 1501 expired |
//! | `nbf` has not come | 1504 not yet valid |
//! | no `exp`, or user or platform are not those that the client says it is | 1502 invalid |
//! | kicked by another login | 1506 kicked |
//!
//! Defects are looked for in this order, save that only who signed is told about times: a stranger learns nothing but
//! that he is unknown. Clocks may differ by a leeway, in either direction, on all three times.

mod digest;
mod jwt;
mod kicked;

#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    digest::TokenDigest,
    kicked::{Kicked, KickedToken},
};
use crate::{
    error::{ApiError, Code},
    login::Login,
    platform::Platform,
};

/// Seconds since 1970.
pub type UnixSeconds = i64;

/// What a token says, once it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: String,
    /// What the user is logged in from.
    pub platform: Platform,
    /// From when on it is worth nothing.
    pub expires: UnixSeconds,
}

/// The secrets that tokens may be signed with, and how exact clocks are.
#[derive(Clone)]
pub struct Keys {
    /// Never empty. New tokens are signed with the first.
    secrets: Vec<Vec<u8>>,
    leeway: Duration,
}

/// Without a secret, or with an empty one, anybody could sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token secret is empty")]
pub struct NoSecret;

/// The claims on the wire.
#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "UserID", default)]
    user: String,
    #[serde(rename = "PlatformID", default)]
    platform: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<serde_json::Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<serde_json::Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<serde_json::Number>,
}

// === impl Keys ===

impl Keys {
    /// Keys of `secrets`. To change a secret, put the new one first, and take the old one out when the last token
    /// signed with it has expired.
    ///
    /// # Errors
    /// If there is none, or one of them is empty.
    pub fn new(secrets: impl IntoIterator<Item = Vec<u8>>, leeway: Duration) -> Result<Self, NoSecret> {
        let secrets: Vec<_> = secrets.into_iter().collect();
        if secrets.is_empty() || secrets.iter().any(Vec::is_empty) {
            return Err(NoSecret);
        }
        Ok(Self { secrets, leeway })
    }

    /// What `token` says, if it is to be believed at `now`.
    ///
    /// # Errors
    /// See the module's table.
    pub fn verify(&self, token: &str, now: UnixSeconds) -> Result<Claims, ApiError> {
        let refuse = |code, why: &str| Err(ApiError::new(code, why));
        let Ok(parts) = jwt::Parts::of(token) else {
            return refuse(Code::TokenMalformed, "the token is not of three parts of base64url");
        };
        let Ok(algorithm) = parts.algorithm() else {
            return refuse(Code::TokenMalformed, "the token's header is not that of a JWT");
        };
        let Ok(claims) = parts.claims::<Wire>() else {
            return refuse(Code::TokenMalformed, "the token's claims are not JSON with UserID and PlatformID");
        };
        if algorithm != jwt::ALGORITHM {
            return refuse(Code::TokenUnknown, "the token is not signed with HS256");
        }
        if !self.secrets.iter().any(|secret| parts.is_signed_with(secret)) {
            return refuse(Code::TokenUnknown, "the token is not signed with a secret of ours");
        }

        let leeway = self.leeway.as_secs_f64();
        let (now, seconds) = (now as f64, |time: &Option<serde_json::Number>| time.as_ref().and_then(|n| n.as_f64()));
        let Some(expires) = seconds(&claims.exp) else {
            return refuse(Code::TokenInvalid, "the token has no exp");
        };
        if now >= expires + leeway {
            return refuse(Code::TokenExpired, "the token has expired");
        }
        if seconds(&claims.nbf).is_some_and(|time| now < time - leeway) {
            return refuse(Code::TokenNotValidYet, "the token's nbf has not come yet");
        }
        if seconds(&claims.iat).is_some_and(|time| now < time - leeway) {
            return refuse(Code::TokenUnknown, "the token was issued in the future");
        }
        let Ok(platform) = Platform::try_from(claims.platform) else {
            return refuse(Code::TokenInvalid, "the token is for no platform that there is");
        };
        // A float beyond the range is cut to its end.
        Ok(Claims { user: claims.user, platform, expires: expires as UnixSeconds })
    }

    /// Proves that the client is who it says it is.
    ///
    /// # Errors
    /// See the module's table.
    pub fn authenticate(&self, login: &Login, kicked: &Kicked, now: UnixSeconds) -> Result<Claims, ApiError> {
        let claims = self.verify(&login.token, now)?;
        if claims.user != login.user {
            return Err(ApiError::new(Code::TokenInvalid, "the token is another user's than sendID"));
        }
        if claims.platform != login.platform {
            return Err(ApiError::new(Code::TokenInvalid, "the token is for another platform than platformID"));
        }
        if kicked.contains(&TokenDigest::of(&login.token)) {
            return Err(ApiError::new(Code::TokenKicked, "another login has ended this one"));
        }
        Ok(claims)
    }

    /// When those tokens expired that are worth nothing to anybody at `now`: clocks may differ.
    pub fn expired_until(&self, now: UnixSeconds) -> UnixSeconds {
        now.saturating_sub_unsigned(self.leeway.as_secs())
    }

    /// A token for a user, signed with the first secret, that is good from `now` until it expires.
    pub fn sign(&self, claims: &Claims, now: UnixSeconds) -> String {
        let wire = Wire {
            user: claims.user.clone(),
            platform: claims.platform.number().into(),
            exp: Some(claims.expires.into()),
            nbf: Some(now.into()),
            iat: Some(now.into()),
        };
        jwt::sign(&wire, &self.secrets[0])
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No secret gets into a log.
        write!(formatter, "Keys {{ {} secrets, leeway {:?} }}", self.secrets.len(), self.leeway)
    }
}
