//! From the bytes of a client to the messages in them.
//!
//! | file | subject |
//! |---|---|
//! | here | frames to messages |
//! | `assembly` | a message of which something is still to come |
//! | [`snapshot`] | a decoder that moves to another process |

mod assembly;
pub mod snapshot;

use serde::{Deserialize, Serialize};

use super::{
    close::{Close, CloseCode},
    deflate::Deflate,
    frame::{self, BadHeader, FrameHeader, MAX_HEADER, Opcode},
};
use assembly::Assembly;

/// What a message consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

/// Something a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message, of however many fragments.
    Message {
        /// Text, which is then valid UTF-8, or binary.
        kind: Kind,
        /// Its bytes, unmasked.
        payload: Vec<u8>,
    },
    /// To be answered by a pong with this payload.
    Ping(Vec<u8>),
    /// An answer to a ping, or a sign of life.
    Pong(Vec<u8>),
    /// The client's last frame. To be answered by a close frame, unless one was sent.
    Close(Option<Close>),
}

/// How a client broke the protocol or a limit. The connection has to be closed with [`Violation::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Violation {
    /// A malformed frame header.
    #[error("{0}")]
    Header(#[from] BadHeader),
    /// A frame without a mask.
    #[error("a frame from a client is not masked")]
    Unmasked,
    /// A continuation without a message under way.
    #[error("a continuation frame continues no message")]
    NothingToContinue,
    /// A new message before the last one ended.
    #[error("a message begins before the last one has ended")]
    Interleaved,
    /// A close frame with a single byte of payload, or a code that must not be sent.
    #[error("a close frame carries no valid code")]
    CloseCode,
    /// A text, or the reason of a close frame, that is not UTF-8.
    #[error("a text is not valid UTF-8")]
    Utf8,
    /// A compressed message that cannot be inflated.
    #[error("a compressed message cannot be inflated")]
    Deflate,
    /// A message above the limit, compressed or not.
    #[error("a message is larger than {0} bytes")]
    TooBig(usize),
}

/// The receiving state of a connection. Plain data: cloned between any two bytes, the copy goes on where the original
/// stood, and so does one that is restored from a [`snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    /// Largest message, in bytes.
    max_message: usize,
    /// Whether messages may be compressed.
    deflate: Option<Deflate>,
    stage: Stage,
    /// The message whose fragments are arriving.
    message: Option<Assembly>,
}

/// What the next byte belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// A frame header, of which `bytes[..length]` are here.
    Header { bytes: [u8; MAX_HEADER], length: usize },
    /// The payload of a message's fragment.
    Fragment(Payload),
    /// The payload of a control frame.
    Control { opcode: Opcode, payload: Payload, bytes: Vec<u8> },
    /// Nothing: the client said close.
    Closed,
    /// Nothing: the client broke the protocol.
    Failed(Violation),
}

/// How far a frame's payload has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Payload {
    fin: bool,
    mask: [u8; 4],
    length: u64,
    received: u64,
}

const AWAIT_HEADER: Stage = Stage::Header { bytes: [0; MAX_HEADER], length: 0 };

// === impl Decoder ===

impl Decoder {
    /// For a connection that has just been upgraded. `max_message` is the largest message it takes, in bytes.
    pub fn new(max_message: usize) -> Self {
        Self { max_message, deflate: None, stage: AWAIT_HEADER, message: None }
    }

    /// The same on a connection whose messages may be compressed, if that was agreed on.
    pub fn with_deflate(self, deflate: Option<Deflate>) -> Self {
        Self { deflate, ..self }
    }

    /// What was agreed on about compression, which holds for the other direction as well.
    pub fn deflate(&self) -> Option<Deflate> {
        self.deflate
    }

