//! Tempers: the ways in which real TCP stacks differ, set on the kernel of a client host.

use super::Host;
use anyhow::Result;

/// What a client's TCP offers. Holds for connections made afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temper {
    /// For messages.
    pub name: &'static str,
    /// Timestamps (RFC 7323).
    pub timestamps: bool,
    /// Window scaling (RFC 7323).
    pub window_scaling: bool,
    /// Selective acknowledgements (RFC 2018).
    pub sack: bool,
    /// Asks for explicit congestion notification (RFC 3168) in its SYN.
    pub ecn: bool,
    /// The segment size to offer, if not the link's. Not the kernel's business: pass it to
    /// `Dial::max_segment`.
    pub max_segment: Option<u16>,
}

/// A present-day Linux.
pub const PLAIN: Temper =
    Temper { name: "plain", timestamps: true, window_scaling: true, sack: true, ecn: false, max_segment: None };

/// Every temper that a test of connections should meet, [`PLAIN`] first.
pub const ALL: [Temper; 8] = [
    PLAIN,
    Temper { name: "no timestamps", timestamps: false, ..PLAIN },
    Temper { name: "no window scaling", window_scaling: false, ..PLAIN },
    Temper { name: "no SACK", sack: false, ..PLAIN },
    Temper { name: "ECN", ecn: true, ..PLAIN },
    Temper { name: "MSS 536", max_segment: Some(536), ..PLAIN },
    Temper { name: "no options but MSS", timestamps: false, window_scaling: false, sack: false, ..PLAIN },
    Temper {
        name: "no options, MSS 536, ECN",
        timestamps: false,
        window_scaling: false,
        sack: false,
        ecn: true,
        max_segment: Some(536),
    },
];

// === impl Temper ===

impl Temper {
    /// Gives a host this temper.
    ///
    /// # Errors
    /// If a setting is refused.
    pub fn apply(&self, host: &Host) -> Result<()> {
        let value = |on: bool| if on { "1" } else { "0" };
        host.set_sysctls(&[
            ("net/ipv4/tcp_timestamps", value(self.timestamps)),
            ("net/ipv4/tcp_window_scaling", value(self.window_scaling)),
            ("net/ipv4/tcp_sack", value(self.sack)),
            ("net/ipv4/tcp_ecn", value(self.ecn)),
            // A retry without ECN would hide that the first SYN went wrong.
            ("net/ipv4/tcp_ecn_fallback", "0"),
        ])
    }
}
