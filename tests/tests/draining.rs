//! An operator drains a node from another one, has the sessions wait, go faster and go on, and takes it all back; users
//! notice nothing. And what the commands say when something is wrong.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::ring::Ring;
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions, binary},
    lab::{Etcd, Family, Host, Lab},
    probe::{Options, Probe},
};
use serde_json::Value;

const NODES: usize = 3;
const USERS: usize = 36;

/// The node that is drained, from the first one.
const DRAINED: usize = 2;

/// Nothing here takes longer, unless it never ends.
const LIMIT: Duration = Duration::from_secs(60);

/// What a command has said, and how it has ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command(host: &Host, arguments: &str) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(arguments.split_whitespace()).env("RINGSTEER_CONFIG", host.run_dir().join("agent.toml"));
    command.stdin(Stdio::null());
    Ok(command)
}

fn say(host: &Host, arguments: &str) -> Result<Said> {
    let output = command(host, arguments)?.output()?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("not text");
    Ok(Said { code: output.status.code(), stdout: text(output.stdout)?, stderr: text(output.stderr)? })
}

/// How the moves of a node go, as the first node says.
fn moves(fleet: &Fleet<'_>, node: usize) -> Result<Value> {
    let said = say(fleet.lab.node(0), &format!("handoff status {} -o json", number(fleet, node)?))?;
    ensure!(said.code == Some(0), "{said:?}");
    Ok(serde_json::from_str::<Value>(&said.stdout)?["nodes"][0].clone())
}

/// The number that the store has given a node.
fn number(fleet: &Fleet<'_>, node: usize) -> Result<u64> {
    let ring = fleet.lab.router().block_on(fleet.ring_of(0))?;
    let identity = &fleet.ring.members()[node].identity;
    let member = ring.members().iter().find(|member| member.identity == *identity).context("it is no member")?;
    Ok(member.number.get().into())
}

fn wait_for(what: &str, mut there: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !there().with_context(|| what.to_owned())? {
        ensure!(since.elapsed() < LIMIT, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A `drain -o json` that goes on, line by line.
struct Draining {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Draining {
    fn start(host: &Host, arguments: &str) -> Result<Self> {
        let mut child = command(host, arguments)?.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no pipe")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// The next line that is as wanted. It ends when the command does.
    fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        for line in self.lines.by_ref() {
            last = serde_json::from_str(&line?)?;
            if wanted(&last) {
                return Ok(last);
            }
        }
        anyhow::bail!("it ended without such a line; the last was {last}")
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn users_of(fleet: &Fleet<'_>, ring: &Ring, node: usize) -> u64 {
    let identity = &fleet.ring.members()[node].identity;
    (0..USERS).filter(|index| ring.owner(format!("user-{index}").as_bytes()).identity == *identity).count() as u64
}

#[test]
fn a_node_is_drained_by_hand() -> Result<()> {
    let lab = Lab::builder().nodes(NODES).clients(1).stores(1).build()?;
    let etcd = Etcd::start(lab.store(0))?;
    let membership = format!("[membership]\nsource = \"etcd\"\nendpoints = [\"{}\"]\n", etcd.endpoint(Family::V4));
    let fleet = Fleet::start(&lab, &FleetOptions { membership: Some(membership), ..FleetOptions::default() })?;
    for node in 0..NODES {
        lab.router().block_on(fleet.wait_for_status(node, |s| s.peers.agrees == 2 && s.readiness.ready))?;
    }
    let ring = lab.router().block_on(fleet.ring_of(0))?;
    let held = users_of(&fleet, &ring, DRAINED);
    ensure!(held > 0, "nobody belongs to the node");
    let address = fleet.websocket();
    let mut users: Vec<Probe> = lab.client(0).run(|| {
        (0..USERS)
            .map(|index| Probe::open(address, &format!("user-{index}"), Options::default()))
            .collect::<Result<_>>()
    })?;
    let here = lab.node(0);
    let drained = number(&fleet, DRAINED)?;

    // Everywhere paused, so that what follows can be looked at.
    let said = say(here, "handoff pause -o json")?;
    ensure!(said.code == Some(0), "{said:?}");
    let nodes: Value = serde_json::from_str(&said.stdout)?;
    let listed = nodes["nodes"].as_array().context("no nodes")?;
    ensure!(listed.len() == NODES && listed.iter().all(|node| node["moves"]["paused"] == true), "{nodes}");

    let mut draining = Draining::start(here, &format!("drain {drained} -o json"))?;
    let waiting = draining.line(|line| line["state"] == "draining" && line["moves"]["waiting"] == held)?;
    ensure!(waiting["done"] == false && waiting["gone"] == 0 && waiting["moves"]["paused"] == true, "{waiting}");
    users.iter_mut().try_for_each(|user| user.echo(100)).context("while all wait")?;

    let said = say(here, &format!("handoff abort {drained}"))?;
    ensure!(said.code == Some(0) && said.stdout.contains("paused"), "{said:?}");
    let said = say(here, &format!("handoff rate 50 {drained} -o json"))?;
    ensure!(said.code == Some(0) && said.stdout.contains("\"moves_per_s\": 50"), "{said:?}");
    ensure!(moves(&fleet, DRAINED)?["moves"]["moved"] == 0, "something has gone: {}", moves(&fleet, DRAINED)?);
    let said = say(here, "handoff resume")?;
    ensure!(said.code == Some(0) && !said.stdout.contains("paused"), "{said:?}");
    let last = draining.line(|line| line["done"] == true)?;
    ensure!(last["gone"] == held && last["moves"]["sessions"] == 0 && last["moves"]["moved"] == held, "{last}");
    ensure!(draining.child.wait()?.success(), "the drain was not fine");
    users.iter_mut().try_for_each(|user| user.echo(100)).context("when the node was drained")?;
    // Again: there is nothing left to do, and for people.
    let said = say(here, &format!("drain {drained}"))?;
    ensure!(said.code == Some(0) && said.stdout.contains("; it may be stopped"), "{said:?}");

    // And back.
    let said = say(here, &format!("drain {drained} --end -o json"))?;
    ensure!(said.code == Some(0) && said.stdout.contains("\"active\""), "{said:?}");
    wait_for("its users come back", || Ok(moves(&fleet, DRAINED)?["moves"]["sessions"] == held))?;
    users.iter_mut().try_for_each(|user| user.echo(100)).context("when it was back")?;
    let said = say(here, &format!("drain {drained} --end"))?;
    ensure!(said.code == Some(1) && said.stderr.contains("is not drained"), "{said:?}");

    // What is wrong is named.
    for (arguments, code, words) in [
        ("drain gw-9", 1, "there is no node gw-9"),
        ("handoff status 77", 1, "the ring has no member 77"),
        ("handoff rate 0", 2, "handoff pause"),
        ("drain 2 --end --rate 5", 2, "cannot be used with"),
    ] {
        let said = say(here, arguments)?;
        ensure!(said.code == Some(code) && said.stderr.contains(words), "{arguments}: {said:?}");
    }
    fleet.gateways[DRAINED].kill()?;
    let said = say(here, &format!("handoff status {drained}"))?;
    ensure!(said.code == Some(3) && said.stdout.contains("no gateway is attached"), "{said:?}");
    fleet.agents[DRAINED].kill()?;
    wait_for("its link ends", || {
        let said = say(here, &format!("drain {drained} --no-wait"))?;
        Ok(said.code == Some(1) && said.stderr.contains("there is no link to it"))
    })
}
