//! What waits to be sent to one session, bounded in number and size.

use std::collections::VecDeque;

use super::message::Message;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most messages.
    pub messages: usize,
    /// Most payload bytes in all messages together.
    pub bytes: usize,
}

/// The message would not fit: the client takes its messages too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session's queue is full")]
pub struct Full;

/// Messages in the order in which they will be sent.
#[derive(Clone, Debug)]
pub struct Queue {
    limits: Limits,
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self { limits, messages: VecDeque::new(), bytes: 0 }
    }

    /// Appends a message.
    ///
    /// # Errors
    /// If it exceeds a limit; the queue is unchanged then.
    pub fn push(&mut self, message: Message) -> Result<(), Full> {
        let bytes = self.bytes.saturating_add(message.payload().len());
        if self.messages.len() >= self.limits.messages || bytes > self.limits.bytes {
            return Err(Full);
        }
        self.bytes = bytes;
        self.messages.push_back(message);
        Ok(())
    }

    /// Takes the oldest message out.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.payload().len();
        Some(message)
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::websocket::decoder::Kind;

    fn message(number: usize, length: usize) -> Message {
        Message::new(Kind::Binary, vec![number as u8; length].into())
    }

    proptest! {
        /// Against the simplest thing that can be meant: a list that is summed up each time.
        #[test]
        fn keeps_order_and_limits(steps in prop::collection::vec(prop::option::of(0..50usize), 0..200)) {
            let limits = Limits { messages: 5, bytes: 100 };
            let mut queue = Queue::new(limits);
            let mut model: Vec<Message> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                if let Some(length) = step {
                    let fits = model.len() < 5 && model.iter().map(|m| m.payload().len()).sum::<usize>() + length <= 100;
                    prop_assert_eq!(queue.push(message(number, length)), if fits { Ok(()) } else { Err(Full) });
                    if fits {
                        model.push(message(number, length));
                    }
                } else {
                    prop_assert_eq!(queue.pop(), (!model.is_empty()).then(|| model.remove(0)));
                }
                prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
