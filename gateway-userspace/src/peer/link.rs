//! One link as a state machine: bytes in, messages and bytes out. No socket, no clock. What the messages mean is for
//! whoever talks; the link knows only the first one each way.
//!
//! The two ends shake hands by the Noise protocol, pattern NNpsk0 (Noise revision 34, sections 7.4 and 9): fresh keys
//! for each link, and nobody gets through without the fleet's key. Each frame is two bytes of length (big-endian) and
//! that many bytes of ciphertext; what is encrypted is one byte that says whether the message goes on in the next
//! frame, and a piece of the message. The first message each way is a [`Hello`].
//!
//! A frame that was repeated, left out, reordered or altered does not decrypt, for Noise numbers them; then the link is
//! over.

use std::sync::LazyLock;

use bytes::{Buf as _, BytesMut};
use snow::{HandshakeState, TransportState, params::NoiseParams};

use super::{
    key::{LinkKey, LinkKeys},
    message::{Hello, MessageError, PROTOCOL},
};

/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Longest message before the other end has said hello, in bytes.
const MAX_HELLO: usize = 4 << 10;

/// Length of both handshake messages, in bytes: an ephemeral key and the tag of an empty payload.
const HANDSHAKE: usize = 32 + TAG;

/// Length of the tag that makes a frame authentic, in bytes.
const TAG: usize = 16;

/// Longest frame, in bytes, without its length: what Noise allows (revision 34, section 3).
const MAX_FRAME: usize = 65_535;

/// Longest piece of a message in one frame, in bytes.
const MAX_PIECE: usize = MAX_FRAME - TAG - 1;

/// The message ends with this frame.
const END: u8 = 0;
/// It goes on in the next.
const MORE: u8 = 1;

static PARAMETERS: LazyLock<NoiseParams> =
    LazyLock::new(|| "Noise_NNpsk0_25519_ChaChaPoly_SHA256".parse().expect("a protocol that `snow` has"));

/// One end of a link.
pub struct Link {
    stage: Stage,
    hello: Hello,
    input: BytesMut,
    output: BytesMut,
    /// What has come of a message that goes on.
    message: Vec<u8>,
    /// The key that both ends turned out to have.
    key: Option<LinkKey>,
}

enum Stage {
    /// We have dialled and wait for the answer.
    Dialled(Box<HandshakeState>),
    /// We were dialled and wait for the first message, which may be made with one of these.
    Awaiting(LinkKeys),
    /// Both have the link's keys; hello has not been heard.
    Greeting(Box<TransportState>),
    /// Messages go both ways.
    Open(Box<TransportState>),
    /// Something was wrong.
    Over,
}

/// Why a link is over: always the other end's doing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The handshake was made with another key, or is no handshake.
    #[error("its secret is another than ours, or it is no ringsteer; compare the secrets of both nodes")]
    Secret,
    /// A frame that cannot be.
    #[error("a frame of {0} bytes, which nobody of us sends")]
    FrameLength(usize),
    /// A frame that does not decrypt: altered, repeated, or not in its place.
    #[error("a frame that was altered or is not in its place")]
    Frame,
    /// A message that is too long.
    #[error("a message of more than {0} bytes")]
    TooLong(usize),
    /// A hello that is none.
    #[error(transparent)]
    Hello(#[from] MessageError),
    /// The other end speaks another version.
    #[error(
        "it speaks version {theirs} of the protocol and we speak {PROTOCOL} (it is ringsteer {version}); upgrade the \
         older one"
    )]
    Protocol {
        /// Of the protocol.
        theirs: u16,
        /// Of the program.
        version: String,
    },
    /// Something other than hello came first.
    #[error("a message that does not belong there")]
    Order,
    /// No random numbers, say; the only one that is ours.
    #[error("cannot encrypt: {0}")]
    Noise(snow::Error),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other end has shown that it has the fleet's key, and said hello.
    Open(Hello),
    /// It said something.
    Message(Vec<u8>),
}

