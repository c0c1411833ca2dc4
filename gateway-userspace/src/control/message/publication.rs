//! What the agent has published.

use serde::{Deserialize, Serialize};

use crate::{
    config::Service,
    ring::{DescriptionError, Digest, MemberNumber, NodeAddress, Ring, RingDescription, RingName},
};

/// What the agent has published into the kernel: the ring in force, and what is steered by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Which member this node is; none if the ring does not have it. It is an edge all the same.
    #[serde(default)]
    pub node: Option<MemberNumber>,
    /// Where packets to this node go, if that is known.
    #[serde(default)]
    pub address: Option<NodeAddress>,
    /// The ring, to be rebuilt.
    pub ring: RingDescription,
    /// The digest of the ring in the kernel, which the rebuilt one must have.
    pub digest: Digest,
    /// The ring that was in force before, if there was one since this node was installed. Users may still be where it
    /// has them.
    #[serde(default)]
    pub previous: Option<RingDescription>,
    /// What is steered.
    pub services: Vec<Service>,
}

/// Why a publication cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicationError {
    /// It holds no ring.
    #[error("the ring published by the agent is none: {0}")]
    Ring(#[from] DescriptionError),
    /// The same members made another ring here: the two programs do not agree on what a ring is.
    #[error(
        "the agent publishes ring {published}, but its members make ring {rebuilt} here; agent and this program are of \
         versions that do not go together: upgrade the older one"
    )]
    Digest {
        /// What the agent says.
        published: Digest,
        /// What came out.
        rebuilt: Digest,
    },
    /// This node is not in the ring.
    #[error(
        "the agent calls this node member {0}, but the ring it publishes has none of that number; correct its `member`"
    )]
    NotInRing(MemberNumber),
}

/// The ring in force and the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rings {
    /// The one in force; none if nobody has told the agent one yet.
    pub current: Option<NamedRing>,
    /// The one before it, if there was one since this node was installed.
    pub previous: Option<NamedRing>,
}

/// A ring with its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRing {
    /// Everything that makes it.
    pub ring: RingDescription,
    /// Its content.
    pub digest: Digest,
}

// === impl Publication ===

impl Publication {
    /// The publication of `ring` on a node that is its member `node`, at that member's address.
    pub fn new(node: Option<MemberNumber>, ring: &Ring, previous: Option<&Ring>, services: Vec<Service>) -> Self {
        let address = node.and_then(|node| ring.member(node)).map(|member| member.address);
        Self { node, address, ring: ring.into(), digest: ring.digest(), previous: previous.map(Into::into), services }
    }

    /// The ring published, rebuilt and found to be the one the agent has put into the kernel.
    ///
    /// # Errors
    /// If it is no ring, another one, or one without the member that this node is said to be.
    pub fn verified_ring(&self) -> Result<Ring, PublicationError> {
        let ring = Ring::try_from(self.ring.clone())?;
        if ring.digest() != self.digest {
            return Err(PublicationError::Digest { published: self.digest, rebuilt: ring.digest() });
        }
        match self.node {
            Some(node) if ring.member(node).is_none() => Err(PublicationError::NotInRing(node)),
            _ => Ok(ring),
        }
    }

    /// The ring before, rebuilt.
    ///
    /// # Errors
    /// If it is no ring.
    pub fn previous_ring(&self) -> Result<Option<Ring>, PublicationError> {
        Ok(self.previous.clone().map(Ring::try_from).transpose()?)
    }
}

// === impl NamedRing ===

impl From<&Ring> for NamedRing {
    fn from(ring: &Ring) -> Self {
        Self { ring: ring.into(), digest: ring.digest() }
    }
}

impl NamedRing {
    /// Epoch and digest.
    pub fn name(&self) -> RingName {
        RingName { epoch: self.ring.epoch, digest: self.digest }
    }

    /// The ring, rebuilt and found to be the one it is said to be.
    ///
    /// # Errors
    /// If it is no ring, or another one.
    pub fn verified(self) -> Result<Ring, PublicationError> {
        let ring = Ring::try_from(self.ring)?;
        if ring.digest() != self.digest {
            return Err(PublicationError::Digest { published: self.digest, rebuilt: ring.digest() });
        }
        Ok(ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    fn publication() -> Publication {
        let before = fixtures::openim(2, ":88");
        Publication::new(Some(MemberNumber::new(2).unwrap()), &fixtures::openim(3, ":88"), Some(&before), vec![])
    }

    #[test]
    fn what_a_newer_program_adds_is_passed_over() {
        let mut json = serde_json::to_value(publication()).unwrap();
        json["ring"]["colour"] = "blue".into();
        json["mood"] = 7.into();
        assert_eq!(serde_json::from_value::<Publication>(json).unwrap(), publication());
    }

    #[test]
    fn the_ring_is_the_one_in_the_kernel() {
        let ring = publication().verified_ring().unwrap();
        assert_eq!(ring.digest(), fixtures::openim(3, ":88").digest());
        assert_eq!(publication().previous_ring().unwrap().unwrap().digest(), fixtures::openim(2, ":88").digest());

        let mut altered = publication();
        altered.ring.members.swap(0, 1);
        assert!(matches!(altered.verified_ring(), Err(PublicationError::Digest { .. })));

        let nine = MemberNumber::new(9).unwrap();
        let stranger = Publication { node: Some(nine), ..publication() };
        assert_eq!(stranger.verified_ring().unwrap_err(), PublicationError::NotInRing(nine));
        let edge = Publication { node: None, ..publication() };
        assert_eq!(edge.verified_ring().unwrap().digest(), ring.digest());

        let mut empty = publication();
        empty.ring.members.clear();
        assert!(matches!(empty.verified_ring(), Err(PublicationError::Ring(_))));
    }
}
