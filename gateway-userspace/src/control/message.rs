//! What is said on the socket: one JSON object a line, a request from the client, answers from the agent.
//!
//! ```text
//! → {"follow":{}}
//! ← {"publication":{"node":1,"ring":{"epoch":7,…},"digest":"…","services":[…]}}     now, and at every change
//!
//! → {"status":{}}
//! ← {"status":{"node":1,"name":"node-1",…}}
//!
//! ← {"error":{"message":"…"}}                                                       then the agent hangs up
//! ```
//!
//! Agent and gateway are upgraded one after the other, so fields that one of them does not know are passed over.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    config::Service,
    ring::{DescriptionError, Digest, Epoch, MemberNumber, Ring, RingDescription},
};

/// What a client asks. The braces leave room for parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The present publication, and every later one.
    Follow {},
    /// How the agent and its programs are.
    Status {},
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `follow`.
    Publication(Publication),
    /// To `status`.
    Status(Status),
    /// To a request that cannot be served.
    Error {
        /// What is wrong and how to mend it.
        message: String,
    },
}

/// What the agent has published into the kernel: the ring in force, and what is steered by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Which member this node is.
    pub node: MemberNumber,
    /// The ring, to be rebuilt.
    pub ring: RingDescription,
    /// The digest of the ring in the kernel, which the rebuilt one must have.
    pub digest: Digest,
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

/// How the agent and its programs are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Which member this node is.
    pub node: MemberNumber,
    /// How it calls itself.
    pub name: String,
    /// The agent's version.
    pub version: String,
    /// The agent's process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started_at_unix_s: u64,
    /// Epoch of the ring in force.
    pub epoch: Epoch,
    /// Digest of the ring in force.
    pub digest: Digest,
    /// Members of the ring in force.
    pub members: u32,
    /// Where programs, maps and links are pinned.
    pub pin_dir: PathBuf,
    /// Where the programs are attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// The programs loaded.
    pub programs: Vec<ProgramStatus>,
    /// Flows in the table now.
    pub flows: u64,
    /// Flows it holds at most.
    pub max_flows: u64,
    /// The counters of the `stats` map, summed over the CPUs.
    pub counters: BTreeMap<String, u64>,
}

/// One interface with programs attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// How `steer` is attached to it.
    pub xdp_mode: AttachedMode,
}

/// How `steer` is attached: what became of [`XdpMode`](crate::config::XdpMode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
}

/// One program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// Its name.
    pub name: String,
    /// Its number, as `bpftool prog` lists it.
    pub id: u32,
    /// Hash of its instructions, as `bpftool prog` lists it.
    pub tag: String,
}

// === impl Publication ===

impl Publication {
    /// The publication of `ring` on the node that is member `node` of it.
    pub fn new(node: MemberNumber, ring: &Ring, services: Vec<Service>) -> Self {
        Self { node, ring: ring.into(), digest: ring.digest(), services }
    }

    /// The ring published, rebuilt and found to be the one the agent has put into the kernel.
    ///
    /// # Errors
    /// If it is no ring, another one, or one without this node.
    pub fn verified_ring(&self) -> Result<Ring, PublicationError> {
        let ring = Ring::try_from(self.ring.clone())?;
        if ring.digest() != self.digest {
            return Err(PublicationError::Digest { published: self.digest, rebuilt: ring.digest() });
        }
        if ring.member(self.node).is_none() {
            return Err(PublicationError::NotInRing(self.node));
        }
        Ok(ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    fn publication() -> Publication {
        Publication::new(MemberNumber::new(2).unwrap(), &fixtures::openim(3, ":88"), vec![])
    }

    #[test]
    fn the_words_on_the_wire_stay() {
        assert_eq!(serde_json::to_string(&Request::Follow {}).unwrap(), r#"{"follow":{}}"#);
        assert_eq!(serde_json::to_string(&Request::Status {}).unwrap(), r#"{"status":{}}"#);
        let error = Answer::Error { message: "no".into() };
        assert_eq!(serde_json::to_string(&error).unwrap(), r#"{"error":{"message":"no"}}"#);
        let ring = fixtures::ring_of(&["gw-0:88"]);
        let answer = Answer::Publication(Publication::new(MemberNumber::new(1).unwrap(), &ring, vec![]));
        let expected = format!(
            "{{\"publication\":{{\"node\":1,\"ring\":{{\"epoch\":1,\"algorithm\":\"openim\",\
             \"allow_identities_without_port\":false,\"members\":[{{\"number\":1,\"identity\":\"gw-0:88\",\
             \"address\":\"198.51.100.1\",\"state\":\"active\"}}]}},\"digest\":\"{}\",\"services\":[]}}}}",
            ring.digest()
        );
        assert_eq!(serde_json::to_string(&answer).unwrap(), expected);
    }

    #[test]
    fn what_a_newer_program_adds_is_passed_over() {
        let mut json = serde_json::to_value(publication()).unwrap();
        json["ring"]["colour"] = "blue".into();
        json["mood"] = 7.into();
        assert_eq!(serde_json::from_value::<Publication>(json).unwrap(), publication());
        assert_eq!(serde_json::from_str::<Request>(r#"{"follow":{"since":3}}"#).unwrap(), Request::Follow {});
    }

    #[test]
    fn the_ring_is_the_one_in_the_kernel() {
        let ring = publication().verified_ring().unwrap();
        assert_eq!(ring.digest(), fixtures::openim(3, ":88").digest());

        let mut altered = publication();
        altered.ring.members.swap(0, 1);
        assert!(matches!(altered.verified_ring(), Err(PublicationError::Digest { .. })));

        let stranger = Publication { node: MemberNumber::new(9).unwrap(), ..publication() };
        assert_eq!(stranger.verified_ring().unwrap_err(), PublicationError::NotInRing(stranger.node));

        let mut empty = publication();
        empty.ring.members.clear();
        assert!(matches!(empty.verified_ring(), Err(PublicationError::Ring(_))));
    }
}
