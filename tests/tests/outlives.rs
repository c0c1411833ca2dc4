//! The data path outlives the agent (promise 4), and what is pinned can be read by people.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{
    control::{self, FlowMove, MoveOutcome, MoveStep, Moves},
    dataplane::maps::{LOG, PINNED},
};
use ringsteer_tests::{
    fleet::{self, Fleet, Options as FleetOptions},
    lab::{Family, Host, INTERFACE, Lab},
    on_each_family,
    probe::{Options, Probe},
};

on_each_family!(
    an_agent_killed_and_started_again_costs_no_packet,
    a_node_with_a_new_link_layer_address_is_found_without_an_agent,
    an_uninstalled_node_keeps_no_neighbours,
);

const READY: Duration = Duration::from_secs(30);

/// A field of `/proc/net/snmp`'s TCP lines on a host.
fn tcp_statistic(host: &Host, name: &str) -> Result<u64> {
    // Read on a thread of the host: the file speaks of the namespace of who reads it.
    let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(|line| line.split_whitespace());
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let (_, value) = names.zip(values).find(|(one, _)| *one == name).with_context(|| format!("no {name}"))?;
    Ok(value.parse()?)
}

/// Talks over open connections, and opens new ones, while `disturb` runs; nothing may be lost on the way.
fn undisturbed(fleet: &Fleet<'_>, disturb: impl FnOnce() -> Result<()>) -> Result<()> {
    let client = fleet.lab.client(0);
    let address = fleet.websocket();
    let mut probes = client.run(|| {
        (0..16)
            .map(|index| Probe::open(address, &format!("steady-{index}"), Options::default()))
            .collect::<Result<Vec<_>>>()
    })?;
    let retransmitted = tcp_statistic(client, "RetransSegs")?;
    let done = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let talking = scope.spawn(|| {
            let mut rounds = 0u32;
            while !done.load(Ordering::Relaxed) {
                for probe in &mut probes {
                    probe.echo(700)?;
                }
                client.run(|| Probe::open(address, &format!("new-{rounds}"), Options::default())?.echo(50))?;
                rounds += 1;
            }
            anyhow::Ok(rounds)
        });
        let disturbed = disturb();
        done.store(true, Ordering::Relaxed);
        let rounds = talking.join().expect("no panic")?;
        disturbed.map(|()| rounds)
    })?;
    ensure!(rounds > 2, "only {rounds} rounds of talk: nothing was shown");
    let lost = tcp_statistic(client, "RetransSegs")? - retransmitted;
    ensure!(lost == 0, "{lost} segments had to be sent again");
    Ok(())
}

fn an_agent_killed_and_started_again_costs_no_packet(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    undisturbed(&fleet, || {
        for agent in &fleet.agents {
            agent.kill()?;
        }
        for agent in &fleet.agents {
            agent.restart()?;
            agent.wait_for_log_line("replaced the running programs", READY)?;
            agent.wait_for_log_line("steering", READY)?;
        }
        Ok(())
    })
}

/// The kernel keeps the next hop known, not the agent.
fn a_node_with_a_new_link_layer_address_is_found_without_an_agent(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let edge = lab.node(lab.edge());
    // By itself, the kernel trusts an address that answered for half a minute, and then gives it time to answer again. It
    // need not take a test that long.
    let stack = if family == Family::V4 { "ipv4" } else { "ipv6" };
    for (setting, value) in [
        ("interval_probe_time_ms", "500"),
        ("base_reachable_time_ms", "1000"),
        ("delay_first_probe_time", "1"),
        ("retrans_time_ms", "200"),
    ] {
        edge.set_sysctl(&format!("net/{stack}/neigh/{INTERFACE}/{setting}"), value)?;
    }
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    let (index, other) = lab.nodes().iter().enumerate().find(|(index, _)| *index != lab.edge()).context("one node")?;
    let user = (0..)
        .map(|number| format!("user-{number}"))
        .find(|user| usize::from(fleet.ring.owner(user.as_bytes()).number.get()) == index + 1)
        .expect("every member owns somebody");
    let mut open = lab.client(0).run(|| Probe::open(fleet.websocket(), &user, Options::default()))?;
    fleet.agents[lab.edge()].kill()?;
    other.command("ip", &["link", "set", "dev", INTERFACE, "address", "02:00:5e:00:53:99"])?;
    // Both wait, sending again, until the edge has learnt the new address.
    open.echo(700)?;
    lab.client(0).run(|| Probe::open(fleet.websocket(), &user, Options::default()))?.echo(700)
}

/// `ringsteer uninstall` leaves nothing of ours in the neighbour table.
fn an_uninstalled_node_keeps_no_neighbours(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    let edge = lab.node(lab.edge());
    let agent = &fleet.agents[lab.edge()];
    for node in lab.nodes().iter().filter(|node| node.name() != edge.name()) {
        agent.wait_for_log_line(&format!("keeps the next hop {} known", node.address(family)), READY)?;
    }
    let managed = || edge.command("ip", &["neigh"]).map(|text| text.matches(" managed").count());
    agent.terminate(READY)?;
    ensure!(managed()? == 2, "the kernel keeps {} neighbours once the agent is gone", managed()?);
    fs::copy(edge.run_dir().join("agent.toml"), edge.run_dir().join("uninstall.toml"))?;
    let uninstalled = edge.run(|| fleet::command(edge, "uninstall")?.output().context("cannot run uninstall"))?;
    ensure!(uninstalled.status.success(), "{}", String::from_utf8_lossy(&uninstalled.stderr));
    ensure!(managed()? == 0, "the kernel still keeps {} neighbours", managed()?);
    Ok(())
}

