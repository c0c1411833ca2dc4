//! What stays here for a moment of a connection that has moved on: a deaf socket, so that this host does not answer with a
//! RST what had passed the kernel program before the connection was held.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ringsteer_tcp_repair::GivenUp;

use super::piece::Ends;

/// How long a packet may be on its way through this host: from the kernel program to the TCP stack, a softirq that waits
/// for its processor included.
pub const LIFE: Duration = Duration::from_secs(1);

/// How many there may be at once. Each is an open file; of more the oldest go early.
const REMAINS_MAX: usize = 2048;

/// The sockets of connections that have moved on.
#[derive(Debug)]
pub(super) struct Remains<S = GivenUp>(Mutex<Kept<S>>);

#[derive(Debug)]
struct Kept<S> {
    sockets: HashMap<Ends, (Instant, S)>,
    /// By age. Who is no more among the sockets, or is there again and younger, is passed over.
    ages: VecDeque<(Instant, Ends)>,
}

// === impl Remains ===

impl<S> Default for Remains<S> {
    fn default() -> Self {
        Self(Mutex::new(Kept { sockets: HashMap::new(), ages: VecDeque::new() }))
    }
}

impl<S> Remains<S> {
    /// Keeps one until [`LIFE`] after `now`.
    pub(super) fn keep(&self, flow: Ends, socket: S, now: Instant) {
        let mut kept = self.lock();
        kept.sockets.insert(flow, (now, socket));
        kept.ages.push_back((now, flow));
        while kept.ages.len() > REMAINS_MAX {
            kept.drop_oldest();
        }
    }

    /// Drops that of this connection, for it comes back.
    pub(super) fn remove(&self, flow: Ends) {
        self.lock().sockets.remove(&flow);
    }

    /// Drops those whose time is over. Says when the next one's is.
    pub(super) fn clear(&self, now: Instant) -> Option<Instant> {
        let mut kept = self.lock();
        loop {
            let over = kept.ages.front()?.0 + LIFE;
            if over > now {
                return Some(over);
            }
            kept.drop_oldest();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Kept ===

impl<S> Kept<S> {
    fn drop_oldest(&mut self) {
        let Some((since, flow)) = self.ages.pop_front() else { return };
        if self.sockets.get(&flow).is_some_and(|(kept_since, _)| *kept_since == since) {
            self.sockets.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn flow(port: u16) -> Ends {
        Ends { client: ([192, 0, 2, 1], port).into(), service: ([203, 0, 113, 1], 443).into() }
    }

    #[test]
    fn each_goes_when_its_time_is_over_and_not_before() {
        let (remains, began) = (Remains::<Rc<()>>::default(), Instant::now());
        let socket = Rc::new(());
        remains.keep(flow(1), Rc::clone(&socket), began);
        remains.keep(flow(2), Rc::clone(&socket), began + LIFE / 2);
        assert_eq!(remains.clear(began), Some(began + LIFE));
        assert_eq!(Rc::strong_count(&socket), 3);
        assert_eq!(remains.clear(began + LIFE), Some(began + LIFE / 2 + LIFE));
        assert_eq!(Rc::strong_count(&socket), 2);
        assert_eq!(remains.clear(began + 2 * LIFE), None);
        assert_eq!(Rc::strong_count(&socket), 1);
    }

    #[test]
    fn one_that_comes_back_and_leaves_again_is_kept_its_whole_time() {
        let (remains, began) = (Remains::<Rc<()>>::default(), Instant::now());
        let socket = Rc::new(());
        remains.keep(flow(1), Rc::clone(&socket), began);
        remains.remove(flow(1));
        assert_eq!(Rc::strong_count(&socket), 1);
        remains.keep(flow(1), Rc::clone(&socket), began + LIFE / 2);
        remains.clear(began + LIFE);
        assert_eq!(Rc::strong_count(&socket), 2);
        remains.clear(began + 2 * LIFE);
        assert_eq!(Rc::strong_count(&socket), 1);
    }

    #[test]
    fn there_are_never_too_many() {
        let (remains, began) = (Remains::<Rc<()>>::default(), Instant::now());
        let socket = Rc::new(());
        for port in 0..u16::try_from(REMAINS_MAX).unwrap() + 9 {
            remains.keep(flow(port), Rc::clone(&socket), began);
        }
        assert_eq!(Rc::strong_count(&socket), REMAINS_MAX + 1);
    }
}
