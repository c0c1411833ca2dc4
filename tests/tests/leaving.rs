//! A gateway is told to stop (SIGTERM). Its sessions go to the others and nobody is disconnected, without anything else
//! that an operator does; where there are no others, every client is told to come again. Keeps promise 3.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use ringsteer::ring::{MemberState, Ring};
use ringsteer_tests::{
    client::{Connection, Dial, Login, Message, Shape, open},
    fleet::{Fleet, Options},
    lab::{Etcd, Family, Lab},
    on_each_family,
    status::has,
};

on_each_family!(a_rolling_restart_disconnects_nobody, who_is_alone_tells_everybody);

const NODES: usize = 3;
const USERS: usize = 60;

/// How long a gateway may take to end, and anything else here.
const LIMIT: Duration = Duration::from_secs(60);

async fn connect(websocket: SocketAddr, user: String) -> Result<Connection> {
    let stream = Dial::new(websocket).connect().await?;
    open(stream, &[&Login::new(&user).request(Shape::Native)]).await?.connection()
}

/// Says things to its gateway, each answered by an echo, until told to stop.
async fn talk(websocket: SocketAddr, user: String, talking: Arc<AtomicBool>, said: Arc<AtomicU64>) -> Result<()> {
    let mut connection = connect(websocket, user.clone()).await?;
    said.fetch_add(1, Ordering::SeqCst);
    let mut messages = 0;
    while talking.load(Ordering::SeqCst) {
        let padding = "x".repeat([10, 100, 1_000, 40_000][messages % 4]);
        let message = Message::text(format!("{user} says {messages} {padding}"));
        connection.echo(message).await.with_context(|| format!("{user}, message {messages}"))?;
        messages += 1;
    }
    connection.close().await.with_context(|| format!("{user} says goodbye"))
}

/// Waits until all nodes have one ring, in which the nodes for which `active` is true are those that own users.
async fn agree(fleet: &Fleet<'_>, active: impl Fn(usize) -> bool) -> Result<Ring> {
    let since = Instant::now();
    loop {
        let rings = try_join_all((0..NODES).map(|node| fleet.ring_of(node))).await;
        if let Ok(rings) = &rings
            && rings.iter().all(|ring| ring.name() == rings[0].name())
            && (0..NODES).all(|node| {
                let identity = &fleet.ring.members()[node].identity;
                let state =
                    |one: &ringsteer::ring::Member| one.state == MemberState::Active && one.identity == *identity;
                rings[0].members().iter().any(state) == active(node)
            })
        {
            return Ok(rings[0].clone());
        }
        if since.elapsed() > LIMIT {
            bail!("the nodes never had the ring waited for; the last are {rings:?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn a_rolling_restart_disconnects_nobody(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(NODES).clients(1).stores(1).build()?;
    let etcd = Etcd::start(lab.store(0))?;
    let membership = format!("[membership]\nsource = \"etcd\"\nendpoints = [\"{}\"]\n", etcd.endpoint(family));
    let fleet = Fleet::start(&lab, &Options { membership: Some(membership), ..Options::all(family) })?;
    lab.router().block_on(agree(&fleet, |_| true))?;
    let (talking, said) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let users: Vec<String> = (0..USERS).map(|index| format!("talker-{index}")).collect();
    let talkers = users
        .iter()
        .map(|user| lab.client(0).spawn(talk(fleet.websocket(), user.clone(), talking.clone(), said.clone())))
        .collect::<Result<Vec<_>>>()?;
    let all_are_owned = async |ring: &Ring, nodes: &[usize]| {
        for &node in nodes {
            let identity = &fleet.ring.members()[node].identity;
            let ours = users.iter().filter(|user| ring.owner(user.as_bytes()).identity == *identity).count() as u64;
            let status = fleet.wait_for_status(node, has(ring, ours)).await;
            status.with_context(|| format!("node {node} should have {ours} sessions"))?;
        }
        anyhow::Ok(())
    };
    let restarted = lab.router().block_on(async {
        let since = Instant::now();
        while said.load(Ordering::SeqCst) < USERS as u64 {
            ensure!(since.elapsed() < LIMIT, "{} users have come", said.load(Ordering::SeqCst));
            ensure!(!talkers.iter().any(tokio::task::JoinHandle::is_finished), "a user has gone");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for node in 0..NODES {
            let end = fleet.gateways[node].terminate(LIMIT)?;
            ensure!(end.success(), "gateway {node}: {end}");
            fleet.gateways[node].wait_for_log_line(" 0 stay and are closed", LIMIT)?;
            let others: Vec<_> = (0..NODES).filter(|&other| other != node).collect();
            let without = agree(&fleet, |other| other != node).await?;
            all_are_owned(&without, &others).await.with_context(|| format!("after gateway {node} had ended"))?;

            fleet.gateways[node].restart()?;
            let with = agree(&fleet, |_| true).await?;
            all_are_owned(&with, &[0, 1, 2]).await.with_context(|| format!("when gateway {node} was back"))?;
        }
        Ok(())
    });
    talking.store(false, Ordering::SeqCst);
    for talker in talkers {
        lab.router().block_on(talker)??;
    }
    restarted
}

fn who_is_alone_tells_everybody(family: Family) -> Result<()> {
    // More than are told in one batch.
    const CLIENTS: usize = 120;
    let lab = Lab::builder().nodes(1).clients(1).build()?;
    let fleet = Fleet::start(&lab, &Options::all(family))?;
    let clients = lab.client(0).spawn({
        let websocket = fleet.websocket();
        async move { try_join_all((0..CLIENTS).map(|index| connect(websocket, format!("user-{index}")))).await }
    })?;
    let clients = lab.router().block_on(clients)??;
    fleet.gateways[0].signal(rustix::process::Signal::TERM);
    let told =
        lab.client(0).spawn(try_join_all(clients.into_iter().map(
            async |mut client| match client.receive().await? {
                Message::Close(Some(close)) => {
                    let code = u16::from(close.code);
                    let end = client.receive().await.expect_err("the end");
                    ensure!(format!("{end:#}").contains("closed"), "{end:#}");
                    Ok(code)
                }
                other => bail!("told {other:?}"),
            },
        )))?;
    let told = lab.router().block_on(told)??;
    ensure!(told.iter().all(|&code| code == 1012), "{told:?}");
    let end = fleet.gateways[0].wait(LIMIT)?;
    ensure!(end.success(), "{end}");
    Ok(())
}
