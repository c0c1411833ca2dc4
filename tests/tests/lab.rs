//! The lab itself: hosts reach each other, labs do not meet, nothing is left behind.

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringsteer_tests::client::{Dial, write_chunks};
use ringsteer_tests::lab::rough::{RoughLink, Roughness};
use ringsteer_tests::lab::{Family, Host, Lab, LogMark, Signal};
use ringsteer_tests::{client, on_each_family, seed};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 10001;

on_each_family!(
    clients_and_pusher_reach_the_node_that_the_virtual_address_is_routed_to,
    no_node_says_that_the_virtual_address_is_its_own,
    a_detour_passes_through_another_host_until_it_is_dropped,
    a_megabyte_survives_a_rough_link_and_the_smooth_one_comes_back,
    a_link_that_loses_everything_lets_nothing_through,
    a_vanished_client_says_nothing,
);

/// Listens on the virtual addresses of a node and answers each byte with the node's number.
async fn who_are_you(lab: &Lab, node: usize) -> Result<()> {
    for family in Family::ALL {
        let (report, listening) = tokio::sync::oneshot::channel();
        let address = (lab.virtual_address(family), PORT);
        lab.node(node).spawn(async move {
            let listener = TcpListener::bind(address).await.expect("the virtual address is on lo of every node");
            let _ = report.send(());
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while stream.read_u8().await.is_ok() && stream.write_u8(node as u8).await.is_ok() {}
                });
            }
        })?;
        listening.await.context("the server ended")?;
    }
    Ok(())
}

/// Connects to the virtual address and asks who is there.
fn ask(host: &Host, address: IpAddr) -> Result<usize> {
    host.block_on(async {
        let mut stream = Dial::new((address, PORT)).connect().await?;
        stream.write_u8(0).await?;
        Ok(tokio::time::timeout(LIMIT, stream.read_u8()).await??.into())
    })
}

/// What carries a lab's name on this machine.
fn traces(lab: &str) -> Vec<PathBuf> {
    let in_directory = |directory: &str| std::fs::read_dir(directory).into_iter().flatten().flatten();
    in_directory("/run/netns")
        .chain(in_directory("/run/ringsteer-lab"))
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| is_of(lab, &name.to_string_lossy())))
        .collect()
}

fn is_of(lab: &str, name: &str) -> bool {
    name.strip_prefix(lab).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
}

/// A process that is watched until its end.
struct Watched(OwnedFd);

impl Watched {
    fn new(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(pid as i32).context("0 is no process")?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("process {pid:?}"))?))
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::try_from(limit).expect("a short time")).is_ok_and(|ready| ready == 1)
    }
}

fn clients_and_pusher_reach_the_node_that_the_virtual_address_is_routed_to(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(2).build()?;
    lab.router().block_on(async {
        for node in 0..3 {
            who_are_you(&lab, node).await?;
        }
        anyhow::Ok(())
    })?;
    for node in [0, 2, 1] {
        lab.route_virtual_to(node)?;
        ensure!(lab.edge() == node);
        for host in [lab.client(0), lab.client(1), lab.pusher()] {
            let reached = ask(host, lab.virtual_address(family))?;
            ensure!(reached == node, "{} reached node {reached}, not {node}", host.name());
        }
    }
    Ok(())
}

/// Neither to ARP nor to neighbour discovery.
fn no_node_says_that_the_virtual_address_is_its_own(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let virtual_address = lab.virtual_address(family);
    lab.router().block_on(async {
        who_are_you(&lab, 0).await?;
        who_are_you(&lab, 1).await
    })?;
    // As if the virtual address were a host on the fleet's own network.
    let network = format!("{virtual_address}/{}", family.bits());
    lab.router().command("ip", &["route", "replace", &network, "dev", "fleet"])?;
    let outcome = lab.client(0).block_on(async {
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect((virtual_address, PORT))).await
    });
    ensure!(!matches!(outcome, Ok(Ok(_))), "some node answered");
    // The question was asked, though: the silence is the nodes'.
    let neighbours =
        lab.router().command("ip", &["neigh", "show", "to", &virtual_address.to_string(), "dev", "fleet"])?;
    ensure!(neighbours.contains("INCOMPLETE") || neighbours.contains("FAILED"), "neighbours: {neighbours:?}");
    lab.router().command("ip", &["route", "del", &network, "dev", "fleet"])?;
    lab.route_virtual_to(1)?;
    ensure!(ask(lab.client(0), virtual_address)? == 1);
    Ok(())
}

