//! Live connections that go from node to node through the virtual address, with the agents' help and without a gateway:
//! an echo on whichever node has the socket, under a client that is a kernel of its own and notices nothing.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv, send},
};
use ringsteer::{
    control::{self, FlowEntry, FlowFilter, FlowMove, MoveClient, MoveOutcome, MoveStep, Moves},
    ring::MemberNumber,
};
use ringsteer_tcp_repair::{GivenUp, put_in, take_out};
use ringsteer_tests::{
    client::Dial,
    fleet::{Fleet, Options},
    lab::{
        Family, Lab,
        rough::{RoughLink, Roughness},
        temper::{self, Temper},
    },
    on_each_family, seed,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

/// How long a thing may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

on_each_family!(
    a_stream_goes_round_a_hundred_times_over_a_rough_link,
    every_temper_goes_round,
    edges_are_told_and_the_old_node_forgets,
    what_is_held_nobody_answers,
    what_comes_during_a_move_is_not_lost,
    an_edge_that_could_not_be_told_is_told_later_by_the_next_agent,
    a_connection_on_reused_ports_does_not_follow_the_earlier_one,
    nor_does_what_is_said_late_of_that_one_touch_it,
    a_step_that_is_not_due_changes_nothing,
);

/// Agents without gateways, and a listener on each node in their place.
struct Ground<'lab> {
    fleet: Fleet<'lab>,
    listeners: Vec<TcpListener>,
    /// What is left on a node of a client's connection that has moved on, until it comes back.
    remains: RefCell<HashMap<(usize, SocketAddr), GivenUp>>,
}

/// What came of moving a connection.
enum Tried<T> {
    Moved(T),
    Stayed(T),
}

/// A connection, on whichever node has it.
struct Moving<'a> {
    ground: &'a Ground<'a>,
    node: usize,
    socket: OwnedFd,
    client: SocketAddr,
    /// How many times it has moved.
    count: u16,
    /// What the client acknowledged first; known once the socket was looked into.
    first_ack: Option<u32>,
}

impl<'lab> Ground<'lab> {
    fn prepare(lab: &'lab Lab, family: Family) -> Result<Self> {
        let fleet = Fleet::start(lab, &Options { gateways: false, ..Options::all(family) })?;
        let listen = |node: &ringsteer_tests::lab::Host| node.run(|| TcpListener::bind(fleet.websocket()));
        let listeners = lab.nodes().iter().map(listen).collect::<io::Result<Vec<_>>>()?;
        listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
        Ok(Self { fleet, listeners, remains: RefCell::default() })
    }

    /// A new connection whose first segment is `first`, and the client's end of it.
    fn connect(&self, temper: &Temper, first: &[u8]) -> Result<(Moving<'_>, std::net::TcpStream)> {
        self.dial(Dial::new(self.fleet.websocket()).max_segment(temper.max_segment), first)
    }

