//! Map `secrets`: what keys the cookies. Only root can read it.

use super::map_pod;
use crate::siphash::SipKey;

map_pod! {
    /// The single entry of `secrets`. While one secret replaces another both are valid.
    pub struct Secrets {
        /// New cookies are made with this one.
        pub current: [u64; 2],
        /// Cookies made with this one are still accepted; equal to `current` when no change is under way.
        pub previous: [u64; 2],
    }
}

impl Secrets {
    /// The secret that makes cookies.
    #[inline(always)]
    pub fn current(&self) -> SipKey {
        SipKey { k0: self.current[0], k1: self.current[1] }
    }

    /// The other one whose cookies are valid.
    #[inline(always)]
    pub fn previous(&self) -> SipKey {
        SipKey { k0: self.previous[0], k1: self.previous[1] }
    }

    /// Whether the two differ: one is replacing the other.
    #[inline(always)]
    pub fn are_changing(&self) -> bool {
        self.previous != self.current
    }
}
