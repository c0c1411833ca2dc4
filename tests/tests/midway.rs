//! Sessions that move in the middle of everything: half a frame, half a message, half a compressed one; closed windows and
//! full queues; data that nobody has acknowledged; rough links; clients whose TCP is not Linux's. Contents are compared.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use ringsteer::config::Mode;
use ringsteer_tests::{
    client::{Dial, Login, Message, Shape, open},
    fleet::{Fleet, Options},
    lab::{
        Family, Host, Lab,
        rough::{RoughLink, Roughness},
        temper::{self, Temper},
    },
    on_each_family, on_each_family_and_in_each_mode,
    rounds::Rounds,
    seed,
};

on_each_family!(
    half_of_anything_arrives_whole,
    closed_windows_and_full_queues_move,
    what_nobody_has_acknowledged_is_sent_by_the_next_owner,
);
on_each_family_and_in_each_mode!(every_temper_talks_over_a_rough_link_while_the_ring_changes);

const NODES: usize = 3;

/// How long a thing may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// What ends a flushed piece of deflate, and is left out of messages (RFC 7692).
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A websocket client that says byte by byte what the test wants.
struct Client {
    user: String,
    stream: TcpStream,
    port: u16,
    deflate: bool,
}

/// What a client says before a move and after it, and what it then hears.
struct Halves {
    name: &'static str,
    before: Vec<u8>,
    after: Vec<u8>,
    answers: Vec<(u8, Vec<u8>)>,
}

/// A connection as a host's kernel shows it.
#[derive(Debug)]
struct Shown {
    /// Bytes not acknowledged, or not sent.
    send_queue: usize,
    /// Whether it asks again and again if the other end's window is open.
    is_shut_out: bool,
}

impl Client {
    /// Connects a user by this temper, which the host has.
    fn open(fleet: &Fleet<'_>, host: &Host, temper: &Temper, user: &str, deflate: bool) -> Result<Self> {
        let address: SocketAddr = fleet.websocket();
        let stream = host.block_on(async {
            let stream = Dial::new(address).max_segment(temper.max_segment).connect().await?;
            // This shape offers compression, and the other does not.
            let shape = if deflate { Shape::Wasm } else { Shape::Native };
            let connection = open(stream, &[&Login::new(user).request(shape)]).await?.connection()?;
            anyhow::Ok(connection.into_stream().into_std()?)
        })?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let port = stream.local_addr()?.port();
        Ok(Self { user: user.to_owned(), stream, port, deflate })
    }

    /// The next message or control frame.
    fn hear(&mut self) -> Result<(u8, Vec<u8>)> {
        let (mut message, mut compressed) = ((CONTINUATION, Vec::new()), false);
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            let (opcode, is_last) = (head[0] & 0x0f, head[0] & 0x80 != 0);
            let mut length = [0; 8];
            let bytes = match head[1] {
                126 => 2,
                127 => 8,
                short => {
                    length[7] = short;
                    0
                }
            };
            self.stream.read_exact(&mut length[8 - bytes..])?;
            let mut payload = vec![0; u64::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut payload)?;
            if opcode > BINARY {
                return Ok((opcode, payload));
            }
            if opcode != CONTINUATION {
                (message.0, compressed) = (opcode, head[0] & 0x40 != 0);
            }
            message.1.extend(payload);
            if is_last {
                let payload = if compressed { inflate(&message.1)? } else { message.1 };
                return Ok((message.0, payload));
            }
        }
    }
}

