//! How keys and members become positions on the ring.

use std::fmt;

use ringsteer_ebpf::{
    crc32,
    layout::ring::MAX_POINTS,
    ring::{algorithm, fmix32},
};
use serde::{Deserialize, Serialize};

use super::Identity;

/// A way of hashing keys and placing members. Part of the ring: everybody who reads it hashes alike.
///
/// Keys stand at their CRC-32 in both, so a key has one hash, whatever the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Bit-exact with `stathat/consistent` as OpenIM uses it: CRC-32 and 20 points a member. The fullest member owns
    /// 1.6 to 2.2 times the mean.
    #[default]
    OpenIm,
    /// Multi-probe consistent hashing: every key is looked up from 21 places, and the nearest point wins. The fullest of
    /// 50 members owns less than 1.1 times the mean. For fleets without a pusher that computes OpenIM's own ring.
    Multiprobe,
}

/// How the shares of a ring are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Every position of the hash space counts once.
    Exact,
    /// By 2²⁰ hashes, evenly mixed and always the same: a share is good to about 0.1 percentage points.
    Measured,
}

impl Algorithm {
    /// Every algorithm there is.
    pub const ALL: [Self; 2] = [Self::OpenIm, Self::Multiprobe];

    /// The number that stands for it in the kernel's `ring` map.
    pub fn kernel_id(self) -> u32 {
        match self {
            Self::OpenIm => algorithm::OPENIM,
            Self::Multiprobe => algorithm::MULTIPROBE,
        }
    }

    /// The algorithm that the kernel's `ring` map calls `id`, if this version knows it.
    pub fn from_kernel_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.kernel_id() == id)
    }

    /// Points of one member.
    pub fn points_per_member(self) -> usize {
        match self {
            Self::OpenIm | Self::Multiprobe => 20,
        }
    }

    /// Most members a ring can have and still fit the kernel's map.
    pub fn max_members(self) -> usize {
        MAX_POINTS / self.points_per_member()
    }

    /// How the shares of such a ring are found. From its points they follow exactly where each owns what lies before
    /// it. With several probes a key, only looking up keys tells.
    pub fn precision(self) -> Precision {
        match self {
            Self::OpenIm => Precision::Exact,
            Self::Multiprobe => Precision::Measured,
        }
    }

    /// Where a key stands.
    pub fn hash_key(self, key: &[u8]) -> u32 {
        match self {
            Self::OpenIm | Self::Multiprobe => crc32::checksum(key),
        }
    }

    /// Where the points of a member stand, in the order they are put on the ring.
    pub(super) fn positions(self, identity: &Identity) -> impl Iterator<Item = u32> {
        (0..self.points_per_member()).map(move |index| {
            let hash = crc32::checksum(format!("{index}{identity}").as_bytes());
            match self {
                Self::OpenIm => hash,
                // CRC-32 is linear: identities that differ in a digit have points that differ by one pattern. Mixed,
                // they stand as if by chance.
                Self::Multiprobe => fmix32(hash),
            }
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenIm => "openim",
            Self::Multiprobe => "multiprobe",
        })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Measured => "measured over 2^20 hashes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_for_people_and_files() {
        for algorithm in Algorithm::ALL {
            assert_eq!(serde_json::to_string(&algorithm).unwrap(), format!("\"{algorithm}\""));
        }
    }

    #[test]
    fn one_number_for_the_kernel() {
        assert_eq!(Algorithm::ALL.map(Algorithm::kernel_id), [1, 2]);
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_kernel_id(algorithm.kernel_id()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_kernel_id(0), None);
        assert_eq!(Algorithm::from_kernel_id(3), None);
    }
}
