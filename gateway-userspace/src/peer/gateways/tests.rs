//! Gateways on loopback addresses.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};

use super::*;
use crate::{
    config::{Secret, Secrets},
    peer::key::Between,
};

/// Nothing here takes longer, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Echoes its bytes, twice.
#[derive(Serialize, Deserialize)]
struct Twice(Vec<u8>);

impl Question for Twice {
    const SUBJECT: Subject = Subject(200);
    type Answer = Vec<u8>;
}

/// The same, in the other lane. Answers with the length alone.
#[derive(Serialize, Deserialize)]
struct Large(Vec<u8>);

impl Question for Large {
    const SUBJECT: Subject = Subject(201);
    const LANE: Lane = Lane::Bulk;
    type Answer = usize;
}

/// Is answered when the test says so.
#[derive(Serialize, Deserialize)]
struct Later;

impl Question for Later {
    const SUBJECT: Subject = Subject(202);
    type Answer = ();
}

/// Nobody answers it.
#[derive(Serialize, Deserialize)]
struct Foreign;

impl Question for Foreign {
    const SUBJECT: Subject = Subject(203);
    type Answer = ();
}

/// Makes whoever answers it panic.
#[derive(Serialize, Deserialize)]
struct Poison;

impl Question for Poison {
    const SUBJECT: Subject = Subject(204);
    type Answer = ();
}

/// Has a number.
#[derive(Serialize, Deserialize)]
struct Numbered(u32);

impl Notice for Numbered {
    const SUBJECT: Subject = Subject(205);
}

fn address(last: u8) -> NodeAddress {
    NodeAddress::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last))).unwrap()
}

fn keys(digit: char, between: Between) -> Arc<LinkKeys> {
    let current = Secret::from_hex(digit.to_string().repeat(32).as_bytes(), String::new).unwrap();
    Arc::new(LinkKeys::of(&Secrets { current, previous: None }, between))
}

/// A gateway, and the ends of its wires.
struct Node {
    here: NodeAddress,
    links: Links,
    view: watch::Sender<Arc<View>>,
    _keys: watch::Sender<Arc<LinkKeys>>,
    numbers: Arc<Mutex<Vec<u32>>>,
    /// Questions that wait for [`Node::release`].
    held: Arc<AtomicUsize>,
    release: Arc<Notify>,
}

impl Node {
    fn start(port: u16, here: u8, others: &[u8]) -> Self {
        Self::start_with(port, here, others, keys('a', Between::Gateways))
    }

    fn start_with(port: u16, here: u8, others: &[u8], keys: Arc<LinkKeys>) -> Self {
        let (numbers, release) = (Arc::new(Mutex::new(vec![])), Arc::new(Notify::new()));
        let held = Arc::new(AtomicUsize::new(0));
        let mut handlers = Handlers::default();
        handlers.answer(|_, Twice(bytes)| async move { bytes.repeat(2) });
        handlers.answer(|_, Large(bytes)| async move { bytes.len() });
        let (count, released) = (Arc::clone(&held), Arc::clone(&release));
        handlers.answer(move |_, Later| {
            let released = Arc::clone(&released);
            count.fetch_add(1, Ordering::SeqCst);
            async move { released.notified().await }
        });
        handlers.answer(|_, Poison| async { panic!("as the test wants") });
        let list = Arc::clone(&numbers);
        handlers.hear(move |_, Numbered(number)| list.lock().unwrap().push(number));
        let others = others.iter().map(|&last| address(last)).collect();
        let here = address(here);
        let view = View { here: Some(here), member: None, others, former: Default::default() };
        let (view, keys) = (watch::Sender::new(Arc::new(view)), watch::Sender::new(keys));
        let links = Links::start(Wiring { port, view: view.subscribe(), keys: keys.subscribe(), handlers });
        Self { here, links, view, _keys: keys, numbers, held, release }
    }