/// A frame of a client.
fn frame(random: &mut fastrand::Rng, is_last: bool, is_compressed: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![u8::from(is_last) << 7 | u8::from(is_compressed) << 6 | opcode];
    match payload.len() {
        length @ ..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = random.u32(..).to_be_bytes();
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A whole message.
fn whole(random: &mut fastrand::Rng, payload: &[u8]) -> Vec<u8> {
    frame(random, true, false, BINARY, payload)
}

/// Bytes that differ everywhere.
fn noise(random: &mut fastrand::Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

fn deflate(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() + 1024);
    Compress::new(Compression::default(), false).compress_vec(bytes, &mut out, FlushCompress::Sync)?;
    ensure!(out.ends_with(&FLUSHED), "not flushed");
    out.truncate(out.len() - FLUSHED.len());
    Ok(out)
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(1 << 20);
    Decompress::new(false).decompress_vec(&[bytes, &FLUSHED].concat(), &mut out, FlushDecompress::Sync)?;
    Ok(out)
}

/// Everything that a client without compression can be in the middle of; cut by chance.
fn plain_halves(random: &mut fastrand::Rng) -> Vec<Halves> {
    let cut = |name, bytes: Vec<u8>, from: usize, to: usize, answers, random: &mut fastrand::Rng| {
        let at = random.usize(from..to);
        Halves { name, before: bytes[..at].to_vec(), after: bytes[at..].to_vec(), answers }
    };
    let long = noise(random, 40_000);
    let bytes = whole(random, &long);
    let header = cut("half a header", bytes.clone(), 1, 8, vec![(BINARY, long.clone())], random);
    let payload = cut("half a payload", bytes, 8, 40_000, vec![(BINARY, long)], random);

    let parts: Vec<Vec<u8>> = [1_000, 0, 20_000, 7].map(|length| noise(random, length)).into();
    let ping = noise(random, 100);
    let all = parts.concat();
    let fragments: Vec<Vec<u8>> = parts
        .iter()
        .enumerate()
        .map(|(index, part)| frame(random, index == 3, false, if index == 0 { BINARY } else { CONTINUATION }, part))
        .collect();
    let between = random.usize(1..4);
    let fragmented = Halves {
        name: "between two fragments",
        before: fragments[..between].concat(),
        after: fragments[between..].concat(),
        answers: vec![(BINARY, all.clone())],
    };
    // A ping may stand between fragments; it is answered at once.
    let ping_frame = frame(random, true, false, PING, &ping);
    let pinged = [fragments[0].clone(), ping_frame, fragments[1..].concat()].concat();
    let answers = vec![(PONG, ping), (BINARY, all)];
    let pinged = cut("fragments and a ping", pinged, 1, 21_000, answers, random);

    // The move comes in the middle of a character.
    let text = "☂".repeat(5_000).into_bytes();
    let at = random.usize(1..5_000) * 3 + random.usize(1..3);
    let character = Halves {
        name: "half a character",
        before: frame(random, false, false, TEXT, &text[..at]),
        after: frame(random, true, false, CONTINUATION, &text[at..]),
        answers: vec![(TEXT, text)],
    };
    vec![header, payload, fragmented, pinged, character]
}

/// The same for a client that compresses.
fn compressed_halves(random: &mut fastrand::Rng) -> Result<Vec<Halves>> {
    // It can be compressed, and differs everywhere all the same.
    let text: Vec<u8> = (0..45_000).map(|_| b'a' + random.u8(..16)).collect();
    let compressed = deflate(&text)?;
    let bytes = frame(random, true, true, TEXT, &compressed);
    let at = random.usize(1..bytes.len());
    let half = Halves {
        name: "half a compressed message",
        before: bytes[..at].to_vec(),
        after: bytes[at..].to_vec(),
        answers: vec![(TEXT, text.clone())],
    };
    let at = random.usize(1..compressed.len());
    // A message whole before, half another: what the first one left behind must not matter to the second.
    let fragmented = Halves {
        name: "between two fragments of a compressed message",
        before: [bytes.clone(), frame(random, false, true, TEXT, &compressed[..at])].concat(),
        after: [frame(random, true, false, CONTINUATION, &compressed[at..]), bytes].concat(),
        answers: vec![(TEXT, text.clone()), (TEXT, text.clone()), (TEXT, text)],
    };
    Ok(vec![half, fragmented])
}

/// The established connection with this client's port.
fn shown(host: &Host, end: &str, port: u16) -> Result<Shown> {
    let filter = format!("{end} = :{port}");
    let text = host.command("ss", &["--no-header", "-tno", "state", "established", &filter])?;
    let line = text.lines().next().with_context(|| format!("{} has no connection with {filter}", host.name()))?;
    let send_queue = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let send_queue = send_queue.with_context(|| format!("{line} is no connection"))?;
    Ok(Shown { send_queue, is_shut_out: line.contains("timer:(persist") })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Another node than this one.
fn another(node: usize, random: &mut fastrand::Rng) -> usize {
    (node + random.usize(1..NODES)) % NODES
}

fn start(lab: &Lab, family: Family, mode: Mode) -> Result<Fleet<'_>> {
    Fleet::start(lab, &Options { ring_file: true, ..Options::in_mode(family, mode) })
}

/// The tempers that matter to a move: they decide what travels.
fn tempers() -> impl Iterator<Item = &'static Temper> {
    temper::ALL.iter().filter(|temper| !temper.ecn || temper.max_segment.is_some())
}

fn half_of_anything_arrives_whole(family: Family) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed::from_environment());
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let fleet = start(&lab, family, Mode::LateBinding)?;
    let mut rounds = Rounds::of(&fleet);
    let mut node = 0;
    rounds.send_to(&[node], &[])?;
    let mut clients = Vec::new();
    for temper in tempers() {
        temper.apply(lab.client(0))?;
        for index in 0..7 {
            let user = format!("{} {index}", temper.name).replace(' ', "-");
            clients.push(Client::open(&fleet, lab.client(0), temper, &user, index >= 5)?);
        }
    }
    let users: Vec<String> = clients.iter().map(|client| client.user.clone()).collect();
    for round in 0..4 {
        let mut halves = Vec::new();
        while halves.len() < clients.len() {
            halves.extend(plain_halves(&mut random));
            halves.extend(compressed_halves(&mut random)?);
        }
        for (client, halves) in clients.iter_mut().zip(&halves) {
            ensure!(client.deflate == halves.name.contains("compressed"));
            client.stream.write_all(&halves.before).with_context(|| format!("{}: {}", client.user, halves.name))?;
        }
        for client in &clients {
            // All that was said has arrived at the owner.
            wait_until("said", || Ok(shown(lab.client(0), "sport", client.port)?.send_queue == 0))?;
        }
        // More than one move in the middle of it.
        for _ in 0..=round % 2 {
            node = another(node, &mut random);
            rounds.send_to(&[node], &users).with_context(|| format!("round {round}"))?;
        }
        for (client, Halves { name, after, answers, .. }) in clients.iter_mut().zip(&halves) {
            let about = format!("{} in round {round}: {name}", client.user);
            client.stream.write_all(after).with_context(|| about.clone())?;
            for answer in answers {
                let heard = client.hear().with_context(|| about.clone())?;
                ensure!(heard.0 == answer.0, "{about}: {} instead of {}", heard.0, answer.0);
                let differ = heard.1.iter().zip(&answer.1).position(|(a, b)| a != b);
                ensure!(heard.1 == answer.1, "{about}: {} bytes, which differ at {differ:?}", heard.1.len());
            }
        }
    }
    Ok(())
}

