//! The server under test: it says what it hears.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use bytes::BytesMut;
use ringsteer_websocket::{
    close::Close,
    decoder::{Decoder, Event},
    encoder::Encoder,
    frame::{self, Opcode},
    handshake::Upgrade,
    request::parse_head,
};

/// Largest message: the suite's are up to 16 MiB.
const MAX_MESSAGE: usize = 16 << 20;

/// Whether connections move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travel {
    /// The decoder stays as it is.
    Stays,
    /// It is sent away and restored after every read.
    Moves,
}

/// Serves on loopback for as long as the process lives.
pub fn start(travel: Travel) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming() {
            // A client that is gone is no concern of the next one.
            thread::spawn(move || client.and_then(|client| serve(client, travel)));
        }
    });
    Ok(address)
}

fn serve(mut client: TcpStream, travel: Travel) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut unread = BytesMut::new();
    let (upgrade, length) = loop {
        receive(&mut client, &mut unread)?;
        let Some((head, length)) = parse_head(&unread).map_err(io::Error::other)? else { continue };
        break (Upgrade::of(&head).map_err(io::Error::other)?.with_deflate(), length);
    };
    let _ = unread.split_to(length);
    client.write_all(&upgrade.response())?;

    let mut decoder = Decoder::new(MAX_MESSAGE).with_deflate(upgrade.deflate());
    let encoder = Encoder::new(upgrade.deflate()).with_threshold(0);
    let mut outgoing = BytesMut::new();
    loop {
        let ended = hear(&mut decoder, encoder, &unread.split(), &mut outgoing);
        client.write_all(&outgoing.split())?;
        if ended {
            break;
        }
        if travel == Travel::Moves {
            let sent = postcard::to_allocvec(&decoder.snapshot()).map_err(io::Error::other)?;
            let arrived = postcard::from_bytes(&sent).map_err(io::Error::other)?;
            decoder = Decoder::restore(arrived, MAX_MESSAGE).map_err(io::Error::other)?;
        }
        receive(&mut client, &mut unread)?;
    }
    // What the client still sends must not turn our last words into a reset.
    client.shutdown(Shutdown::Write)?;
    io::copy(&mut client, &mut io::sink())?;
    Ok(())
}

/// Answers what is said in `input`, and tells whether that was the last word.
fn hear(decoder: &mut Decoder, encoder: Encoder, mut input: &[u8], outgoing: &mut BytesMut) -> bool {
    loop {
        match decoder.next(&mut input) {
            Ok(None) => return false,
            Ok(Some(Event::Message { kind, payload })) => encoder.encode(kind, &payload, outgoing),
            Ok(Some(Event::Ping(payload))) => frame::encode(Opcode::Pong, &payload, outgoing),
            Ok(Some(Event::Pong(_))) => {}
            Ok(Some(Event::Close(close))) => {
                let answer = close.map(|close| Close::new(close.code, "").payload()).unwrap_or_default();
                frame::encode(Opcode::Close, &answer, outgoing);
                return true;
            }
            Err(violation) => {
                let close = Close::new(violation.close_code(), violation.to_string());
                frame::encode(Opcode::Close, &close.payload(), outgoing);
                return true;
            }
        }
    }
}

fn receive(client: &mut TcpStream, unread: &mut BytesMut) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    match client.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => {
            unread.extend_from_slice(&buffer[..length]);
            Ok(())
        }
    }
}
