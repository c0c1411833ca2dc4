//! Who has yet to be told which connection has moved or, in mode "accept", was accepted. Pure.
//!
//! Every other member may be an edge, and is told. What it could not be told it is told again, until it has
//! acknowledged it or is no member any more.

use std::collections::{BTreeMap, BTreeSet};

use ringsteer_ebpf::layout::flow::FlowKey;

use crate::ring::NodeAddress;

/// With more than this to tell, connections that have not moved are not told of: their addresses lead to them as well, as
/// long as the ring stays as it is.
const ACCEPTED_MAX: usize = 1 << 18;

/// A connection, by the bytes of its key: those have an order.
type Name = [u8; size_of::<FlowKey>()];

/// A move that others are to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The connection.
    pub key: FlowKey,
    /// Which of its moves; 0 if it was accepted and has not moved.
    pub count: u16,
    /// The member that has it now, by its number.
    pub node: u32,
    /// When it moved, in nanoseconds since boot.
    pub moved_ns: u64,
    /// Which connection, as in [`Flow`](ringsteer_ebpf::layout::flow::Flow); 0 if that is not known.
    pub first_ack: u32,
}

/// What has yet to be told.
#[derive(Debug, Default)]
pub struct News {
    items: BTreeMap<Name, (Item, BTreeSet<NodeAddress>)>,
    /// What each has to be told, those apart that it is being told just now.
    waiting: BTreeMap<NodeAddress, BTreeSet<Name>>,
    told: Vec<Item>,
}

impl News {
    /// A connection has moved, or was accepted. Takes the place of what there was to tell of it. False if there is too
    /// much to tell already to tell of connections that stay where their addresses have led them.
    pub fn add(&mut self, item: Item, to: impl IntoIterator<Item = NodeAddress>) -> bool {
        let name = name(&item.key);
        if item.count == 0 && self.items.len() >= ACCEPTED_MAX && !self.items.contains_key(&name) {
            return false;
        }
        let to: BTreeSet<NodeAddress> = to.into_iter().collect();
        for &peer in &to {
            self.waiting.entry(peer).or_default().insert(name);
        }
        if to.is_empty() {
            self.items.remove(&name);
            self.is_told(item);
        } else {
            self.items.insert(name, (item, to));
        }
        true
    }

    /// Everybody knows. What was only accepted has left nothing behind here that would have to go.
    fn is_told(&mut self, item: Item) {
        if item.count != 0 {
            self.told.push(item);
        }
    }

    /// Those who have to be told something.
    pub fn peers(&self) -> Vec<NodeAddress> {
        self.waiting.iter().filter(|(_, names)| !names.is_empty()).map(|(&peer, _)| peer).collect()
    }

    /// The next things to tell `peer`: at most `limit`, all about connections that have moved to one node.
    pub fn next(&mut self, peer: NodeAddress, limit: usize) -> Vec<Item> {
        let Some(waiting) = self.waiting.get_mut(&peer) else { return Vec::new() };
        let mut batch: Vec<Item> = Vec::new();
        let mut taken = BTreeSet::new();
        for &name in waiting.iter() {
            if batch.len() == limit {
                break;
            }
            match self.items.get(&name).filter(|(_, to)| to.contains(&peer)) {
                Some((item, _)) if batch.first().is_none_or(|first| first.node == item.node) => {
                    batch.push(*item);
                    taken.insert(name);
                }
                Some(_) => {}
                // Settled otherwise.
                None => {
                    taken.insert(name);
                }
            }
        }
        waiting.retain(|name| !taken.contains(name));
        batch
    }

    /// It has been told, and has acknowledged.
    pub fn acknowledged(&mut self, peer: NodeAddress, batch: &[Item]) {
        for item in batch {
            self.settle(peer, name(&item.key), Some(item));
        }
    }

    /// It could not be told.
    pub fn failed(&mut self, peer: NodeAddress, batch: &[Item]) {
        let waiting = self.waiting.entry(peer).or_default();
        waiting.extend(batch.iter().map(|item| name(&item.key)));
    }

    /// Nobody but these has to be told anything any more.
    pub fn only(&mut self, peers: &[NodeAddress]) {
        let gone: BTreeSet<NodeAddress> =
            self.items.values().flat_map(|(_, to)| to).filter(|peer| !peers.contains(peer)).copied().collect();
        for peer in gone {
            self.waiting.remove(&peer);
            for name in self.items.keys().copied().collect::<Vec<_>>() {
                self.settle(peer, name, None);
            }
        }
    }

    /// Moves that everybody knows of, since the last call.
    pub fn take_told(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.told)
    }

    /// Whether not everybody knows where a connection has gone.
    pub fn has(&self, key: &FlowKey) -> bool {
        self.items.contains_key(&name(key))
    }

    /// How many moves not everybody knows of.
    pub fn untold(&self) -> usize {
        self.items.len()
    }

    /// One less to be told of a move, unless it is a later one by now, or a later connection's.
    fn settle(&mut self, peer: NodeAddress, name: Name, sent: Option<&Item>) {
        let Some((item, to)) = self.items.get_mut(&name) else { return };
        if sent.is_some_and(|sent| sent != item) {
            return;
        }
        to.remove(&peer);
        if to.is_empty() {
            let item = *item;
            self.items.remove(&name);
            self.is_told(item);
        }
    }
}