// === impl Link ===

impl Link {
    /// The end that dials, with a key of its choice. Its first bytes are in the [output](Self::output).
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn dial(key: &LinkKey, hello: Hello) -> Result<Self, LinkError> {
        let mut handshake = snow::Builder::new(PARAMETERS.clone())
            .psk(0, key.bytes())
            .and_then(snow::Builder::build_initiator)
            .map_err(LinkError::Noise)?;
        let mut output = BytesMut::new();
        write_handshake(&mut handshake, &mut output)?;
        Ok(Self { key: Some(key.clone()), output, ..Self::new(Stage::Dialled(Box::new(handshake)), hello) })
    }

    /// The end that was dialled, by somebody who may have any of `keys`.
    pub fn answer(keys: LinkKeys, hello: Hello) -> Self {
        Self::new(Stage::Awaiting(keys), hello)
    }

    fn new(stage: Stage, hello: Hello) -> Self {
        Self { stage, hello, input: BytesMut::new(), output: BytesMut::new(), message: Vec::new(), key: None }
    }

    /// Takes bytes that have arrived, and adds what they mean to `events`.
    ///
    /// # Errors
    /// If the other end does not keep to the protocol, or has another key. The link is over then.
    pub fn receive(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), LinkError> {
        self.input.extend_from_slice(bytes);
        while let Some(frame) = self.frame()? {
            let taken = self.take(&frame, events);
            if taken.is_err() {
                self.stage = Stage::Over;
                return taken;
            }
        }
        Ok(())
    }

    /// Says something. Before the link is open nothing is said: what a peer should know it is told once it is there.
    ///
    /// # Errors
    /// If the message is longer than [`MAX_MESSAGE`]; the link goes on without it.
    pub fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let Stage::Open(transport) = &mut self.stage else { return Ok(()) };
        write_message(transport, message, &mut self.output)
    }

    /// What must be written to the other end; to be taken out as it is written.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Whether the other end has said hello.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// The key that both ends have, once they have shown it.
    pub fn key(&self) -> Option<&LinkKey> {
        self.key.as_ref()
    }

    /// Takes a whole frame out of the input, if there is one. A length that cannot be is refused before its bytes are
    /// waited for.
    fn frame(&mut self) -> Result<Option<BytesMut>, LinkError> {
        let Some(length) = self.input.get(..2) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let possible = match self.stage {
            Stage::Dialled(_) | Stage::Awaiting(_) => length == HANDSHAKE,
            Stage::Greeting(_) => (TAG + 1..=TAG + 1 + MAX_HELLO).contains(&length),
            Stage::Open(_) => length > TAG,
            Stage::Over => false,
        };
        if !possible {
            self.stage = Stage::Over;
            return Err(LinkError::FrameLength(length));
        }
        if self.input.len() < 2 + length {
            return Ok(None);
        }
        self.input.advance(2);
        Ok(Some(self.input.split_to(length)))
    }

    fn take(&mut self, frame: &[u8], events: &mut Vec<Event>) -> Result<(), LinkError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Dialled(mut handshake) => {
                handshake.read_message(frame, &mut []).map_err(|_| LinkError::Secret)?;
                self.greet(*handshake)
            }
            Stage::Awaiting(keys) => {
                let (key, mut handshake) = recognise(&keys, frame)?;
                self.key = Some(key);
                write_handshake(&mut handshake, &mut self.output)?;
                self.greet(handshake)
            }
            Stage::Greeting(mut transport) => {
                let hello = match self.piece(&mut transport, frame, MAX_HELLO)? {
                    Some(message) => Hello::decode(&message)?.ok_or(LinkError::Order)?,
                    None => {
                        self.stage = Stage::Greeting(transport);
                        return Ok(());
                    }
                };
                if hello.protocol != PROTOCOL {
                    return Err(LinkError::Protocol { theirs: hello.protocol, version: hello.version });
                }
                self.stage = Stage::Open(transport);
                events.push(Event::Open(hello));
                Ok(())
            }
            Stage::Open(mut transport) => {
                if let Some(message) = self.piece(&mut transport, frame, MAX_MESSAGE)? {
                    events.push(Event::Message(message));
                }
                self.stage = Stage::Open(transport);
                Ok(())
            }
            Stage::Over => Err(LinkError::Order),
        }
    }

    /// The handshake is done: says hello.
    fn greet(&mut self, handshake: HandshakeState) -> Result<(), LinkError> {
        let mut transport = handshake.into_transport_mode().map_err(LinkError::Noise)?;
        write_message(&mut transport, &self.hello.encode(), &mut self.output)?;
        self.stage = Stage::Greeting(Box::new(transport));
        Ok(())
    }

    /// Adds a frame's piece to the message, and gives that if it is whole.
    fn piece(
        &mut self,
        transport: &mut TransportState,
        frame: &[u8],
        max: usize,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        let mut plain = vec![0; frame.len() - TAG];
        transport.read_message(frame, &mut plain).map_err(|_| LinkError::Frame)?;
        // At least one byte: shorter frames have been refused by their length.
        let (&continues, piece) = plain.split_first().ok_or(LinkError::Frame)?;
        if self.message.len() + piece.len() > max {
            return Err(LinkError::TooLong(max));
        }
        self.message.extend_from_slice(piece);
        match continues {
            END => Ok(Some(std::mem::take(&mut self.message))),
            MORE => Ok(None),
            _ => Err(LinkError::Frame),
        }
    }
}