    /// The same by that way of dialling.
    fn dial(&self, dial: Dial, first: &[u8]) -> Result<(Moving<'_>, std::net::TcpStream)> {
        let client = self.fleet.lab.client(0).block_on(async {
            let mut stream = dial.connect().await?;
            stream.write_all(first).await?;
            anyhow::Ok(stream.into_std()?)
        })?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (node, listener) in self.listeners.iter().enumerate() {
                match listener.accept() {
                    Ok((socket, from)) => {
                        ensure!(from == client.local_addr()?, "{from} has connected");
                        socket.set_nonblocking(true)?;
                        let socket = socket.into();
                        let moving = Moving { ground: self, node, socket, client: from, count: 0, first_ack: None };
                        return Ok((moving, client));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ensure!(Instant::now() < deadline, "nobody has accepted the connection");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Has the agent of a node carry out a step, for a connection of which is not known which one it is.
    fn step(&self, node: usize, step: MoveStep, client: SocketAddr, count: u16) -> Result<MoveOutcome> {
        self.step_for(node, step, FlowMove { client, service: self.fleet.websocket(), count, first_ack: 0 })
    }

    fn step_for(&self, node: usize, step: MoveStep, flow: FlowMove) -> Result<MoveOutcome> {
        let flows = vec![flow];
        let socket = self.fleet.socket(node);
        let outcomes = block_on(async { MoveClient::new(socket).ask(Moves { step, flows, promise: None }).await })?;
        let [outcome] = outcomes[..] else { bail!("{} outcomes", outcomes.len()) };
        Ok(outcome)
    }

    fn done(&self, node: usize, step: MoveStep, client: SocketAddr, count: u16) -> Result<()> {
        let outcome = self.step(node, step, client, count)?;
        ensure!(outcome == MoveOutcome::Done, "{step:?} on node {node}: {outcome:?}");
        Ok(())
    }

    fn done_for(&self, node: usize, step: MoveStep, flow: FlowMove) -> Result<()> {
        let outcome = self.step_for(node, step, flow)?;
        ensure!(outcome == MoveOutcome::Done, "{step:?} on node {node} for {flow:?}: {outcome:?}");
        Ok(())
    }

    /// The flow of a client at a node.
    fn flow(&self, node: usize, client: SocketAddr) -> Result<Option<FlowEntry>> {
        let (socket, mut found) = (self.fleet.socket(node), Vec::new());
        let filter = FlowFilter { client: Some(client.ip()), ..FlowFilter::default() };
        block_on(async { control::flows(&socket, filter, |flow| found.push(flow)).await })?;
        Ok(found.into_iter().find(|flow| flow.client == client))
    }

    fn counter(&self, node: usize, name: &str) -> Result<u64> {
        block_on(self.fleet.counter(node, name))
    }

    /// Nothing that would have ended a connection has happened anywhere.
    fn assert_no_resets(&self) -> Result<()> {
        for node in 0..self.listeners.len() {
            for counter in ["rst_unknown_flow", "rst_before_data", "rst_node_gone", "drop_hops", "drop_unknown_node"] {
                let count = self.counter(node, counter)?;
                ensure!(count == 0, "node {node}: {counter} is {count}");
            }
        }
        Ok(())
    }
}

impl Moving<'_> {
    /// Moves it to another node, with what was read and not used.
    fn over(mut self, to: usize, read: &[u8]) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_over(to, read)? {
                Tried::Moved(moved) => return Ok(moved),
                Tried::Stayed(stayed) => self = stayed,
            }
            ensure!(Instant::now() < deadline, "it goes on each time it is about to move");
        }
    }

    /// Moves it, unless a segment was still on its way to the socket when that was read. It stays where it is then.
    fn try_over(self, to: usize, read: &[u8]) -> Result<Tried<Self>> {
        let Self { ground, node, socket, client, count, first_ack } = self;
        let count = count + 1;
        let flow = |first_ack: Option<u32>| FlowMove {
            client,
            service: ground.fleet.websocket(),
            count,
            first_ack: first_ack.unwrap_or(0),
        };
        ground.done_for(node, MoveStep::Hold, flow(first_ack))?;
        let (taken, mut dump) = take_out(socket)?;
        let first_ack = Some(first_ack.unwrap_or_else(|| taken.first_acknowledged()));
        let flow = flow(first_ack);
        dump.put_back(read)?;
        ground.remains.borrow_mut().remove(&(to, client));
        let put = ground.fleet.lab.node(to).run(|| put_in(&dump))?;
        // The last moment to go back.
        if taken.unchanged().is_err() {
            println!("move {count} of {client} is tried again");
            drop(put);
            ground.done_for(node, MoveStep::Release, flow)?;
            return Ok(Tried::Stayed(Self { ground, node, socket: taken.resume()?, client, count, first_ack }));
        }
        ground.done_for(to, MoveStep::Take, flow)?;
        // Until its socket is active there, what comes is kept there, too.
        ground.done_for(to, MoveStep::Hold, flow)?;
        ground.done_for(node, MoveStep::Move { to: number(to)? }, flow)?;
        let live = put.activate()?;
        ground.remains.borrow_mut().insert((node, client), taken.give_up()?);
        ensure!(live.unsent.is_empty(), "{} bytes did not fit", live.unsent.len());
        ground.done_for(to, MoveStep::Release, flow)?;
        Ok(Tried::Moved(Self { ground, node: to, socket: live.socket, client, count, first_ack }))
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty()) {
                Ok(0) => bail!("the client closed"),
                Ok(read) => return Ok(read),
                Err(nix::Error::EAGAIN) => self.wait(PollFlags::POLLIN)?,
                Err(error) => return Err(error).context("reading on the node"),
            }
        }
    }

    /// Whether the client has reset it.
    fn is_over(&self) -> Result<bool> {
        match recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK) {
            Err(nix::Error::ECONNRESET) => Ok(true),
            Err(nix::Error::EAGAIN) => Ok(false),
            other => bail!("{other:?} instead of a reset"),
        }
    }

    fn write_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(nix::Error::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(error) => return Err(error).context("writing on the node"),
            }
        }
        Ok(())
    }

    fn wait(&self, what: PollFlags) -> Result<()> {
        let timeout = PollTimeout::try_from(PATIENCE).expect("a short time");
        let ready = poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout)?;
        ensure!(ready > 0, "nothing happened for {PATIENCE:?}");
        Ok(())
    }

    /// Echoes so many bytes, and moves so many times meanwhile, evenly, with the bytes in hand each time.
    fn echo(mut self, length: usize, moves: u16, random: &mut fastrand::Rng) -> Result<Self> {
        let mut buffer = vec![0; 1 << 14];
        let (mut echoed, before) = (0, self.count);
        while echoed < length {
            let read = self.read(&mut buffer)?;
            let made = usize::from(self.count - before);
            if made < moves.into() && echoed >= (made + 1) * length / (usize::from(moves) + 2) {
                let nodes = self.ground.listeners.len();
                let to = (self.node + random.usize(1..nodes)) % nodes;
                self = self.over(to, &buffer[..read])?;
                continue;
            }
            self.write_all(&buffer[..read])?;
            echoed += read;
        }
        ensure!(self.count - before >= moves, "it has moved {} times", self.count - before);
        Ok(self)
    }
}

