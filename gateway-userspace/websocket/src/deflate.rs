//! `permessage-deflate`, RFC 7692: messages compressed one by one.
//!
//! | file | subject |
//! |---|---|
//! | here | what both sides have agreed on |
//! | [`negotiate`] | from a client's offers to that |
//! | [`compress`] | messages to clients |
//! | [`inflate`] | messages from clients |
//!
//! **Nothing survives a message.** By default the extension lets each message refer to the 32 KiB before it, so both
//! ends keep a window and a compressor's tables, a few hundred kilobytes a connection, of which the library shows
//! nothing: such a connection could not move to another process, and an idle one would cost more than everything else
//! about it. This server therefore always answers with `server_no_context_takeover` and `client_no_context_takeover`.
//! What is left of the extension between two messages is one number, and half a compressed message is the bytes that
//! have arrived of it: whoever takes it over inflates them again. Compressor and inflater are tools that belong to a
//! thread, not to a connection.

pub(crate) mod compress;
pub(crate) mod inflate;
pub mod negotiate;

use serde::{Deserialize, Serialize};

/// That the extension is in use, and how far back messages to this client may refer. Plain data that travels with the
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Deflate {
    /// Base-2 logarithm of the window that messages to the client may refer to; 8 to 15.
    window_bits: u8,
}

/// A window that deflate does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a deflate window has 8 to 15 bits, not {0}")]
pub struct BadWindow(u8);

impl Deflate {
    /// The largest window, which is what is agreed on if the client does not ask for a smaller one.
    pub const MAX_WINDOW_BITS: u8 = 15;
    /// The smallest window.
    pub const MIN_WINDOW_BITS: u8 = 8;

    /// Base-2 logarithm of the window that messages to the client may refer to.
    pub fn window_bits(self) -> u8 {
        self.window_bits
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self { window_bits: Self::MAX_WINDOW_BITS }
    }
}

impl TryFrom<u8> for Deflate {
    type Error = BadWindow;

    fn try_from(window_bits: u8) -> Result<Self, BadWindow> {
        if (Self::MIN_WINDOW_BITS..=Self::MAX_WINDOW_BITS).contains(&window_bits) {
            Ok(Self { window_bits })
        } else {
            Err(BadWindow(window_bits))
        }
    }
}

impl From<Deflate> for u8 {
    fn from(deflate: Deflate) -> Self {
        deflate.window_bits
    }
}
