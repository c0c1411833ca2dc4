//! Which process of each node has been heard, and which are known to have ended. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::Incarnation;
use crate::ring::NodeAddress;

/// Ended processes that are remembered of a node.
const REMEMBERED: usize = 16;

/// The processes of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    nodes: BTreeMap<NodeAddress, Life>,
}

/// The present process of a node, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Which.
    pub incarnation: Incarnation,
    /// Links with it that are up. None says nothing about whether it lives.
    pub links: u32,
    /// Its node's kernel has said since that nobody has its port: it has ended, for it keeps the port to its end.
    pub refused: bool,
    /// Those before it, the latest last.
    ended: VecDeque<Incarnation>,
}

/// A process that was there before the present one: its words are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outlived;

// === impl Lives ===

impl Lives {
    /// A node's present process.
    pub fn of(&self, node: NodeAddress) -> Option<&Life> {
        self.nodes.get(&node)
    }

    /// All nodes that have been heard, with their present processes.
    pub fn all(&self) -> impl Iterator<Item = (NodeAddress, &Life)> {
        self.nodes.iter().map(|(node, life)| (*node, life))
    }

    /// Whether that process is known to have ended. It is if a later one of its node has been heard, or its port was
    /// found free. (That much rests on node addresses: a process whose node is given another address while it runs leaves
    /// the port of the old one.)
    pub fn has_ended(&self, node: NodeAddress, incarnation: Incarnation) -> bool {
        self.nodes.get(&node).is_some_and(|life| {
            life.ended.contains(&incarnation)
                || if life.incarnation == incarnation { life.refused } else { life.incarnation > incarnation }
        })
    }

    /// The present processes that are not known to have ended, with their nodes.
    pub fn living(&self) -> impl Iterator<Item = (NodeAddress, Incarnation)> {
        self.nodes.iter().filter(|(_, life)| !life.refused).map(|(node, life)| (*node, life.incarnation))
    }

    /// Nodes with which a link is up.
    pub(super) fn linked(&self) -> usize {
        self.nodes.values().filter(|life| life.links > 0).count()
    }

    /// A link with a process is up.
    ///
    /// # Errors
    /// If a later one has been heard already.
    pub(super) fn met(&mut self, node: NodeAddress, incarnation: Incarnation) -> Result<(), Outlived> {
        let new = Life { incarnation, links: 1, refused: false, ended: VecDeque::new() };
        let Some(life) = self.nodes.get_mut(&node) else {
            self.nodes.insert(node, new);
            return Ok(());
        };
        if life.incarnation == incarnation {
            life.links += 1;
            life.refused = false;
            return Ok(());
        }
        // A clock may have been set back between the two: then the old one's links must have ended first.
        let later = incarnation > life.incarnation || (life.links == 0 && !life.ended.contains(&incarnation));
        if !later {
            return Err(Outlived);
        }
        let before = std::mem::replace(life, new);
        life.ended = before.ended;
        life.ended.push_back(before.incarnation);
        if life.ended.len() > REMEMBERED {
            life.ended.pop_front();
        }
        Ok(())
    }

    /// A link with a process has ended.
    pub(super) fn parted(&mut self, node: NodeAddress, incarnation: Incarnation) {
        if let Some(life) = self.nodes.get_mut(&node).filter(|life| life.incarnation == incarnation) {
            life.links -= 1;
        }
    }

    /// Nobody has the port on that node. Whether that is news.
    pub(super) fn refused(&mut self, node: NodeAddress) -> bool {
        // A link that is still up shows that the port was free for a moment at most.
        let life = self.nodes.get_mut(&node).filter(|life| life.links == 0 && !life.refused);
        life.map(|life| life.refused = true).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    fn process(started_ms: i64) -> Incarnation {
        Incarnation { started_ms, number: 7 }
    }

    #[test]
    fn a_later_process_proves_that_the_one_before_has_ended() {
        let (node, other) = (fixtures::member(1, "x:1").address, fixtures::member(2, "x:1").address);
        let mut lives = Lives::default();
        assert!(!lives.has_ended(node, process(1)));
        lives.met(node, process(1)).unwrap();
        lives.met(node, process(1)).unwrap();
        assert!(!lives.has_ended(node, process(1)) && lives.linked() == 1);
        // Its links may be up as long as nobody has noticed.
        lives.met(node, process(2)).unwrap();
        assert!(lives.has_ended(node, process(1)) && !lives.has_ended(node, process(2)));
        lives.parted(node, process(1));
        assert_eq!(lives.of(node).unwrap().links, 1);
        // What the first one said before its end arrives late.
        assert_eq!(lives.met(node, process(1)), Err(Outlived));
        assert!(!lives.has_ended(other, process(1)));
    }

    #[test]
    fn a_free_port_proves_it_too_unless_a_link_says_otherwise() {
        let node = fixtures::member(1, "x:1").address;
        let mut lives = Lives::default();
        assert!(!lives.refused(node));
        lives.met(node, process(1)).unwrap();
        assert!(!lives.refused(node) && !lives.has_ended(node, process(1)));
        lives.parted(node, process(1));
        assert!(!lives.has_ended(node, process(1)), "without links it may live all the same");
        assert!(lives.living().eq([(node, process(1))]));
        assert!(lives.refused(node) && lives.has_ended(node, process(1)));
        assert_eq!(lives.living().count(), 0);
        assert!(!lives.refused(node), "once is news");
    }

    #[test]
    fn a_clock_set_back_is_got_over() {
        let node = fixtures::member(1, "x:1").address;
        let mut lives = Lives::default();
        lives.met(node, process(100)).unwrap();
        assert_eq!(lives.met(node, process(50)), Err(Outlived));
        lives.parted(node, process(100));
        lives.met(node, process(50)).unwrap();
        assert!(lives.has_ended(node, process(100)) && !lives.has_ended(node, process(50)));
        lives.parted(node, process(50));
        assert_eq!(lives.met(node, process(100)), Ok(()), "later by its clock");
    }
}
