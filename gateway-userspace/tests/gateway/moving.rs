//! Sessions taken apart and put together again under their clients' feet.

use std::collections::BTreeSet;

use ringsteer::{
    gateway::moving::Moving,
    session::{
        message::Message as Push,
        suspended::Suspended,
        table::{Card, Farewell, Fate},
    },
    websocket::decoder::Kind,
};

use super::*;

/// SplitMix64. The seeds are always the same, but what the sockets and threads do meanwhile is not.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

fn push(text: impl Into<String>) -> Push {
    Push::new(Kind::Text, text.into().into())
}

impl Node {
    /// Takes the user's only session apart.
    pub(super) async fn take(&self, user: &str) -> Moving {
        let [(id, _)] = self.sessions.of(user.as_bytes())[..] else { panic!("{user} has one session") };
        within(self.sessions.take(user.as_bytes(), id)).await.expect("the session is there")
    }
}

/// As it arrives at another node: nothing but bytes.
fn travel(suspended: Suspended) -> Suspended {
    Suspended::from_bytes(&suspended.to_bytes(), 51_200).unwrap()
}

async fn fates(delivering: ringsteer::gateway::moving::Delivering) -> Vec<Option<Fate>> {
    within(delivering.decided()).await.into_iter().map(|delivery| delivery.fate).collect()
}

#[tokio::test]
async fn a_push_that_meets_a_session_in_motion_is_answered_when_it_rests() {
    let node = Node::start().await;
    let user = node.our_user();
    let mut client = node.connect(&user).await;
    let Moving { stream, suspended, place } = node.take(&user).await;

    let kept = [push("first"), push("second")].map(|push| node.sessions.deliver(user.as_bytes(), &push));
    assert!(!node.sessions.deliver(b"nobody", &push("x")).decided().await.iter().any(|one| one.fate.is_none()));
    // A client that talks meanwhile is heard afterwards.
    client.send(Message::text("are you there?")).await.unwrap();
    place.resume(stream, travel(suspended));
    for delivering in kept {
        assert_eq!(fates(delivering).await, [Some(Fate::Taken)]);
    }
    assert_eq!(node.delivered(&user, "third").await, 1);
    let mut heard = vec![];
    for _ in 0..4 {
        heard.push(next(&mut client).await.into_text().unwrap().to_string());
    }
    heard.retain(|text| text != "are you there?");
    assert_eq!(heard, ["first", "second", "third"]);
}

#[tokio::test]
async fn a_session_that_leaves_takes_its_pushes_along() {
    let node = Node::start().await;
    let user = node.our_user();
    let mut client = node.connect(&user).await;
    let Moving { stream, suspended, place } = node.take(&user).await;
    let delivering = node.sessions.deliver(user.as_bytes(), &push("after it"));
    let luggage = place.leave();
    assert!(node.sessions.of(user.as_bytes()).is_empty());

    // It arrives, here in the same process; the one who sends what was kept says what became of it.
    let place = node.sessions.expect(user.as_bytes(), suspended.card.clone());
    let early = node.sessions.deliver(user.as_bytes(), &push("early"));
    place.resume(stream, travel(suspended));
    assert_eq!(fates(early).await, [Some(Fate::Taken)]);
    for kept in luggage.kept {
        assert_eq!(fates(node.sessions.deliver(user.as_bytes(), &kept.message)).await, [Some(Fate::Taken)]);
        kept.reply.answer(Fate::Taken);
    }
    assert_eq!(fates(delivering).await, [Some(Fate::Taken)]);
    assert_eq!(next(&mut client).await, Message::text("early"));
    assert_eq!(next(&mut client).await, Message::text("after it"));
}

#[tokio::test]
async fn a_place_that_is_dropped_is_a_session_that_ended() {
    let node = Node::start().await;
    let user = node.our_user();
    let mut client = node.connect(&user).await;
    let moving = node.take(&user).await;
    let delivering = node.sessions.deliver(user.as_bytes(), &push("x"));
    drop(moving);
    assert_eq!(fates(delivering).await, [Some(Fate::Gone)]);
    assert_eq!(node.delivered(&user, "x").await, 0);
    assert!(within(client.next()).await.unwrap().is_err(), "there was no close frame");
}

#[tokio::test]
async fn who_stops_waiting_for_a_session_takes_nothing() {
    let node = Node::start().await;
    let user = node.our_user();
    let mut client = node.connect(&user).await;
    let (id, _) = node.sessions.of(user.as_bytes())[0].clone();
    for round in 0..100 {
        // Polled a few times and dropped, at whatever stage it is then.
        let mut taking = Box::pin(node.sessions.take(user.as_bytes(), id));
        for _ in 0..round % 4 {
            let done = std::future::poll_fn(|context| std::task::Poll::Ready(taking.as_mut().poll(context))).await;
            if let std::task::Poll::Ready(taken) = done {
                let Moving { stream, suspended, place } = taken.unwrap();
                place.resume(stream, suspended);
                taking = Box::pin(node.sessions.take(user.as_bytes(), id));
            }
            tokio::task::yield_now().await;
        }
        drop(taking);
        client.send(Message::text(round.to_string())).await.unwrap();
        assert_eq!(next(&mut client).await, Message::text(round.to_string()));
        assert_eq!(node.delivered(&user, "push").await, 1);
        assert_eq!(next(&mut client).await, Message::text("push"));
    }
}