/// The number of a node.
fn number(node: usize) -> Result<MemberNumber> {
    Ok(MemberNumber::new(u16::try_from(node)? + 1)?)
}

fn block_on<T>(future: impl Future<Output = Result<T, impl Into<anyhow::Error>>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future).map_err(Into::into)
}

/// A request of this user, and bytes that differ everywhere after it.
fn stream(user: &str, random: &mut fastrand::Rng, length: usize) -> (Vec<u8>, Vec<u8>) {
    let first = format!("GET /?sendID={user} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    let mut rest = vec![0; length];
    random.fill(&mut rest);
    (first, rest)
}

/// The client sends the rest, gets everything back, and says what it got; on its own host.
fn converse(
    lab: &Lab,
    client: std::net::TcpStream,
    first: usize,
    rest: Vec<u8>,
) -> Result<JoinHandle<io::Result<Vec<u8>>>> {
    lab.client(0).spawn(async move {
        let (mut reader, mut writer) = TcpStream::from_std(client)?.into_split();
        let mut back = vec![0; first + rest.len()];
        let writing = tokio::spawn(async move {
            writer.write_all(&rest).await?;
            // Kept until everything is back.
            io::Result::Ok(writer)
        });
        reader.read_exact(&mut back).await?;
        let _writer = writing.await??;
        Ok(back)
    })
}

/// One conversation, during which the connection moves.
fn go_round(ground: &Ground<'_>, temper: &Temper, random: &mut fastrand::Rng, length: usize, moves: u16) -> Result<()> {
    let (first, rest) = stream(&format!("user{}", random.u32(..)), random, length);
    let all = [&first[..], &rest].concat();
    let (moving, client) = ground.connect(temper, &first)?;
    let conversation = converse(ground.fleet.lab, client, first.len(), rest)?;
    let _moving = moving.echo(all.len(), moves, random)?;
    let back = block_on(async { anyhow::Ok(tokio::time::timeout(PATIENCE, conversation).await???) })?;
    let differ = back.iter().zip(&all).position(|(a, b)| a != b);
    ensure!(differ.is_none(), "the bytes differ from {differ:?} on");
    ground.assert_no_resets()
}

fn a_stream_goes_round_a_hundred_times_over_a_rough_link(family: Family) -> Result<()> {
    let seed = seed::from_environment();
    let lab = Lab::builder().nodes(3).build()?;
    let ground = Ground::prepare(&lab, family)?;
    let rough = Roughness::UNCLEAN;
    let _link = RoughLink::between(&lab, lab.client(0), rough, rough, seed)?;
    go_round(&ground, &temper::PLAIN, &mut fastrand::Rng::with_seed(seed), 4 << 20, 100)
}

fn every_temper_goes_round(family: Family) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed::from_environment());
    let lab = Lab::builder().nodes(3).build()?;
    let ground = Ground::prepare(&lab, family)?;
    for temper in &temper::ALL {
        temper.apply(lab.client(0))?;
        go_round(&ground, temper, &mut random, 1 << 20, 5).with_context(|| temper.name)?;
    }
    Ok(())
}

