//! Connections taken out of one node's kernel and put into another's, under a client that is a kernel of its own and
//! knows nothing of it. There is no steering here: the router's routes stand for it.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{MsgFlags, recv, send};
use ringsteer_tcp_repair::{Dump, Error, Kept, Options, put_in, take_out};
use ringsteer_tests::{
    client::Dial,
    lab::{
        Family, Lab,
        rough::{RoughLink, Roughness},
        temper::{self, Temper},
    },
    on_each_family, seed,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const PORT: u16 = 10_001;

/// How long a thing may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

on_each_family!(
    an_echo_moves_a_hundred_times_over_a_rough_link,
    every_temper_survives_and_keeps_what_it_agreed_on,
    both_queues_travel_with_what_was_never_sent,
    what_was_sent_and_not_acknowledged_travels,
    a_closed_receive_window_opens_on_the_other_side,
    socket_options_travel,
    a_connection_that_is_taken_out_is_deaf_and_can_be_resumed,
    a_connection_that_went_on_is_not_given_up,
    nobody_can_have_it_twice,
);

/// A connection between a client host and whichever node has it.
struct Moving<'lab> {
    lab: &'lab Lab,
    family: Family,
    node: usize,
    socket: OwnedFd,
}

impl<'lab> Moving<'lab> {
    /// A new connection, to node 0; and the client's end of it, with nothing to drive it.
    fn connect(lab: &'lab Lab, family: Family, temper: &Temper) -> Result<(Self, std::net::TcpStream)> {
        lab.route_virtual_to(0)?;
        let address = SocketAddr::new(lab.virtual_address(family), PORT);
        let listener = lab.node(0).block_on(async move { TcpListener::bind(address).await?.into_std() })?;
        let client = lab.client(0).block_on(async {
            anyhow::Ok(Dial::new(address).max_segment(temper.max_segment).connect().await?.into_std()?)
        })?;
        client.set_nonblocking(false)?;
        listener.set_nonblocking(false)?;
        let (socket, _) = listener.accept()?;
        socket.set_nonblocking(true)?;
        Ok((Self { lab, family, node: 0, socket: socket.into() }, client))
    }

    /// Lets nothing through to any node.
    fn hold(&self) -> Result<()> {
        let address = format!("{}/{}", self.lab.virtual_address(self.family), self.family.bits());
        self.lab.router().command("ip", &["route", "replace", "blackhole", &address]).map(drop)
    }

    /// Moves it to the other node, with what was read and not used, and gives what it was.
    fn over(self, read: &[u8]) -> Result<(Self, Dump)> {
        self.hold()?;
        self.over_held(read)
    }

    /// The same when nothing gets through already.
    fn over_held(self, read: &[u8]) -> Result<(Self, Dump)> {
        let Self { lab, family, node, socket } = self;
        let node = 1 - node;
        let (taken, mut dump) = take_out(socket)?;
        dump.put_back(read)?;
        let put = lab.node(node).run(|| put_in(&dump))?;
        drop(taken.give_up()?);
        lab.route_virtual_to(node)?;
        let live = put.activate()?;
        ensure!(live.unsent.is_empty(), "{} bytes did not fit", live.unsent.len());
        Ok((Self { lab, family, node, socket: live.socket }, dump))
    }

    /// Reads what is there.
    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty()) {
                Ok(0) => anyhow::bail!("the client closed"),
                Ok(read) => return Ok(read),
                Err(nix::Error::EAGAIN) => self.wait(nix::poll::PollFlags::POLLIN)?,
                Err(error) => return Err(error).context("reading on the node"),
            }
        }
    }

    fn read_all(&self, length: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while all.len() < length {
            let read = self.read(&mut buffer)?;
            all.extend_from_slice(&buffer[..read]);
        }
        Ok(all)
    }

    /// Writes what fits at once, and tells how much that is.
    fn write_some(&self, bytes: &[u8]) -> Result<usize> {
        match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Err(nix::Error::EAGAIN) => Ok(0),
            sent => sent.context("writing on the node"),
        }
    }

    fn write_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let sent = self.write_some(bytes)?;
            if sent == 0 {
                self.wait(nix::poll::PollFlags::POLLOUT)?;
            }
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    fn wait(&self, what: nix::poll::PollFlags) -> Result<()> {
        use std::os::fd::AsFd as _;
        let timeout = nix::poll::PollTimeout::try_from(PATIENCE).expect("a short time");
        let ready = nix::poll::poll(&mut [nix::poll::PollFd::new(self.socket.as_fd(), what)], timeout)?;
        ensure!(ready > 0, "nothing happened for {PATIENCE:?}");
        Ok(())
    }
}

