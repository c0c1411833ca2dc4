//! The golden vectors of the ring, made with `stathat/consistent` itself (`tests/vectors/*.json`): this file alone reads
//! them. Kernel programs and userspace are both held to them, each in its own tests; `gateway-userspace` includes this
//! file by its path.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};

/// By spelling and number of members.
pub type ByRing<T> = BTreeMap<String, BTreeMap<usize, T>>;

/// Spellings of the identities, and what they append to a gateway's name.
pub const SPELLINGS: [(&str, &str); 2] = [("port88", ":88"), ("noport", "")];

/// Users, and who owns them.
#[derive(Deserialize)]
pub struct Owners {
    /// The users.
    pub users: Vec<String>,
    /// The owner of each user, by its place among the members.
    pub owners: ByRing<Vec<usize>>,
}

/// Cases at the edges.
#[derive(Deserialize)]
pub struct Edges {
    /// Keys on, before and behind a point.
    pub boundary: Vec<Boundary>,
    /// Points of two members at one position.
    pub collisions: Vec<Collision>,
}

/// A key near a point.
#[derive(Deserialize)]
pub struct Boundary {
    /// The identities, in their order.
    pub members: Vec<String>,
    /// The key.
    pub user: String,
    /// Where the key stands.
    pub crc: u32,
    /// The identity that owns it.
    pub owner: String,
    /// What is particular about it.
    pub why: String,
}

/// Two members that have a point in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Collision {
    a: String,
    b: String,
    c: String,
    /// Where the common point stands.
    pub colliding_hash: u32,
    /// A key that the common point owns.
    pub user: String,
    #[serde(rename = "owner_add_A_B_C")]
    owner_a_b_c: String,
    #[serde(rename = "owner_add_B_A_C")]
    owner_b_a_c: String,
    #[serde(rename = "owner_fresh_A_C")]
    owner_a_c: String,
}

// === impl Owners ===

impl Owners {
    /// Reads them.
    pub fn read() -> Self {
        read(include_str!("../vectors/ring_owners.json"))
    }
}

// === impl Edges ===

impl Edges {
    /// Reads them.
    pub fn read() -> Self {
        read(include_str!("../vectors/ring_edges.json"))
    }
}

// === impl Collision ===

impl Collision {
    /// Rings, by their identities in order, and the owner of [`user`](Self::user) in each.
    pub fn rings(&self) -> [(Vec<&str>, &str); 3] {
        [
            (vec![&self.a, &self.b, &self.c], &self.owner_a_b_c),
            (vec![&self.b, &self.a, &self.c], &self.owner_b_a_c),
            (vec![&self.a, &self.c], &self.owner_a_c),
        ]
    }

    /// Which of the members in this order has the common point: the one of the two that was added last.
    pub fn winner<'a>(&self, members: &[&'a str]) -> Option<&'a str> {
        members.iter().rfind(|&&member| member == self.a || member == self.b).copied()
    }
}

/// Every point of each ring: its position, and the place of its member.
pub fn points() -> ByRing<Vec<(u32, usize)>> {
    let mut all: BTreeMap<String, serde_json::Value> = read(include_str!("../vectors/ring_points.json"));
    // The file says beside them how they were made.
    let of = |(spelling, _): (&str, &str)| {
        let rings = all.remove(spelling).expect("the vectors hold both spellings");
        (spelling.to_owned(), serde_json::from_value(rings).expect("points are pairs"))
    };
    SPELLINGS.map(of).into()
}

/// The identities of OpenIM's own ring of so many gateways, as its chart names them; `suffix` is that of a spelling.
pub fn openim_identities(members: usize, suffix: &str) -> Vec<String> {
    let headless = "openim-openim-msggateway-headless.default.svc.cluster.local";
    (0..members).map(|index| format!("openim-openim-msggateway-{index}.{headless}{suffix}")).collect()
}

/// # Panics
/// If the vectors are not what this file takes them for; they are part of the project.
fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("the vectors are as this file describes them")
}