fn a_detour_passes_through_another_host_until_it_is_dropped(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).stores(1).build()?;
    let (node, store) = (lab.node(0), lab.store(0));
    let address = SocketAddr::new(node.address(family), PORT);
    let _listener = node.run(|| std::net::TcpListener::bind(address))?;
    let connect = || lab.client(0).run(|| std::net::TcpStream::connect_timeout(&address, LIMIT)).map(drop);

    let detour = lab.detour(node, store)?;
    connect()?;
    let forwarded = forwarded_by(store, family)?;
    // The SYN, at least: the rest may still be under way.
    ensure!(forwarded >= 1, "{forwarded} packets took the detour");
    drop(detour);
    let before = forwarded_by(store, family)?;
    for _ in 0..10 {
        connect()?;
    }
    let after = forwarded_by(store, family)?;
    ensure!(after - before <= 2, "{} packets took a detour that is gone", after - before);
    Ok(())
}

/// Packets that a host has passed on.
fn forwarded_by(host: &Host, family: Family) -> Result<u64> {
    let (file, name) = match family {
        Family::V4 => ("snmp", "ForwDatagrams"),
        Family::V6 => ("snmp6", "Ip6OutForwDatagrams"),
    };
    let text = host.run(|| std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)))?;
    let value = match family {
        // A line of names, a line of values.
        Family::V4 => {
            let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
            let (names, values) = lines.next().zip(lines.next()).context("two lines on IP")?;
            names
                .split_whitespace()
                .zip(values.split_whitespace())
                .find(|(its, _)| *its == name)
                .map(|(_, value)| value)
        }
        Family::V6 => text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim),
    };
    Ok(value.with_context(|| format!("{file} has no {name}"))?.parse()?)
}

#[test]
fn two_labs_do_not_meet_and_a_sweep_spares_the_living() -> Result<()> {
    let [one, other] = [Lab::builder().nodes(2).build()?, Lab::builder().nodes(2).build()?];
    ensure!(one.name() != other.name());
    // The same addresses, different nodes.
    one.router().block_on(who_are_you(&one, 0))?;
    other.router().block_on(who_are_you(&other, 1))?;
    other.route_virtual_to(1)?;

    let swept = Lab::sweep()?;
    ensure!(!swept.iter().any(|name| name == one.name() || name == other.name()), "swept {swept:?}");
    for family in Family::ALL {
        ensure!(ask(one.client(0), one.virtual_address(family))? == 0);
        ensure!(ask(other.client(0), other.virtual_address(family))? == 1);
    }
    drop(one);
    for family in Family::ALL {
        ensure!(ask(other.client(0), other.virtual_address(family))? == 1);
    }
    Ok(())
}

#[test]
fn a_dropped_lab_leaves_nothing() -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let name = lab.name().to_owned();
    let bpffs = lab.node(0).pin_dir().parent().context("a directory in the bpffs")?.to_owned();
    ensure!(traces(&name).len() == 2 + 2 + 2 + 1, "expected five hosts, a lock and a directory: {:?}", traces(&name));
    ensure!(std::fs::read_to_string("/proc/self/mounts")?.contains(&*bpffs.to_string_lossy()));

    // A pin is the most stubborn thing a node can leave: a directory with it in cannot be removed file by file.
    lab.node(1).command("mkdir", &["-p", &lab.node(1).pin_dir().join("deeper").to_string_lossy()])?;
    drop(lab);
    ensure!(traces(&name).is_empty(), "left behind: {:?}", traces(&name));
    ensure!(!std::fs::read_to_string("/proc/self/mounts")?.contains(&*bpffs.to_string_lossy()));
    Ok(())
}

/// A program with a lab of its own, and what it said while it built it.
struct Owner {
    program: Child,
    lab: String,
    said: Vec<String>,
}

