//! What is in force on this node: the ring, the one before it, and who we are in it. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    config::Config,
    dataplane::publish::This,
    ring::{Member, MemberNumber, NodeAddress, Ring},
};

/// How far before a change flows are sure to be older than it, in nanoseconds: the programs' clock is a coarse one,
/// behind by up to a tick.
const COARSE_NS: u64 = 10_000_000;

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// The ring, once there is one.
    pub ring: Option<Ring>,
    /// The ring before it.
    pub previous: Option<Ring>,
    /// Our number in the ring, if it has us.
    pub number: Option<MemberNumber>,
    /// Our node address, where known.
    pub address: Option<NodeAddress>,
    /// Numbers that have been given to another node than before, and when, in nanoseconds since boot: older flows that
    /// name them mean the one before.
    pub handed_on: BTreeMap<u32, u64>,
}

impl InForce {
    /// By `ring`, after `before` was in force, at `now_ns` (nanoseconds since boot).
    pub fn new(config: &Config, ring: Option<&Ring>, previous: Option<&Ring>, before: &Self, now_ns: u64) -> Self {
        let member = ring.and_then(|ring| config.member_of(ring));
        let mut handed_on = before.handed_on.clone();
        for old in before.ring.as_ref().map(Ring::members).unwrap_or_default() {
            let other = |new: &Member| (&new.identity, new.address) != (&old.identity, old.address);
            if ring.and_then(|ring| ring.member(old.number)).is_some_and(other) {
                handed_on.insert(old.number.get().into(), now_ns.saturating_sub(COARSE_NS));
            }
        }
        Self {
            ring: ring.cloned(),
            previous: previous.cloned(),
            number: member.map(|member| member.number),
            // The ring knows where others send packets to us. Where it does not have us, we may know ourselves, or have
            // been told before.
            address: member.map(|member| member.address).or(config.node.address).or(before.address),
            handed_on,
        }
    }

    /// Who we are, as the programs are told.
    pub fn this(&self) -> This {
        This { number: self.number, address: self.address }
    }

    /// Where the other members are.
    pub fn others(&self) -> Vec<IpAddr> {
        let members = self.ring.as_ref().map(Ring::members).unwrap_or_default();
        members.iter().filter(|member| Some(member.number) != self.number).map(|member| member.address.ip()).collect()
    }

    /// Whether a flow bound at `bound_ns` to `node` is without a node: that one is no member any more.
    pub fn is_orphan(&self, node: u32, bound_ns: u64) -> bool {
        let Some(ring) = &self.ring else { return false };
        let member = u16::try_from(node).ok().and_then(|number| MemberNumber::new(number).ok());
        member.is_none_or(|number| ring.member(number).is_none())
            || self.handed_on.get(&node).is_some_and(|&handed_on_ns| bound_ns < handed_on_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Overrides,
        ring::{Algorithm, Epoch, Identity, fixtures},
    };

    fn config() -> Config {
        let text = r#"
            [node]
            name = "node-1"
            identity = "gw-1:88"
            interfaces = ["eth0"]
            [secrets]
            current = "000102030405060708090a0b0c0d0e0f"
            [ring]
            epoch = 1
            members = [{ number = 1, identity = "gw-1:88", address = "198.51.100.1" }]
        "#;
        Config::parse(text, &Overrides::default()).unwrap()
    }

    fn ring(members: &[(u16, &str)]) -> Ring {
        let members = members.iter().map(|&(number, identity)| fixtures::member(number, identity)).collect();
        Ring::new(Epoch(1), Algorithm::OpenIm, members).unwrap()
    }

    fn in_force(before: &InForce, members: &[(u16, &str)], now_s: u64) -> InForce {
        InForce::new(&config(), Some(&ring(members)), before.ring.as_ref(), before, now_s * 1_000_000_000)
    }

    #[test]
    fn a_node_is_its_identity_and_may_be_in_no_ring() {
        let one = in_force(&InForce::default(), &[(1, "gw-1:88"), (2, "gw-2:88")], 0);
        assert_eq!((one.number.unwrap().get(), one.address.unwrap().to_string()), (1, "198.51.100.1".into()));
        assert_eq!(one.others(), [fixtures::member(2, "x:1").address.ip()]);
        // The number says nothing: another has it now. The address is still ours.
        let left = in_force(&one, &[(1, "gw-9:88"), (2, "gw-2:88")], 1);
        assert_eq!((left.number, left.address), (None, one.address));
        assert_eq!(left.others().len(), 2);
    }

    #[test]
    fn flows_of_who_left_are_orphans_and_those_of_a_number_handed_on_if_older() {
        let first = in_force(&InForce::default(), &[(1, "gw-1:88"), (2, "gw-2:88"), (3, "gw-3:88")], 1);
        assert!(
            !first.is_orphan(2, 0) && first.is_orphan(4, 0) && first.is_orphan(0, 0) && first.is_orphan(1 << 20, 0)
        );
        let second = in_force(&first, &[(1, "gw-1:88"), (3, "other:88")], 100);
        assert!(second.is_orphan(2, 99_000_000_000) && second.is_orphan(2, 101_000_000_000));
        assert!(second.is_orphan(3, 99_000_000_000) && !second.is_orphan(3, 100_000_000_000));
        assert!(!second.is_orphan(1, 0));
        // It stays so in the rings to come.
        let third = in_force(&second, &[(1, "gw-1:88"), (3, "other:88"), (4, "gw-4:88")], 200);
        assert!(third.is_orphan(3, 99_000_000_000) && !third.is_orphan(3, 150_000_000_000));
        // A member that only starts to drain keeps its flows.
        let mut draining = ring(&[(1, "gw-1:88"), (3, "other:88")]).members().to_vec();
        draining[1].state = crate::ring::MemberState::Draining;
        let draining = Ring::new(Epoch(9), Algorithm::OpenIm, draining).unwrap();
        let fourth = InForce::new(&config(), Some(&draining), None, &third, 300_000_000_000);
        assert!(!fourth.is_orphan(3, 150_000_000_000));
        let none = InForce::new(&config(), None, None, &InForce::default(), 0);
        assert!(!none.is_orphan(1, 0), "without a ring nobody is known to have left");
        assert_eq!(Identity::new("gw-1:88").unwrap(), config().node.identity);
    }
}
