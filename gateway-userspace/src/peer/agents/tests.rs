//! Nodes on loopback addresses, and strangers that bother them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use super::*;
use crate::{
    config::{Secret, Secrets},
    peer::{counters::Way, key::Between, message::PROTOCOL},
    ring::{Epoch, fixtures},
};

/// Nothing here takes longer, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("still waiting")
}

fn address(last: u8) -> NodeAddress {
    NodeAddress::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).unwrap()
}

fn keys(digits: &[char]) -> Arc<LinkKeys> {
    let secret = |digit: &char| Secret::from_hex(digit.to_string().repeat(32).as_bytes(), String::new).unwrap();
    let secrets = Secrets { current: secret(&digits[0]), previous: digits.get(1).map(secret) };
    Arc::new(LinkKeys::of(&secrets, Between::Agents))
}

fn view(here: u8, others: &[u8], former: &[u8]) -> Arc<View> {
    let addresses = |list: &[u8]| list.iter().map(|&last| address(last)).collect();
    Arc::new(View { here: Some(address(here)), member: None, others: addresses(others), former: addresses(former) })
}

fn ring(epoch: u64) -> Option<RingName> {
    Some(RingName { epoch: Epoch(epoch), digest: fixtures::openim(2, ":88").digest() })
}

/// Repeats the question.
struct Echo(u8);

impl Desk for Echo {
    fn answer(&self, question: Question) -> BoxFuture<'static, Answer> {
        let here = self.0;
        Box::pin(async move { Answer::Error(format!("{question:?} at {here}")) })
    }
}

/// A node, and the ends of its wires.
struct Node {
    network: Network,
    view: watch::Sender<Arc<View>>,
    keys: watch::Sender<Arc<LinkKeys>>,
    rings: watch::Sender<(Option<RingName>, Option<RingName>)>,
    heard: mpsc::Receiver<Heard>,
}

impl Node {
    fn start(port: u16, here: u8, others: &[u8], secrets: &[char]) -> Self {
        let view = watch::Sender::new(view(here, others, &[]));
        let keys = watch::Sender::new(keys(secrets));
        let rings = watch::Sender::new((ring(here.into()), None));
        let (tell, heard) = mpsc::channel(64);
        let network = start(Wiring {
            port,
            view: view.subscribe(),
            keys: keys.subscribe(),
            rings: rings.subscribe(),
            heard: tell,
            desk: Arc::new(Echo(here)),
        });
        Self { network, view, keys, rings, heard }
    }

    /// The next thing heard that `wanted` likes.
    async fn hear<T>(&mut self, mut wanted: impl FnMut(Heard) -> Option<T>) -> T {
        soon(async {
            loop {
                if let Some(found) = wanted(self.heard.recv().await.expect("the network runs")) {
                    return found;
                }
            }
        })
        .await
    }

    async fn hear_ring(&mut self, from: u8, epoch: u64) {
        self.hear(|heard| match heard {
            Heard::State(at, state, _) if at == address(from) && state.agent == ring(epoch) => Some(()),
            _ => None,
        })
        .await;
    }

    async fn hear_up(&mut self, to: u8) {
        self.hear(|heard| match heard {
            Heard::Link(at, LinkStatus { up: true, .. }) if at == address(to) => Some(()),
            _ => None,
        })
        .await;
    }

    /// Why the link to a node is down.
    async fn hear_down(&mut self, to: u8, expected: &str) {
        self.hear(|heard| match heard {
            Heard::Link(at, LinkStatus { error: Some(error), .. }) if at == address(to) && error.contains(expected) => {
                Some(())
            }
            _ => None,
        })
        .await;
    }

