//! What stands in etcd, as far as this node has read. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    membership::{Announcement, object::RingObject, reconcile::Candidate},
    ring::{Identity, MemberState, NodeAddress},
};

/// The names of our keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// The ring key.
#[derive(Clone, Debug, Default)]
pub(super) enum RingKey {
    /// There is none.
    #[default]
    Absent,
    /// It holds a ring object.
    Good(RingObject),
    /// It holds something else: what is wrong with it.
    Broken(String),
}

/// All keys below the prefix.
#[derive(Debug)]
pub(super) struct View {
    keys: Keys,
    ring: RingKey,
    /// Revision of the ring key's last change; 0 if there is no such key.
    ring_revision: i64,
    members: BTreeMap<Identity, Candidate>,
    /// Announcements that cannot be read, by key: what is wrong with them.
    unreadable: BTreeMap<String, String>,
}

/// What a member key holds. Fields of later versions are passed over.
#[derive(Debug, Serialize, Deserialize)]
struct Announced {
    address: NodeAddress,
    #[serde(default)]
    state: MemberState,
}

// === impl Keys ===

impl Keys {
    pub(super) fn below(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn all(&self) -> &str {
        &self.prefix
    }

    pub(super) fn ring(&self) -> String {
        format!("{}ring", self.prefix)
    }

    pub(super) fn member(&self, identity: &Identity) -> String {
        format!("{}members/{identity}", self.prefix)
    }
}

/// The value of a member's key.
pub(super) fn announced(this: &Announcement, state: MemberState) -> String {
    serde_json::to_string(&Announced { address: this.address, state }).expect("strings are JSON")
}

// === impl View ===

impl View {
    /// Nothing read yet.
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys, ring: RingKey::Absent, ring_revision: 0, members: BTreeMap::new(), unreadable: BTreeMap::new() }
    }

    /// A key has this value since that revision. Returns the node that has announced itself thereby.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], revision: i64) -> Option<Identity> {
        // Keys that are no text are none of ours.
        let key = str::from_utf8(key).ok()?;
        if key == self.keys.ring() {
            self.ring_revision = revision;
            self.ring = match RingObject::parse(value) {
                Ok(object) => RingKey::Good(object),
                Err(error) => RingKey::Broken(format!("the key {key} in etcd holds no ring: {error}")),
            };
            return None;
        }
        let name = key.strip_prefix(self.keys.all())?.strip_prefix("members/")?;
        let read = || -> Result<Candidate, String> {
            let identity = Identity::port_optional(name).map_err(|error| error.to_string())?;
            let Announced { address, state } = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            Ok(Candidate { identity, address, state })
        };
        match read() {
            Ok(candidate) => {
                self.unreadable.remove(key);
                let identity = candidate.identity.clone();
                self.members.insert(identity.clone(), candidate);
                Some(identity)
            }
            Err(error) => {
                self.members.retain(|identity, _| identity.as_str() != name);
                self.unreadable.insert(key.to_owned(), format!("the key {key} in etcd announces no node: {error}"));
                None
            }
        }
    }

    /// A key is gone.
    pub(super) fn delete(&mut self, key: &[u8]) {
        let Ok(key) = str::from_utf8(key) else { return };
        if key == self.keys.ring() {
            self.ring = RingKey::Absent;
            self.ring_revision = 0;
        }
        self.unreadable.remove(key);
        if let Some(name) = key.strip_prefix(self.keys.all()).and_then(|rest| rest.strip_prefix("members/")) {
            self.members.retain(|identity, _| identity.as_str() != name);
        }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn ring(&self) -> &RingKey {
        &self.ring
    }

    /// What the ring key's revision must still be for a new ring to be put there.
    pub(super) fn ring_revision(&self) -> i64 {
        self.ring_revision
    }

    /// The nodes that are there.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        self.members.values().cloned().collect()
    }

    /// What is announced under this name.
    pub(super) fn member(&self, identity: &Identity) -> Option<&Candidate> {
        self.members.get(identity)
    }

    /// What is wrong with what stands there.
    pub(super) fn complaints(&self) -> impl Iterator<Item = &String> {
        self.unreadable.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    fn view() -> View {
        View::new(Keys::below("/fleet/"))
    }

    #[test]
    fn keys_and_values_are_those_documented() {
        let keys = Keys::below("/ringsteer/");
        let member = fixtures::member(7, "gw-0.example:88");
        assert_eq!(keys.ring(), "/ringsteer/ring");
        assert_eq!(keys.member(&member.identity), "/ringsteer/members/gw-0.example:88");
        let this = Announcement { identity: member.identity, address: member.address };
        assert_eq!(announced(&this, MemberState::Draining), r#"{"address":"198.51.100.7","state":"draining"}"#);
    }

    #[test]
    fn members_come_change_and_go() {
        let mut view = view();
        let key = b"/fleet/members/gw/0:88";
        let seen = view.put(key, br#"{"address":"198.51.100.7","colour":"blue"}"#, 5).unwrap();
        assert_eq!(seen.as_str(), "gw/0:88");
        assert_eq!(view.candidates()[0].state, MemberState::Active);
        view.put(key, br#"{"address":"198.51.100.8","state":"draining"}"#, 6);
        assert_eq!(view.member(&seen).unwrap().address.to_string(), "198.51.100.8");
        view.delete(key);
        assert_eq!(view.candidates(), []);
        // What is not ours is passed over.
        for key in [&b"/fleet/other"[..], b"/fleet/members", b"/other/members/gw-0:88", b"\xff"] {
            assert_eq!(view.put(key, b"x", 8), None);
        }
        assert_eq!(view.complaints().count(), 0);
    }

    #[test]
    fn what_cannot_be_read_is_complained_about_until_it_can() {
        let mut view = view();
        let key = b"/fleet/members/gw-0:88";
        view.put(key, br#"{"address":"198.51.100.7"}"#, 1);
        view.put(key, br#"{"address":"gw-0"}"#, 2);
        assert_eq!(view.candidates(), []);
        let complaints: Vec<_> = view.complaints().collect();
        assert!(
            complaints[0]
                .starts_with("the key /fleet/members/gw-0:88 in etcd announces no node: \"gw-0\" is no IP address"),
            "{complaints:?}"
        );
        view.put(key, br#"{"address":"198.51.100.7"}"#, 3);
        assert_eq!((view.candidates().len(), view.complaints().count()), (1, 0));
        view.put(b"/fleet/members/a b", b"{}", 4);
        view.delete(b"/fleet/members/a b");
        assert_eq!(view.complaints().count(), 0);
    }

    #[test]
    fn the_ring_is_there_or_broken_or_not() {
        let mut view = view();
        assert!(matches!(view.ring(), RingKey::Absent) && view.ring_revision() == 0);
        view.put(b"/fleet/ring", RingObject::from(fixtures::openim(2, ":88")).to_text().as_bytes(), 9);
        assert!(matches!(view.ring(), RingKey::Good(_)) && view.ring_revision() == 9);
        view.put(b"/fleet/ring", b"[]", 10);
        let RingKey::Broken(what) = view.ring() else { panic!() };
        assert!(what.starts_with("the key /fleet/ring in etcd holds no ring: "), "{what}");
        assert_eq!(view.ring_revision(), 10);
        view.delete(b"/fleet/ring");
        assert!(matches!(view.ring(), RingKey::Absent) && view.ring_revision() == 0);
    }
}
