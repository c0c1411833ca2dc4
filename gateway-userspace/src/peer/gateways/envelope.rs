//! Messages as bytes: what they are and which they are, and then the body as it is.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::Subject;

/// What stands in front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Envelope {
    /// A question, with a number to be repeated in the answer.
    Question(u64, Subject),
    /// The answer to the question of that number.
    Answer(u64, Outcome),
    /// No answer is expected.
    Notice(Subject),
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The body is the answer.
    Done,
    /// Nobody here knows such questions, or this one cannot be read.
    NotUnderstood,
    /// It was not handled: too many are.
    Busy,
    /// Whoever handled it failed.
    Failed,
}

/// Longest envelope, in bytes: two variants and a number of 64 bits, seven of them to a byte.
pub(super) const MAX_ENVELOPE: usize = 12;

// === impl Envelope ===

impl Envelope {
    /// The envelope with its body.
    pub(super) fn seal(self, body: &[u8]) -> Bytes {
        let mut buffer = [0; MAX_ENVELOPE];
        let envelope = postcard::to_slice(&self, &mut buffer).expect("an envelope fits");
        let mut message = BytesMut::with_capacity(envelope.len() + body.len());
        message.put_slice(envelope);
        message.put_slice(body);
        message.freeze()
    }

    /// The envelope, and the body behind it; none if the bytes are no message.
    pub(super) fn open(message: &[u8]) -> Option<(Self, &[u8])> {
        postcard::take_from_bytes(message).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope() -> impl Strategy<Value = Envelope> {
        let outcome =
            prop_oneof![Just(Outcome::Done), Just(Outcome::NotUnderstood), Just(Outcome::Busy), Just(Outcome::Failed)];
        prop_oneof![
            (any::<u64>(), any::<u8>()).prop_map(|(number, subject)| Envelope::Question(number, Subject(subject))),
            (any::<u64>(), outcome).prop_map(|(number, outcome)| Envelope::Answer(number, outcome)),
            any::<u8>().prop_map(|subject| Envelope::Notice(Subject(subject))),
        ]
    }

    proptest! {
        #[test]
        fn comes_out_as_it_went_in(envelope in envelope(), body: Vec<u8>) {
            let message = envelope.seal(&body);
            prop_assert_eq!(Envelope::open(&message), Some((envelope, &body[..])));
        }

        #[test]
        fn garbage_does_not_panic(bytes: Vec<u8>) {
            if let Some((envelope, body)) = Envelope::open(&bytes) {
                prop_assert!(body.len() < bytes.len());
                let sealed = envelope.seal(body);
                prop_assert_eq!(Envelope::open(&sealed), Some((envelope, body)));
            }
        }
    }

    #[test]
    fn the_bytes_on_the_wire_stay() {
        assert_eq!(Envelope::Question(300, Subject(1)).seal(b"x")[..], [0, 0xac, 2, 1, b'x']);
        assert_eq!(Envelope::Answer(1, Outcome::Busy).seal(b"")[..], [1, 1, 2]);
        assert_eq!(Envelope::Notice(Subject(16)).seal(b"")[..], [2, 16]);
        assert_eq!(Envelope::Answer(u64::MAX, Outcome::Failed).seal(b"").len(), MAX_ENVELOPE);
    }
}
