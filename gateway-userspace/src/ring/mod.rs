//! The ring: who owns a user (promise 1, *one ring*).
//!
//! A [`Ring`] is its ordered [`Member`]s, an [`Algorithm`] and the points that follow from them; it is named by its
//! [`Epoch`] and its [`Digest`]. The kernel, the gateway and the CLI all read the same one: a ring is built here once, its
//! [kernel image](Ring::kernel_image) is what the kernel program searches, and [`Ring::owner`] searches that very
//! image with that very code.
//!
//! | file | subject |
//! |---|---|
//! | `identity` | the string that is hashed |
//! | `member` | number and node address beside it |
//! | `algorithm` | from keys and identities to positions |
//! | `name` | epoch and digest |
//! | `description` | a ring as it is written down and sent |
//! | `sections` | the hash space, cut so that shares can be added up |
//! | `diff` | how far two rings differ, and who gains from whom |
//! | `simulate` | what a change of the fleet would move |
//!
//! All of it is pure: no sockets, no clocks, no kernel.
#![forbid(unsafe_code)]

mod algorithm;
mod description;
pub mod diff;
#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
#[path = "../../../tests/src/vectors.rs"]
pub(crate) mod golden;
mod identity;
mod member;
#[cfg(test)]
mod multiprobe;
mod name;
mod sections;
pub mod simulate;
#[cfg(test)]
mod vectors;

use std::{collections::HashMap, fmt, sync::Arc};

pub use algorithm::{Algorithm, Precision};
pub use description::{DescriptionError, MemberDescription, RingDescription};
pub use identity::{Identity, IdentityError, MAX_IDENTITY};
pub use member::{Member, MemberNumber, MemberNumberError, MemberState, NodeAddress, NodeAddressError};
pub use name::{Digest, DigestError, Epoch, RingName, ShortDigest};
pub use ringsteer_ebpf::layout::ring::Point;
use ringsteer_ebpf::{
    layout::{node::MAX_NODES, ring as image},
    ring::owner,
};

/// A ring: from a key to its owner. Never changes, and cheap to clone.
#[derive(Clone)]
pub struct Ring {
    epoch: Epoch,
    algorithm: Algorithm,
    digest: Digest,
    members: Arc<[Member]>,
    /// Where the member of each number stands in `members`.
    places: Arc<[Option<u16>]>,
    /// The points, as the kernel searches them.
    image: Arc<image::Ring>,
}

/// Why members do not make a ring together. The index is that of the member to change, in the list given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Nobody could own anything.
    #[error("the ring has no members; list at least this node")]
    Empty,
    /// All of them are leaving.
    #[error("every member of the ring is draining, so nobody could own anything; keep at least one active")]
    NoneActive,
    /// The kernel's map is full.
    #[error("the ring has {members} members, and `{algorithm}` has room for {max}; remove some")]
    TooManyMembers {
        /// How many there are.
        members: usize,
        /// What sets the limit.
        algorithm: Algorithm,
        /// The limit.
        max: usize,
    },
    /// One number for two members.
    #[error(
        "members {first} and {second} both have the number {number}; give one of them a number that no member has had \
         lately, for flows may still name it"
    )]
    DuplicateNumber {
        /// The number.
        number: MemberNumber,
        /// Who has it first.
        first: Identity,
        /// Who has it again.
        second: Identity,
        /// Index of the second.
        index: usize,
    },
    /// One place on the ring for two members.
    #[error(
        "members {first} and {second} both have the identity {identity}, so one of them would own nothing; correct or \
         remove one"
    )]
    DuplicateIdentity {
        /// The identity.
        identity: Identity,
        /// Who has it first.
        first: MemberNumber,
        /// Who has it again.
        second: MemberNumber,
        /// Index of the second.
        index: usize,
    },
    /// One host for two members.
    #[error(
        "members {first} and {second} both have the address {address}; a node is one member, and the kernel could not \
         tell their packets apart: correct or remove one"
    )]
    DuplicateAddress {
        /// The address.
        address: NodeAddress,
        /// Who has it first.
        first: MemberNumber,
        /// Who has it again.
        second: MemberNumber,
        /// Index of the second.
        index: usize,
    },
}

// === impl RingError ===

impl RingError {
    /// Which member of the list to change, if it is one of them.
    pub fn index(&self) -> Option<usize> {
        match *self {
            Self::Empty | Self::NoneActive | Self::TooManyMembers { .. } => None,
            Self::DuplicateNumber { index, .. }
            | Self::DuplicateIdentity { index, .. }
            | Self::DuplicateAddress { index, .. } => Some(index),
        }
    }
}

// === impl Ring ===

impl Ring {
    /// The ring of `members`, whose order decides who wins where two points collide: the one added last.
    ///
    /// # Errors
    /// If there are no members, none that is active, more than the kernel's map has room for, or two of them share a
    /// number, an identity or an address.
    pub fn new(epoch: Epoch, algorithm: Algorithm, members: Vec<Member>) -> Result<Self, RingError> {
        if members.is_empty() {
            return Err(RingError::Empty);
        }
        // By members, not by points: whether a ring fits must not hang on how many of its points happen to collide.
        let max = algorithm.max_members();
        if members.len() > max {
            return Err(RingError::TooManyMembers { members: members.len(), algorithm, max });
        }
        let places = places(&members)?;
        if members.iter().all(|member| member.state == MemberState::Draining) {
            return Err(RingError::NoneActive);
        }
        let digest = Digest::of(algorithm, &members);
        let image = image(epoch, algorithm, &digest, &members);
        Ok(Self { epoch, algorithm, digest, members: members.into(), places: places.into(), image })
    }

