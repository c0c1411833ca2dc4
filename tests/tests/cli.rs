//! What the operator's commands say, against what the fleet is known to be: with the agent, without it, and with one that
//! does not answer. Promise 4 goes for the view, too: it outlives the agent.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{
    control::{Answer, NamedRing, Rings, Status},
    ring::{Epoch, Member, MemberState, Ring, RingDescription},
};
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::{Family, Host, Lab, Process},
    on_each_family,
    probe::{Options, Probe},
};
use rustix::process::Signal;
use serde_json::Value;

/// How long a process may take to say something or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Users with a connection.
const USERS: usize = 12;

/// What a command has said, and how it has ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    #[track_caller]
    fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{self:?}"))
    }
}

/// `ringsteer <arguments>`, for the node whose configuration that is.
fn command(configuration: &Path, arguments: &str) -> Command {
    let binary = std::env::var_os("RINGSTEER_BIN").expect("RINGSTEER_BIN is not set: run this through `cargo xtask`");
    let mut command = Command::new(binary);
    command.args(arguments.split_whitespace()).env("RINGSTEER_CONFIG", configuration).stdin(Stdio::null());
    command
}

/// What `ringsteer <arguments>` says on `host`.
fn say(host: &Host, arguments: &str) -> Result<Said> {
    said(&mut command(&host.run_dir().join("agent.toml"), arguments))
}

fn said(command: &mut Command) -> Result<Said> {
    let output = command.output()?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("not text");
    Ok(Said { code: output.status.code(), stdout: text(output.stdout)?, stderr: text(output.stderr)? })
}

/// The JSON that a command prints that has nothing to object to.
#[track_caller]
fn json(host: &Host, arguments: &str) -> Result<Value> {
    say(host, &format!("{arguments} -o json"))?.ended_with(0).json()
}

/// Which user the connection of a number is of.
fn user(index: usize) -> String {
    format!("cli-{index}")
}

/// Connects all of them.
fn connect(fleet: &Fleet<'_>) -> Result<Vec<Probe>> {
    let address = fleet.websocket();
    fleet.lab.client(0).run(|| (0..USERS).map(|index| Probe::open(address, &user(index), Options::default())).collect())
}

/// The fleet's ring of a later epoch, in which its last member is draining.
fn draining(ring: &Ring, epoch: u64) -> Result<Ring> {
    let mut members: Vec<Member> = ring.members().to_vec();
    members.last_mut().context("no members")?.state = MemberState::Draining;
    Ok(Ring::new(Epoch(epoch), ring.algorithm(), members)?)
}

/// How many of the users each member of `ring` owns, by its number.
fn owned(ring: &Ring) -> HashMap<u64, u64> {
    let mut owned = HashMap::new();
    for index in 0..USERS {
        *owned.entry(ring.owner(user(index).as_bytes()).number.get().into()).or_default() += 1;
    }
    owned
}

/// All nodes are ready and agree, on a ring of this epoch.
fn settle(fleet: &Fleet<'_>, epoch: u64) -> Result<()> {
    let nodes = fleet.lab.nodes().len();
    let settled = |status: &Status| {
        let ring = status.ring.as_ref().is_some_and(|ring| ring.epoch.0 == epoch);
        ring && status.readiness.ready && status.peers.agrees as usize == nodes - 1
    };
    fleet.lab.router().block_on(async {
        for node in 0..nodes {
            fleet.wait_for_status(node, settled).await?;
        }
        anyhow::Ok(())
    })
}