/// Another build of the programs, from source.
fn other_build(directory: &Path) -> Result<PathBuf> {
    let out = directory.join("upgrade");
    let status = Command::new("cargo")
        .args(["xtask", "build-ebpf", "--variant", "upgrade", "--out"])
        .arg(&out)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "building the other programs failed");
    Ok(out.join("ringsteer.bpf.o"))
}

#[test]
fn an_upgrade_to_newly_built_programs_costs_no_packet() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let object = other_build(lab.node(0).run_dir())?;
    let before = lab.router().block_on(fleet.status(0))?;
    undisturbed(&fleet, || {
        for (index, agent) in fleet.agents.iter().enumerate() {
            agent.terminate(READY)?;
            let host = lab.node(index);
            let mut command = fleet::command(host, "agent")?;
            command.arg("--object").arg(&object);
            host.spawn_command("upgraded", command)?.wait_for_log_line("steering", READY)?;
        }
        Ok(())
    })?;
    let after = lab.router().block_on(fleet.status(0))?;
    for (old, new) in before.programs.iter().zip(&after.programs) {
        ensure!(old.id != new.id, "the program {} was not replaced", old.name);
    }
    ensure!(before.programs[0].tag != after.programs[0].tag, "the upgrade ran the same instructions");
    Ok(())
}

/// Every map must be legible to somebody who has only `bpftool`.
#[test]
fn every_pinned_map_shows_named_fields() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let open = lab.client(0).run(|| Probe::open(fleet.websocket(), "somebody", Options::default()))?;
    // There is no entry of `moves` unless somebody moves.
    let client = SocketAddr::new(lab.client(0).address(Family::V4), open.port());
    let flows = vec![FlowMove { client, service: fleet.websocket(), count: 1, first_ack: 0 }];
    let hold = Moves { step: MoveStep::Hold, flows, promise: None };
    let socket = fleet.socket(lab.edge());
    let outcomes =
        tokio::runtime::Runtime::new()?.block_on(async { control::MoveClient::new(socket).ask(hold).await })?;
    ensure!(outcomes == [MoveOutcome::Done], "{outcomes:?}");
    let pins = lab.node(lab.edge()).pin_dir();
    let dump = |map: &str| -> Result<serde_json::Value> {
        let path = pins.join(map);
        let output = Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(&path).output()?;
        ensure!(output.status.success(), "{map}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).with_context(|| format!("{map} is not dumped as JSON"))
    };
    let expected: [(&str, &[&str], &[&str]); 9] = [
        ("services", &["address", "port"], &["service", "mss", "parameter_length", "parameter"]),
        ("nodes", &[], &["address", "here", "identity_length", "identity"]),
        ("node_addrs", &["address"], &["node"]),
        ("this_node", &[], &["node", "tunnel_port", "address"]),
        (
            "flows",
            &["client", "client_port", "service"],
            &[
                "bound_ns",
                "last_seen_ns",
                "packets",
                "bytes",
                "node",
                "key_hash",
                "first_ack",
                "last_ack",
                "closing",
                "moved",
                "syn_slot",
            ],
        ),
        (
            "moves",
            &["client", "client_port", "service"],
            &["since_ns", "last_sent_ns", "held", "sent_on", "node", "count", "first_ack", "unused"],
        ),
        ("moving", &[], &["entries"]),
        ("secrets", &[], &["current", "previous"]),
        ("stats", &[], ringsteer_ebpf::layout::stats::Stats::NAMES),
    ];
    // Every map but the ring, which is looked at below, and those that hold lines of text or packets for a moment.
    let covered = expected.iter().map(|(map, ..)| *map).chain(["ring", "held_frames", LOG]).collect::<BTreeSet<_>>();
    ensure!(covered == PINNED.iter().copied().collect(), "pinned are {PINNED:?}, looked at are {covered:?}");
    // The manual has a section for each, and in it a row for each field; counters are too many for that.
    let manual = include_str!("../../docs/bpftool.md");
    for (map, keys, values) in expected.iter().filter(|(map, ..)| *map != "stats") {
        let start = manual.find(&format!("\n## `{map}`")).with_context(|| format!("docs/bpftool.md lacks {map}"))?;
        let section = manual[start + 1..].split("\n## ").next().unwrap_or_default();
        for field in keys.iter().chain(*values) {
            let named = section.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{field}`")));
            ensure!(named, "docs/bpftool.md does not explain {map}.{field}");
        }
    }
    for (map, keys, values) in expected {
        let dumped = dump(map)?;
        let entry = dumped.get(0).with_context(|| format!("{map} is empty"))?["formatted"].clone();
        for field in keys {
            ensure!(entry["key"].get(field).is_some(), "the key of {map} does not show {field}: {entry}");
        }
        let value = if map == "stats" { &entry["values"][0]["value"] } else { &entry["value"] };
        for field in values {
            ensure!(value.get(field).is_some(), "the value of {map} does not show {field}: {entry}");
        }
    }
    // The ring is an inner map, named by its number.
    let outer = dump("ring")?;
    let bytes: Vec<u8> = outer[0]["value"]
        .as_array()
        .context("the slot of the ring is not shown")?
        .iter()
        .filter_map(|byte| u8::from_str_radix(byte.as_str()?.trim_start_matches("0x"), 16).ok())
        .collect();
    let id = u32::from_le_bytes(bytes.try_into().ok().context("not a map id")?);
    let output = Command::new("bpftool").args(["-j", "map", "dump", "id", &id.to_string()]).output()?;
    let inner: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let ring = &inner[0]["formatted"]["value"];
    ensure!(ring["epoch"] == 1 && ring["point_count"] == 40, "the ring shows {}", &ring["epoch"]);
    ensure!(ring["points"][0].get("hash").is_some() && ring["points"][0].get("node").is_some(), "points without names");
    Ok(())
}
