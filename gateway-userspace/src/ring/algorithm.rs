//! How keys and members become positions on the ring.

use std::fmt;

use ringsteer_ebpf::{crc32, layout::ring::MAX_POINTS};
use serde::{Deserialize, Serialize};

use super::Identity;

/// A way of hashing keys and placing members. Part of the ring: everybody who reads it hashes alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Bit-exact with `stathat/consistent` as OpenIM uses it: CRC-32 and 20 points a member.
    #[default]
    OpenIm,
}

impl Algorithm {
    /// The number that stands for it in the kernel's `ring` map.
    pub fn kernel_id(self) -> u32 {
        match self {
            Self::OpenIm => 1,
        }
    }

    /// Points of one member.
    pub fn points_per_member(self) -> usize {
        match self {
            Self::OpenIm => 20,
        }
    }

    /// Most members a ring can have and still fit the kernel's map.
    pub fn max_members(self) -> usize {
        MAX_POINTS / self.points_per_member()
    }

    /// Where a key stands.
    pub fn hash_key(self, key: &[u8]) -> u32 {
        match self {
            Self::OpenIm => crc32::checksum(key),
        }
    }

    /// Where the points of a member stand, in the order they are put on the ring.
    pub(super) fn positions(self, identity: &Identity) -> impl Iterator<Item = u32> {
        match self {
            Self::OpenIm => {
                (0..self.points_per_member()).map(move |index| crc32::checksum(format!("{index}{identity}").as_bytes()))
            }
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenIm => "openim",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_for_people_and_files() {
        assert_eq!(serde_json::to_string(&Algorithm::OpenIm).unwrap(), format!("\"{}\"", Algorithm::OpenIm));
    }
}
