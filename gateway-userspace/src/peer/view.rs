//! Who we are among the nodes, whom we dial, and who may dial us. Pure.

use std::collections::BTreeSet;

use crate::ring::{Identity, MemberNumber, NodeAddress, Ring};

/// The fleet as a node's links need to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Where this node is: links come from here, and others dial it. Without, there are no links.
    pub here: Option<NodeAddress>,
    /// What our ring hashes for us, and our number, if it has us.
    pub member: Option<(Identity, MemberNumber)>,
    /// The other members: these we dial.
    pub others: BTreeSet<NodeAddress>,
    /// Those who were members in the ring before. They may dial us: a node that has not heard yet that it is no member
    /// any more, or that we are, should learn it from us.
    pub former: BTreeSet<NodeAddress>,
}

// === impl View ===

impl View {
    /// The view from `here`, where that is known, by the ring in force and the one before.
    pub fn new(here: Option<NodeAddress>, ring: Option<&Ring>, previous: Option<&Ring>) -> Self {
        let addresses = |ring: Option<&Ring>| -> BTreeSet<NodeAddress> {
            let members = ring.map(Ring::members).unwrap_or_default();
            members.iter().map(|member| member.address).filter(|&address| Some(address) != here).collect()
        };
        let member = ring
            .and_then(|ring| ring.members().iter().find(|member| Some(member.address) == here))
            .map(|member| (member.identity.clone(), member.number));
        let others = addresses(ring);
        let former = addresses(previous).difference(&others).copied().collect();
        Self { here, member, others, former }
    }

    /// The view of a gateway from `here`: former members are dialled as well, for they may still have sessions that are
    /// ours now.
    pub fn of_gateway(here: Option<NodeAddress>, ring: &Ring, previous: Option<&Ring>) -> Self {
        let Self { here, member, mut others, former } = Self::new(here, Some(ring), previous);
        others.extend(former);
        Self { here, member, others, former: BTreeSet::new() }
    }

    /// Whether somebody at that address may dial us.
    pub fn may_dial(&self, address: NodeAddress) -> bool {
        self.others.contains(&address) || self.former.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, Epoch, fixtures};

    #[test]
    fn members_are_dialled_and_former_ones_may_dial() {
        let ring = |numbers: &[u16]| {
            let members = numbers.iter().map(|&number| fixtures::member(number, &format!("gw-{number}:88"))).collect();
            Ring::new(Epoch(1), Algorithm::OpenIm, members).unwrap()
        };
        let address = |number: u16| fixtures::member(number, "x:1").address;
        let (now, before) = (ring(&[1, 2, 3]), ring(&[1, 2, 4]));
        let view = View::new(Some(address(1)), Some(&now), Some(&before));
        assert_eq!(view.member.as_ref().unwrap().1.get(), 1);
        assert_eq!(view.others, [address(2), address(3)].into());
        assert_eq!(view.former, [address(4)].into());
        assert!([2, 3, 4].iter().all(|&number| view.may_dial(address(number))));
        assert!(!view.may_dial(address(1)) && !view.may_dial(address(5)));

        let gateway = View::of_gateway(Some(address(1)), &now, Some(&before));
        assert_eq!((gateway.others, gateway.former.len()), ([address(2), address(3), address(4)].into(), 0));

        let left = View::new(Some(address(4)), Some(&now), Some(&before));
        assert_eq!((left.member.clone(), left.others.len()), (None, 3));
        assert_eq!(View::new(None, None, None), View::default());
    }
}