/// Bytes that differ everywhere, by a seed.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// A client that sends everything, gets it back, and says what it got; on its own host.
fn converse(lab: &Lab, client: std::net::TcpStream, all: Vec<u8>) -> Result<JoinHandle<io::Result<Vec<u8>>>> {
    lab.client(0).spawn(async move {
        client.set_nonblocking(true)?;
        let (mut reader, mut writer) = TcpStream::from_std(client)?.into_split();
        let length = all.len();
        let writing = tokio::spawn(async move {
            writer.write_all(&all).await?;
            // Kept until everything is back.
            io::Result::Ok(writer)
        });
        let mut back = vec![0; length];
        reader.read_exact(&mut back).await?;
        let _writer = writing.await??;
        Ok(back)
    })
}

/// Echoes so many bytes on whichever node has the connection, which moves so many times meanwhile, evenly, with the bytes
/// in hand each time.
fn echo<'lab>(mut moving: Moving<'lab>, length: usize, moves: usize) -> Result<(Moving<'lab>, Vec<Dump>)> {
    let mut dumps = Vec::new();
    let mut buffer = vec![0; 1 << 14];
    let (mut echoed, mut read) = (0, 0);
    while echoed < length {
        let in_hand = moving.read(&mut buffer)?;
        if dumps.len() < moves && echoed >= (dumps.len() + 1) * length / (moves + 2) {
            let (moved, dump) = moving.over(&buffer[..in_hand])?;
            moving = moved;
            dumps.push(dump);
            continue;
        }
        read += in_hand;
        moving.write_all(&buffer[..in_hand])?;
        echoed += in_hand;
    }
    ensure!(read == length && dumps.len() == moves, "{read} bytes, {} moves", dumps.len());
    Ok((moving, dumps))
}

fn same(got: &[u8], expected: &[u8]) -> Result<()> {
    ensure!(got.len() == expected.len(), "{} bytes instead of {}", got.len(), expected.len());
    let first = got.iter().zip(expected).position(|(a, b)| a != b);
    ensure!(first.is_none(), "the bytes differ from {first:?} on");
    Ok(())
}

fn an_echo_moves_a_hundred_times_over_a_rough_link(family: Family) -> Result<()> {
    let seed = seed::from_environment();
    let lab = Lab::builder().nodes(2).build()?;
    let rough = Roughness::UNCLEAN;
    let _link = RoughLink::between(&lab, lab.client(0), rough, rough, seed)?;
    let (moving, client) = Moving::connect(&lab, family, &temper::PLAIN)?;
    let all = bytes(seed, 4 << 20);
    let conversation = converse(&lab, client, all.clone())?;
    let (_moving, dumps) = echo(moving, all.len(), 100)?;
    let back = lab.router().block_on(async { tokio::time::timeout(PATIENCE, conversation).await })???;
    same(&back, &all)?;
    // They moved in the middle of things.
    ensure!(dumps.iter().any(|dump| !dump.receive.bytes.is_empty()), "no receive queue was ever full");
    ensure!(dumps.iter().any(|dump| !dump.send.bytes.is_empty()), "no send queue was ever full");
    Ok(())
}

fn every_temper_survives_and_keeps_what_it_agreed_on(family: Family) -> Result<()> {
    let seed = seed::from_environment();
    let lab = Lab::builder().nodes(2).build()?;
    for temper in &temper::ALL {
        temper.apply(lab.client(0))?;
        let (moving, client) = Moving::connect(&lab, family, temper)?;
        let all = bytes(seed, 1 << 20);
        let conversation = converse(&lab, client, all.clone())?;
        let (_moving, dumps) = echo(moving, all.len(), 6).with_context(|| temper.name)?;
        let back = lab.router().block_on(async { tokio::time::timeout(PATIENCE, conversation).await })???;
        same(&back, &all).with_context(|| temper.name)?;
        let Options { mss, timestamps, sack, send_scale, receive_scale } = dumps[0].options;
        ensure!((timestamps, sack) == (temper.timestamps, temper.sack), "{}: {:?}", temper.name, dumps[0].options);
        ensure!((send_scale > 0 && receive_scale > 0) == temper.window_scaling, "{}", temper.name);
        ensure!(mss == u32::from(temper.max_segment.unwrap_or(family.segment_max())), "{}: MSS {mss}", temper.name);
        for dump in &dumps {
            ensure!(
                dump.options == dumps[0].options,
                "{}: {:?}, then {:?}",
                temper.name,
                dumps[0].options,
                dump.options
            );
        }
    }
    Ok(())
}