    /// Consumes bytes from the front of `input` until something was said; `None` if all of it was consumed without.
    ///
    /// After [`Event::Close`] all further bytes are consumed and ignored.
    ///
    /// # Errors
    /// As soon as a byte breaks the protocol, and then again on every call.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Violation> {
        let result = self.advance(input);
        if let Err(violation) = &result {
            self.stage = Stage::Failed(*violation);
            self.message = None;
        }
        result
    }

    /// Whether no frame is under way, so that nothing but a message's earlier fragments needs keeping.
    pub fn is_at_frame_boundary(&self) -> bool {
        matches!(self.stage, Stage::Header { length: 0, .. } | Stage::Closed)
    }

    /// Bytes of memory that this holds, itself and what is half received. Between messages that is the decoder alone.
    pub fn memory(&self) -> usize {
        let message = self.message.as_ref().map_or(0, Assembly::memory);
        let control = if let Stage::Control { bytes, .. } = &self.stage { bytes.capacity() } else { 0 };
        size_of::<Self>() + message + control
    }

    /// Gives back memory that can be done without until the next byte comes: for a connection that has fallen silent in
    /// mid-message. A compressed message is then inflated again from its start.
    pub fn shrink(&mut self) {
        if let Some(message) = &mut self.message {
            message.shrink();
        }
        if let Stage::Control { bytes, .. } = &mut self.stage {
            bytes.shrink_to_fit();
        }
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Violation> {
        loop {
            match &mut self.stage {
                // The usual case: the whole header is here, and there is nothing wrong with it.
                Stage::Header { length: 0, .. }
                    if let Ok(Some((header, length))) = FrameHeader::parse(input, self.deflate.is_some())
                        && header.mask.is_some() =>
                {
                    *input = &input[length..];
                    self.stage = self.begin(header)?;
                }
                Stage::Header { bytes, length } => {
                    // Byte by byte, so that the first wrong one decides however many came at once.
                    let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                    *input = rest;
                    bytes[*length] = byte;
                    *length += 1;
                    if let Some((header, _)) = FrameHeader::parse(&bytes[..*length], self.deflate.is_some())? {
                        self.stage = self.begin(header)?;
                    } else if *length >= 2 && bytes[1] & 0x80 == 0 {
                        return Err(Violation::Unmasked);
                    }
                }
                Stage::Fragment(payload) => {
                    let Some(message) = &mut self.message else { return Err(Violation::NothingToContinue) };
                    message.take(payload, input, self.max_message)?;
                    if !payload.is_complete() {
                        return Ok(None);
                    }
                    let fin = payload.fin;
                    self.stage = AWAIT_HEADER;
                    if fin && let Some(message) = self.message.take() {
                        return Ok(Some(Event::Message { kind: message.kind, payload: message.into_bytes() }));
                    }
                }
                Stage::Control { opcode, payload, bytes } => {
                    payload.take(input, bytes);
                    if !payload.is_complete() {
                        return Ok(None);
                    }
                    let (opcode, bytes) = (*opcode, std::mem::take(bytes));
                    self.stage = AWAIT_HEADER;
                    return Ok(Some(match opcode {
                        Opcode::Ping => Event::Ping(bytes),
                        Opcode::Pong => Event::Pong(bytes),
                        _ => {
                            let close = parse_close(&bytes)?;
                            self.stage = Stage::Closed;
                            self.message = None;
                            Event::Close(close)
                        }
                    }));
                }
                Stage::Closed => {
                    *input = &[];
                    return Ok(None);
                }
                Stage::Failed(violation) => return Err(*violation),
            }
        }
    }

    /// What follows a frame header, judged before a byte of it has arrived.
    fn begin(&mut self, header: FrameHeader) -> Result<Stage, Violation> {
        let FrameHeader { fin, compressed, opcode, mask, length } = header;
        let mask = mask.ok_or(Violation::Unmasked)?;
        let payload = Payload { fin, mask, length, received: 0 };
        match (opcode, &mut self.message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {
                return Ok(Stage::Control { opcode, payload, bytes: Vec::new() });
            }
            (Opcode::Continuation, None) => return Err(Violation::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::Interleaved),
            (Opcode::Continuation, Some(_)) => {}
            (Opcode::Text, message @ None) => *message = Some(Assembly::new(Kind::Text, compressed)),
            (Opcode::Binary, message @ None) => *message = Some(Assembly::new(Kind::Binary, compressed)),
        }
        let room = self.message.as_ref().map_or(0, |message| message.room(self.max_message));
        // Memory is taken as bytes arrive, not as they are announced.
        if length > room as u64 {
            return Err(Violation::TooBig(self.max_message));
        }
        Ok(Stage::Fragment(payload))
    }
}

// === impl Payload ===

impl Payload {
    fn is_complete(&self) -> bool {
        self.received == self.length
    }

    /// Moves what is ours from `input` to `bytes`, unmasked.
    fn take(&mut self, input: &mut &[u8], bytes: &mut Vec<u8>) {
        let missing = usize::try_from(self.length - self.received).unwrap_or(usize::MAX);
        let (ours, rest) = input.split_at(missing.min(input.len()));
        let start = bytes.len();
        bytes.extend_from_slice(ours);
        frame::apply_mask(&mut bytes[start..], self.mask, self.received);
        self.received += ours.len() as u64;
        *input = rest;
    }
}

// === impl Violation ===

impl Violation {
    /// The code to close the connection with.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Utf8 | Self::Deflate => CloseCode::INVALID_DATA,
            Self::TooBig(_) => CloseCode::TOO_BIG,
            Self::Header(_) | Self::Unmasked | Self::NothingToContinue | Self::Interleaved | Self::CloseCode => {
                CloseCode::PROTOCOL_ERROR
            }
        }
    }
}

/// The payload of a close frame.
fn parse_close(payload: &[u8]) -> Result<Option<Close>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::CloseCode) };
    };
    let code = CloseCode::new(u16::from_be_bytes(*code)).ok_or(Violation::CloseCode)?;
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
    Ok(Some(Close { code, reason: reason.to_owned() }))
}

#[cfg(test)]
mod tests;