fn edges_are_told_and_the_old_node_forgets(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).build()?;
    let ground = Ground::prepare(&lab, family)?;
    let (moving, _client) = connect_to(&ground, 1)?;
    let client = moving.client;
    ensure!(ground.flow(0, client)?.context("the edge has no flow")?.node == 2);
    let moving = moving.over(2, b"")?;
    wait_until(|| Ok(ground.flow(0, client)?.is_some_and(|flow| flow.node == 3 && flow.moves == 1)))?;
    // To the edge itself, and away again.
    let moving = moving.over(0, b"")?;
    wait_until(|| Ok(ground.flow(0, client)?.is_some_and(|flow| flow.node == 1 && flow.moves == 2)))?;
    let _moving = moving.over(1, b"")?;
    let flow = ground.flow(0, client)?.context("the edge has lost the flow")?;
    // The edge had it itself a moment ago, and sends on what other edges might still send there.
    ensure!(flow.node == 2 && flow.moves == 3 && flow.state == control::FlowState::Moved, "{flow:?}");
    for node in 0..3 {
        wait_until(|| Ok(on_the_move(&ground, node)? == 0)).with_context(|| format!("node {node}"))?;
    }
    ensure!(ground.flow(0, client)?.is_some_and(|flow| flow.state == control::FlowState::Open));
    ground.assert_no_resets()
}

/// Entries of `moves` at a node.
fn on_the_move(ground: &Ground<'_>, node: usize) -> Result<u64> {
    let socket = ground.fleet.socket(node);
    let end = block_on(async { control::flows(&socket, FlowFilter::default(), |_| {}).await })?;
    Ok(end.held + end.moved)
}

/// A connection that node `owner` has.
fn connect_to<'a>(ground: &'a Ground<'_>, owner: usize) -> Result<(Moving<'a>, std::net::TcpStream)> {
    dial_to(ground, owner, Dial::new(ground.fleet.websocket()))
}

/// The same by that way of dialling.
fn dial_to<'a>(ground: &'a Ground<'_>, owner: usize, dial: Dial) -> Result<(Moving<'a>, std::net::TcpStream)> {
    let user = (0..)
        .map(|index| format!("user{index}"))
        .find(|user| ground.fleet.ring.owner(user.as_bytes()).number.get() == owner as u16 + 1)
        .expect("every node owns users");
    let (first, _) = stream(&user, &mut fastrand::Rng::new(), 0);
    let (moving, client) = ground.dial(dial, &first)?;
    ensure!(moving.node == owner, "node {} has it", moving.node);
    let mut read = vec![0; first.len()];
    ensure!(moving.read(&mut read)? == first.len() && read == first);
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    Ok((moving, client))
}

