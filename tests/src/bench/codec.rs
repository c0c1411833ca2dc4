//! `bench codec`: what a client's messages cost to read, beside tungstenite.
//!
//! Both read the same bytes out of memory, one after the other in each batch, as a server that is given 64 KiB at a time.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    time::Instant,
};

use anyhow::{Result, ensure};
use bytes::BytesMut;
use clap::Parser;
use ringsteer::websocket::{
    decoder::{Decoder, Event, Kind},
    deflate::Deflate,
    encoder::Encoder,
    frame::{FrameHeader, Opcode, apply_mask},
};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

use super::figures::Figures;

/// Reading a client's messages, beside tungstenite
#[derive(Debug, Parser)]
pub struct Args {
    /// Batches; the figures are over these
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u16).range(1..=999))]
    batches: u16,
}

/// Sizes of messages, in bytes: a heartbeat, a chat message, a picture's description, the largest that OpenIM takes.
const SIZES: [usize; 4] = [40, 400, 4_000, 51_200];

/// Bytes of messages in a batch.
const BATCH: usize = 4 << 20;

/// Most messages in a batch.
const MAX_MESSAGES: usize = 20_000;

/// Read from the socket at once, in bytes.
const READ: usize = 64 << 10;

/// Runs it and prints the figures.
pub fn run(args: &Args) -> Result<()> {
    println!("nanoseconds per message (median, least, most)");
    println!("{:>8}  {:>21}  {:>21}  {:>6}  {:>21}", "bytes", "ringsteer", "tungstenite", "ratio", "compressed");
    for size in SIZES {
        let count = (BATCH / size).min(MAX_MESSAGES);
        let plain = stream(size, count, false);
        let compressed = stream(size, count, true);
        let (mut ours, mut theirs, mut inflated) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..args.batches {
            ours.push(timed(count, || read_ours(&plain, None))?);
            theirs.push(timed(count, || read_theirs(&plain))?);
            inflated.push(timed(count, || read_ours(&compressed, Some(Deflate::default())))?);
        }
        let mut ratios: Vec<_> = ours.iter().zip(&theirs).map(|(&ours, &theirs)| ours as f64 / theirs as f64).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ratio = ratios[ratios.len() / 2];
        let (ours, theirs, inflated) = (Figures::new(ours), Figures::new(theirs), Figures::new(inflated));
        println!("{size:>8}  {ours}  {theirs}  {ratio:>6.2}  {inflated}");
    }
    Ok(())
}

/// Nanoseconds per message, of which `read` must see `count`.
fn timed(count: usize, read: impl FnOnce() -> usize) -> Result<u64> {
    let began = Instant::now();
    let seen = read();
    let took_ns = began.elapsed().as_nanos() as u64;
    ensure!(seen == count, "{seen} messages of {count} were read");
    Ok(took_ns / count as u64)
}

/// What a client sends: binary messages of words.
fn stream(size: usize, count: usize, compressed: bool) -> Vec<u8> {
    let words = b"a message like many others, with words that come again and again, and 0123456789 ";
    let payload: Vec<u8> = words.iter().copied().cycle().take(size).collect();
    let deflate = compressed.then(Deflate::default);
    let mut frame = BytesMut::new();
    Encoder::new(deflate).with_threshold(0).encode(Kind::Binary, &payload, &mut frame);
    let (header, length) = FrameHeader::parse(&frame, compressed).expect("our own frame").expect("all of it");
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut body = frame[length..].to_vec();
    apply_mask(&mut body, mask, 0);
    let mut masked = Vec::new();
    FrameHeader { mask: Some(mask), opcode: Opcode::Binary, ..header }.encode(&mut masked);
    masked.extend(body);
    masked.repeat(count)
}

fn read_ours(stream: &[u8], deflate: Option<Deflate>) -> usize {
    let mut decoder = Decoder::new(1 << 20).with_deflate(deflate);
    let mut messages = 0;
    for mut input in stream.chunks(READ) {
        while let Ok(Some(event)) = decoder.next(&mut input) {
            messages += usize::from(matches!(black_box(event), Event::Message { .. }));
        }
    }
    messages
}

fn read_theirs(stream: &[u8]) -> usize {
    let mut server = WebSocket::from_raw_socket(Socket(stream), Role::Server, None);
    let mut messages = 0;
    while let Ok(message) = server.read() {
        messages += usize::from(black_box(message).is_binary());
    }
    messages
}

/// Gives what is in memory, up to [`READ`] bytes at a time.
struct Socket<'a>(&'a [u8]);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(READ);
        self.0.read(&mut buffer[..most])
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