    /// Waits until this was counted, and counted once at least.
    async fn counts(&self, way: Way, reason: &'static str) {
        soon(async {
            while !self.network.counts().failures.contains_key(&(way, reason)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// A port that is free on the addresses of a test.
async fn free_port(lasts: &[u8]) -> u16 {
    loop {
        let first = TcpListener::bind((address(lasts[0]).ip(), 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut taken = Vec::new();
        for &last in &lasts[1..] {
            taken.push(TcpListener::bind((address(last).ip(), port)).await);
        }
        if taken.iter().all(Result::is_ok) {
            return port;
        }
    }
}

/// A connection from one of the addresses, made by hand.
async fn connect(from: u8, to: u8, port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(address(from).ip(), 0))?;
    socket.connect(SocketAddr::new(address(to).ip(), port)).await
}

/// Connects, as soon as somebody listens, sends some bytes and waits for the end.
async fn bother(from: u8, to: u8, port: u16, bytes: &[u8]) {
    soon(async {
        let mut stream = loop {
            match connect(from, to, port).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let _ = stream.write_all(bytes).await;
        let mut rest = Vec::new();
        // An end or a reset.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "a stranger is told nothing");
    })
    .await;
}

#[tokio::test]
async fn nodes_hear_each_other_and_each_change_and_answer_each_other() {
    let port = free_port(&[2, 3]).await;
    let mut one = Node::start(port, 2, &[3], &['a']);
    let mut other = Node::start(port, 3, &[2], &['a']);
    one.hear(|heard| {
        matches!(heard, Heard::Greeting(from, hello) if from == address(3) && hello.protocol == PROTOCOL).then_some(())
    })
    .await;
    one.hear_ring(3, 3).await;
    other.hear_ring(2, 2).await;
    one.rings.send_replace((ring(7), ring(6)));
    other.hear_ring(2, 7).await;

    let question = || Question::Sessions { user: "u".into() };
    let answer = |here| Ok(Answer::Error(format!("Sessions {{ user: \"u\" }} at {here}")));
    // Many at once, over whichever link is up.
    let asked = futures_util::future::join_all((0..50).map(|_| one.network.ask(address(3), question())));
    assert!(soon(asked).await.into_iter().all(|one| one == answer(3)));
    assert_eq!(soon(other.network.ask(address(2), question())).await, answer(2));
    assert_eq!(one.network.ask(address(4), question()).await, Err("there is no link to it".into()));
}

#[tokio::test]
async fn who_is_no_member_is_closed_and_former_members_are_heard() {
    let port = free_port(&[12, 13, 14]).await;
    // Who has left still dials the others, who do not dial it.
    let mut one = Node::start(port, 12, &[13], &['a']);
    one.view.send_replace(view(12, &[], &[14]));
    bother(13, 12, port, b"").await;
    one.counts(Way::In, "no_member").await;
    let mut left = Node::start(port, 14, &[12], &['a']);
    left.hear_ring(12, 12).await;
    one.hear_ring(14, 14).await;
    // And now it is forgotten for good. If it was just saying something, the kernel resets the connection.
    one.view.send_replace(view(12, &[], &[]));
    left.hear(|heard| match heard {
        Heard::Link(at, LinkStatus { error: Some(error), .. }) if at == address(12) => {
            (error.contains("it closed the link") || error.contains("reset by peer")).then_some(())
        }
        _ => None,
    })
    .await;
    one.counts(Way::In, "left_the_ring").await;
}

#[tokio::test]
async fn another_secret_does_not_get_in_until_it_is_valid() {
    let port = free_port(&[22, 23]).await;
    let mut one = Node::start(port, 22, &[23], &['a']);
    let mut other = Node::start(port, 23, &[22], &['b']);
    other.hear_down(22, "its secret is another").await;
    one.counts(Way::In, "wrong_secret").await;
    // The fleet changes from one secret to the other, and this node is the first.
    one.keys.send_replace(keys(&['b', 'a']));
    one.hear_up(23).await;
    other.hear_up(22).await;
    // Once the old secret is withdrawn everywhere, links that were made with it end, and those made with the new stay.
    let before = one.network.counts();
    one.keys.send_replace(keys(&['b']));
    one.hear_ring(23, 23).await;
    assert!(!one.network.counts().failures.contains_key(&(Way::In, "old_secret")));
    assert_eq!(one.network.counts().opened, before.opened);
    one.keys.send_replace(keys(&['c']));
    one.counts(Way::In, "old_secret").await;
    one.counts(Way::Out, "old_secret").await;
}

#[tokio::test]
async fn rubbish_from_a_members_address_is_closed_and_counted() {
    let port = free_port(&[32, 33]).await;
    let one = Node::start(port, 32, &[33], &['a']);
    bother(33, 32, port, b"GET / HTTP/1.1\r\n\r\n").await;
    one.counts(Way::In, "rubbish").await;
    let handshake = [&[0, 48][..], &[7; 48]].concat();
    bother(33, 32, port, &handshake).await;
    one.counts(Way::In, "wrong_secret").await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_few_and_end() {
    let port = free_port(&[42, 43]).await;
    let one = Node::start(port, 42, &[43], &['a']);
    let idle = futures_util::future::join_all((0..3).map(|_| bother(43, 42, port, &[0])));
    let (_, ()) = futures_util::future::join(idle, one.counts(Way::In, "too_many")).await;
    // The first two were let in and given up.
    one.counts(Way::In, "slow_handshake").await;
}

#[tokio::test]
async fn a_node_that_comes_back_is_heard_again() {
    let port = free_port(&[52, 53]).await;
    let mut one = Node::start(port, 52, &[53], &['a']);
    let other = Node::start(port, 53, &[52], &['a']);
    one.hear_ring(53, 53).await;
    drop(other);
    one.hear_down(53, "").await;
    let _other = Node::start(port, 53, &[52], &['a']);
    one.hear_ring(53, 53).await;
}