/// The key that a first handshake message was made with, and the handshake so far.
fn recognise(keys: &LinkKeys, frame: &[u8]) -> Result<(LinkKey, HandshakeState), LinkError> {
    for key in keys.iter() {
        let mut handshake = snow::Builder::new(PARAMETERS.clone())
            .psk(0, key.bytes())
            .and_then(snow::Builder::build_responder)
            .map_err(LinkError::Noise)?;
        if handshake.read_message(frame, &mut []).is_ok() {
            return Ok((key.clone(), handshake));
        }
    }
    Err(LinkError::Secret)
}

fn write_handshake(handshake: &mut HandshakeState, output: &mut BytesMut) -> Result<(), LinkError> {
    let mut frame = [0; HANDSHAKE];
    let length = handshake.write_message(&[], &mut frame).map_err(LinkError::Noise)?;
    write_frame(&frame[..length], output);
    Ok(())
}

fn write_message(transport: &mut TransportState, message: &[u8], output: &mut BytesMut) -> Result<(), LinkError> {
    if message.len() > MAX_MESSAGE {
        return Err(LinkError::TooLong(MAX_MESSAGE));
    }
    let mut pieces = message.chunks(MAX_PIECE).peekable();
    while let Some(piece) = pieces.next() {
        let mut plain = Vec::with_capacity(piece.len() + 1);
        plain.push(if pieces.peek().is_some() { MORE } else { END });
        plain.extend_from_slice(piece);
        let mut frame = vec![0; plain.len() + TAG];
        let length = transport.write_message(&plain, &mut frame).map_err(LinkError::Noise)?;
        write_frame(&frame[..length], output);
    }
    Ok(())
}

fn write_frame(frame: &[u8], output: &mut BytesMut) {
    let length = u16::try_from(frame.len()).expect("Noise makes no longer frames");
    output.extend_from_slice(&length.to_be_bytes());
    output.extend_from_slice(frame);
}

impl LinkError {
    /// What kind of failure it is, as metrics call it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Secret => "wrong_secret",
            Self::FrameLength(_) | Self::Frame | Self::Order => "rubbish",
            Self::TooLong(_) | Self::Hello(_) => "bad_message",
            Self::Protocol { .. } => "other_version",
            Self::Noise(_) => "internal",
        }
    }
}

#[cfg(test)]
mod tests;