/// Messages of a client that does not listen, and their length.
const UNHEARD: usize = 300;
const UNHEARD_BYTES: usize = 20_000;

fn closed_windows_and_full_queues_move(family: Family) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed::from_environment());
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let host = lab.client(0);
    // Nobody's buffers grow until they hold all that is said.
    for host in lab.nodes().iter().chain([host]) {
        host.set_sysctls(&[("net/ipv4/tcp_rmem", "4096 65536 131072"), ("net/ipv4/tcp_wmem", "4096 65536 131072")])?;
    }
    let fleet = start(&lab, family, Mode::LateBinding)?;
    let mut rounds = Rounds::of(&fleet);
    let mut node = 0;
    rounds.send_to(&[node], &[])?;
    let messages: Vec<Vec<u8>> = (0..UNHEARD).map(|_| noise(&mut random, UNHEARD_BYTES)).collect();
    let mut clients = Vec::new();
    for temper in [&temper::PLAIN, &temper::ALL[1], &temper::ALL[6]] {
        temper.apply(host)?;
        clients.push(Client::open(&fleet, host, temper, &temper.name.replace(' ', "-"), false)?);
    }
    let users: Vec<String> = clients.iter().map(|client| client.user.clone()).collect();
    let bytes: Vec<u8> = messages.iter().flat_map(|message| whole(&mut random, message)).collect();
    let bytes = Arc::new(bytes);
    let writers = clients
        .iter()
        .map(|client| {
            let (mut stream, bytes) = (client.stream.try_clone()?, Arc::clone(&bytes));
            // It is shut out for as long as the moves take.
            stream.set_write_timeout(None)?;
            Ok(thread::spawn(move || stream.write_all(&bytes)))
        })
        .collect::<Result<Vec<_>>>()?;
    // Not more often: whoever says nothing for a minute is sent away.
    let moved = (0..3).try_for_each(|_| {
        for client in &clients {
            // Neither end takes anything any more: both queues are full at both ends.
            let ends =
                || anyhow::Ok([shown(lab.node(node), "dport", client.port)?, shown(host, "sport", client.port)?]);
            wait_until("shut out", || Ok(ends()?.iter().all(|end| end.is_shut_out)))
                .with_context(|| format!("{} at node {node}, {:?}", client.user, ends()))?;
        }
        ensure!(writers.iter().all(|writer| !writer.is_finished()), "too little was said");
        node = another(node, &mut random);
        rounds.send_to(&[node], &users)
    });
    if let Err(error) = moved {
        // The writers would write for ever.
        clients.iter().try_for_each(|client| client.stream.shutdown(Shutdown::Both))?;
        return Err(error);
    }
    for client in &mut clients {
        for (index, message) in messages.iter().enumerate() {
            let heard = client.hear().with_context(|| format!("{}, message {index}", client.user))?;
            ensure!(heard.0 == BINARY && heard.1 == *message, "{}: message {index} differs", client.user);
        }
    }
    for writer in writers {
        let Ok(written) = writer.join() else { bail!("a writer has panicked") };
        written?;
    }
    Ok(())
}