fn what_is_held_nobody_answers(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let ground = Ground::prepare(&lab, family)?;
    // At the edge itself, and at another node.
    for owner in [0, 1] {
        let (moving, client) = connect_to(&ground, owner)?;
        let from = moving.client;
        ground.done(owner, MoveStep::Hold, from, 1)?;
        let before = ground.counter(owner, "held")?;
        io::Write::write_all(&mut &client, b"hello")?;
        // The client has sent it more than once, and it has not come through.
        wait_until(|| Ok(ground.counter(owner, "held")? >= before + 2))?;
        let flow = ground.flow(0, from)?.context("the edge has no flow")?;
        ensure!(owner != 0 || flow.state == control::FlowState::Held, "{flow:?}");
        let nothing = recv(moving.socket.as_raw_fd(), &mut [0; 5], MsgFlags::empty());
        ensure!(nothing == Err(nix::Error::EAGAIN), "{nothing:?}");
        ground.done(owner, MoveStep::Release, from, 1)?;
        let mut read = [0; 5];
        ensure!(moving.read(&mut read)? == 5 && &read == b"hello");
        // A hold that nobody ends does so by itself.
        ground.done(owner, MoveStep::Hold, from, 2)?;
        wait_until(|| Ok(on_the_move(&ground, owner)? == 0))?;
        ensure!(ground.step(owner, MoveStep::Move { to: number(1 - owner)? }, from, 2)? == MoveOutcome::NotHeld);
        moving.write_all(b"answer")?;
        let mut read = [0; 6];
        io::Read::read_exact(&mut &client, &mut read)?;
        ensure!(&read == b"answer");
    }
    ground.assert_no_resets()
}

/// A client that sends nothing twice: what is lost does not come for half a minute.
fn what_comes_during_a_move_is_not_lost(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).build()?;
    let ground = Ground::prepare(&lab, family)?;
    let flag = if family == Family::V4 { "-4" } else { "-6" };
    let route = lab.client(0).command("ip", &["-o", flag, "route", "show", "default"])?;
    // What it prints beyond what it takes.
    let route = route.replace("pref medium", "");
    let route: Vec<&str> = route.split_whitespace().collect();
    lab.client(0).command("ip", &[&[flag, "route", "replace"], &route[..], &["rto_min", "30s"]].concat())?;
    let mut random = fastrand::Rng::with_seed(seed::from_environment());
    let (mut moving, client) = connect_to(&ground, 1)?;
    for to in [2, 0, 1, 0, 2, 1] {
        // One segment: the last of several would be sent again soon, to see whether it was lost (RFC 8985 section 7).
        let mut sent = [0; 1000];
        random.fill(&mut sent);
        ground.done(moving.node, MoveStep::Hold, moving.client, moving.count + 1)?;
        let before = ground.counter(moving.node, "held")?;
        io::Write::write_all(&mut &client, &sent)?;
        wait_until(|| Ok(ground.counter(moving.node, "held")? > before))?;
        moving = moving.over(to, b"")?;
        let mut got = [0; 1000];
        ensure!(moving.read(&mut got)? == 1000 && got == sent, "on node {to}");
        moving.write_all(b"thanks")?;
        let mut read = [0; 6];
        io::Read::read_exact(&mut &client, &mut read)?;
    }
    ensure!(retransmitted(&client)? == 0, "{} segments were sent again", retransmitted(&client)?);
    ground.assert_no_resets()
}

