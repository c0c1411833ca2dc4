//! The ring, from the maps alone. They hold its points and its members, but not in which order these stand; where that is
//! the order of their numbers, as it usually is, the digest proves it.

use std::collections::HashSet;

use ringsteer_ebpf::layout::ring as image;

use super::{nodes::NodeEntry, placement::algorithm};
use crate::ring::{Epoch, Identity, Member, MemberNumber, MemberState, Ring};

/// The ring in the kernel, if its members in the order of their numbers make it.
pub fn ring(image: &image::Ring, nodes: &[NodeEntry]) -> Option<Ring> {
    let algorithm = algorithm(image).ok()?;
    let points = image.points.get(..image.point_count as usize)?;
    let with_points: HashSet<u32> = points.iter().map(|point| point.node).collect();
    let member = |node: &NodeEntry| {
        Some(Member {
            number: MemberNumber::try_from(i64::from(node.number)).ok()?,
            identity: Identity::port_optional(node.identity.clone()).ok()?,
            address: node.address?,
            state: if with_points.contains(&node.number) { MemberState::Active } else { MemberState::Draining },
        })
    };
    let mut members = nodes.iter().map(member).collect::<Option<Vec<_>>>()?;
    members.sort_by_key(|member| member.number);
    let ring = Ring::new(Epoch(image.epoch), algorithm, members).ok()?;
    is_it(&ring, image).then_some(ring)
}

/// Whether `ring` is the one in the kernel.
pub fn is_it(ring: &Ring, image: &image::Ring) -> bool {
    (ring.epoch().0, ring.digest().short().get()) == (image.epoch, image.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, fixtures};

    fn nodes(ring: &Ring) -> Vec<NodeEntry> {
        let entry = |member: &Member| NodeEntry {
            number: member.number.get().into(),
            identity: member.identity.to_string(),
            address: Some(member.address),
            here: false,
        };
        ring.members().iter().map(entry).collect()
    }

    #[test]
    fn the_ring_is_told_from_points_and_members() {
        let mut members = fixtures::openim(5, ":88").members().to_vec();
        members[3].state = MemberState::Draining;
        for algorithm in Algorithm::ALL {
            let published = Ring::new(Epoch(7), algorithm, members.clone()).unwrap();
            let rebuilt = ring(published.kernel_image(), &nodes(&published)).unwrap();
            assert_eq!(rebuilt.name(), published.name());
            assert_eq!(rebuilt.members(), published.members());
        }
    }

    #[test]
    fn what_the_digest_does_not_prove_is_not_believed() {
        let published = fixtures::openim(5, ":88");
        let image = published.kernel_image();
        // In another order, one less, one with its name cut.
        let mut shuffled = published.members().to_vec();
        shuffled.swap(0, 1);
        let shuffled = Ring::new(published.epoch(), published.algorithm(), shuffled).unwrap();
        assert!(ring(shuffled.kernel_image(), &nodes(&shuffled)).is_none());
        assert!(ring(image, &nodes(&published)[1..]).is_none());
        let mut cut = nodes(&published);
        cut[2].identity.pop();
        assert!(ring(image, &cut).is_none());
        assert!(ring(image, &nodes(&published)).is_some());
        // And a map in which nothing makes sense is no ring.
        let mut broken: Box<image::Ring> = bytemuck::zeroed_box();
        assert!(ring(&broken, &nodes(&published)).is_none());
        *broken = *image;
        broken.point_count = u32::MAX;
        assert!(ring(&broken, &nodes(&published)).is_none());
    }
}
