//! What a source tells of what it finds: rings in the order of their epochs, and troubles once. Pure.

use super::Event;
use crate::ring::{Digest, Epoch, Ring};

/// What was told so far.
#[derive(Debug, Default)]
pub struct Order {
    ring: Option<(Epoch, Digest)>,
    /// What was in force before.
    known: Option<(Epoch, Digest)>,
    trouble: Option<String>,
    /// Whether that trouble is that the source cannot be reached.
    outage: bool,
}

// === impl Order ===

impl Order {
    /// This ring was in force before: where rings are written by nodes, only it and newer ones are told.
    pub fn remember(&mut self, ring: &Ring) {
        self.known = Some((ring.epoch(), ring.digest()));
    }

    /// A ring was found. `place` says where, for people.
    pub fn found(&mut self, ring: Ring, place: &str) -> Option<Event> {
        let name = (ring.epoch(), ring.digest());
        match self.ring {
            Some(told) if told == name => self.trouble.take().map(|_| Event::Well),
            Some((epoch, digest)) if name.0 <= epoch => self.trouble(format!(
                "{place} holds ring {} of epoch {}, and ring {} of epoch {epoch} is in force; a changed ring needs a \
                 higher epoch: raise `epoch` to {} or more",
                name.1.short(),
                name.0,
                digest.short(),
                epoch.0 + 1
            )),
            _ => {
                self.ring = Some(name);
                self.trouble = None;
                Some(Event::Ring(ring))
            }
        }
    }

    /// A ring was found where rings are written by nodes: an older one is nothing to tell, for those who know a newer
    /// one will write that. Whether all is well otherwise is for [`well`](Self::well) to say.
    pub fn newer(&mut self, ring: &Ring) -> Option<Event> {
        let name = (ring.epoch(), ring.digest());
        match (self.ring, self.known) {
            (Some((epoch, _)), _) if name.0 <= epoch => None,
            (_, Some(known)) if name.0 <= known.0 && name != known => None,
            _ => self.found(ring.clone(), ""),
        }
    }

    /// The source cannot be reached: one sentence, told once however the reasons change until it can be again.
    pub fn unreachable(&mut self, what: String) -> Option<Event> {
        if self.trouble.is_some() && self.outage {
            return None;
        }
        let event = self.trouble(what);
        self.outage = true;
        event
    }

    /// Something stands in the way: one sentence.
    pub fn trouble(&mut self, what: String) -> Option<Event> {
        self.outage = false;
        if self.trouble.as_ref() == Some(&what) {
            return None;
        }
        self.trouble = Some(what.clone());
        Some(Event::Trouble(what))
    }

    /// The source can be reached, and nothing in it has changed.
    pub fn well(&mut self) -> Option<Event> {
        self.trouble.take().map(|_| Event::Well)
    }

    /// The ring told last.
    pub fn ring(&self) -> Option<(Epoch, Digest)> {
        self.ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, fixtures};

    fn ring(epoch: u64, members: &[(u16, &str)]) -> Ring {
        let members = members.iter().map(|(number, identity)| fixtures::member(*number, identity)).collect();
        Ring::new(Epoch(epoch), Algorithm::OpenIm, members).unwrap()
    }

    fn words(event: Option<Event>) -> String {
        match event {
            None => "nothing".into(),
            Some(Event::Ring(ring)) => format!("ring {}", ring.epoch()),
            Some(Event::Trouble(what)) => what,
            Some(Event::Well) => "well".into(),
        }
    }

    #[test]
    fn rings_in_order_and_troubles_once() {
        let (one, two) = (&[(1, "gw-0:88")], &[(1, "gw-0:88"), (2, "gw-1:88")]);
        let mut order = Order::default();
        let found = |order: &mut Order, ring| words(order.found(ring, "the file"));
        assert_eq!(found(&mut order, ring(3, one)), "ring 3");
        assert_eq!(found(&mut order, ring(3, one)), "nothing");
        assert_eq!(words(order.well()), "nothing");
        let complaint = found(&mut order, ring(3, two));
        assert_eq!(
            complaint,
            format!(
                "the file holds ring {} of epoch 3, and ring {} of epoch 3 is in force; a changed ring needs a higher \
                 epoch: raise `epoch` to 4 or more",
                ring(3, two).digest().short(),
                ring(3, one).digest().short()
            )
        );
        // Said once; and when the edit is taken back, all is well.
        assert_eq!(found(&mut order, ring(3, two)), "nothing");
        assert_eq!(found(&mut order, ring(3, one)), "well");
        assert_eq!(found(&mut order, ring(4, two)), "ring 4");
        assert!(found(&mut order, ring(2, one)).contains("epoch 2"));
        assert_eq!(words(order.trouble("broken".into())), "broken");
        assert_eq!(words(order.trouble("broken".into())), "nothing");
        assert_eq!(words(order.well()), "well");
        assert_eq!(words(order.well()), "nothing");
        // An outage is one, for whatever reasons.
        assert_eq!(words(order.unreachable("refused".into())), "refused");
        assert_eq!(words(order.unreachable("timed out".into())), "nothing");
        assert_eq!(words(order.trouble("broken".into())), "broken");
        assert_eq!(words(order.unreachable("refused".into())), "refused");
        assert_eq!(words(order.well()), "well");
        assert_eq!(words(order.unreachable("refused".into())), "refused");
        // Where nodes write the rings, an older one is nothing to tell, and no trouble is over because a ring is there.
        assert_eq!(words(order.newer(&ring(2, one))), "nothing");
        assert_eq!(words(order.newer(&ring(4, two))), "nothing");
        assert_eq!(words(order.well()), "well");
        let mut order = Order::default();
        order.remember(&ring(4, two));
        assert_eq!(words(order.newer(&ring(3, one))), "nothing");
        assert_eq!(words(order.newer(&ring(4, one))), "nothing");
        assert_eq!(words(order.newer(&ring(4, two))), "ring 4");
        // A new epoch is told also if nothing else is new.
        assert_eq!(found(&mut order, ring(5, two)), "ring 5");
    }
}
