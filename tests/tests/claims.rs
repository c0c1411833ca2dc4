//! A gateway is killed (SIGKILL) while it gives a session away. What it has not come to do its node's agent does when the
//! new owner asks for it, and the client notices nothing. What the new owner did not get is lost, and the client is told.
//!
//! The moments in question are short. So the processes that would go on are stopped, or away, until it is seen that the
//! move stands where it is to stand. If it has got further, or been given up, another fleet tries again.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer::{
    control::{self, FlowFilter, HOLD_LIFE_MS, Order},
    ring::Ring,
};
use ringsteer_tests::{
    client::{self, Dial, Login, Message, Shape},
    fleet::{Fleet, Options},
    lab::{Family, Lab, Signal},
    on_each_family,
    rounds::Rounds,
    scrape::{AGENT, GATEWAY, Scrape},
    status::{follows, has},
};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_tungstenite::tungstenite::{
    self,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

on_each_family!(
    who_is_killed_before_the_word_has_given_the_session_all_the_same,
    who_is_killed_after_the_word_leaves_no_hold_behind,
    who_is_killed_in_the_middle_of_an_offer_leaves_no_hold_behind,
);

/// The first node is the edge, and has no part in it.
const NODES: usize = 3;
const GIVER: usize = 1;
const TAKER: usize = 2;

/// How long a thing may take that happens by itself.
const LIMIT: Duration = Duration::from_secs(60);

/// How long to wait for a moment that may have been missed.
const MOMENT: Duration = Duration::from_secs(2);

/// How often a moment may be missed.
const ATTEMPTS: usize = 20;

/// What a client has said of a message without an end: more than the kernels between two gateways take of an offer.
const HALF_BYTES: usize = 1 << 20;

/// Messages of that length are let in.
const LARGE_MESSAGES: &str = "[gateway]\nmax_message_bytes = 2097152\n";

/// Buffers that do not grow, and so do not take it.
const SMALL_BUFFERS: [(&str, &str); 2] =
    [("net/ipv4/tcp_rmem", "4096 65536 131072"), ("net/ipv4/tcp_wmem", "4096 65536 131072")];

/// How often the hold may be found to have ended by its time, for the machine was slow.
const SLOW_ATTEMPTS: usize = 5;

/// How a client tells that it is there, and hears that it is to go on.
struct Turns {
    open: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
}

/// A session at the giver that belongs to the taker, and moves as soon as the giver may.
struct Scene<'a, 'lab> {
    fleet: &'a Fleet<'lab>,
    ring: Ring,
    /// Has the client go on.
    go_on: oneshot::Sender<()>,
    client: JoinHandle<Result<()>>,
}

impl<'a, 'lab> Scene<'a, 'lab> {
    fn set<F>(fleet: &'a Fleet<'lab>, client: impl FnOnce(SocketAddr, Turns) -> F) -> Result<Self>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut rounds = Rounds::of(fleet);
        rounds.send_to(&[GIVER], &[])?;
        let ((open, is_open), (go_on, goes_on)) = (oneshot::channel(), oneshot::channel());
        let client = fleet.lab.client(0).spawn(client(fleet.websocket(), Turns { open, go_on: goes_on }))?;
        fleet.lab.router().block_on(is_open).context("the client was not let in")?;
        let scene = Self { fleet, ring: rounds.current().clone(), go_on, client };
        scene.order(Order::Pause)?;
        rounds.next(&[TAKER])?;
        let ring = rounds.current().clone();
        for node in 0..NODES {
            fleet.lab.router().block_on(fleet.wait_for_status(node, follows(&ring)))?;
        }
        Ok(Self { ring, ..scene })
    }

    /// Has the giver's gateway obey.
    fn order(&self, order: Order) -> Result<()> {
        let number = self.fleet.ring.members()[GIVER].number;
        let socket = self.fleet.socket(GIVER);
        let since = Instant::now();
        loop {
            // An agent that has just begun does not know its gateway yet.
            match self.fleet.lab.router().block_on(control::handoff(&socket, Some(number), Some(order))) {
                Ok(nodes) if nodes.iter().all(|node| node.moves.is_some()) => return Ok(()),
                last if since.elapsed() > LIMIT => bail!("{order:?} is not obeyed: {last:?}"),
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// How many of a gateway's sessions stand at this stage of their moves.
    fn at_stage(&self, node: usize, stage: &str) -> Result<bool> {
        let name = format!("ringsteer_moves_under_way{{stage=\"{stage}\"}}");
        Ok(Scrape::of(self.fleet.lab.node(node), GATEWAY)?.value(&name)? > 0.0)
    }

    /// Has the giver begin while the taker stands still. True if its node holds the connection then.
    fn begin(&self) -> Result<bool> {
        self.fleet.gateways[TAKER].freeze(LIMIT)?;
        self.order(Order::Continue)?;
        comes(|| is_held(self.fleet))
    }

    /// Has the giver's gateway end when the taker has all of the session and has said so. False if the moment was missed.
    fn killed_before_the_word(&self) -> Result<bool> {
        let gateways = &self.fleet.gateways;
        if !self.begin()? {
            return Ok(false);
        }
        gateways[GIVER].freeze(LIMIT)?;
        gateways[TAKER].signal(Signal::CONT);
        if !comes(|| self.at_stage(TAKER, "arriving"))? {
            return Ok(false);
        }
        gateways[GIVER].kill()?;
        Ok(true)
    }

    /// Has the giver's gateway end when the taker has heard the word, and its agent before that. False if the moment was
    /// missed.
    fn killed_after_the_word(&self) -> Result<bool> {
        let (gateways, agent) = (&self.fleet.gateways, &self.fleet.agents[GIVER]);
        let (router, ours) = (self.fleet.lab.router(), has(&self.ring, 1));
        let began = Instant::now();
        if !self.begin()? {
            return Ok(false);
        }
        agent.kill()?;
        gateways[TAKER].signal(Signal::CONT);
        if !comes(|| Ok(router.block_on(self.fleet.status(TAKER)).is_ok_and(|status| ours(&status))))? {
            return Ok(false);
        }
        gateways[GIVER].kill()?;
        agent.restart()?;
        router.block_on(self.fleet.wait_for_status(GIVER, |status| status.ring.is_some()))?;
        // On a slow machine the hold may be too old for anything but its end.
        Ok(began.elapsed() < Duration::from_millis(HOLD_LIFE_MS / 2))
    }

    /// Has the giver's gateway end when it has offered the session to the taker, which stands still and has not got it.
    fn killed_in_the_middle_of_an_offer(&self) -> Result<()> {
        let gateways = &self.fleet.gateways;
        gateways[TAKER].freeze(LIMIT)?;
        self.order(Order::Continue)?;
        gateways[GIVER].wait_for_log_line("is offered to", LIMIT)?;
        gateways[GIVER].kill()?;
        gateways[TAKER].signal(Signal::CONT);
        Ok(())
    }

    /// The hold ends, and the client is told. False if that was because nobody has said anything for so long, or if the giver
    /// had given up before.
    fn ends_at_once(self) -> Result<bool> {
        let Self { fleet, go_on, client, .. } = self;
        // What it says from now on is held, or answered.
        let _ = go_on.send(());
        let since = Instant::now();
        while is_held(fleet)? {
            ensure!(since.elapsed() < LIMIT, "the hold does not end");
            thread::sleep(Duration::from_millis(10));
        }
        let figures = Scrape::of(fleet.lab.node(GIVER), AGENT)?;
        if figures.value("ringsteer_holds_abandoned_total")? < 1.0 {
            return Ok(false);
        }
        ensure!(figures.value("ringsteer_holds_forgotten_total")? == 0.0);
        fleet.lab.router().block_on(client)??;
        Ok(true)
    }

    /// The client goes on, at the taker.
    fn goes_on(self) -> Result<()> {
        let (router, ours) = (self.fleet.lab.router(), has(&self.ring, 1));
        router.block_on(self.fleet.wait_for_status(TAKER, ours)).context("the session comes")?;
        // If it has ended it says why below.
        let _ = self.go_on.send(());
        router.block_on(self.client)?
    }
}

/// Whether the giver's node holds the connection.
fn is_held(fleet: &Fleet<'_>) -> Result<bool> {
    let socket = fleet.socket(GIVER);
    let end = fleet.lab.router().block_on(control::flows(&socket, FlowFilter::default(), |_| {}))?;
    Ok(end.held > 0)
}

/// Comes, and says something once it is told to go on.
async fn talk(websocket: SocketAddr, Turns { open, go_on }: Turns) -> Result<()> {
    let stream = Dial::new(websocket).connect().await?;
    let login = Login::new("alice").request(Shape::Native);
    let mut connection = client::open(stream, &[&login]).await?.connection()?;
    // Who misses the moment tells nobody, and has another client.
    let _ = open.send(());
    if go_on.await.is_ok() {
        for message in 0..5 {
            connection.echo(Message::text(format!("message {message}"))).await?;
        }
    }
    Ok(())
}

/// Comes, says half of a long message, and is cut off once it is told to go on.
async fn say_half(websocket: SocketAddr, Turns { open, go_on }: Turns) -> Result<()> {
    let stream = Dial::new(websocket).connect().await?;
    let login = Login::new("alice").request(Shape::Native);
    let mut connection = client::open(stream, &[&login]).await?.connection()?;
    let half = Frame::message(vec![b'x'; HALF_BYTES], OpCode::Data(Data::Binary), false);
    connection.send(Message::Frame(half)).await?;
    // Once this is answered, all of that is part of the session.
    connection.send(Message::Ping("half".into())).await?;
    let answer = connection.receive().await?;
    ensure!(answer == Message::Pong("half".into()), "{answer:?}");
    // Who misses the moment tells nobody, and has another client.
    let _ = open.send(());
    if go_on.await.is_ok() {
        connection.send(Message::Ping("anybody?".into())).await?;
        let end = connection.receive().await;
        let is_reset = |error: &anyhow::Error| match error.downcast_ref() {
            Some(tungstenite::Error::Io(error)) => error.kind() == ErrorKind::ConnectionReset,
            _ => false,
        };
        ensure!(end.as_ref().is_err_and(is_reset), "{end:?} instead of a reset");
    }
    Ok(())
}

/// Whether a moment comes.
fn comes(mut is_there: impl FnMut() -> Result<bool>) -> Result<bool> {
    let since = Instant::now();
    while !is_there()? {
        if since.elapsed() > MOMENT {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

/// Has it happen in one fleet after the other until the moment is met; then the client goes on.
fn show(family: Family, happen: impl Fn(&Scene<'_, '_>) -> Result<bool>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let lab = Lab::builder().nodes(NODES).clients(1).build()?;
        let fleet = Fleet::start(&lab, &Options { ring_file: true, ..Options::all(family) })?;
        let scene = Scene::set(&fleet, talk)?;
        if happen(&scene)? {
            return scene.goes_on();
        }
    }
    bail!("the moment was missed {ATTEMPTS} times")
}

/// Nobody but the giver's agent knows that the session has not gone on there.
fn who_is_killed_before_the_word_has_given_the_session_all_the_same(family: Family) -> Result<()> {
    show(family, |scene| scene.killed_before_the_word())
}

/// The taker has the session, and what arrives at the giver is held for ever if nobody says that it is over.
fn who_is_killed_after_the_word_leaves_no_hold_behind(family: Family) -> Result<()> {
    show(family, |scene| scene.killed_after_the_word())
}

/// The taker cannot have all of the session, and says so when it knows that the giver has ended. Otherwise the client would
/// be left in silence until the hold ends by its time.
fn who_is_killed_in_the_middle_of_an_offer_leaves_no_hold_behind(family: Family) -> Result<()> {
    for _ in 0..SLOW_ATTEMPTS {
        let lab = Lab::builder().nodes(NODES).clients(1).build()?;
        for node in lab.nodes() {
            node.set_sysctls(&SMALL_BUFFERS)?;
        }
        let options = Options {
            ring_file: true,
            extra: LARGE_MESSAGES.into(),
            log: Some("info,ringsteer::handoff=debug"),
            ..Options::all(family)
        };
        let fleet = Fleet::start(&lab, &options)?;
        let scene = Scene::set(&fleet, say_half)?;
        scene.killed_in_the_middle_of_an_offer()?;
        if scene.ends_at_once()? {
            return Ok(());
        }
    }
    bail!("the hold has ended by its time only, {SLOW_ATTEMPTS} times")
}
