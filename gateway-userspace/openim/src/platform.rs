//! What a user logs in from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A platform, by OpenIM's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "i32", try_from = "i32")]
#[repr(i32)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Platform {
    Ios = 1,
    Android = 2,
    Windows = 3,
    MacOs = 4,
    Web = 5,
    MiniWeb = 6,
    Linux = 7,
    AndroidPad = 8,
    IPad = 9,
    Admin = 10,
    HarmonyOs = 11,
}

/// Platforms that count as one kind of device; those that have no company are a class of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// iOS and Android.
    Mobile,
    /// Windows, macOS and Linux.
    Pc,
    /// Browsers.
    Web,
    /// Pads of both kinds.
    Pad,
    /// Any other platform, alone.
    Alone(Platform),
}

/// There is no platform of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no platform {0}; they are 1 to 11")]
pub struct NoPlatform(pub i64);

// === impl Platform ===

impl Platform {
    /// All platforms, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Ios,
        Self::Android,
        Self::Windows,
        Self::MacOs,
        Self::Web,
        Self::MiniWeb,
        Self::Linux,
        Self::AndroidPad,
        Self::IPad,
        Self::Admin,
        Self::HarmonyOs,
    ];

    /// The number that stands for it on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ios => "iOS",
            Self::Android => "Android",
            Self::Windows => "Windows",
            Self::MacOs => "macOS",
            Self::Web => "Web",
            Self::MiniWeb => "MiniWeb",
            Self::Linux => "Linux",
            Self::AndroidPad => "Android pad",
            Self::IPad => "iPad",
            Self::Admin => "Admin",
            Self::HarmonyOs => "HarmonyOS",
        }
    }

    /// The kind of device.
    pub fn class(self) -> Class {
        match self {
            Self::Ios | Self::Android => Class::Mobile,
            Self::Windows | Self::MacOs | Self::Linux => Class::Pc,
            Self::Web => Class::Web,
            Self::AndroidPad | Self::IPad => Class::Pad,
            Self::MiniWeb | Self::Admin | Self::HarmonyOs => Class::Alone(self),
        }
    }
}

impl TryFrom<i64> for Platform {
    type Error = NoPlatform;

    fn try_from(number: i64) -> Result<Self, NoPlatform> {
        Self::ALL.into_iter().find(|platform| i64::from(platform.number()) == number).ok_or(NoPlatform(number))
    }
}

impl TryFrom<i32> for Platform {
    type Error = NoPlatform;

    fn try_from(number: i32) -> Result<Self, NoPlatform> {
        i64::from(number).try_into()
    }
}

impl From<Platform> for i32 {
    fn from(platform: Platform) -> Self {
        platform.number()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_platforms() {
        for (index, platform) in Platform::ALL.into_iter().enumerate() {
            assert_eq!(platform.number() as usize, index + 1);
            assert_eq!(Platform::try_from(platform.number()), Ok(platform));
        }
        for number in [0, 12, -1, i64::MAX, i64::MIN] {
            assert_eq!(Platform::try_from(number), Err(NoPlatform(number)));
        }
    }

    #[test]
    fn classes_are_openims() {
        let members = |class| -> Vec<i32> {
            Platform::ALL.into_iter().filter(|platform| platform.class() == class).map(Platform::number).collect()
        };
        assert_eq!(members(Class::Mobile), [1, 2]);
        assert_eq!(members(Class::Pc), [3, 4, 7]);
        assert_eq!(members(Class::Web), [5]);
        assert_eq!(members(Class::Pad), [8, 9]);
        for alone in [Platform::MiniWeb, Platform::Admin, Platform::HarmonyOs] {
            assert_eq!(members(alone.class()), [alone.number()]);
        }
    }
}
