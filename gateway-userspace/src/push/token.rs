//! Who may push: whoever has one of the fleet's tokens. Several are valid while one replaces another.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// Longest token, in bytes.
pub const MAX_TOKEN: usize = 512;

/// Shortest token, in bytes.
pub const MIN_TOKEN: usize = 16;

/// A token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

/// The tokens that are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// One of these; the first is the one to push with.
    These(Vec<Token>),
    /// Anybody may push.
    Anybody,
}

/// Why somebody may not push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// There is no token.
    #[error("a push needs a token: send `Authorization: Bearer TOKEN`")]
    Missing,
    /// It is another one.
    #[error("the token is not valid here")]
    Wrong,
}

// === impl Token ===

impl Token {
    /// The token in `text`, if it can be one: so many characters that can stand in a header, without spaces.
    pub fn new(text: &str) -> Option<Self> {
        let good = (MIN_TOKEN..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| Self(text.into()))
    }

    /// The header that shows it.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

// === impl Tokens ===

impl Tokens {
    /// Whether who sends this `Authorization` may push. How long that takes says nothing about a token's characters.
    ///
    /// # Errors
    /// If they may not.
    pub fn check(&self, authorization: Option<&[u8]>) -> Result<(), Unauthorized> {
        let Self::These(tokens) = self else { return Ok(()) };
        let value = authorization.ok_or(Unauthorized::Missing)?;
        let (scheme, shown) = value.split_at_checked(7).ok_or(Unauthorized::Missing)?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return Err(Unauthorized::Missing);
        }
        let shown = shown.trim_ascii();
        // All of them, whichever it is.
        let valid = tokens.iter().fold(subtle::Choice::from(0), |found, token| found | token.0.as_bytes().ct_eq(shown));
        if valid.into() { Ok(()) } else { Err(Unauthorized::Wrong) }
    }

    /// The one to push with.
    pub fn first(&self) -> Option<&Token> {
        match self {
            Self::These(tokens) => tokens.first(),
            Self::Anybody => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_tokens_opens_the_door() {
        let token = |text: &str| Token::new(text).unwrap();
        let tokens = Tokens::These(vec![token("0123456789abcdef-new"), token("0123456789abcdef-old")]);
        for (authorization, expected) in [
            (Some("Bearer 0123456789abcdef-new"), Ok(())),
            (Some("bearer  0123456789abcdef-old "), Ok(())),
            (Some("Bearer 0123456789abcdef-ne"), Err(Unauthorized::Wrong)),
            (Some("Bearer 0123456789abcdef-newer"), Err(Unauthorized::Wrong)),
            (Some("Bearer "), Err(Unauthorized::Wrong)),
            (Some("Basic 0123456789abcdef-new"), Err(Unauthorized::Missing)),
            (Some("Bear"), Err(Unauthorized::Missing)),
            (None, Err(Unauthorized::Missing)),
        ] {
            assert_eq!(tokens.check(authorization.map(str::as_bytes)), expected, "{authorization:?}");
        }
        assert_eq!(Tokens::Anybody.check(None), Ok(()));
        assert_eq!(tokens.first().unwrap().header(), "Bearer 0123456789abcdef-new");
        assert_eq!(format!("{tokens:?}"), "These([Token(…), Token(…)])");
        for bad in ["short", "with a space in the middle", &"x".repeat(MAX_TOKEN + 1), "ünicode-is-no-header"] {
            assert_eq!(Token::new(bad), None);
        }
    }
}