    /// Waits until the lives are as wanted.
    async fn lives(&self, wanted: impl FnMut(&Lives) -> bool) {
        timeout(PATIENCE, self.links.lives().wait_for(wanted)).await.expect("still waiting").unwrap();
    }

    async fn linked_with(&self, other: &Self) {
        let (node, incarnation) = (other.here, other.links.incarnation());
        self.lives(|lives| lives.of(node).is_some_and(|life| life.incarnation == incarnation && life.links > 0)).await;
    }

    /// Waits until so many questions are held.
    async fn holds(&self, count: usize) {
        let held = async {
            while self.held.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, held).await.expect("still waiting");
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

#[tokio::test]
async fn many_questions_at_once_are_answered_both_ways() {
    let port = free_port(&[2, 3]).await;
    let (one, other) = (Node::start(port, 2, &[3]), Node::start(port, 3, &[2]));
    one.linked_with(&other).await;
    other.linked_with(&one).await;
    let ask = |from: &Node, to: NodeAddress| {
        let links = from.links.clone();
        join_all((0..3000u32).map(move |number| {
            let links = links.clone();
            async move {
                let bytes = number.to_be_bytes().to_vec();
                let answer = links.ask(to, &Twice(bytes.clone()), PATIENCE).await.unwrap();
                assert_eq!(answer, bytes.repeat(2));
            }
        }))
    };
    tokio::join!(ask(&one, other.here), ask(&other, one.here));
    assert_eq!(one.links.linked(), 1);
}

#[tokio::test]
async fn notices_arrive_in_order_and_large_questions_whole() {
    let port = free_port(&[4, 5]).await;
    let (one, other) = (Node::start(port, 4, &[5]), Node::start(port, 5, &[4]));
    one.linked_with(&other).await;
    let large = Large(vec![7; MAX_BULK - 8]);
    let large = one.links.ask(other.here, &large, PATIENCE);
    let small = async {
        for number in 0..5000 {
            one.links.tell(other.here, &Numbered(number)).await.unwrap();
        }
        // The answer to a question behind them.
        one.links.ask(other.here, &Twice(vec![1; 400_000]), PATIENCE).await.unwrap()
    };
    let (large, small) = tokio::join!(large, small);
    assert_eq!((large, small.len()), (Ok(MAX_BULK - 8), 800_000));
    assert_eq!(*other.numbers.lock().unwrap(), (0..5000).collect::<Vec<_>>());
    assert_eq!(one.links.ask(other.here, &Large(vec![7; MAX_BULK + 1]), PATIENCE).await, Err(AskError::TooLong));
    assert_eq!(one.links.ask(other.here, &Twice(vec![7; MAX_PROMPT]), PATIENCE).await, Err(AskError::TooLong));
}

/// Two links there are, one made by each; so a question can be held on one while all others go on.
#[tokio::test]
async fn who_asks_too_much_waits_and_what_is_not_understood_is_said() {
    let port = free_port(&[6, 7]).await;
    // The other does not dial: one link, and its places for questions.
    let (one, other) = (Node::start(port, 6, &[7]), Node::start(port, 7, &[]));
    let former = View { here: Some(other.here), member: None, others: Default::default(), former: [one.here].into() };
    other.view.send_replace(Arc::new(former));
    one.linked_with(&other).await;
    let later = Later;
    assert_eq!(one.links.ask(other.here, &Foreign, PATIENCE).await, Err(AskError::NotUnderstood));
    assert_eq!(one.links.ask(other.here, &Poison, PATIENCE).await, Err(AskError::Failed));
    // It has made no link, and is asked and asks over the one that is there.
    assert_eq!(other.links.ask(one.here, &Twice(vec![1]), PATIENCE).await, Ok(vec![1, 1]));
    let all = join_all((0..1100).map(|_| one.links.ask(other.here, &later, PATIENCE)));
    let held = async {
        other.holds(1024).await;
        // Full: the next one has no place, and gives up.
        let impatient = one.links.ask(other.here, &Twice(vec![1]), Duration::from_millis(50)).await;
        assert_eq!(impatient, Err(AskError::TimedOut));
        assert_eq!(other.held.load(Ordering::SeqCst), 1024);
        // A notice needs no place.
        one.links.tell(other.here, &Numbered(1)).await.unwrap();
        let (done, mut waiting) = mpsc::channel::<()>(1);
        let release = Arc::clone(&other.release);
        let releasing = tokio::spawn(async move {
            while waiting.try_recv() == Err(mpsc::error::TryRecvError::Empty) {
                release.notify_waiters();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        (done, releasing)
    };
    let (answers, (done, releasing)) = tokio::join!(all, held);
    assert!(answers.iter().all(Result::is_ok));
    drop(done);
    releasing.await.unwrap();
}

#[tokio::test]
async fn an_ended_process_fails_its_questions_and_its_successor_is_told_from_it() {
    let port = free_port(&[8, 9]).await;
    let (one, other) = (Node::start(port, 8, &[9]), Node::start(port, 9, &[8]));
    one.linked_with(&other).await;
    let (node, first) = (other.here, other.links.incarnation());
    let to_first = To { node, incarnation: Some(first) };
    assert_eq!(one.links.ask(to_first, &Twice(vec![1]), PATIENCE).await, Ok(vec![1, 1]));
    let asked = one.links.ask(to_first, &Later, PATIENCE);
    let ending = async {
        other.holds(1).await;
        drop(other);
    };
    let (asked, ()) = tokio::join!(asked, ending);
    assert_eq!(asked, Err(AskError::LinkEnded));
    assert!(asked.unwrap_err().may_have_arrived());
    // Nobody has its port: that is proof.
    one.lives(|lives| lives.has_ended(node, first)).await;
    assert_eq!(one.links.ask(to_first, &Twice(vec![1]), PATIENCE).await, Err(AskError::OtherIncarnation));

    let successor = Node::start(port, 9, &[8]);
    one.linked_with(&successor).await;
    assert_ne!(successor.links.incarnation(), first);
    assert_eq!(one.links.ask(to_first, &Twice(vec![1]), PATIENCE).await, Err(AskError::OtherIncarnation));
    assert_eq!(one.links.ask(node, &Twice(vec![1]), PATIENCE).await, Ok(vec![1, 1]));
    assert!(!one.links.lives().borrow().has_ended(node, successor.links.incarnation()));
}

/// Who cannot have its port is not the only process of its node, and is not heard.
#[tokio::test]
async fn a_second_process_of_a_node_dials_nobody() {
    let port = free_port(&[10, 11]).await;
    let (one, other) = (Node::start(port, 10, &[11]), Node::start(port, 11, &[10]));
    one.linked_with(&other).await;
    let second = Node::start(port, 11, &[10]);
    let asked = second.links.ask(one.here, &Twice(vec![1]), PATIENCE).await;
    assert_eq!(asked, Err(AskError::NoLink));
    // The first ends; the second takes its place.
    let first = other.links.incarnation();
    drop(other);
    one.linked_with(&second).await;
    assert!(one.links.lives().borrow().has_ended(second.here, first));
}

#[tokio::test]
async fn agents_and_other_fleets_do_not_get_in() {
    let port = free_port(&[12, 13]).await;
    let one = Node::start(port, 12, &[13]);
    for stranger in [keys('a', Between::Agents), keys('b', Between::Gateways)] {
        let stranger = Node::start_with(port, 13, &[12], stranger);
        let refused = async {
            while !one.links.counts().failures.contains_key(&(Way::In, "wrong_secret"))
                || !stranger.links.counts().failures.contains_key(&(Way::In, "wrong_secret"))
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, refused).await.expect("still waiting");
        assert_eq!(one.links.ask(stranger.here, &Twice(vec![1]), PATIENCE).await, Err(AskError::NoLink));
        assert!(one.links.lives().borrow().of(stranger.here).is_none());
    }
}