/// All sessions are where the ring has their users, and the edge knows it.
fn wait_for_moves(fleet: &Fleet<'_>, ring: &Ring) -> Result<()> {
    let (owned, since) = (owned(ring), std::time::Instant::now());
    loop {
        let nodes = json(fleet.lab.node(fleet.lab.edge()), "nodes")?;
        let listed = nodes["members"].as_array().context("no members")?;
        let right = |member: &Value| {
            let number = member["number"].as_u64().unwrap_or_default();
            member["flows"] == owned.get(&number).copied().unwrap_or(0)
        };
        if listed.iter().all(right) {
            return Ok(());
        }
        ensure!(since.elapsed() < std::time::Duration::from_secs(60), "{nodes}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What `who` says of each user.
fn check_who(host: &Host, now: &Ring, before: Option<&Ring>, source: &str) -> Result<()> {
    for index in 0..USERS {
        let user = user(index);
        let who = json(host, &format!("who {user}"))?;
        let owner = now.owner(user.as_bytes());
        ensure!(who["source"] == source && who["user"] == user.as_str() && who["agree"] == true, "{who}");
        ensure!(who["position"] == now.algorithm().hash_key(user.as_bytes()), "{who}");
        ensure!(
            who["kernel"]["node"] == owner.number.get() && who["userspace"]["number"] == owner.number.get(),
            "{who}"
        );
        ensure!(who["kernel"]["address"] == owner.address.to_string(), "{who}");
        ensure!(who["userspace"]["ring"]["digest"] == now.digest().to_string(), "{who}");
        match before {
            Some(before) => {
                ensure!(who["previous"]["number"] == before.owner(user.as_bytes()).number.get(), "{who}");
            }
            None => ensure!(who["previous"].is_null(), "{who}"),
        }
    }
    Ok(())
}

/// What `nodes`, `services`, `flows` and `ring show` say while users are connected, each where `now` has it.
fn check_lists(fleet: &Fleet<'_>, host: &Host, now: &Ring, source: &str) -> Result<()> {
    let owned = owned(now);
    let nodes = json(host, "nodes")?;
    ensure!(nodes["source"] == source && nodes["epoch"] == now.epoch().0 && nodes["orphaned_flows"] == 0, "{nodes}");
    let listed = nodes["members"].as_array().context("no members")?;
    ensure!(listed.len() == now.members().len(), "{nodes}");
    for ((shown, member), (_, share)) in listed.iter().zip(now.members()).zip(now.shares()) {
        ensure!(shown["number"] == member.number.get() && shown["identity"] == member.identity.as_str(), "{shown}");
        ensure!(
            shown["address"] == member.address.to_string() && shown["state"] == member.state.to_string(),
            "{shown}"
        );
        ensure!((shown["share"].as_f64().context("no share")? - share).abs() < 1e-9, "{shown}");
        let flows = owned.get(&member.number.get().into()).copied().unwrap_or(0);
        ensure!(shown["flows"] == flows, "{shown}, of whom {flows} are known");
    }

    let services = json(host, "services")?;
    let listed = services["services"].as_array().context("no services")?;
    ensure!(services["source"] == source && listed.len() == 2, "{services}");
    let websocket =
        listed.iter().find(|one| one["address"] == fleet.websocket().to_string()).context("no websocket")?;
    ensure!(websocket["name"] == "websocket" && websocket["parameter"] == "sendID", "{services}");
    ensure!(websocket["flows"] == USERS && websocket["serve"] == "websocket", "{services}");
    let push = listed.iter().find(|one| one["address"] == fleet.push().to_string()).context("no push")?;
    ensure!(push["flows"] == 0 && push["number"].is_u64() && push["number"] != websocket["number"], "{services}");

    check_flows(fleet, host, now, &owned, source)?;

    let shown = json(host, "ring show")?;
    let origin = if source == "agent" { "agent" } else { "maps" };
    ensure!(shown["origin"] == origin, "{shown}");
    let rebuilt: RingDescription = serde_json::from_value(shown)?;
    ensure!(Ring::try_from(rebuilt)?.name() == now.name(), "another ring than is in force");
    Ok(())
}

fn check_flows(fleet: &Fleet<'_>, host: &Host, now: &Ring, owned: &HashMap<u64, u64>, source: &str) -> Result<()> {
    let all = json(host, "flows")?;
    ensure!(all["source"] == source && all["total"] == USERS && all["matched"] == USERS, "{all}");
    ensure!(all["flows"].as_array().map(Vec::len) == Some(USERS), "{all}");
    let (client, stranger) = match fleet.websocket().is_ipv4() {
        true => (fleet.lab.client(0).address(Family::V4), "203.0.113.254"),
        false => (fleet.lab.client(0).address(Family::V6), "2001:db8:113::254"),
    };
    let of_client = json(host, &format!("flows --client {client} --limit 5"))?;
    ensure!(of_client["matched"] == USERS && of_client["flows"].as_array().map(Vec::len) == Some(5), "{of_client}");
    ensure!(json(host, &format!("flows --client {stranger}"))?["matched"] == 0);
    for member in fleet.ring.members() {
        let expected = owned.get(&member.number.get().into()).copied().unwrap_or(0);
        let Member { number, identity, .. } = member;
        for name in [number.to_string(), identity.to_string(), identity.name().to_owned()] {
            let of_node = json(host, &format!("flows --node {name}"))?;
            ensure!(of_node["matched"] == expected && of_node["total"] == USERS, "{name}: {of_node}");
            let flows = of_node["flows"].as_array().context("no flows")?;
            ensure!(flows.iter().all(|flow| flow["identity"] == identity.as_str()), "{of_node}");
        }
    }
    for index in 0..USERS {
        let of_user = json(host, &format!("flows --user {}", user(index)))?;
        let owner = now.owner(user(index).as_bytes());
        ensure!(of_user["matched"] == 1 && of_user["flows"][0]["node"] == owner.number.get(), "{of_user}");
        ensure!(of_user["flows"][0]["service"] == fleet.websocket().to_string(), "{of_user}");
    }
    Ok(())
}

on_each_family!(each_command_says_what_the_fleet_is, without_the_agent_the_maps_answer);

fn each_command_says_what_the_fleet_is(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    settle(&fleet, 1)?;
    let edge = lab.node(lab.edge());
    let lost = say(edge, "ring show previous")?.ended_with(1);
    ensure!(lost.stderr.contains("no ring before the one in force"), "{lost:?}");
    let _open = connect(&fleet)?;
    let second = draining(&fleet.ring, 2)?;
    fleet.give_ring_to_all(&second)?;
    settle(&fleet, 2)?;
    wait_for_moves(&fleet, &second)?;

    let status = json(edge, "status")?;
    ensure!(status["told_by"] == "agent" && status["source"]["name"] == "file", "{status}");
    ensure!(status["ring"]["digest"] == second.digest().to_string(), "{status}");
    ensure!(status["ring"]["previous"]["digest"] == fleet.ring.digest().to_string(), "{status}");
    ensure!(status["peers"]["agrees"] == 2 && status["flows"] == USERS, "{status}");
    let others = status["others"].as_array().context("no others")?;
    ensure!(others.len() == 2 && others.iter().all(|one| one["standing"] == "agrees"), "{status}");
    let people = say(edge, "status")?.ended_with(0).stdout;
    println!("{people}");
    for line in
        ["node        node-1, member 1, active", "ready       yes", "peers       2 agree", "source      file, no"]
    {
        ensure!(people.contains(line), "{line:?} is not in\n{people}");
    }

    check_who(edge, &second, Some(&fleet.ring), "agent")?;
    for index in 0..USERS {
        // Sessions follow the ring, and every node finds them there.
        let user = user(index);
        for host in lab.nodes() {
            let who = json(host, &format!("who {user}"))?;
            let nodes = who["sessions"].as_array().context("nobody was asked")?;
            let holds = |node: &&Value| node["sessions"].as_array().is_some_and(|sessions| !sessions.is_empty());
            let holders: Vec<_> = nodes.iter().filter(holds).map(|node| &node["number"]).collect();
            ensure!(holders == [&Value::from(second.owner(user.as_bytes()).number.get())], "{who}");
        }
    }
    let everywhere = json(edge, "who nobody-of-this-name --everywhere")?;
    ensure!(everywhere["sessions"].as_array().map(Vec::len) == Some(3), "{everywhere}");
    println!("{}", say(edge, "who cli-0")?.ended_with(0).stdout);

    check_lists(&fleet, edge, &second, "agent")?;
    let previous: RingDescription = serde_json::from_value(json(edge, "ring show previous")?)?;
    ensure!(Ring::try_from(previous)?.name() == fleet.ring.name(), "another ring than was in force");
    let moved = say(edge, "ring diff previous current")?.ended_with(3);
    ensure!(moved.stdout.contains("previous: epoch 1"), "{moved:?}");
    let nodes = say(edge, "nodes")?.ended_with(0).stdout;
    println!("{nodes}");
    ensure!(
        nodes.lines().filter(|line| line.contains(" agrees ")).count() == 2 && nodes.contains("draining"),
        "{nodes}"
    );
    for arguments in ["services", "flows --limit 3"] {
        println!("{}", say(edge, arguments)?.ended_with(0).stdout);
    }

    let stats = json(edge, "stats")?;
    ensure!(stats["source"] == "agent" && stats["flows"] == USERS, "{stats}");
    ensure!(stats["counters"]["bound_by_key"] == USERS, "{stats}");
    let people = say(edge, "stats")?.ended_with(0).stdout;
    ensure!(people.contains("bound_by_key") && !people.contains("drop_internal"), "{people}");
    Ok(())
}

#[test]
fn a_node_that_is_not_well_ends_status_with_3_and_names_who_differs() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    settle(&fleet, 1)?;
    say(lab.node(0), "status")?.ended_with(0);
    fleet.give_ring(0, &draining(&fleet.ring, 2)?)?;
    fleet.give_ring(1, &Ring::new(Epoch(2), fleet.ring.algorithm(), fleet.ring.members().to_vec())?)?;
    lab.router().block_on(fleet.wait_for_status(0, |status| status.peers.differs == 1 && !status.readiness.ready))?;
    let status = say(lab.node(0), "status")?.ended_with(3).stdout;
    println!("{status}");
    let other = fleet.ring.members()[1].identity.as_str();
    let accused = status.lines().any(|line| line.contains(other) && line.contains("differs ("));
    ensure!(accused && status.contains("ready       NO") && status.contains("1 differs"), "{status}");
    let judged = say(lab.node(0), "status -o json")?.ended_with(3).json()?;
    ensure!(judged["readiness"]["ready"] == false && judged["others"][0]["standing"] == "differs", "{judged}");
    Ok(())
}

fn without_the_agent_the_maps_answer(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    settle(&fleet, 1)?;
    let second = draining(&fleet.ring, 2)?;
    let edge = lab.node(lab.edge());
    let mut open = connect(&fleet)?;
    fleet.give_ring_to_all(&second)?;
    settle(&fleet, 2)?;
    wait_for_moves(&fleet, &second)?;
    fleet.agents[lab.edge()].kill()?;

    check_status_left(&fleet, edge, &second)?;
    for arguments in ["who cli-0", "nodes", "services", "flows --limit 3", "stats", "ring show", "ring show previous"] {
        let said = say(edge, arguments)?.ended_with(0);
        println!("# ringsteer {arguments}\n{}{}", said.stderr, said.stdout);
        let notes = said.stderr.lines().filter(|line| line.contains("no agent answers on")).count();
        ensure!(notes == 1 && said.stderr.contains("; this is what the maps pinned in"), "{said:?}");
    }
    // The agent's memory on disk names the members, in their order, and the ring before.
    check_who(edge, &second, Some(&fleet.ring), "maps")?;
    ensure!(json(edge, "who cli-0")?["sessions"].is_null(), "sessions that nobody was asked for");
    check_lists(&fleet, edge, &second, "maps")?;
    let previous: RingDescription = serde_json::from_value(json(edge, "ring show previous")?)?;
    ensure!(Ring::try_from(previous)?.name() == fleet.ring.name(), "another ring than was in force");

    // Without that memory, the maps alone.
    let memory = edge.run_dir().join("ring.json");
    let aside = memory.with_extension("aside");
    fs::rename(&memory, &aside)?;
    check_who(edge, &second, None, "maps")?;
    check_lists(&fleet, edge, &second, "maps")?;
    say(edge, "ring show previous")?.ended_with(1);
    // With one of another ring: it is not believed.
    let stranger = Rings { current: Some((&fleet.ring).into()), previous: None };
    fs::write(&memory, serde_json::to_string(&stranger)?)?;
    check_who(edge, &second, None, "maps")?;
    fs::rename(&aside, &memory)?;

    // The kernel steers on, and what it does shows.
    let before = json(edge, "stats")?;
    let address = fleet.websocket();
    open.push(lab.client(0).run(|| Probe::open(address, "cli-late", Options::default()))?);
    let after = json(edge, "stats")?;
    ensure!(after["source"] == "maps" && after["flows"] == USERS + 1, "{after}");
    ensure!(after["max_flows"] == before["max_flows"] && after["max_flows"].as_u64() >= Some(16_384), "{after}");
    let bound = |stats: &Value| stats["counters"]["bound_by_key"].as_u64().context("no such counter");
    ensure!(bound(&after)? == bound(&before)? + 1, "{before} {after}");
    let late = json(edge, "flows --user cli-late")?;
    ensure!(late["flows"][0]["node"] == second.owner(b"cli-late").number.get(), "{late}");

    // What is not there cannot be read, and nobody says it was.
    let nowhere = say(edge, "stats --pin-dir /nonexistent")?.ended_with(1);
    ensure!(nowhere.stderr.contains("nothing is pinned in /nonexistent"), "{nowhere:?}");
    say(edge, "flows --node nobody")?.ended_with(1);

    fleet.agents[lab.edge()].restart()?;
    settle(&fleet, 2)?;
    ensure!(json(edge, "stats")?["source"] == "agent");
    Ok(())
}

/// What `status` says of a node whose agent is dead.
fn check_status_left(fleet: &Fleet<'_>, edge: &Host, now: &Ring) -> Result<()> {
    let dead = say(edge, "status")?.ended_with(3);
    println!("{}{}", dead.stderr, dead.stdout);
    ensure!(dead.stderr.contains("no agent answers on") && dead.stderr.contains("; this is what the maps"), "{dead:?}");
    let ring = format!("ring        epoch {}, digest {}, 3 members", now.epoch(), now.digest().short());
    let flows = format!("flows       {USERS} of ");
    for line in ["ready       NO", "agent       none that answers", "link        steer-native-eth0", &ring, &flows] {
        ensure!(dead.stdout.contains(line), "{line:?} is not in\n{}", dead.stdout);
    }
    let told = say(edge, "status -o json")?.ended_with(3).json()?;
    ensure!(told["told_by"] == "maps" && told["readiness"]["ready"] == false, "{told}");
    ensure!(told["readiness"]["reasons"].as_array().map(Vec::len) == Some(1), "{told}");
    let ours = &now.members()[fleet.lab.edge()];
    ensure!(told["node"] == ours.number.get() && told["identity"] == ours.identity.as_str(), "{told}");
    ensure!(told["ring"]["epoch"] == now.epoch().0 && told["ring"]["members"] == 3, "{told}");
    ensure!(told["ring"]["digest"] == now.digest().short().to_string(), "{told}");
    ensure!(told["flows"] == USERS && told["counters"]["bound_by_key"] == USERS, "{told}");
    ensure!(told["links"].as_array().map(Vec::len) == Some(2), "{told}");
    Ok(())
}

#[test]
fn an_agent_that_is_stopped_is_not_waited_for() -> Result<()> {
    let lab = Lab::builder().nodes(1).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions { gateways: false, ..FleetOptions::default() })?;
    fleet.agents[0].freeze(PATIENCE)?;
    let said = say(lab.node(0), "ring show -o json")?.ended_with(0);
    fleet.agents[0].signal(Signal::CONT);
    ensure!(said.stderr.contains("has not answered within"), "{said:?}");
    let shown = said.json()?;
    ensure!(shown["digest"] == fleet.ring.digest().to_string() && shown["origin"] == "maps", "{shown}");
    Ok(())
}

/// The next line of JSON after what was seen before that `wanted` likes.
fn next_line(watch: &Process, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
    let mark = watch.log_mark();
    let line = watch.wait_for_log(mark, PATIENCE, |line| parse(line).is_some_and(|value| wanted(&value)))?;
    parse(&line).context("just parsed")
}

#[test]
fn watching_goes_on_over_the_agents_death_and_ends_cleanly() -> Result<()> {
    let lab = Lab::builder().nodes(1).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let (node, address) = (lab.node(0), fleet.websocket());
    let configuration = node.run_dir().join("agent.toml");
    let watch = node.spawn_command("watch", command(&configuration, "stats --watch 100ms -o json"))?;
    // It has a first reading, so what is counted from now on moves.
    watch.wait_for_log_line("\"taken_at_ms\"", PATIENCE)?;
    let mut probe = lab.client(0).run(|| Probe::open(address, "watched", Options::default()))?;
    let bound = watch.wait_for_log_line("\"bound_by_key\"", PATIENCE)?;
    let bound: Value = serde_json::from_str(&bound)?;
    ensure!(bound["source"] == "agent" && bound["counters"]["bound_by_key"]["total"] == 1, "{bound}");
    let (rate, seconds) = (bound["counters"]["bound_by_key"]["per_s"].as_f64(), bound["seconds"].as_f64());
    ensure!((rate.context("no rate")? * seconds.context("no time")? - 1.0).abs() < 1e-6, "{bound}");
    // Nothing more is bound, so that counter stands still and is left out; the others are zero since ever.
    let idle = next_line(&watch, |line| line["counters"]["bound_by_key"].is_null())?;
    ensure!(idle["counters"]["drop_internal"].is_null() && idle["flows"] == 1, "{idle}");

    fleet.agents[0].kill()?;
    next_line(&watch, |line| line["source"] == "maps")?;
    let mark = watch.log_mark();
    lab.client(0).run(|| probe.echo(1000))?;
    watch
        .wait_for_log(mark, PATIENCE, |line| line.contains("\"source\":\"maps\"") && line.contains("\"delivered\""))?;
    fleet.agents[0].restart()?;
    next_line(&watch, |line| line["source"] == "agent")?;
    watch.wait_for_log_line("the agent answers again", PATIENCE)?;
    watch.signal(Signal::INT);
    let ended = watch.wait(PATIENCE)?;
    ensure!(ended.success(), "{ended}");

    // A reader who has seen enough, such as `head`, ends it as well.
    let mut child = command(&configuration, "stats --watch 100ms").stdout(Stdio::piped()).spawn()?;
    let mut first = String::new();
    BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut first)?;
    ensure!(!first.is_empty() && child.wait()?.success(), "{first}");
    Ok(())
}

