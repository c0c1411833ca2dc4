//! Why a connection is closed: codes and reasons of RFC 6455, section 7.4.

/// A code that may stand in a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// The peer broke a rule of this server.
    pub const POLICY: Self = Self(1008);
    /// A message larger than this server takes.
    pub const TOO_BIG: Self = Self(1009);
    /// The service restarts: the peer should come again.
    pub const RESTART: Self = Self(1012);
    /// Overload: the peer should come back later.
    pub const TRY_AGAIN: Self = Self(1013);

    /// The code `number`, if a close frame may carry it: assigned by the RFC or its registry (1000–1003, 1007–1014), or
    /// left to libraries and applications (3000–4999).
    pub const fn new(number: u16) -> Option<Self> {
        match number {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(number)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What a close frame says, when it says anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: CloseCode,
    /// For logs; at most 123 bytes.
    pub reason: String,
}

impl Close {
    /// Most bytes a reason can have: what a control frame leaves beside the code.
    pub const MAX_REASON: usize = super::frame::MAX_CONTROL - 2;

    /// A close with this reason, cut at a character if it is longer than [`Close::MAX_REASON`].
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(Self::MAX_REASON));
        Self { code, reason }
    }

    /// The payload of the close frame.
    pub fn payload(&self) -> Vec<u8> {
        [&self.code.number().to_be_bytes()[..], self.reason.as_bytes()].concat()
    }
}