    /// Its place in time.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How keys and members are hashed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Epoch and digest.
    pub fn name(&self) -> RingName {
        RingName { epoch: self.epoch, digest: self.digest }
    }

    /// The members, in ring order. Never empty.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of that number, if the ring has one.
    pub fn member(&self, number: MemberNumber) -> Option<&Member> {
        self.place_of_number(u32::from(number.get())).map(|place| &self.members[place])
    }

    /// The member that owns `key`, a user id as the server decodes it.
    pub fn owner(&self, key: &[u8]) -> &Member {
        self.owner_of_hash(self.algorithm.hash_key(key))
    }

    /// The member that owns the keys at `hash`.
    pub fn owner_of_hash(&self, hash: u32) -> &Member {
        &self.members[self.place_of_hash(hash)]
    }

    /// The points, sorted by hash, no hash twice.
    pub fn points(&self) -> &[Point] {
        &self.image.points[..self.image.point_count as usize]
    }

    /// The share of the hash space, from 0 to 1, that each member owns, in ring order; found as
    /// [`Algorithm::precision`] says. Measuring takes up to a few seconds.
    pub fn shares(&self) -> Vec<(MemberNumber, f64)> {
        let mut owned = vec![0; self.members.len()];
        for section in sections::sections(&[self]) {
            owned[self.place_of_hash(section.hash)] += section.width;
        }
        sections::shares(self, &owned)
    }

    /// How many times the mean the fullest member owns, by the [`shares`](Self::shares) given: 1 is a perfect balance.
    /// The mean is that of the active members.
    pub fn balance(&self, shares: &[(MemberNumber, f64)]) -> f64 {
        let active = self.members.iter().filter(|member| member.state == MemberState::Active).count();
        let fullest = shares.iter().map(|&(_, share)| share).fold(0.0, f64::max);
        fullest * active as f64
    }

    /// The ring as the kernel's `ring` map holds it.
    pub fn kernel_image(&self) -> &image::Ring {
        &self.image
    }

    /// Where the owner of the keys at `hash` stands in the member list.
    fn place_of_hash(&self, hash: u32) -> usize {
        let point =
            owner(&self.image, hash).expect("`Ring::new` makes a ring of at least one and at most MAX_POINTS points");
        self.place_of_point(point)
    }

    fn place_of_point(&self, point: &Point) -> usize {
        self.place_of_number(point.node).expect("`Ring::new` takes the numbers of points from its members")
    }

    fn place_of_number(&self, number: u32) -> Option<usize> {
        self.places.get(number as usize).copied().flatten().map(usize::from)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Thousands of points help nobody, and the digest stands for them.
        f.debug_struct("Ring")
            .field("epoch", &self.epoch)
            .field("digest", &self.digest.short())
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// Where each number stands in the list; refuses members that share a number, an identity or an address.
fn places(members: &[Member]) -> Result<Vec<Option<u16>>, RingError> {
    let mut places = vec![None; MAX_NODES];
    let mut identities = HashMap::new();
    let mut addresses = HashMap::new();
    for (index, member) in members.iter().enumerate() {
        let Member { number, ref identity, address, .. } = *member;
        // There are fewer members than numbers, so the index fits.
        if let Some(first) = places[usize::from(number.get())].replace(index as u16) {
            let first = members[usize::from(first)].identity.clone();
            return Err(RingError::DuplicateNumber { number, first, second: identity.clone(), index });
        }
        if let Some(first) = identities.insert(identity, number) {
            return Err(RingError::DuplicateIdentity { identity: identity.clone(), first, second: number, index });
        }
        if let Some(first) = addresses.insert(address, number) {
            return Err(RingError::DuplicateAddress { address, first, second: number, index });
        }
    }
    Ok(places)
}

/// The points of `members` in the form the kernel searches. 256 KiB, so it lives on the heap from the start.
fn image(epoch: Epoch, algorithm: Algorithm, digest: &Digest, members: &[Member]) -> Arc<image::Ring> {
    let mut points: Vec<Point> = Vec::with_capacity(members.len() * algorithm.points_per_member());
    for member in members.iter().filter(|member| member.state == MemberState::Active) {
        let node = u32::from(member.number.get());
        points.extend(algorithm.positions(&member.identity).map(|hash| Point { hash, node }));
    }
    // Of points at one position the one added last stays: with the list reversed it comes first there (the sort is
    // stable), and the others are dropped.
    points.reverse();
    points.sort_by_key(|point| point.hash);
    points.dedup_by_key(|point| point.hash);

    let mut image: Box<image::Ring> = bytemuck::zeroed_box();
    image.epoch = epoch.0;
    image.digest = digest.short().get();
    image.algorithm = algorithm.kernel_id();
    image.point_count = points.len() as u32;
    image.points[..points.len()].copy_from_slice(&points);
    image.into()
}

#[cfg(test)]
mod tests;