fn name(key: &FlowKey) -> Name {
    bytemuck::cast(*key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: u8) -> NodeAddress {
        NodeAddress::new(std::net::IpAddr::from([198, 51, 100, host])).unwrap()
    }

    fn item(port: u16, node: u32, count: u16) -> Item {
        Item { key: FlowKey { client: [1; 16], client_port: port, service: 1 }, count, node, moved_ns: 5, first_ack: 3 }
    }

    #[test]
    fn everybody_is_told_until_all_have_acknowledged() {
        let mut news = News::default();
        let (one, two) = (peer(1), peer(2));
        news.add(item(1, 7, 1), [one, two]);
        news.add(item(2, 7, 1), [one, two]);
        assert_eq!(news.peers(), [one, two]);
        let batch = news.next(one, 10);
        assert_eq!(batch, [item(1, 7, 1), item(2, 7, 1)]);
        // While it is being told it is told nothing twice.
        assert_eq!(news.next(one, 10), []);
        news.acknowledged(one, &batch);
        assert_eq!((news.untold(), news.take_told().len()), (2, 0));
        assert!(news.has(&item(1, 7, 1).key) && !news.has(&item(3, 7, 1).key));
        let batch = news.next(two, 1);
        assert_eq!(batch.len(), 1);
        news.failed(two, &batch);
        assert_eq!(news.peers(), [two]);
        let batch = news.next(two, 10);
        news.acknowledged(two, &batch);
        assert_eq!((news.untold(), news.take_told()), (0, vec![item(1, 7, 1), item(2, 7, 1)]));
        assert_eq!((news.peers(), news.take_told()), (vec![], vec![]));
    }

    #[test]
    fn a_batch_is_about_one_node() {
        let mut news = News::default();
        for (port, node) in [(1, 7), (2, 8), (3, 7)] {
            news.add(item(port, node, 1), [peer(1)]);
        }
        assert_eq!(news.next(peer(1), 10), [item(1, 7, 1), item(3, 7, 1)]);
        assert_eq!(news.next(peer(1), 10), [item(2, 8, 1)]);
    }

    #[test]
    fn a_later_move_is_told_although_the_earlier_one_is_just_being_acknowledged() {
        let mut news = News::default();
        news.add(item(1, 7, 1), [peer(1)]);
        let batch = news.next(peer(1), 10);
        news.add(item(1, 8, 2), [peer(1)]);
        news.acknowledged(peer(1), &batch);
        assert_eq!((news.untold(), news.take_told()), (1, vec![]));
        assert_eq!(news.next(peer(1), 10), [item(1, 8, 2)]);
    }

    #[test]
    fn a_later_connections_move_is_told_although_it_is_its_first_as_well() {
        let mut news = News::default();
        news.add(item(1, 7, 1), [peer(1)]);
        let batch = news.next(peer(1), 10);
        let later = Item { first_ack: 4, ..item(1, 8, 1) };
        news.add(later, [peer(1)]);
        news.acknowledged(peer(1), &batch);
        assert_eq!((news.untold(), news.take_told()), (1, vec![]));
        assert_eq!(news.next(peer(1), 10), [later]);
    }

    #[test]
    fn whoever_has_left_need_not_know() {
        let mut news = News::default();
        news.add(item(1, 7, 1), [peer(1), peer(2)]);
        let batch = news.next(peer(1), 10);
        news.only(&[peer(1)]);
        assert_eq!((news.untold(), news.peers()), (1, vec![]));
        news.acknowledged(peer(1), &batch);
        assert_eq!(news.take_told(), [item(1, 7, 1)]);
        // Alone, there is nobody to tell.
        news.add(item(2, 7, 1), []);
        assert_eq!(news.take_told(), [item(2, 7, 1)]);
    }

    #[test]
    fn a_birth_leaves_nothing_behind_when_all_know_of_it() {
        let mut news = News::default();
        news.add(item(1, 7, 0), [peer(1), peer(2)]);
        let batch = news.next(peer(1), 10);
        news.add(item(1, 8, 1), [peer(1), peer(2)]);
        // What is just being acknowledged is not the last word.
        news.acknowledged(peer(1), &batch);
        for host in [1, 2] {
            let batch = news.next(peer(host), 10);
            assert_eq!(batch, [item(1, 8, 1)]);
            news.acknowledged(peer(host), &batch);
        }
        assert_eq!(news.take_told(), [item(1, 8, 1)]);
        news.add(item(2, 7, 0), [peer(1)]);
        let batch = news.next(peer(1), 10);
        news.acknowledged(peer(1), &batch);
        assert_eq!((news.untold(), news.take_told()), (0, vec![]));
    }

    #[test]
    fn there_is_a_limit_to_births_but_not_to_moves() {
        let mut news = News::default();
        let numbered = |number: u32, count| {
            let key = FlowKey { client: bytemuck::cast([number; 4]), client_port: 1, service: 1 };
            Item { key, count, node: 7, moved_ns: 5, first_ack: 3 }
        };
        for number in 0..ACCEPTED_MAX as u32 {
            assert!(news.add(numbered(number, 0), [peer(1)]));
        }
        let one_more = ACCEPTED_MAX as u32;
        assert!(!news.add(numbered(one_more, 0), [peer(1)]));
        assert!(news.add(numbered(one_more, 1), [peer(1)]));
        assert!(news.add(numbered(0, 0), [peer(1)]), "there is room for what takes the place of something");
    }
}
