//! The receiving state of a connection as it travels to another process.
//!
//! What arrives there was made by another program, perhaps of another version, and is believed no more than a client
//! is: [`Decoder::restore`] accepts only states that a decoder with its limit can be in.

use serde::{Deserialize, Serialize};

use super::{AWAIT_HEADER, Assembly, Decoder, Kind, Payload, Stage, Violation};
use crate::{
    deflate::Deflate,
    frame::{MAX_CONTROL, MAX_HEADER, Opcode},
};

/// The state of a [`Decoder`] between two bytes, for serde. Bytes that it has not consumed are not part of it.
///
/// Which version it is of stands in front. A later version gets a variant of its own, so that a node can still take in
/// what an older one hands over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(Version);

/// Every version that was ever sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Version {
    V1(State),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    deflate: Option<Deflate>,
    frame: Frame,
    message: Option<Message>,
}

/// What the next byte belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Frame {
    /// The header that begins with these bytes, perhaps none.
    Header(Vec<u8>),
    /// A fragment of the message.
    Fragment(Payload),
    /// A control frame, with what has arrived of its payload, unmasked.
    Control { opcode: Opcode, mask: [u8; 4], length: u8, bytes: Vec<u8> },
    /// Nothing: the client said close.
    Closed,
    /// Nothing: the client broke the protocol.
    Failed(Violation),
}

/// What has arrived of a message, unmasked but not inflated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Message {
    kind: Kind,
    is_deflated: bool,
    /// In one piece: it may be long, and byte by byte takes its time.
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

/// Why a snapshot cannot be restored. The same one will be refused again by a decoder with the same limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// No decoder was ever in this state: the snapshot is damaged or forged.
    #[error("the snapshot of a websocket is inconsistent: {0}")]
    Inconsistent(&'static str),
    /// It is half-way through a message that is too large here. The node it comes from has a higher limit and can finish
    /// the message.
    #[error("the snapshot of a websocket holds a message of more than {0} bytes")]
    TooBig(usize),
}

impl Decoder {
    /// The state between the byte consumed last and the next one.
    pub fn snapshot(&self) -> Snapshot {
        let frame = match &self.stage {
            Stage::Header { bytes, length } => Frame::Header(bytes[..*length].to_vec()),
            Stage::Fragment(payload) => Frame::Fragment(*payload),
            Stage::Control { opcode, payload, bytes } => {
                // The header was refused otherwise.
                debug_assert!(payload.length <= MAX_CONTROL as u64);
                Frame::Control {
                    opcode: *opcode,
                    mask: payload.mask,
                    length: payload.length as u8,
                    bytes: bytes.clone(),
                }
            }
            Stage::Closed => Frame::Closed,
            Stage::Failed(violation) => Frame::Failed(*violation),
        };
        let message = self.message.as_ref().map(|message| Message {
            kind: message.kind,
            is_deflated: message.is_deflated(),
            bytes: message.received().to_vec(),
        });
        Snapshot(Version::V1(State { deflate: self.deflate, frame, message }))
    }

    /// A decoder that goes on where the snapshot was taken. `max_message` is the largest message it takes, in bytes.
    ///
    /// # Errors
    /// If no decoder with this limit can be in that state.
    pub fn restore(snapshot: Snapshot, max_message: usize) -> Result<Self, BadSnapshot> {
        use BadSnapshot::Inconsistent;

        let Snapshot(Version::V1(State { deflate, frame, message })) = snapshot;
        let mut decoder = Self::new(max_message).with_deflate(deflate);
        if let Some(Message { kind, is_deflated, bytes }) = message {
            if is_deflated && deflate.is_none() {
                return Err(Inconsistent("a compressed message where that was not agreed on"));
            }
            let message =
                Assembly::restore(kind, is_deflated, bytes, max_message).map_err(|violation| match violation {
                    Violation::TooBig(most) => BadSnapshot::TooBig(most),
                    _ => Inconsistent("a message that would have been refused"),
                })?;
            decoder.message = Some(message);
        }
        let is_over = matches!(frame, Frame::Closed | Frame::Failed(_));
        if is_over && decoder.message.is_some() {
            return Err(Inconsistent("a message goes on after the end"));
        }
        decoder.stage = match frame {
            Frame::Header(bytes) => {
                decoder.replay_header(&bytes)?;
                return Ok(decoder);
            }
            Frame::Fragment(payload) => {
                let Some(message) = &decoder.message else { return Err(Inconsistent("a fragment of no message")) };
                if payload.received >= payload.length || payload.received > message.received().len() as u64 {
                    return Err(Inconsistent("more of a fragment than there is"));
                }
                if payload.length - payload.received > message.room(max_message) as u64 {
                    return Err(BadSnapshot::TooBig(max_message));
                }
                Stage::Fragment(payload)
            }
            Frame::Control { opcode, mask, length, bytes } => {
                if !opcode.is_control() {
                    return Err(Inconsistent("a message where a control frame belongs"));
                }
                if usize::from(length) > MAX_CONTROL || bytes.len() >= length.into() {
                    return Err(Inconsistent("more of a control frame than there is"));
                }
                let (length, received) = (length.into(), bytes.len() as u64);
                Stage::Control { opcode, payload: Payload { fin: true, mask, length, received }, bytes }
            }
            Frame::Closed => Stage::Closed,
            Frame::Failed(violation) => Stage::Failed(violation),
        };
        Ok(decoder)
    }

    /// Takes in the first bytes of a header again.
    fn replay_header(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        let wrong = BadSnapshot::Inconsistent("a frame header that is none, or is complete");
        self.stage = AWAIT_HEADER;
        let has_message = self.message.is_some();
        let went_on = bytes.len() < MAX_HEADER && self.advance(&mut &*bytes) == Ok(None);
        // A complete header would have begun a frame, and perhaps a message.
        let is_header = matches!(self.stage, Stage::Header { length, .. } if length == bytes.len());
        if went_on && is_header && self.message.is_some() == has_message { Ok(()) } else { Err(wrong) }
    }
}