/// Segments that a socket has sent more than once.
fn retransmitted(socket: &std::net::TcpStream) -> Result<u32> {
    /// Where `tcpi_total_retrans` stands in `struct tcp_info`.
    const AT: usize = 100;
    let mut info = [0u8; AT + 4];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: there is room for as much as we say.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, "asking for the state: {}", io::Error::last_os_error());
    Ok(u32::from_ne_bytes(info[AT..].try_into()?))
}

fn an_edge_that_could_not_be_told_is_told_later_by_the_next_agent(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).build()?;
    let ground = Ground::prepare(&lab, family)?;
    let (moving, client) = connect_to(&ground, 1)?;
    let from = moving.client;
    // The edge goes on steering without its agent, which cannot be told.
    ground.fleet.agents[0].kill()?;
    let moving = moving.over(2, b"")?;
    let before = ground.counter(1, "forwarded_moved")?;
    io::Write::write_all(&mut &client, b"hello")?;
    let mut read = [0; 5];
    ensure!(moving.read(&mut read)? == 5 && &read == b"hello");
    ensure!(ground.counter(1, "forwarded_moved")? > before, "it did not come by the old node");
    // Nor does the old node's agent live to tell it. What has to be told is in the kernel.
    ground.fleet.agents[1].kill()?;
    io::Write::write_all(&mut &client, b"again")?;
    ensure!(moving.read(&mut read)? == 5 && &read == b"again");
    for node in [0, 1] {
        let mark = ground.fleet.agents[node].log_mark();
        ground.fleet.agents[node].restart()?;
        ground.fleet.agents[node].wait_for_log(mark, PATIENCE, |line| line.contains("steering"))?;
    }
    wait_until(|| Ok(ground.flow(0, from)?.is_some_and(|flow| flow.node == 3 && flow.moves == 1)))?;
    wait_until(|| Ok(on_the_move(&ground, 1)? == 0))?;
    io::Write::write_all(&mut &client, b"there")?;
    ensure!(moving.read(&mut read)? == 5 && &read == b"there");
    ground.assert_no_resets()
}

/// A client has moved from node 1 to node 2, and dials from the same port again while node 1 still sends on what comes for
/// it, as a user of either node.
fn a_connection_on_reused_ports_does_not_follow_the_earlier_one(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).build()?;
    let ground = Ground::prepare(&lab, family)?;
    let edge = &ground.fleet.agents[0];
    for owner in [1, 2] {
        let (moving, client) = connect_to(&ground, 1)?;
        let port = moving.client.port();
        // As long as the edge has not been told, node 1 does not forget where the connection has gone.
        edge.kill()?;
        let moving = moving.over(2, b"")?;
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        drop(client);
        wait_until(|| moving.is_over())?;
        drop(moving);
        ground.remains.borrow_mut().clear();
        ensure!(on_the_move(&ground, 1)? == 1);

        let dial = || Dial::new(ground.fleet.websocket()).source_port(port);
        let (moving, client) = dial_to(&ground, owner, dial())?;
        // Where it was admitted nothing is known of the earlier one any more.
        ensure!(on_the_move(&ground, 1)? == u64::from(owner != 1));
        // The edge hears the news of both now, and follows the later one.
        let mark = edge.log_mark();
        edge.restart()?;
        edge.wait_for_log(mark, PATIENCE, |line| line.contains("steering"))?;
        let moving = moving.over(3 - owner, b"")?;
        wait_until(|| {
            let flow = ground.flow(0, moving.client)?;
            Ok(flow
                .is_some_and(|flow| flow.moves == 1 && flow.node == number(3 - owner).map_or(0, |it| it.get().into())))
        })?;
        let moving = moving.over(0, b"")?;
        io::Write::write_all(&mut &client, b"hello")?;
        let mut read = [0; 5];
        ensure!(moving.read(&mut read)? == 5 && &read == b"hello");
        moving.write_all(b"answer")?;
        let mut read = [0; 6];
        io::Read::read_exact(&mut &client, &mut read)?;
        for node in 0..3 {
            wait_until(|| Ok(on_the_move(&ground, node)? == 0)).with_context(|| format!("node {node}"))?;
        }
    }
    ground.assert_no_resets()
}

