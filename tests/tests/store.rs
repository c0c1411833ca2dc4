//! What membership tests stand on: a real etcd in the lab, and hosts that lose sight of each other.

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, ConnectOptions, GetOptions};
use ringsteer_tests::lab::{Etcd, Family, Host, Lab, Signal};
use ringsteer_tests::on_each_family;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(300);

const PORT: u16 = 10_001;

on_each_family!(hosts_that_are_parted_meet_again, an_isolated_host_hears_nobody);

/// The value of a key, asked from a host.
async fn value(endpoint: &str, key: &str) -> Result<String> {
    let options = ConnectOptions::new().with_connect_timeout(LIMIT).with_timeout(LIMIT);
    let mut client = Client::connect([endpoint], Some(options)).await?;
    let answer = client.get(key, None).await?;
    let found = answer.kvs().first().with_context(|| format!("there is no {key}"))?;
    Ok(found.value_str()?.to_owned())
}

#[test]
fn etcd_serves_both_families_and_keeps_its_data_over_a_kill() -> Result<()> {
    let lab = Lab::builder().nodes(1).stores(1).build()?;
    let etcd = Etcd::start(lab.store(0))?;
    lab.node(0).block_on(async {
        let mut client = Client::connect([etcd.endpoint(Family::V4)], None).await?;
        client.put("ring", "one", None).await?;
        anyhow::Ok(())
    })?;
    let ask = |family| lab.node(0).block_on(async { value(&etcd.endpoint(family), "ring").await });
    for family in Family::ALL {
        ensure!(ask(family)? == "one");
    }
    etcd.kill()?;
    ensure!(ask(Family::V4).is_err(), "a dead etcd answered");
    etcd.restart()?;
    ensure!(ask(Family::V6)? == "one");
    etcd.stop()?;
    ensure!(ask(Family::V4).is_err(), "an ended etcd answered");
    etcd.restart()?;
    ensure!(ask(Family::V4)? == "one");
    Ok(())
}

/// A lease of a second: what a node holds, and loses when it is not heard of.
#[test]
fn a_lease_of_a_second_ends_when_nobody_keeps_it() -> Result<()> {
    let lab = Lab::builder().nodes(1).stores(1).build()?;
    let etcd = Etcd::start(lab.store(0))?;
    lab.node(0).block_on(async {
        let mut client = Client::connect([etcd.endpoint(Family::V4)], None).await?;
        let lease = client.lease_grant(1, None).await?;
        ensure!(lease.ttl() == 1, "etcd grants no less than {} s", lease.ttl());
        let mut watch = client.watch("node", None).await?;
        let with_lease = etcd_client::PutOptions::new().with_lease(lease.id());
        client.put("node", "here", Some(with_lease)).await?;
        let gone = async {
            loop {
                let message = watch.message().await?.context("the watch ended")?;
                let is_end = |event: &etcd_client::Event| event.event_type() == etcd_client::EventType::Delete;
                if message.events().iter().any(is_end) {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(LIMIT, gone).await.context("the lease goes on")??;
        let count = client.get("node", Some(GetOptions::new().with_count_only())).await?.count();
        ensure!(count == 0);
        Ok(())
    })
}

#[test]
fn a_frozen_etcd_answers_nobody_until_it_goes_on() -> Result<()> {
    let lab = Lab::builder().nodes(1).stores(1).build()?;
    let etcd = Etcd::start(lab.store(0))?;
    let endpoint = etcd.endpoint(Family::V4);
    lab.node(0).block_on(async {
        let mut client = Client::connect([&endpoint], None).await?;
        client.put("ring", "one", None).await?;
        etcd.process().freeze(LIMIT)?;
        ensure!(tokio::time::timeout(SILENCE, client.get("ring", None)).await.is_err(), "a frozen etcd answered");
        etcd.process().signal(Signal::CONT);
        ensure!(value(&endpoint, "ring").await? == "one");
        Ok(())
    })
}

/// Echoes on a host's own address.
fn serve(host: &Host, family: Family) -> Result<()> {
    let address = (host.address(family), PORT);
    let (report, listening) = tokio::sync::oneshot::channel();
    host.spawn(async move {
        let listener = TcpListener::bind(address).await.expect("the host's own address");
        let _ = report.send(());
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(byte) = stream.read_u8().await
                    && stream.write_u8(byte).await.is_ok()
                {}
            });
        }
    })?;
    host.block_on(listening).context("the server ended")
}

/// Whether a connection from one host to the other can be made and used within `limit`.
fn reaches(from: &Host, to: &Host, family: Family, limit: Duration) -> bool {
    let address = (to.address(family), PORT);
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_u8(7).await?;
        stream.read_u8().await
    };
    from.block_on(async { tokio::time::timeout(limit, talk).await }).is_ok_and(|outcome| outcome.is_ok())
}

fn hosts_that_are_parted_meet_again(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).stores(1).build()?;
    let (one, other, third, store) = (lab.node(0), lab.node(1), lab.node(2), lab.store(0));
    for host in [one, other, third, store] {
        serve(host, family)?;
    }
    // A connection that is open already: it goes silent, and goes on afterwards.
    let mut open = one.block_on(TcpStream::connect((other.address(family), PORT)))?.into_std()?;
    open.set_nonblocking(false)?;

    let partition = lab.partition(&[one, store], &[other])?;
    for (from, to) in [(one, other), (other, one), (store, other), (other, store)] {
        ensure!(!reaches(from, to, family, SILENCE), "{} reaches {}", from.name(), to.name());
    }
    for (from, to) in [(one, third), (third, one), (one, store), (store, one), (third, other), (other, third)] {
        ensure!(reaches(from, to, family, LIMIT), "{} does not reach {}", from.name(), to.name());
    }
    open.write_all(&[9])?;
    open.set_read_timeout(Some(SILENCE))?;
    let silent = open.read(&mut [0]);
    ensure!(silent.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the open connection goes on");

    partition.heal()?;
    ensure!(reaches(one, other, family, LIMIT) && reaches(other, store, family, LIMIT), "the partition lasts");
    let mut answer = [0];
    open.set_read_timeout(Some(LIMIT))?;
    open.read_exact(&mut answer).context("over the connection that was open before")?;
    ensure!(answer == [9]);
    Ok(())
}

fn an_isolated_host_hears_nobody(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    for host in [lab.node(0), lab.node(1)] {
        serve(host, family)?;
    }
    let isolated = lab.isolate(lab.node(1))?;
    for from in [lab.node(0), lab.client(0), lab.pusher()] {
        ensure!(!reaches(from, lab.node(1), family, SILENCE), "{} reaches it", from.name());
        ensure!(reaches(from, lab.node(0), family, LIMIT), "{} reaches nobody", from.name());
    }
    drop(isolated);
    ensure!(reaches(lab.client(0), lab.node(1), family, LIMIT), "it is still isolated");
    Ok(())
}