impl Owner {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut program = Command::new(env!("CARGO_BIN_EXE_ringsteer-lab"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(program.stdout.take().context("piped")?).lines();
        let said = lines.take_while(|line| !matches!(line, Ok(line) if line.starts_with("Ctrl-C")));
        let said = said.collect::<Result<Vec<_>, _>>()?;
        let first = said.first().context("the owner said nothing")?;
        let lab = first.split(' ').next().context("the first word is the lab's name")?.to_owned();
        ensure!(!traces(&lab).is_empty(), "no lab {lab}");
        Ok(Self { program, lab, said })
    }
}

#[test]
fn a_lab_whose_owner_was_killed_is_swept() -> Result<()> {
    let mut owner = Owner::start(&["--nodes", "2"])?;
    owner.program.kill()?;
    owner.program.wait()?;
    // Other tests sweep, too: one of them may be at it, holding the lock, or have been.
    let deadline = Instant::now() + LIMIT;
    while !traces(&owner.lab).is_empty() {
        ensure!(Instant::now() < deadline, "left behind: {:?}", traces(&owner.lab));
        Lab::sweep()?;
    }
    Ok(())
}

#[test]
fn processes_die_with_a_killed_owner() -> Result<()> {
    let mut owner = Owner::start(&["--nodes", "2", "--on-nodes", "exec sleep 1000"])?;
    let pids = owner.said.iter().filter_map(|line| line.trim().strip_prefix("process ")?.split(' ').next());
    let watched = pids.map(|pid| Watched::new(pid.parse()?)).collect::<Result<Vec<_>>>()?;
    ensure!(watched.len() == 2, "{:?}", owner.said);
    owner.program.kill()?;
    owner.program.wait()?;
    ensure!(watched.iter().all(|process| process.ends_within(LIMIT)));
    Ok(())
}

#[test]
fn an_interrupted_program_leaves_nothing() -> Result<()> {
    let mut owner = Owner::start(&["--nodes", "1", "--on-nodes", "exec sleep 1000"])?;
    rustix::process::kill_process(Pid::from_child(&owner.program), Signal::INT)?;
    ensure!(owner.program.wait()?.code() == Some(130));
    ensure!(traces(&owner.lab).is_empty(), "left behind: {:?}", traces(&owner.lab));
    Ok(())
}

/// A shell that starts a child, prints its process number, and waits.
fn shell_with_child() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo child $!; wait"]);
    command
}

#[test]
fn processes_and_their_children_die_with_the_lab() -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let process = lab.node(0).spawn_command("shell", shell_with_child())?;
    let line = process.wait_for_log_line("child ", LIMIT)?;
    let child: u32 = line.trim_start_matches("child ").parse()?;
    let watched = [Watched::new(process.pid())?, Watched::new(child)?];
    ensure!(process.is_running());
    drop(lab);
    ensure!(watched.iter().all(|process| process.ends_within(LIMIT)));
    ensure!(process.wait(LIMIT)?.signal() == Some(9));
    Ok(())
}

#[test]
fn a_process_outlives_the_thread_that_asked_for_it() -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let process = lab.node(0).run(|| lab.node(0).spawn_command("shell", shell_with_child()))?;
    process.wait_for_log_line("child ", LIMIT)?;
    // The thread is gone; a child of it would have been killed with it.
    let early = process.wait(Duration::from_millis(100));
    ensure!(early.is_err(), "ended with {early:?}");
    ensure!(process.terminate(LIMIT)?.signal() == Some(15));
    Ok(())
}

#[test]
fn a_process_runs_on_its_host_logs_and_starts_again() -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let mut command = Command::new("sh");
    command.args(["-c", "ip -o -4 addr show dev eth0; echo to stderr >&2; echo ready; exec sleep 1000"]);
    let process = lab.node(1).spawn_command("server", command)?;
    let address = lab.node(1).v4().to_string();
    process.wait_for_log_line(&address, LIMIT)?;
    process.wait_for_log_line("ready", LIMIT)?;
    process.wait_for_log_line("to stderr", LIMIT)?;

    let first = process.pid();
    process.restart()?;
    process.wait_for_log_line("ready", LIMIT)?;
    ensure!(process.pid() != first);
    let log = std::fs::read_to_string(process.log_path())?;
    ensure!(log.matches("ready").count() == 2, "the file has both runs: {log:?}");

    // What was there before the mark does not count, and an error says what is in the log.
    let mark = process.log_mark();
    ensure!(mark != LogMark::default());
    let error = process.wait_for_log(mark, Duration::from_millis(50), |line| line.contains("ready")).unwrap_err();
    ensure!(error.to_string().contains("to stderr"), "{error}");

    ensure!(process.kill()?.signal() == Some(9));
    let error = process.wait_for_log_line("never printed", LIMIT).unwrap_err();
    ensure!(format!("{error:#}").contains("closed its log"), "{error:#}");
    Ok(())
}

