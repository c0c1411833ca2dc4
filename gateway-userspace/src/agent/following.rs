//! Which ring is in force here: of those that the source tells, the one with the highest epoch. Pure.

use std::time::Duration;

use crate::{membership::Event, ring::Ring};

/// The ring in force, the one before it, and what is wrong with where they come from.
#[derive(Clone, Debug, Default)]
pub struct Following {
    current: Option<Ring>,
    previous: Option<Ring>,
    trouble: Option<Trouble>,
    troubles: u64,
    rings: u64,
}

/// What is wrong with the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One sentence, with what to do.
    pub what: String,
    /// Since when, counted from the agent's start.
    pub since: Duration,
}

/// What to do about something that the source told.
#[derive(Clone, Debug)]
pub enum Step {
    /// Publish this ring, and say so by [`Following::published`].
    Publish(Ring),
    /// Tell the operator.
    Complain(String),
    /// Tell the operator that it is over.
    Relieve,
    /// Nothing new.
    Nothing,
}

impl Following {
    /// What an agent goes on with that was started again.
    pub fn restored(current: Ring, previous: Option<Ring>) -> Self {
        Self { current: Some(current), previous, ..Self::default() }
    }

    /// The source has told something; `now` is counted from the agent's start.
    pub fn hear(&mut self, event: Event, now: Duration) -> Step {
        match event {
            Event::Ring(ring) => self.hear_ring(ring, now),
            Event::Trouble(what) => self.complain(what, now),
            Event::Well => self.relieve(),
        }
    }

    fn hear_ring(&mut self, ring: Ring, now: Duration) -> Step {
        let Some(current) = &self.current else { return Step::Publish(ring) };
        if ring.name() == current.name() {
            return self.relieve();
        }
        if ring.epoch() > current.epoch() {
            return Step::Publish(ring);
        }
        // With one epoch for two rings, or with time running backwards, nobody could tell any more who is right.
        let what = if ring.epoch() == current.epoch() {
            format!(
                "there is another ring of epoch {} ({}) than the one in force ({}), which stays; give the new one a \
                 higher epoch",
                ring.epoch(),
                ring.digest().short(),
                current.digest().short()
            )
        } else {
            format!(
                "the ring of epoch {} is older than the one in force, of epoch {}, which stays; give it a higher epoch, \
                 or, if the epochs were begun anew on purpose, take this node off with `ringsteer uninstall` first",
                ring.epoch(),
                current.epoch()
            )
        };
        self.complain(what, now)
    }

    /// `ring` is in force from now on.
    pub fn published(&mut self, ring: Ring) {
        self.trouble = None;
        self.rings += 1;
        self.previous = self.current.replace(ring);
    }

    fn complain(&mut self, what: String, now: Duration) -> Step {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.what == what) {
            return Step::Nothing;
        }
        self.troubles += 1;
        let since = self.trouble.take().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { what: what.clone(), since });
        Step::Complain(what)
    }

    fn relieve(&mut self) -> Step {
        match self.trouble.take() {
            Some(_) => Step::Relieve,
            None => Step::Nothing,
        }
    }

    /// The ring in force.
    pub fn current(&self) -> Option<&Ring> {
        self.current.as_ref()
    }

    /// The ring before it.
    pub fn previous(&self) -> Option<&Ring> {
        self.previous.as_ref()
    }

    /// What is wrong with the source now.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Troubles told so far, and rings published.
    pub fn counts(&self) -> (u64, u64) {
        (self.troubles, self.rings)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::{Algorithm, Epoch, fixtures};

    fn ring(epoch: u64, members: u16) -> Ring {
        let members = (1..=members).map(|number| fixtures::member(number, &format!("gw-{number}:88"))).collect();
        Ring::new(Epoch(epoch), Algorithm::OpenIm, members).unwrap()
    }

    /// Hears a ring and, if it is to be published, says that it was.
    fn hear(following: &mut Following, ring: Ring) -> bool {
        match following.hear(Event::Ring(ring), Duration::ZERO) {
            Step::Publish(ring) => {
                following.published(ring);
                true
            }
            _ => false,
        }
    }

    #[test]
    fn trouble_is_told_once_and_ends_with_the_next_ring_or_word() {
        let mut following = Following::default();
        let trouble = |what: &str| Event::Trouble(what.into());
        let second = Duration::from_secs(1);
        assert!(matches!(following.hear(trouble("etcd is away"), second), Step::Complain(_)));
        assert!(matches!(following.hear(trouble("etcd is away"), 2 * second), Step::Nothing));
        // Another complaint, but it has been bad since the first.
        assert!(matches!(following.hear(trouble("the key is gone"), 3 * second), Step::Complain(_)));
        assert_eq!(following.trouble().unwrap().since, second);
        assert!(matches!(following.hear(Event::Well, 4 * second), Step::Relieve));
        assert!(matches!(following.hear(Event::Well, 4 * second), Step::Nothing));
        following.hear(trouble("again"), 5 * second);
        assert!(hear(&mut following, ring(1, 2)));
        assert!(following.trouble().is_none());
        assert_eq!(following.counts(), (3, 1));
    }

    #[test]
    fn what_is_not_newer_is_refused_with_words() {
        let mut following = Following::restored(ring(7, 2), Some(ring(6, 3)));
        let Step::Complain(said) = following.hear(Event::Ring(ring(7, 3)), Duration::ZERO) else { panic!() };
        assert!(said.starts_with("there is another ring of epoch 7 (") && said.ends_with("a higher epoch"), "{said}");
        let Step::Complain(said) = following.hear(Event::Ring(ring(3, 3)), Duration::ZERO) else { panic!() };
        assert!(said.contains("epoch 3 is older") && said.contains("ringsteer uninstall"), "{said}");
        assert_eq!(following.current().unwrap().name(), ring(7, 2).name());
        // The very ring in force ends the trouble.
        assert!(matches!(following.hear(Event::Ring(ring(7, 2)), Duration::ZERO), Step::Relieve));
        assert_eq!(following.previous().unwrap().name(), ring(6, 3).name());
    }

    proptest! {
        #[test]
        fn epochs_only_rise_and_the_previous_ring_is_the_one_before(
            told in prop::collection::vec((0..8u64, 1..4u16), 1..30),
        ) {
            let mut following = Following::default();
            let mut history: Vec<Ring> = Vec::new();
            for (epoch, members) in told {
                let ring = ring(epoch, members);
                let newer = history.last().is_none_or(|last| ring.epoch() > last.epoch());
                prop_assert_eq!(hear(&mut following, ring.clone()), newer);
                if newer {
                    history.push(ring);
                }
                let mut backwards = history.iter().rev().map(Ring::name);
                prop_assert_eq!(following.current().map(Ring::name), backwards.next());
                prop_assert_eq!(following.previous().map(Ring::name), backwards.next());
            }
        }
    }
}
