//! The ring object: a ring as the fleet's store keeps it, and as the nodes change it by compare-and-swap.
//!
//! It is JSON for people as well, who may edit it:
//!
//! ```json
//! {
//!   "epoch": 7,
//!   "algorithm": "openim",
//!   "allow_identities_without_port": false,
//!   "members": [
//!     { "number": 1, "identity": "gw-0.example:88", "address": "198.51.100.11", "state": "active" }
//!   ],
//!   "digest": "5f0c…",
//!   "next_number": 2
//! }
//! ```
//!
//! `digest` and `next_number` may be left out. A digest that is there must be that of the ring: two versions of this
//! program that would make different rings of the same members are told apart by it.

use serde::{Deserialize, Serialize};

use crate::ring::{DescriptionError, Digest, Epoch, MemberNumber, Ring, RingDescription};

/// A ring, and what the next one needs to know beside it.
#[derive(Clone, Debug)]
pub struct RingObject {
    ring: Ring,
    /// Where the search for a free number begins. It goes round, so that a number rests as long as can be before it is
    /// given again: until then flows may still name it.
    next_number: MemberNumber,
}

/// Why a text is no ring object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not of this shape.
    #[error("{0}")]
    Shape(serde_json::Error),
    /// No ring.
    #[error(transparent)]
    Ring(#[from] DescriptionError),
    /// The members make another ring here.
    #[error(
        "its digest is {written}, but its members make ring {made} here: it was edited, or written by a version that \
         does not go with this one; take `digest` out if it was edited, else bring all nodes to one version"
    )]
    Digest {
        /// What it says.
        written: Digest,
        /// What came out.
        made: Digest,
    },
}

/// As written. Keys of later versions are passed over.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    ring: RingDescription,
    #[serde(default)]
    digest: Option<Digest>,
    #[serde(default)]
    next_number: Option<MemberNumber>,
}

// === impl RingObject ===

impl RingObject {
    /// The object of `ring`, in which the search for a free number begins at `next_number`.
    pub fn new(ring: Ring, next_number: MemberNumber) -> Self {
        Self { ring, next_number }
    }

    /// The object in `text`.
    ///
    /// # Errors
    /// If it is none, or its members make no ring, or another one.
    pub fn parse(text: &[u8]) -> Result<Self, ObjectError> {
        let Written { ring, digest, next_number } = serde_json::from_slice(text).map_err(ObjectError::Shape)?;
        let ring = Ring::try_from(ring)?;
        let made = ring.digest();
        if let Some(written) = digest
            && written != made
        {
            return Err(ObjectError::Digest { written, made });
        }
        Ok(match next_number {
            Some(next_number) => Self { ring, next_number },
            None => ring.into(),
        })
    }

    /// As it is written.
    pub fn to_text(&self) -> String {
        let written = Written {
            ring: (&self.ring).into(),
            digest: Some(self.ring.digest()),
            next_number: Some(self.next_number),
        };
        serde_json::to_string_pretty(&written).expect("strings and numbers are JSON")
    }

    /// The ring.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Where the search for a free number begins.
    pub fn next_number(&self) -> MemberNumber {
        self.next_number
    }

    /// What names it: a ring of that epoch and that content.
    pub fn name(&self) -> (Epoch, Digest) {
        (self.ring.epoch(), self.ring.digest())
    }
}

impl From<Ring> for RingObject {
    fn from(ring: Ring) -> Self {
        let highest = ring.members().iter().map(|member| member.number.get()).max().unwrap_or(0);
        let first = MemberNumber::new(1).expect("1 is a number");
        let next_number = MemberNumber::new(highest + 1).unwrap_or(first);
        Self { ring, next_number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    #[test]
    fn survives_the_store_whole() {
        let object = RingObject::new(fixtures::openim(3, ":88"), MemberNumber::new(9).unwrap());
        let read = RingObject::parse(object.to_text().as_bytes()).unwrap();
        assert_eq!((read.name(), read.next_number()), (object.name(), object.next_number()));
        assert_eq!(read.ring().members(), object.ring().members());
        // Keys of later versions are passed over.
        let later = object.to_text().replacen('{', "{ \"colour\": \"blue\",", 1);
        assert_eq!(RingObject::parse(later.as_bytes()).unwrap().name(), object.name());
    }

    #[test]
    fn people_may_write_less() {
        let text = br#"{ "epoch": 4, "algorithm": "openim",
            "members": [{ "number": 7, "identity": "gw-0:88", "address": "198.51.100.1" }] }"#;
        let object = RingObject::parse(text).unwrap();
        assert_eq!((object.ring().epoch(), object.next_number().get()), (Epoch(4), 8));
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        let complaint = |text: &str| RingObject::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(complaint("").contains("EOF"));
        assert!(complaint("{}").contains("missing field"));
        let good = RingObject::from(fixtures::openim(2, ":88")).to_text();
        let edited = good.replace("198.51.100.2", "198.51.100.9");
        assert!(edited != good && complaint(&edited).contains("take `digest` out if it was edited"));
        let empty = r#"{ "epoch": 1, "algorithm": "openim", "members": [] }"#;
        assert_eq!(complaint(empty), "the ring has no members; list at least this node");
    }

    #[test]
    fn numbers_go_round() {
        let ring = Ring::new(Epoch(1), Default::default(), vec![fixtures::member(4095, "gw-0:88")]).unwrap();
        assert_eq!(RingObject::from(ring).next_number().get(), 1);
    }
}