#[tokio::test]
async fn an_end_that_is_wanted_in_motion_comes_when_it_rests() {
    let node = Node::start().await;
    let user = node.our_user();
    let mut client = node.connect(&user).await;
    let Moving { stream, suspended, place } = node.take(&user).await;
    let (id, _) = node.sessions.of(user.as_bytes())[0].clone();
    assert!(node.sessions.take(user.as_bytes(), id).await.is_none(), "it is in motion already");
    assert!(node.sessions.end(user.as_bytes(), id, Farewell::Kick));
    place.resume(stream, suspended);
    assert_eq!(close_of(next(&mut client).await).0, 1008);

    let place = node.sessions.expect(user.as_bytes(), Card::default());
    assert_eq!(node.sessions.of(user.as_bytes()).len(), 1);
    drop(place);
    assert_eq!(node.sessions.of(user.as_bytes()).len(), 0);
}

/// A thousand sessions are taken apart at random moments, travel as bytes and go on, while their clients talk and are
/// pushed to. What each client sees is what it would have seen anyway: every echo and every push, once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_move_under_traffic_and_no_byte_is_lost() {
    const SESSIONS: usize = 1000;
    const MESSAGES: usize = 30;
    const MOVES: usize = 4000;

    let node = Arc::new(Node::start().await);
    let ring = node.config.ring().unwrap().clone();
    let ours = (0..).map(|index| format!("user-{index}")).filter(|user| ring.owner(user.as_bytes()).number.get() == 1);
    let users: Arc<Vec<String>> = Arc::new(ours.take(SESSIONS).collect());

    let (done, rests) = watch::channel(false);
    let mut clients = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let client = node.connect(user).await;
        clients.push(tokio::spawn(talk(client, number as u64, MESSAGES, rests.clone())));
    }

    let pushing = {
        let (node, users) = (Arc::clone(&node), Arc::clone(&users));
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                let told = users
                    .iter()
                    .map(|user| (user, node.sessions.deliver(user.as_bytes(), &push(format!("p{number}")))));
                for (user, delivering) in told.collect::<Vec<_>>() {
                    assert_eq!(fates(delivering).await, [Some(Fate::Taken)], "push {number} for {user}");
                }
            }
        })
    };

    // Several at a time, each for a moment or a little longer.
    let mut movers = Vec::new();
    for mover in 0..8 {
        let (node, users) = (Arc::clone(&node), Arc::clone(&users));
        movers.push(tokio::spawn(async move {
            let mut random = Random(mover);
            let mut moved = BTreeSet::new();
            for _ in 0..MOVES / 8 {
                let user = users[random.below(SESSIONS as u64) as usize].as_bytes();
                let Some((id, _)) = node.sessions.of(user).pop() else { continue };
                // Another mover may have it.
                let Some(Moving { stream, suspended, place }) = node.sessions.take(user, id).await else { continue };
                for _ in 0..random.below(20) {
                    tokio::task::yield_now().await;
                }
                place.resume(stream, travel(suspended));
                moved.insert(user.to_vec());
            }
            moved
        }));
    }

    let mut moved = BTreeSet::new();
    for mover in movers {
        moved.extend(mover.await.unwrap());
    }
    pushing.await.unwrap();
    done.send_replace(true);
    for client in clients {
        client.await.unwrap();
    }
    assert!(moved.len() > SESSIONS / 2, "only {} sessions moved", moved.len());
}

/// A client that sends numbered messages of many lengths, wants every echo and every push in order, and stays until the
/// others are done.
async fn talk(mut client: Client, seed: u64, messages: usize, mut done: watch::Receiver<bool>) {
    let mut random = Random(seed);
    let sent: Vec<String> =
        (0..messages).map(|number| format!("e{number} {}", "x".repeat(random.below(3000) as usize))).collect();
    let (mut echoes, mut pushes) = (0, 0);
    let mut said = 0;
    while echoes < messages || pushes < messages {
        if said < messages && said - echoes < 3 {
            client.feed(Message::text(sent[said].clone())).await.unwrap();
            client.flush().await.unwrap();
            said += 1;
            continue;
        }
        let text = next(&mut client).await.into_text().unwrap();
        if text.starts_with('p') {
            assert_eq!(text.as_str(), format!("p{pushes}"), "user {seed}");
            pushes += 1;
        } else {
            assert_eq!(text.as_str(), sent[echoes], "user {seed}");
            echoes += 1;
        }
    }
    within(done.wait_for(|done| *done)).await.unwrap();
    client.close(None).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Close(None), "nothing more comes");
}