fn what_nobody_has_acknowledged_is_sent_by_the_next_owner(family: Family) -> Result<()> {
    let seed = seed::from_environment();
    let mut random = fastrand::Rng::with_seed(seed);
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let fleet = start(&lab, family, Mode::LateBinding)?;
    let mut rounds = Rounds::of(&fleet);
    let mut node = 0;
    rounds.send_to(&[node], &[])?;
    let host = lab.client(0);
    let mut clients = Vec::new();
    for temper in tempers() {
        temper.apply(host)?;
        clients.push(Client::open(&fleet, host, temper, &temper.name.replace(' ', "-"), false)?);
    }
    let users: Vec<String> = clients.iter().map(|client| client.user.clone()).collect();
    for round in 0..3 {
        // Nothing reaches the client, though what it says arrives.
        let deaf = Roughness { loss_permille: 1000, ..Roughness::SMOOTH };
        let link = RoughLink::between(&lab, host, Roughness::SMOOTH, deaf, seed)?;
        let message = noise(&mut random, 5_000);
        for client in &mut clients {
            client.stream.write_all(&whole(&mut random, &message))?;
        }
        for client in &clients {
            // The whole echo, with its header.
            let is_sent = || Ok(shown(lab.node(node), "dport", client.port)?.send_queue == message.len() + 4);
            wait_until("echoed", is_sent).with_context(|| client.user.clone())?;
        }
        for _ in 0..2 {
            node = another(node, &mut random);
            rounds.send_to(&[node], &users).with_context(|| format!("round {round}"))?;
        }
        drop(link);
        for client in &mut clients {
            let heard = client.hear().with_context(|| format!("{} in round {round}", client.user))?;
            ensure!(heard == (BINARY, message.clone()), "{} in round {round}: another message", client.user);
        }
    }
    Ok(())
}

/// Says things to its gateway, each answered by an echo, until told to stop.
async fn talk(
    stream: Dial,
    user: String,
    talking: Arc<AtomicBool>,
    said: Arc<AtomicU64>,
    mut random: fastrand::Rng,
) -> Result<()> {
    let stream = stream.connect().await?;
    let mut connection = open(stream, &[&Login::new(&user).request(Shape::Native)]).await?.connection()?;
    said.fetch_add(1, Ordering::SeqCst);
    while talking.load(Ordering::SeqCst) {
        let most = [10, 1_000, 50_000][random.usize(..3)];
        let length = random.usize(..most);
        let message = Message::binary(noise(&mut random, length));
        connection.echo(message).await.with_context(|| user.clone())?;
        said.fetch_add(1, Ordering::SeqCst);
    }
    connection.close().await.with_context(|| format!("{user} says goodbye"))
}

fn every_temper_talks_over_a_rough_link_while_the_ring_changes(family: Family, mode: Mode) -> Result<()> {
    let seed = seed::from_environment();
    let mut random = fastrand::Rng::with_seed(seed);
    let lab = Lab::builder().nodes(NODES).clients(temper::ALL.len()).build()?;
    let fleet = start(&lab, family, mode)?;
    let mut rounds = Rounds::of(&fleet);
    let mut node = 0;
    rounds.send_to(&[node], &[])?;
    let talking = Arc::new(AtomicBool::new(true));
    let (mut links, mut talkers, mut users) = (Vec::new(), Vec::new(), Vec::new());
    for (host, temper) in lab.clients().iter().zip(&temper::ALL) {
        temper.apply(host)?;
        let rough = Roughness::UNCLEAN;
        links.push(RoughLink::between(&lab, host, rough, rough, random.u64(..))?);
        let user = temper.name.replace([' ', ','], "-");
        let said = Arc::new(AtomicU64::new(0));
        let dial = Dial::new(fleet.websocket()).max_segment(temper.max_segment);
        let talker = talk(dial, user.clone(), talking.clone(), said.clone(), random.fork());
        talkers.push((user.clone(), said, host.spawn(talker)?));
        users.push(user);
    }
    let moved = (0..8).try_for_each(|_| {
        for (user, said, talker) in &talkers {
            // Everybody has got on since the last move.
            let before = said.load(Ordering::SeqCst);
            wait_until("says something", || {
                ensure!(!talker.is_finished(), "it has ended");
                Ok(said.load(Ordering::SeqCst) > before)
            })
            .with_context(|| user.clone())?;
        }
        node = another(node, &mut random);
        rounds.send_to(&[node], &users)
    });
    talking.store(false, Ordering::SeqCst);
    for (.., talker) in talkers {
        lab.router().block_on(talker)??;
    }
    moved
}