fn both_queues_travel_with_what_was_never_sent(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let (moving, client) = Moving::connect(&lab, family, &temper::PLAIN)?;
    // More than the client takes without reading.
    let (to_client, to_node) = (bytes(1, 8 << 20), bytes(2, 50_000));
    let mut written = 0;
    loop {
        let fits = moving.write_some(&to_client[written..])?;
        written += fits;
        if fits == 0 && settled(&client, &moving)? {
            break;
        }
    }
    io::Write::write_all(&mut &client, &to_node)?;
    wait_until(|| Ok(queued(&client, libc::TIOCOUTQ)? == 0))?;

    let (moving, dump) = moving.over(b"read too early, ")?;
    let expected = [b"read too early, ".as_slice(), &to_node].concat();
    same(&dump.receive.bytes, &expected)?;
    ensure!(dump.send.unsent > 0, "nothing was unsent: {} bytes in the queue", dump.send.bytes.len());
    // And back, with all of that in the queues that it has just been put into.
    let (moving, dump) = moving.over(b"")?;
    same(&dump.receive.bytes, &expected)?;
    same(&moving.read_all(expected.len())?, &expected)?;
    let mut got = vec![0; written];
    client.set_read_timeout(Some(PATIENCE))?;
    io::Read::read_exact(&mut &client, &mut got)?;
    same(&got, &to_client[..written])
}

/// Whether nothing moves any more although there is something to send: the client's window is closed.
fn settled(client: &std::net::TcpStream, moving: &Moving<'_>) -> Result<bool> {
    let state = || anyhow::Ok((queued(client, libc::FIONREAD)?, queued(&moving.socket, 0x894b)?));
    let before = state()?;
    std::thread::sleep(Duration::from_millis(20));
    Ok(before.1 > 0 && state()? == before)
}

fn what_was_sent_and_not_acknowledged_travels(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let (moving, client) = Moving::connect(&lab, family, &temper::PLAIN)?;
    // The client gets it, but no acknowledgement comes back.
    moving.hold()?;
    let all = bytes(3, 10_000);
    moving.write_all(&all)?;
    let mut got = vec![0; all.len()];
    client.set_read_timeout(Some(PATIENCE))?;
    io::Read::read_exact(&mut &client, &mut got)?;
    same(&got, &all)?;
    let (moving, dump) = moving.over_held(b"")?;
    same(&dump.send.bytes, &all)?;
    ensure!(dump.send.unsent == 0);
    // The client acknowledges it to the new node, by which it is known to be the same connection, and gets nothing twice.
    wait_until(|| Ok(queued(&moving.socket, libc::TIOCOUTQ)? == 0))?;
    moving.write_all(b"and more")?;
    let mut got = [0; 8];
    io::Read::read_exact(&mut &client, &mut got)?;
    same(&got, b"and more")
}

fn a_closed_receive_window_opens_on_the_other_side(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let (moving, client) = Moving::connect(&lab, family, &temper::PLAIN)?;
    let all = bytes(4, 16 << 20);
    let conversation = {
        let all = all.clone();
        lab.client(0).spawn(async move {
            client.set_nonblocking(true)?;
            let mut client = TcpStream::from_std(client)?;
            client.write_all(&all).await?;
            io::Result::Ok(client)
        })?
    };
    // Nobody reads until the window is closed.
    let full = || {
        let before = queued(&moving.socket, libc::FIONREAD)?;
        std::thread::sleep(Duration::from_millis(20));
        Ok(before > 100_000 && queued(&moving.socket, libc::FIONREAD)? == before)
    };
    wait_until(full)?;
    let (moving, dump) = moving.over(b"")?;
    same(&moving.read_all(all.len())?, &all)?;
    ensure!(dump.receive.bytes.len() > 100_000);
    lab.router().block_on(async { tokio::time::timeout(PATIENCE, conversation).await })???;
    Ok(())
}

