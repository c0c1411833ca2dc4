//! Who may be logged in at the same time: what a new login does to the user's other sessions.
//!
//! | policy | |
//! |---|---|
//! | 0 | everybody may stay |
//! | 1 | one session a platform: a new one kicks those of the same platform |
//! | 4 | one session a kind of device ([`Class`]) |
//! | 5 | sessions on a PC are exempt; all others exclude each other |
//!
//! A session with the *same token* as the new one is the same client, come back before we knew that it had gone: it is
//! **replaced**, which ends it without telling it. Were it kicked, a client that reconnects would be told to give up. Only
//! under policy 0 it stays, for there two windows of one browser may share a token, and each would replace the other for
//! ever.
//!
//! All sessions of a user are on one node, so what is decided here is exact.

use serde::{Deserialize, Serialize};

use crate::{
    platform::{Class, Platform},
    token::TokenDigest,
};

/// A policy, by OpenIM's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Policy {
    /// Everybody may stay.
    Everybody = 0,
    /// One session a platform. OpenIM's default.
    #[default]
    OneAPlatform = 1,
    /// One session a kind of device.
    OneAClass = 4,
    /// Sessions on a PC are exempt; all others exclude each other.
    PcAndOneOther = 5,
}

/// There is no policy of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no login policy {0}; they are 0, 1, 4 and 5")]
pub struct NoPolicy(pub u8);

/// A session as policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// What it runs on.
    pub platform: Platform,
    /// Its token.
    pub token: TokenDigest,
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It goes on.
    Stays,
    /// It is told that another login has ended it, and ended.
    Kicked,
    /// It is ended.
    Replaced,
}

// === impl Policy ===

impl Policy {
    /// What becomes of one session of a user when another one begins.
    pub fn fate(self, existing: Terminal, new: Terminal) -> Fate {
        let kicks = match self {
            Self::Everybody => return Fate::Stays,
            _ if existing.token == new.token => return Fate::Replaced,
            Self::OneAPlatform => existing.platform == new.platform,
            Self::OneAClass => existing.platform.class() == new.platform.class(),
            Self::PcAndOneOther => [existing, new].iter().all(|terminal| terminal.platform.class() != Class::Pc),
        };
        if kicks { Fate::Kicked } else { Fate::Stays }
    }
}

impl TryFrom<u8> for Policy {
    type Error = NoPolicy;

    fn try_from(number: u8) -> Result<Self, NoPolicy> {
        [Self::Everybody, Self::OneAPlatform, Self::OneAClass, Self::PcAndOneOther]
            .into_iter()
            .find(|&policy| u8::from(policy) == number)
            .ok_or(NoPolicy(number))
    }
}

impl From<Policy> for u8 {
    fn from(policy: Policy) -> Self {
        policy as Self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terminal(platform: Platform, token: u8) -> Terminal {
        Terminal { platform, token: TokenDigest::of(&token.to_string()) }
    }

    fn any_terminal() -> impl Strategy<Value = Terminal> {
        (prop::sample::select(&Platform::ALL[..]), 0_u8..6).prop_map(|(platform, token)| terminal(platform, token))
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        prop::sample::select(vec![0_u8, 1, 4, 5]).prop_map(|number| number.try_into().unwrap())
    }

    /// Sessions after logins, as a gateway keeps them.
    fn after(policy: Policy, logins: &[Terminal]) -> Vec<Terminal> {
        let mut sessions: Vec<Terminal> = Vec::new();
        for &new in logins {
            sessions.retain(|&existing| policy.fate(existing, new) == Fate::Stays);
            sessions.push(new);
        }
        sessions
    }

    #[test]
    fn each_policy_kicks_whom_it_should() {
        use Platform::{Android, AndroidPad, IPad, Ios, Linux, Web, Windows};
        let cases: [(u8, Platform, Platform, Fate); 14] = [
            (0, Ios, Ios, Fate::Stays),
            (1, Ios, Ios, Fate::Kicked),
            (1, Ios, Android, Fate::Stays),
            (1, Web, Web, Fate::Kicked),
            (4, Ios, Android, Fate::Kicked),
            (4, Windows, Linux, Fate::Kicked),
            (4, AndroidPad, IPad, Fate::Kicked),
            (4, Web, Windows, Fate::Stays),
            (4, Ios, IPad, Fate::Stays),
            (5, Ios, Web, Fate::Kicked),
            (5, IPad, Android, Fate::Kicked),
            (5, Windows, Windows, Fate::Stays),
            (5, Windows, Ios, Fate::Stays),
            (5, Ios, Linux, Fate::Stays),
        ];
        for (policy, old, new, fate) in cases {
            let policy = Policy::try_from(policy).unwrap();
            assert_eq!(policy.fate(terminal(old, 1), terminal(new, 2)), fate, "{policy:?}: {old}, then {new}");
        }
    }

    #[test]
    fn policies_have_openims_numbers() {
        for number in 0..=u8::MAX {
            match Policy::try_from(number) {
                Ok(policy) => assert_eq!(u8::from(policy), number),
                Err(none) => assert_eq!(none, NoPolicy(number)),
            }
        }
        let known: Vec<u8> = (0..=u8::MAX).filter(|&number| Policy::try_from(number).is_ok()).collect();
        assert_eq!(known, [0, 1, 4, 5]);
    }

    proptest! {
        #[test]
        fn a_client_that_comes_back_is_never_kicked(policy in any_policy(), old in any_terminal(), new in any_terminal()) {
            let fate = policy.fate(old, Terminal { token: old.token, ..new });
            prop_assert_eq!(fate, if policy == Policy::Everybody { Fate::Stays } else { Fate::Replaced });
        }

        #[test]
        fn what_excludes_each_other_does_so_both_ways(policy in any_policy(), a in any_terminal(), b in any_terminal()) {
            prop_assert_eq!(policy.fate(a, b), policy.fate(b, a));
        }

        /// Whatever the order of logins: the newest is there, and what is left is allowed.
        #[test]
        fn what_is_left_is_allowed(policy in any_policy(), logins in prop::collection::vec(any_terminal(), 1..20)) {
            let sessions = after(policy, &logins);
            prop_assert_eq!(sessions.last(), logins.last());
            let count = |test: &dyn Fn(Platform) -> bool| sessions.iter().filter(|session| test(session.platform)).count();
            for platform in Platform::ALL {
                match policy {
                    Policy::Everybody => prop_assert_eq!(sessions.len(), logins.len()),
                    Policy::OneAPlatform => prop_assert!(count(&|its| its == platform) <= 1),
                    Policy::OneAClass => prop_assert!(count(&|its| its.class() == platform.class()) <= 1),
                    Policy::PcAndOneOther => prop_assert!(count(&|its| its.class() != Class::Pc) <= 1),
                }
            }
            if policy != Policy::Everybody {
                let mut tokens: Vec<_> = sessions.iter().map(|session| session.token).collect();
                tokens.sort_unstable();
                tokens.dedup();
                prop_assert_eq!(tokens.len(), sessions.len(), "one session a token");
            }
        }
    }
}
