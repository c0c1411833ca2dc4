//! A message in the making: its fragments put together, inflated and checked as they arrive.

use super::{Kind, Payload, Violation};
use crate::deflate::inflate::{self, Failed, Inflater};

/// A message of which something is still to come.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) kind: Kind,
    /// What is known of the message, unmasked and inflated.
    bytes: Vec<u8>,
    /// How many of `bytes` are known to be whole UTF-8 characters; for texts only.
    checked: usize,
    deflated: Option<Box<Deflated>>,
}

/// The compressed form of a message in the making. All that has arrived is kept: a window cannot be sent away, but can be
/// made again from it.
#[derive(Debug, Default)]
struct Deflated {
    received: Vec<u8>,
    /// Has taken in all of `received` and made the message's bytes of it. None if these have to be made again.
    inflater: Option<Inflater>,
}

/// Most compressed bytes of a message that may have `max_message` when inflated. No compressor makes a message longer by
/// as much; empty blocks without end would.
fn max_deflated(max_message: usize) -> usize {
    max_message.saturating_add(max_message / 4).saturating_add(64)
}

impl Assembly {
    pub(super) fn new(kind: Kind, is_deflated: bool) -> Self {
        let deflated = is_deflated.then(Box::default);
        Self { kind, bytes: Vec::new(), checked: 0, deflated }
    }

    /// One of which `received` has arrived.
    pub(super) fn restore(
        kind: Kind,
        is_deflated: bool,
        received: Vec<u8>,
        max_message: usize,
    ) -> Result<Self, Violation> {
        let mut assembly = Self::new(kind, is_deflated);
        if received.len() > assembly.room(max_message) {
            return Err(Violation::TooBig(max_message));
        }
        match &mut assembly.deflated {
            None => assembly.bytes = received,
            Some(deflated) => {
                deflated.received = received;
                deflated.inflate_again(&mut assembly.bytes, max_message)?;
            }
        }
        assembly.check_utf8(false)?;
        Ok(assembly)
    }

    pub(super) fn is_deflated(&self) -> bool {
        self.deflated.is_some()
    }

    /// What has arrived, unmasked but not inflated.
    pub(super) fn received(&self) -> &[u8] {
        self.deflated.as_ref().map_or(&self.bytes, |deflated| &deflated.received)
    }

    /// How many more bytes may arrive.
    pub(super) fn room(&self, max_message: usize) -> usize {
        let most = if self.is_deflated() { max_deflated(max_message) } else { max_message };
        most.saturating_sub(self.received().len())
    }

    /// Takes what is the message's from `input`.
    pub(super) fn take(
        &mut self,
        payload: &mut Payload,
        input: &mut &[u8],
        max_message: usize,
    ) -> Result<(), Violation> {
        match &mut self.deflated {
            None => payload.take(input, &mut self.bytes),
            Some(deflated) => {
                if deflated.inflater.is_none() {
                    deflated.inflate_again(&mut self.bytes, max_message)?;
                }
                let start = deflated.received.len();
                payload.take(input, &mut deflated.received);
                let ended = payload.fin && payload.is_complete();
                if let Err(violation) = deflated.inflate(start, ended, &mut self.bytes, max_message) {
                    // The first wrong byte decides, however many of them came at once.
                    self.check_utf8(false)?;
                    return Err(violation);
                }
            }
        }
        self.check_utf8(payload.fin && payload.is_complete())
    }

    /// The message, all of which has arrived.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes of memory that this holds besides itself.
    pub(super) fn memory(&self) -> usize {
        let deflated = self.deflated.as_ref().map_or(0, |deflated| {
            size_of::<Deflated>()
                + deflated.received.capacity()
                + if deflated.inflater.is_some() { inflate::MEMORY } else { 0 }
        });
        self.bytes.capacity() + deflated
    }

    /// Gives back what can be done without until the next byte comes.
    pub(super) fn shrink(&mut self) {
        if let Some(deflated) = &mut self.deflated {
            deflated.received.shrink_to_fit();
            deflated.inflater = None;
            self.bytes = Vec::new();
        }
        self.bytes.shrink_to_fit();
    }

    /// Fails at the first byte that no UTF-8 text can have at its place. `ended`: nothing will follow.
    fn check_utf8(&mut self, ended: bool) -> Result<(), Violation> {
        if self.kind == Kind::Binary {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(whole) => self.checked += whole.len(),
            // A character whose end is still to come is fine; a wrong byte has an `error_len`.
            Err(error) if error.error_len().is_none() && !ended => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::Utf8),
        }
        Ok(())
    }
}

/// An equal one has received the same; how much of that is inflated at the moment makes no difference.
impl PartialEq for Assembly {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.is_deflated(), self.received()) == (other.kind, other.is_deflated(), other.received())
    }
}

impl Eq for Assembly {}

impl Clone for Assembly {
    fn clone(&self) -> Self {
        let copy = |deflated: &Deflated| Box::new(Deflated { received: deflated.received.clone(), inflater: None });
        let deflated = self.deflated.as_deref().map(copy);
        Self { kind: self.kind, bytes: self.bytes.clone(), checked: self.checked, deflated }
    }
}

impl Deflated {
    /// Makes `bytes` out of all that has been received. There may be some of them: those are made again.
    fn inflate_again(&mut self, bytes: &mut Vec<u8>, max_message: usize) -> Result<(), Violation> {
        bytes.clear();
        self.inflater = Some(Inflater::new());
        self.inflate(0, false, bytes, max_message)
    }

    /// Inflates what has been received from `start` on.
    fn inflate(&mut self, start: usize, ended: bool, bytes: &mut Vec<u8>, max_message: usize) -> Result<(), Violation> {
        let inflater = self.inflater.get_or_insert_with(Inflater::new);
        let mut inflated = inflater.push(&self.received[start..], bytes, max_message);
        if ended {
            inflated = inflated.and_then(|()| inflater.finish(bytes, max_message));
        }
        inflated.map_err(|failed| match failed {
            Failed::Broken => Violation::Deflate,
            Failed::TooBig => Violation::TooBig(max_message),
        })
    }
}