fn socket_options_travel(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let (moving, _client) = Moving::connect(&lab, family, &temper::PLAIN)?;
    let socket = socket2::SockRef::from(&moving.socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(77))
        .with_interval(Duration::from_secs(7))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(33)))?;
    socket.set_recv_buffer_size(60_000)?;
    let (moving, before) = moving.over(b"")?;
    let (_moving, after) = moving.over(b"")?;
    ensure!(before.settings.no_delay && before.settings.keepalive, "{:?}", before.settings);
    ensure!(before.settings.keepalive_idle_s == 77 && before.settings.user_timeout_ms == 33_000);
    ensure!(before.settings.buffers_fixed == 2 && before.settings.receive_buffer == 120_000, "{:?}", before.settings);
    let mut expected = before.settings.clone();
    // Not fixed: what filling it takes stays.
    expected.send_buffer = after.settings.send_buffer;
    ensure!(after.settings == expected, "{:?}, then {:?}", before.settings, after.settings);
    Ok(())
}

fn a_connection_that_is_taken_out_is_deaf_and_can_be_resumed(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let (moving, client) = Moving::connect(&lab, family, &temper::PLAIN)?;
    let (taken, dump) = take_out(moving.socket)?;
    io::Write::write_all(&mut &client, b"hello")?;
    // The client has sent it, and sends it again, and nobody answers.
    wait_until(|| Ok(retransmits(&client)? > 0))?;
    ensure!(queued(&client, libc::TIOCOUTQ)? == 5 && queued(&taken, libc::FIONREAD)? == 0);
    let socket = taken.resume()?;
    let moving = Moving { socket, ..moving };
    same(&moving.read_all(5)?, b"hello")?;
    // It can be taken out again, and has gone on since.
    let (_, later) = take_out(moving.socket)?;
    ensure!(later.receive.next == dump.receive.next.wrapping_add(5) && later.options == dump.options);
    Ok(())
}

fn a_connection_that_went_on_is_not_given_up(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let (moving, client) = Moving::connect(&lab, family, &temper::PLAIN)?;
    let (taken, _) = take_out(moving.socket)?;
    // As if a segment had been past the point where the socket is shut off.
    socket2::SockRef::from(&taken).detach_filter()?;
    io::Write::write_all(&mut &client, b"late")?;
    wait_until(|| Ok(queued(&taken, libc::FIONREAD)? == 4))?;
    let Kept { taken, error } = taken.give_up().err().context("it was given up")?;
    ensure!(matches!(error, Error::Changed) && error.may_pass(), "{error}");
    let (_, dump) = take_out(taken.resume()?)?;
    same(&dump.receive.bytes, b"late")
}

fn nobody_can_have_it_twice(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let (moving, client) = Moving::connect(&lab, family, &temper::PLAIN)?;
    let (taken, dump) = take_out(moving.socket)?;
    let error = lab.node(0).run(|| put_in(&dump)).err().context("put in beside itself")?;
    ensure!(matches!(error, Error::Taken { .. }) && error.may_pass(), "{error}");
    // A host without the address.
    let error = lab.client(0).run(|| put_in(&dump)).err().context("put in where it cannot be")?;
    ensure!(matches!(error, Error::NoAddress(_)) && !error.may_pass(), "{error}");
    // What was put in and given up again leaves nothing and says nothing.
    drop(lab.node(1).run(|| put_in(&dump))?);
    drop(lab.node(1).run(|| put_in(&dump))?);
    let moving = Moving { socket: taken.resume()?, ..moving };
    io::Write::write_all(&mut &client, b"still there")?;
    same(&moving.read_all(11)?, b"still there")
}

/// Bytes in a queue of a socket.
fn queued(socket: &impl std::os::fd::AsFd, question: libc::c_ulong) -> Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while the socket is borrowed, and these questions are answered with one int.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), question, &raw mut bytes) };
    ensure!(result == 0, "asking for a queue: {}", io::Error::last_os_error());
    Ok(bytes.try_into()?)
}

/// Segments that a socket has sent again since it last heard anything new.
fn retransmits(socket: &impl std::os::fd::AsFd) -> Result<u8> {
    let mut info = [0u8; 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: there is room for as much as we say.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, "asking for the state: {}", io::Error::last_os_error());
    Ok(info[2])
}

/// Waits for something that the kernel has no event for.
fn wait_until(holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "it did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