/// The edge itself has got a connection and serves it, and the node that had it is late to say so: when it does, the client has
/// long dialled again from the same port, and is about to move the other way.
fn nor_does_what_is_said_late_of_that_one_touch_it(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let ground = Ground::prepare(&lab, family)?;
    let service = ground.fleet.websocket();
    let (moving, client) = connect_to(&ground, 1)?;
    let from = moving.client;
    let first = |first_ack| FlowMove { client: from, service, count: 1, first_ack };
    ground.done_for(1, MoveStep::Hold, first(0))?;
    let (taken, dump) = take_out(moving.socket)?;
    let first = first(taken.first_acknowledged());
    let put = lab.node(0).run(|| put_in(&dump))?;
    ground.done_for(0, MoveStep::Take, first)?;
    let live = put.activate()?;
    drop(taken.give_up()?);

    let moving = Moving { ground: &ground, node: 0, socket: live.socket, client: from, count: 1, first_ack: None };
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    drop(client);
    wait_until(|| moving.is_over())?;
    drop(moving);
    let (moving, client) = dial_to(&ground, 0, Dial::new(service).source_port(from.port()))?;
    ground.done_for(1, MoveStep::Move { to: number(0)? }, first)?;
    // The edge hears of it before or after the other move: it makes no difference.
    let moving = moving.over(1, b"")?;
    let flow = ground.flow(0, from)?.context("the edge has no flow")?;
    ensure!(flow.node == 2 && flow.moves == 1, "{flow:?}");
    for word in [b"hello", b"again"] {
        io::Write::write_all(&mut &client, word)?;
        let mut read = [0; 5];
        ensure!(moving.read(&mut read)? == 5 && &read == word);
        moving.write_all(word)?;
        io::Read::read_exact(&mut &client, &mut read)?;
        // And once more when nothing is left of either move.
        for node in 0..2 {
            wait_until(|| Ok(on_the_move(&ground, node)? == 0)).with_context(|| format!("node {node}"))?;
        }
    }
    ground.assert_no_resets()
}

fn a_step_that_is_not_due_changes_nothing(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let ground = Ground::prepare(&lab, family)?;
    let (moving, client) = connect_to(&ground, 1)?;
    let from = moving.client;
    let step = |step, count| ground.step(1, step, from, count);
    let to = |node: usize| anyhow::Ok(MoveStep::Move { to: number(node)? });
    ensure!(step(to(0)?, 1)? == MoveOutcome::NotHeld);
    ensure!(step(MoveStep::Hold, 0)? == MoveOutcome::Stale);
    ensure!(step(MoveStep::Hold, 2)? == MoveOutcome::Done);
    ensure!(step(MoveStep::Hold, 1)? == MoveOutcome::Stale);
    ensure!(step(MoveStep::Release, 1)? == MoveOutcome::Stale);
    ensure!(step(to(1)?, 2)? == MoveOutcome::NoMember, "a node cannot send on to itself");
    ensure!(step(to(7)?, 2)? == MoveOutcome::NoMember);
    ensure!(step(MoveStep::Release, 2)? == MoveOutcome::Done);
    let flows = vec![FlowMove { client: from, service: "192.0.2.77:1".parse()?, count: 1, first_ack: 0 }];
    let socket = ground.fleet.socket(1);
    let outcomes =
        block_on(async { MoveClient::new(socket).ask(Moves { step: MoveStep::Hold, flows, promise: None }).await })?;
    ensure!(outcomes == [MoveOutcome::NoService]);
    io::Write::write_all(&mut &client, b"hello")?;
    let mut read = [0; 5];
    ensure!(moving.read(&mut read)? == 5 && &read == b"hello");
    ground.assert_no_resets()
}

/// Waits for something that nobody tells.
fn wait_until(holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "it did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
