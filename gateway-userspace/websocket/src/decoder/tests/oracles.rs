//! Servers that are not ours, and what they make of a client's bytes.

use std::io::{Cursor, Read, Write};

use fastwebsockets::{FragmentCollector, OpCode, WebSocketError};
use tokio::io::AsyncWriteExt as _;
use tungstenite::{
    Message,
    protocol::{Role, WebSocket, WebSocketConfig},
};

use super::{
    super::{BadHeader, Close, CloseCode, Event, Kind, Violation, parse_close},
    MAX_MESSAGE,
};

/// A socket that reads given bytes and swallows what is written.
pub(super) struct Wire {
    pub(super) bytes: Cursor<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a server makes of some bytes.
pub(super) struct Heard {
    events: Vec<Event>,
    /// It saw a violation.
    refused: bool,
    /// It ran out of bytes in mid-sentence.
    starved: bool,
}

/// What tungstenite's server makes of `bytes`.
pub(super) fn hear_tungstenite(bytes: &[u8]) -> Heard {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut server =
        WebSocket::from_raw_socket(Wire { bytes: Cursor::new(bytes.to_vec()) }, Role::Server, Some(config));
    let mut heard = Heard { events: Vec::new(), refused: false, starved: false };
    loop {
        heard.events.push(match server.read() {
            Ok(Message::Text(text)) => Event::Message { kind: Kind::Text, payload: text.as_bytes().to_vec() },
            Ok(Message::Binary(bytes)) => Event::Message { kind: Kind::Binary, payload: bytes.to_vec() },
            Ok(Message::Ping(bytes)) => Event::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Event::Pong(bytes.to_vec()),
            // Its way of saying that a close frame's code must not be sent.
            Ok(Message::Close(Some(frame))) if frame.code == 1002.into() && frame.reason == "Protocol violation" => {
                heard.refused = true;
                return heard;
            }
            Ok(Message::Close(frame)) => Event::Close(frame.map(|frame| Close {
                code: CloseCode::new(frame.code.into()).expect("a code that may be sent"),
                reason: frame.reason.as_str().to_owned(),
            })),
            Ok(Message::Frame(_)) => unreachable!("reading yields no raw frames"),
            Err(tungstenite::Error::ConnectionClosed) => return heard,
            Err(tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                heard.starved = true;
                return heard;
            }
            Err(_) => {
                heard.refused = true;
                return heard;
            }
        });
    }
}

/// What fastwebsockets' server makes of `bytes`.
pub(super) fn hear_fastwebsockets(bytes: &[u8]) -> Heard {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(bytes.len() + 1024);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut server = fastwebsockets::WebSocket::after_handshake(server, fastwebsockets::Role::Server);
        // Answering a close is how it judges one.
        server.set_auto_close(true);
        server.set_auto_pong(false);
        let mut server = FragmentCollector::new(server);
        let mut heard = Heard { events: Vec::new(), refused: false, starved: false };
        loop {
            let frame = match server.read_frame().await {
                Ok(frame) => frame,
                Err(WebSocketError::UnexpectedEOF) => {
                    heard.starved = true;
                    return heard;
                }
                Err(_) => {
                    heard.refused = true;
                    return heard;
                }
            };
            let payload = frame.payload.to_vec();
            heard.events.push(match frame.opcode {
                OpCode::Text => Event::Message { kind: Kind::Text, payload },
                OpCode::Binary => Event::Message { kind: Kind::Binary, payload },
                OpCode::Ping => Event::Ping(payload),
                OpCode::Pong => Event::Pong(payload),
                OpCode::Close => {
                    heard.events.push(Event::Close(parse_close(&payload).expect("it has judged the frame itself")));
                    return heard;
                }
                OpCode::Continuation => unreachable!("fragments are put together"),
            });
        }
    })
}

/// Whether another server agrees with what we `said` about the same bytes, or why not.
///
/// The other one may notice a violation later than we do (at a text's end, say), and judges the shortest form of lengths
/// less strictly; what it heard before must still begin with what we heard.
pub(super) fn agree(said: &[Result<Event, Violation>], heard: &Heard) -> Result<(), String> {
    let ours: Vec<&Event> = said.iter().filter_map(|said| said.as_ref().ok()).collect();
    // Codes that joined the registry later.
    let is_newer = |event: &&Event| matches!(event, Event::Close(Some(close)) if close.code.number() > 1011);
    if ours.iter().any(is_newer) && heard.refused {
        return Ok(());
    }
    match said.last() {
        Some(Err(violation)) => {
            let is_strict = *violation == Violation::Header(BadHeader::Length);
            if !is_strict && !heard.refused && !heard.starved {
                return Err(format!("takes what we refuse ({violation}): {:?}", heard.events));
            }
            let is_prefix = heard.events.iter().take(ours.len()).eq(ours.iter().copied().take(heard.events.len()));
            if is_prefix { Ok(()) } else { Err(format!("heard something else before {violation}: {:?}", heard.events)) }
        }
        _ if heard.refused => Err("refuses what we take".to_owned()),
        _ if heard.events.iter().eq(ours) => Ok(()),
        _ => Err(format!("heard something else: {:?}", heard.events)),
    }
}
