//! Messages in pieces, so that a large one holds up no small one. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

use super::envelope::MAX_ENVELOPE;

/// Longest body that goes promptly, in bytes.
pub const MAX_PROMPT: usize = 1 << 20;

/// Longest body at all, in bytes.
pub const MAX_BULK: usize = 16 << 20;

/// Longest piece, in bytes. It is less than what the link takes at once, and what it writes ahead is a few of these.
const MAX_PIECE: usize = 32 << 10;

/// Of so many pieces at least one is of a large message, if there is one: urgent ones go first, but not for ever.
const FAIR: u8 = 8;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Before everything in the other lane; for what is small, up to [`MAX_PROMPT`].
    Prompt,
    /// For what is large, up to [`MAX_BULK`].
    Bulk,
}

/// Messages on their way out.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    lanes: [VecDeque<Bytes>; 2],
    /// Pieces of the prompt lane since the last one of the other.
    prompt: u8,
}

/// Messages on their way in.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    lanes: [Vec<u8>; 2],
}

/// The first byte of a piece: its lane, and whether the message ends with it.
mod flag {
    pub(super) const BULK: u8 = 1;
    pub(super) const LAST: u8 = 2;
}

/// Pieces that do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PieceError {
    /// No piece.
    #[error("an empty piece, or one of an unknown lane")]
    Malformed,
    /// More than the lane allows.
    #[error("a message longer than its lane allows")]
    TooLong,
}

// === impl Lane ===

impl Lane {
    /// Both, the more urgent one first.
    pub(super) const ALL: [Self; 2] = [Self::Prompt, Self::Bulk];

    /// The lane for an answer of that length.
    pub(super) fn for_answer(length: usize) -> Self {
        if length <= MAX_PIECE { Self::Prompt } else { Self::Bulk }
    }

    /// Longest body, in bytes.
    pub fn max_body(self) -> usize {
        match self {
            Self::Prompt => MAX_PROMPT,
            Self::Bulk => MAX_BULK,
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

// === impl Cutter ===

impl Cutter {
    /// Appends a message, which is not empty, to a lane.
    pub(super) fn push(&mut self, lane: Lane, message: Bytes) {
        self.lanes[lane.index()].push_back(message);
    }

    /// Whether nothing is on its way in that lane.
    pub(super) fn is_empty(&self, lane: Lane) -> bool {
        self.lanes[lane.index()].is_empty()
    }

    /// The next piece, with its first byte at the place of `front`'s last.
    pub(super) fn piece(&mut self, front: &[u8]) -> Option<Vec<u8>> {
        let bulk_is_due = self.prompt >= FAIR && !self.is_empty(Lane::Bulk);
        let lane = if self.is_empty(Lane::Prompt) || bulk_is_due { Lane::Bulk } else { Lane::Prompt };
        let waiting = &mut self.lanes[lane.index()];
        let message = waiting.front_mut()?;
        let piece = message.split_to(message.len().min(MAX_PIECE));
        let mut flags = if lane == Lane::Bulk { flag::BULK } else { 0 };
        if message.is_empty() {
            waiting.pop_front();
            flags |= flag::LAST;
        }
        self.prompt = if lane == Lane::Prompt { self.prompt.saturating_add(1) } else { 0 };
        Some([front, &[flags], &piece].concat())
    }
}

// === impl Joiner ===

impl Joiner {
    /// Takes a piece, and gives the message that it completes.
    ///
    /// # Errors
    /// If it is none, or makes its message too long.
    pub(super) fn piece(&mut self, piece: &[u8]) -> Result<Option<Vec<u8>>, PieceError> {
        let (&flags, bytes) = piece.split_first().ok_or(PieceError::Malformed)?;
        if flags & !(flag::BULK | flag::LAST) != 0 || bytes.is_empty() {
            return Err(PieceError::Malformed);
        }
        let lane = if flags & flag::BULK == 0 { Lane::Prompt } else { Lane::Bulk };
        let message = &mut self.lanes[lane.index()];
        if message.len() + bytes.len() > lane.max_body() + MAX_ENVELOPE {
            return Err(PieceError::TooLong);
        }
        message.extend_from_slice(bytes);
        Ok((flags & flag::LAST != 0).then(|| std::mem::take(message)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lane(bulk: bool) -> Lane {
        Lane::ALL[usize::from(bulk)]
    }

    proptest! {
        #[test]
        fn each_lane_keeps_its_messages_and_their_order(
            messages in prop::collection::vec((any::<bool>(), 1..3 * MAX_PIECE), 0..12),
            ahead in 1..6usize,
        ) {
            let (mut cutter, mut joiner) = (Cutter::default(), Joiner::default());
            let message = |number: usize, length: usize| Bytes::from(vec![number as u8; length]);
            let mut arrived = Vec::new();
            let mut carry = |cutter: &mut Cutter, pieces: usize| {
                for _ in 0..pieces {
                    let Some(piece) = cutter.piece(b"?") else { return };
                    assert!(piece.len() <= MAX_PIECE + 2 && piece[0] == b'?');
                    arrived.extend(joiner.piece(&piece[1..]).unwrap());
                }
            };
            for (number, &(bulk, length)) in messages.iter().enumerate() {
                cutter.push(lane(bulk), message(number, length));
                carry(&mut cutter, ahead);
            }
            carry(&mut cutter, usize::MAX);
            for bulk in [false, true] {
                let of_lane = |number: usize| messages[number].0 == bulk;
                let sent: Vec<_> = (0..messages.len()).filter(|&number| of_lane(number)).collect();
                let came: Vec<_> = arrived.iter().map(|message| usize::from(message[0])).filter(|&n| of_lane(n)).collect();
                prop_assert_eq!(sent, came);
            }
            prop_assert!(arrived.iter().all(|came| came.len() == messages[usize::from(came[0])].1));
        }

        #[test]
        fn garbage_is_refused_or_kept_within_limits(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..50)) {
            let mut joiner = Joiner::default();
            for piece in pieces {
                match joiner.piece(&piece) {
                    Ok(Some(message)) => prop_assert!(!message.is_empty()),
                    Ok(None) => {}
                    Err(error) => prop_assert_eq!(error, PieceError::Malformed),
                }
            }
        }
    }

    #[test]
    fn what_is_small_overtakes_what_is_large_but_not_for_ever() {
        let mut cutter = Cutter::default();
        let bulk_of = |piece: Vec<u8>| piece[0] & flag::BULK != 0;
        cutter.push(Lane::Bulk, vec![0; 4 * MAX_PIECE].into());
        assert!(bulk_of(cutter.piece(b"").unwrap()));
        (0..100).for_each(|_| cutter.push(Lane::Prompt, Bytes::from_static(b"x")));
        let order: Vec<bool> = (0..27).map(|_| bulk_of(cutter.piece(b"").unwrap())).collect();
        let expected: Vec<bool> = (1..=27).map(|place| place % 9 == 0).collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn a_message_has_a_largest_size() {
        for (flags, max) in [(0, MAX_PROMPT), (flag::BULK, MAX_BULK)] {
            let mut joiner = Joiner::default();
            let piece = [&[flags], &[0; MAX_PIECE][..]].concat();
            (0..max / MAX_PIECE).for_each(|_| assert_eq!(joiner.piece(&piece), Ok(None)));
            assert_eq!(joiner.piece(&piece), Err(PieceError::TooLong));
            let rest = [&[flags | flag::LAST], &[0; MAX_ENVELOPE][..]].concat();
            assert_eq!(joiner.piece(&rest).unwrap().unwrap().len(), max + MAX_ENVELOPE);
        }
    }
}
