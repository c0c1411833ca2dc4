//! Why a link ended.

use std::{fmt, io, time::Duration};

use crate::peer::link::LinkError;

/// Without a word for this long a link is over.
pub(in crate::peer) const SILENCE: Duration = Duration::from_secs(5);

/// Why a link ended.
#[derive(Debug)]
pub(in crate::peer) enum Why {
    /// The other end does not keep to the protocol.
    Link(LinkError),
    /// It said something that cannot be read.
    Message(String),
    /// It said something that does not belong there.
    Order,
    /// The connection broke.
    Io(io::Error),
    /// The other end closed it.
    HungUp {
        /// Whether it had come up.
        opened: bool,
    },
    /// The handshake took too long.
    Slow,
    /// Nothing was heard.
    Silent,
    /// It does not read what it is sent.
    Behind,
    /// It asks more than it waits for.
    Greedy,
    /// Our ring does not have it any more.
    NoMember,
    /// Its key is not valid any more.
    OldKey,
    /// It has made another link.
    Replaced,
    /// A later process of its node has been heard.
    Outlived,
}

// === impl Why ===

impl Why {
    /// As metrics call it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Link(error) => error.reason(),
            Self::Message(_) => "bad_message",
            Self::Order => "rubbish",
            Self::Io(_) => "broken",
            Self::HungUp { opened: true } => "hung_up",
            Self::HungUp { opened: false } => "refused",
            Self::Slow => "slow_handshake",
            Self::Silent => "silent",
            Self::Behind => "not_reading",
            Self::Greedy => "too_many_questions",
            Self::NoMember => "left_the_ring",
            Self::OldKey => "old_secret",
            Self::Replaced => "replaced",
            Self::Outlived => "outlived",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => error.fmt(f),
            Self::Message(error) => write!(f, "a message that cannot be read: {error}"),
            Self::Order => f.write_str("a message that does not belong there"),
            Self::Io(error) => error.fmt(f),
            Self::HungUp { opened: true } => f.write_str("it closed the link"),
            Self::HungUp { opened: false } => f.write_str(
                "it hung up on us: its ring does not have this node at this address, or its secret is another; compare \
                 rings and secrets of both nodes",
            ),
            Self::Slow => f.write_str("the handshake took too long"),
            Self::Silent => write!(f, "nothing was heard for {SILENCE:?}"),
            Self::Behind => f.write_str("it does not read what it is sent"),
            Self::Greedy => f.write_str("it asks more than we can answer"),
            Self::NoMember => f.write_str("it is no member any more"),
            Self::OldKey => f.write_str("its secret is not valid any more"),
            Self::Replaced => f.write_str("it has made another link"),
            Self::Outlived => f.write_str("a later process of its node has been heard"),
        }
    }
}
