//! The ring changes under users who talk, and nobody is disconnected: their sessions go to their new owners, and back, with
//! everything that is under way. The same while one gateway after the other is started again. Keeps promise 3.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{config::Mode, ring::Ring};
use ringsteer_tests::{
    client::{Dial, Login, Message, Shape, open},
    demo::{stream::Stream, users},
    fleet::{Fleet, Options},
    lab::{Family, Lab},
    on_each_family, on_each_family_and_in_each_mode,
    rounds::owned_by,
    status::has,
};

on_each_family!(all_gateways_are_restarted_one_after_another_and_nobody_notices);
on_each_family_and_in_each_mode!(talking_users_follow_the_ring_and_notice_nothing);

const NODES: usize = 3;
const USERS: usize = 60;

/// How long the sessions may take to be where they belong.
const LIMIT: Duration = Duration::from_secs(60);

/// The nodes that own users, ring by ring: the first ring has all of them.
const RINGS: [&[usize]; 6] = [&[0], &[0, 1, 2], &[1, 2], &[2], &[0, 1], &[0, 1, 2]];

/// Says things to its gateway, each answered by an echo, until told to stop. Every message is another one, so nothing can
/// be lost, doubled or swapped unnoticed.
async fn talk(websocket: SocketAddr, user: String, talking: Arc<AtomicBool>, said: Arc<AtomicU64>) -> Result<u64> {
    let stream = Dial::new(websocket).connect().await?;
    let mut connection = open(stream, &[&Login::new(&user).request(Shape::Native)]).await?.connection()?;
    let mut messages = 0;
    said.fetch_add(1, Ordering::SeqCst);
    while talking.load(Ordering::SeqCst) {
        // Of every size: most in one segment, some in many.
        let padding = "x".repeat([10, 100, 1_000, 40_000][messages as usize % 4]);
        let message = Message::text(format!("{user} says {messages} {padding}"));
        connection.echo(message).await.with_context(|| format!("{user}, message {messages}"))?;
        messages += 1;
    }
    connection.close().await.with_context(|| format!("{user} says goodbye"))?;
    Ok(messages)
}

fn talking_users_follow_the_ring_and_notice_nothing(family: Family, mode: Mode) -> Result<()> {
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let fleet = Fleet::start(&lab, &Options { ring_file: true, ..Options::in_mode(family, mode) })?;
    let (talking, said) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let users: Vec<String> = (0..USERS).map(|index| format!("talker-{index}")).collect();
    let talkers = users
        .iter()
        .map(|user| lab.client(0).spawn(talk(fleet.websocket(), user.clone(), talking.clone(), said.clone())))
        .collect::<Result<Vec<_>>>()?;
    let owned = |ring: &Ring, node: usize| {
        let number = fleet.ring.members()[node].number;
        users.iter().filter(|user| ring.owner(user.as_bytes()).number == number).count() as u64
    };
    let changed = lab.router().block_on(async {
        let since = Instant::now();
        while said.load(Ordering::SeqCst) < USERS as u64 {
            ensure!(since.elapsed() < LIMIT, "{} users have come", said.load(Ordering::SeqCst));
            ensure!(!talkers.iter().any(tokio::task::JoinHandle::is_finished), "a user has gone");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for (index, active) in RINGS.iter().enumerate() {
            let ring = owned_by(&fleet.ring, index as u64 + 2, active)?;
            fleet.give_ring_to_all(&ring)?;
            for node in 0..NODES {
                let wanted = owned(&ring, node);
                fleet
                    .wait_for_status(node, has(&ring, wanted))
                    .await
                    .with_context(|| format!("ring {}: node {node} should have {wanted}", ring.epoch()))?;
            }
            println!("ring {}: all are where they belong after {:?}", ring.epoch(), since.elapsed());
        }
        Ok(())
    });
    talking.store(false, Ordering::SeqCst);
    let mut messages = 0;
    for talker in talkers {
        messages += lab.router().block_on(talker)??;
    }
    changed?;
    println!("{messages} messages");
    ensure!(messages > 0);
    Ok(())
}

/// Gateways that are started again, one after the other, and users who talk and are pushed to meanwhile.
const RESTARTED: usize = 5;
const PUSHED_TO: usize = 100;
const PUSHES_PER_S: u32 = 300;

/// Each node is drained, its gateway stopped by SIGTERM and started again, and gets its users back. Nobody is disconnected,
/// and every push arrives once and in order.
fn all_gateways_are_restarted_one_after_another_and_nobody_notices(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(RESTARTED).clients(1).build()?;
    let fleet = Fleet::start(&lab, &Options { ring_file: true, ..Options::all(family) })?;
    let users = users::connect(&fleet, PUSHED_TO)?;
    let crowd = users.crowd();
    let stream = Stream::start(&fleet, crowd, &fleet.ring, PUSHES_PER_S)?;
    crowd.talk(true);

    let everybody: Vec<usize> = (0..RESTARTED).collect();
    let mut epoch = fleet.ring.epoch().0;
    // The next ring, with everybody where they belong, and each pushed to there.
    let mut follow = |active: &[usize]| -> Result<()> {
        epoch += 1;
        let ring = owned_by(&fleet.ring, epoch, active)?;
        fleet.give_ring_to_all(&ring)?;
        stream.follow(&ring);
        lab.router().block_on(async {
            for node in 0..RESTARTED {
                let number = fleet.ring.members()[node].number;
                let names = users.names();
                let wanted = names.iter().filter(|user| ring.owner(user.as_bytes()).number == number).count() as u64;
                let waiting = fleet.wait_for_status(node, has(&ring, wanted)).await;
                waiting.with_context(|| format!("ring {epoch}: node {node} should have {wanted}"))?;
            }
            let (pushed, since) = (stream.delivered(), Instant::now());
            while stream.delivered() < pushed + 2 * PUSHED_TO as u64 {
                ensure!(since.elapsed() < LIMIT, "pushes stand still: {:?}", stream.trouble());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        })
    };
    let restarted = everybody.iter().try_for_each(|&node| -> Result<()> {
        let others: Vec<usize> = everybody.iter().copied().filter(|&other| other != node).collect();
        follow(&others)?;
        let gateway = &fleet.gateways[node];
        let ended = gateway.terminate(LIMIT)?;
        ensure!(ended.success(), "the gateway of node {node} ended with {ended}: {}", gateway.log_tail());
        gateway.restart()?;
        gateway.wait_for_log_line("following ring", LIMIT)?;
        follow(&everybody)
    });

    stream.finish(&fleet, crowd, restarted, LIMIT)
}