/// A socket that is answered by `answer`, each time it is asked; without one it is silent.
fn pretend(socket: &Path, answer: Option<String>) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            match &answer {
                Some(answer) => {
                    let mut request = String::new();
                    let asked = BufReader::new(&stream).read_line(&mut request);
                    // A client that goes away has been answered all the same.
                    let _ = asked.and_then(|_| stream.write_all(answer.as_bytes()));
                }
                None => silent.push(stream),
            }
        }
    });
    Ok(())
}

#[test]
fn a_ring_that_cannot_be_verified_is_refused_and_a_silent_agent_given_up() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let ask = |socket: &str, arguments: &str| {
        let socket = directory.path().join(socket);
        said(&mut command(Path::new("/nonexistent"), &format!("{arguments} --socket {}", socket.display())))
    };
    let text = r#"{"epoch":1,"members":[{"number":1,"identity":"gw-0:88","address":"198.51.100.1"}]}"#;
    let mut ring: RingDescription = serde_json::from_str(text)?;
    let digest = Ring::try_from(ring.clone())?.digest();
    ring.members[0].address = "198.51.100.2".parse()?;
    let altered = NamedRing { ring, digest };
    let answer = |current| anyhow::Ok(serde_json::to_string(&Answer::Ring(Rings { current, previous: None }))? + "\n");

    pretend(&directory.path().join("altered"), Some(answer(Some(altered))?))?;
    for arguments in ["ring show", "ring show previous", "ring simulate --add gw-9:88", "ring diff current gw-0:88,"] {
        let said = ask("altered", arguments)?.ended_with(1);
        ensure!(said.stderr.contains("its members make ring") && said.stdout.is_empty(), "{said:?}");
    }
    pretend(&directory.path().join("empty"), Some(answer(None)?))?;
    let said = ask("empty", "ring show")?.ended_with(1);
    ensure!(said.stderr.contains("no ring in force yet"), "{said:?}");
    pretend(&directory.path().join("silent"), None)?;
    let said = ask("silent", "ring show")?.ended_with(1);
    ensure!(said.stderr.contains("has not answered within") && said.stderr.contains("--pin-dir"), "{said:?}");
    let said = ask("absent", "status")?.ended_with(1);
    ensure!(said.stderr.contains("no agent answers on"), "{said:?}");
    Ok(())
}

#[test]
fn a_wrong_command_line_ends_with_2() -> Result<()> {
    let wrong = [
        "who",
        "flows --client not-an-address",
        "flows --limit many",
        "stats --watch 1ms",
        "stats --watch 1h",
        "nodes extra",
        "services -o yaml",
        "status --nonsense",
    ];
    for arguments in wrong {
        let said = said(&mut command(Path::new("/nonexistent"), arguments))?.ended_with(2);
        ensure!(said.stdout.is_empty() && !said.stderr.is_empty(), "{said:?}");
    }
    // Every command documents its exit codes and shows examples.
    for name in ["status", "who", "nodes", "services", "flows", "stats", "ring show", "ring diff", "ring simulate"] {
        let help = said(&mut command(Path::new("/nonexistent"), &format!("{name} --help")))?.ended_with(0).stdout;
        ensure!(help.contains("Exit codes:") && help.contains("Examples:"), "{name}: {help}");
    }
    Ok(())
}