#[test]
fn a_command_that_does_not_exist_is_an_error() -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let error = lab.node(0).spawn_command("nothing", Command::new("/nonexistent/program")).unwrap_err();
    ensure!(format!("{error:#}").contains("No such file"), "{error:#}");
    Ok(())
}

#[test]
fn every_node_has_a_bpffs_directory_for_its_pins() -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    ensure!(lab.node(0).pin_dir() != lab.node(1).pin_dir());
    for node in lab.nodes() {
        let kind = nix::sys::statfs::statfs(node.pin_dir())?.filesystem_type();
        ensure!(kind == nix::sys::statfs::BPF_FS_MAGIC, "{kind:?}");
        ensure!(Path::new(node.run_dir()).is_dir());
    }
    Ok(())
}

/// A megabyte each way over a connection from the first client.
fn megabyte_both_ways(lab: &Lab, family: Family) -> Result<()> {
    const SIZE: usize = 1 << 20;
    let data: Vec<u8> = (0..SIZE).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    let address = SocketAddr::from((lab.virtual_address(family), PORT));

    let (report, listening) = tokio::sync::oneshot::channel();
    let server = lab.node(0).spawn(async move {
        let listener = TcpListener::bind(address).await?;
        let _ = report.send(());
        let (mut stream, _) = listener.accept().await?;
        let mut received = vec![0; SIZE];
        stream.read_exact(&mut received).await?;
        stream.write_all(&received).await?;
        anyhow::Ok(())
    })?;
    lab.client(0).block_on(async {
        listening.await?;
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&data).await?;
        let mut received = vec![0; SIZE];
        stream.read_exact(&mut received).await?;
        ensure!(received == data, "the bytes came back changed");
        server.await??;
        Ok(())
    })
}

fn a_megabyte_survives_a_rough_link_and_the_smooth_one_comes_back(family: Family) -> Result<()> {
    let seed = seed::from_environment();
    let lab = Lab::builder().nodes(1).build()?;
    let link = RoughLink::between(&lab, lab.client(0), Roughness::BAD, Roughness::BAD, seed)?;
    let start = Instant::now();
    megabyte_both_ways(&lab, family)?;
    for (direction, counts) in [("up", link.up()), ("down", link.down())] {
        eprintln!("{direction}: {counts:?} in {:?}", start.elapsed());
        ensure!(counts.lost > 0 && counts.held > 0 && counts.duplicated > 0, "{direction} was smooth: {counts:?}");
    }
    lab.router().block_on(who_are_you(&lab, 0))?;
    drop(link);
    ask(lab.client(0), lab.virtual_address(family))?;
    let route = lab.client(0).command("ip", &["route", "get", &lab.virtual_address(family).to_string()])?;
    ensure!(route.contains("dev eth0"), "{route}");
    Ok(())
}

fn a_link_that_loses_everything_lets_nothing_through(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let address = lab.virtual_address(family);
    lab.router().block_on(who_are_you(&lab, 0))?;
    let dead = Roughness { loss_permille: 1000, ..Roughness::SMOOTH };
    let link = RoughLink::between(&lab, lab.client(0), Roughness::SMOOTH, dead, 0)?;
    let outcome = lab.client(0).block_on(async {
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect((address, PORT))).await
    });
    ensure!(outcome.is_err(), "connected over a dead link");
    ensure!(link.up().sent > 0 && link.down().lost > 0 && link.down().sent == 0);
    // The other hosts have no part in it.
    ensure!(ask(lab.pusher(), address)? == 0);
    Ok(())
}

fn a_vanished_client_says_nothing(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let address = SocketAddr::from((lab.virtual_address(family), PORT));
    let (report, listening) = tokio::sync::oneshot::channel();
    let server = lab.node(0).spawn(async move {
        let listener = TcpListener::bind(address).await?;
        let _ = report.send(());
        let (mut stream, _) = listener.accept().await?;
        let first = stream.read_u8().await?;
        let then = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
        anyhow::Ok((first, then.is_err()))
    })?;
    let (first, silent) = lab.client(0).block_on(async {
        listening.await?;
        let mut stream = Dial::new(address).connect().await?;
        write_chunks(&mut stream, &[&[7]], client::Pace::Acknowledged).await?;
        client::vanish(stream)?;
        server.await?
    })?;
    ensure!(first == 7 && silent, "the server heard of it");
    Ok(())
}
