//! The ring changes under users who talk, and nobody is disconnected: their sessions go to their new owners, and back, with
//! everything that is under way. The same while one gateway after the other is started again. Keeps promise 3.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
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
    rounds::{Rounds, owned_by},
    scrape::{GATEWAY, Scrape},
    status::has,
};

on_each_family!(all_gateways_are_restarted_one_after_another_and_nobody_notices);
on_each_family!(what_was_kept_is_sent_on_when_the_new_owner_listens);
on_each_family!(a_session_keeps_its_name_whenever_the_ring_changes);
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

/// A fleet whose gateways write down each step of each move.
fn that_writes_down_its_moves(lab: &Lab, family: Family) -> Result<Fleet<'_>> {
    let log = Some("info,ringsteer::handoff=debug");
    Fleet::start(lab, &Options { ring_file: true, log, ..Options::all(family) })
}

/// What the gateways have written down of moves: the line up to the move, and the move.
fn said_of_moves(fleet: &Fleet<'_>) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for gateway in &fleet.gateways {
        let log = fs::read_to_string(gateway.log_path())?;
        let of_moves = log.lines().filter_map(|line| line.rsplit_once(" by move "));
        all.extend(of_moves.map(|(said, id)| (said.to_owned(), id.to_owned())));
    }
    Ok(all)
}

/// Of each move: when it was decided, when the new owner went on, and when the old one had sent on to it what had come
/// meanwhile; by the logs of both, which one clock has stamped.
fn moments(fleet: &Fleet<'_>) -> Result<Vec<[Duration; 3]>> {
    const WHAT: [&str; 3] = [" is given to ", " session is here now,", " what comes for it is sent on,"];
    let mut seen: HashMap<String, [Option<Duration>; 3]> = HashMap::new();
    for (said, id) in said_of_moves(fleet)? {
        if let Some(which) = WHAT.iter().position(|what| said.contains(what)) {
            seen.entry(id).or_default()[which] = Some(time_of_day(&said)?);
        }
    }
    Ok(seen.into_values().filter_map(|[given, went_on, sent_on]| Some([given?, went_on?, sent_on?])).collect())
}

/// When a line of a log was written.
fn time_of_day(line: &str) -> Result<Duration> {
    let time = line.split(['T', 'Z']).nth(1).with_context(|| format!("no time: {line}"))?;
    time.split(':').try_fold(Duration::ZERO, |sum, part| Ok(sum * 60 + Duration::from_secs_f64(part.parse()?)))
}

/// What has come for a session while it moved is sent on to its new owner when that listens, and not before: it would be
/// lost, and come again after the client's timeout only. The gateways count how long each session was silent.
fn what_was_kept_is_sent_on_when_the_new_owner_listens(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let fleet = that_writes_down_its_moves(&lab, family)?;
    let users = users::connect(&fleet, USERS)?;
    users.crowd().talk(true);
    let mut rounds = Rounds::of(&fleet);
    for node in [0, 1, 2, 0, 1] {
        rounds.send_to(&[node], &users.names())?;
    }
    users.crowd().talk(false);
    let since = Instant::now();
    loop {
        let (mut moved, mut silent) = (0.0, 0.0);
        for node in lab.nodes() {
            let figures = Scrape::of(node, GATEWAY)?;
            moved += figures.value("ringsteer_moves_total{outcome=\"moved\"}")?;
            silent += figures.value("ringsteer_move_silence_seconds_count")?;
        }
        if moved == silent {
            break;
        }
        ensure!(since.elapsed() < LIMIT, "{moved} sessions have moved, and {silent} were silent");
        thread::sleep(Duration::from_millis(10));
    }
    let moments = moments(&fleet)?;
    // Who hears nothing of the new owner sends on after 500 ms without that.
    let in_time = |took| took < Duration::from_millis(400);
    let answered = |[given, _, sent_on]: &&[Duration; 3]| sent_on.checked_sub(*given).is_some_and(in_time);
    let answered: Vec<_> = moments.iter().filter(answered).collect();
    println!("{} moves, {} of them in time", moments.len(), answered.len());
    ensure!(answered.len() > USERS, "there were no more than {} moves", answered.len());
    for [_, went_on, sent_on] in answered {
        ensure!(went_on <= sent_on, "sent on at {sent_on:?}, and the new owner went on at {went_on:?}");
    }
    Ok(())
}

/// A ring that changes again while copies of sessions wait at their new owner for the word: none of them is taken for a
/// session that has just come, and gets another name. What counts its moves would begin anew with that, and the edges would
/// not believe it.
fn a_session_keeps_its_name_whenever_the_ring_changes(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let fleet = that_writes_down_its_moves(&lab, family)?;
    let users = users::connect(&fleet, USERS)?;
    users.crowd().talk(true);
    let mut rounds = Rounds::of(&fleet);
    for round in 0..10 {
        // Each while moves of the one before are under way.
        for node in 0..NODES {
            rounds.next(&[node])?;
            let under_way = Instant::now();
            while !(0..NODES).any(|node| arriving(&lab, node).unwrap_or(true)) {
                if under_way.elapsed() > Duration::from_millis(50) {
                    break;
                }
            }
        }
        rounds.send_to(&[round % NODES], &users.names())?;
    }
    users.crowd().talk(false);
    let mut names: HashMap<String, HashSet<String>> = HashMap::new();
    for (said, id) in said_of_moves(&fleet)? {
        let Some((before, _)) = said.split_once(": session is here now,") else { continue };
        let (Some(client), Some((name, _))) = (before.split(' ').next_back(), id.split_once('+')) else { continue };
        names.entry(client.to_owned()).or_default().insert(name.to_owned());
    }
    println!("{} sessions have moved", names.len());
    ensure!(names.len() >= USERS, "only {} sessions have moved", names.len());
    for (client, names) in names {
        ensure!(names.len() == 1, "{client} has been called {names:?}");
    }
    Ok(())
}

/// Whether copies wait at a node.
fn arriving(lab: &Lab, node: usize) -> Result<bool> {
    Ok(Scrape::of(lab.node(node), GATEWAY)?.value("ringsteer_moves_under_way{stage=\"arriving\"}")? > 0.0)
}
