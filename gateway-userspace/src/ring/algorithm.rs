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

/// Points of one member, in both.
const POINTS: usize = 20;

/// The CRC's register behind the decimal index of each point, which stands before the identity.
const BEHIND_INDEX: [u32; POINTS] = behind_index();

const fn behind_index() -> [u32; POINTS] {
    let mut registers = [0; POINTS];
    let mut index = 0;
    while index < POINTS {
        let (tens, ones) = (b'0' + (index / 10) as u8, b'0' + (index % 10) as u8);
        let checksum = if index < 10 { crc32::checksum_const(&[ones]) } else { crc32::checksum_const(&[tens, ones]) };
        registers[index] = crc32::finish(checksum);
        index += 1;
    }
    registers
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
            Self::OpenIm | Self::Multiprobe => POINTS,
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

    /// Where the points of a member stand, in the order they are put on the ring: at the CRC of index and identity.
    pub(super) fn positions(self, identity: &Identity) -> [u32; POINTS] {
        // All points side by side: within one of them each byte waits for the one before it.
        let mut registers = BEHIND_INDEX;
        for &byte in identity.as_str().as_bytes() {
            for register in &mut registers {
                *register = crc32::step(*register, byte);
            }
        }
        registers.map(crc32::finish).map(|hash| match self {
            Self::OpenIm => hash,
            // CRC-32 is linear: identities that differ in a digit have points that differ by one pattern. Mixed,
            // they stand as if by chance.
            Self::Multiprobe => fmix32(hash),
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
    fn points_stand_at_index_and_identity() {
        let identity = Identity::new("openim-msggateway-7.svc.cluster.local:88").unwrap();
        let hashes = |index: usize| crc32::checksum(format!("{index}{identity}").as_bytes());
        assert_eq!(Algorithm::OpenIm.positions(&identity), std::array::from_fn(hashes));
        assert_eq!(Algorithm::Multiprobe.positions(&identity), std::array::from_fn(|index| fmix32(hashes(index))));
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
