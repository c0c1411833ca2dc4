//! What became of a push to one user.

use serde::{Deserialize, Serialize};

/// A session that took a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The connection's name, which it keeps when it moves to another node.
    pub connection: Box<str>,
    /// The kind of device, by OpenIM's numbers; 0 where nobody said.
    pub platform: i32,
    /// Whether the application is in the background there.
    pub background: bool,
}

/// What became of a push to one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// These sessions took it; at least one.
    Delivered(Vec<Reached>),
    /// The user has no session: everybody who could have one has said so.
    Offline,
    /// Nobody knows in time: a node that could have a session did not answer. Trying again is right.
    Unknown,
}

/// Which delivery counts as an online push, so that no notification is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnlineRule {
    /// To a phone, as OpenIM counts: who is there with a browser only gets both.
    #[default]
    Mobile,
    /// To anything.
    AnyPlatform,
}

// === impl Outcome ===

impl Outcome {
    /// The sessions reached.
    pub fn reached(&self) -> &[Reached] {
        match self {
            Self::Delivered(reached) => reached,
            Self::Offline | Self::Unknown => &[],
        }
    }

    /// As answers call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delivered(_) => "delivered",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }
}

// === impl OnlineRule ===

impl OnlineRule {
    /// Whether what was reached is enough.
    pub fn is_online(self, outcome: &Outcome) -> bool {
        /// iOS and Android.
        const PHONES: [i32; 2] = [1, 2];
        match self {
            Self::Mobile => outcome.reached().iter().any(|reached| PHONES.contains(&reached.platform)),
            Self::AnyPlatform => !outcome.reached().is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_no_phone() {
        let on = |platforms: &[i32]| {
            let reached =
                platforms.iter().map(|&platform| Reached { connection: "c".into(), platform, background: false });
            Outcome::Delivered(reached.collect())
        };
        for (outcome, mobile, any) in [
            (on(&[5]), false, true),
            (on(&[0]), false, true),
            (on(&[5, 2]), true, true),
            (on(&[1]), true, true),
            (Outcome::Offline, false, false),
            (Outcome::Unknown, false, false),
        ] {
            assert_eq!(OnlineRule::Mobile.is_online(&outcome), mobile, "{outcome:?}");
            assert_eq!(OnlineRule::AnyPlatform.is_online(&outcome), any, "{outcome:?}");
        }
    }
}
