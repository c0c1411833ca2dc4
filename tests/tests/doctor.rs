//! `ringsteer doctor`: nothing to say about a healthy node, and exactly what is broken about one with one thing broken.
//!
//! Where a finding says how to mend it by a command, the test runs that very command, and the node is healthy again.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer::{
    config::Mode,
    ring::{Epoch, Ring},
};
use ringsteer_tests::{
    fleet::{self, Fleet, Options as FleetOptions},
    kernel::older,
    lab::{Family, Host, INTERFACE, Lab, xdp_pass},
    probe::{self, Options, Probe},
};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

const READY: Duration = Duration::from_secs(30);

/// TCP port of a service that neither gateway nor agent listens on.
const FOREIGN_PORT: u16 = 10_005;

/// A service with somebody else's server behind it.
fn foreign_service(lab: &Lab) -> FleetOptions {
    let address = SocketAddr::from((lab.virtual_address(Family::V4), FOREIGN_PORT));
    let extra = format!("[[services]]\nname = \"foreign\"\naddress = \"{address}\"\n");
    FleetOptions { extra, ..FleetOptions::default() }
}

/// Gives the doctor a configuration of its own on a host, as private as it should be.
fn configure(host: &Host) -> Result<()> {
    let path = host.run_dir().join("doctor.toml");
    fs::copy(host.run_dir().join("agent.toml"), &path)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

fn run(host: &Host, arguments: &[&str]) -> Result<Output> {
    host.run(|| fleet::command(host, "doctor")?.args(arguments).output().context("cannot run ringsteer"))
}

/// A report: the exit code, and the findings.
struct Report {
    code: i32,
    findings: Vec<Value>,
}

fn examine(host: &Host, arguments: &[&str]) -> Result<Report> {
    Report::of(&run(host, &[&["-o", "json"], arguments].concat())?)
}

impl Report {
    fn of(output: &Output) -> Result<Self> {
        let said = String::from_utf8_lossy(&output.stderr);
        let report: Value =
            serde_json::from_slice(&output.stdout).with_context(|| format!("no report, but: {said}"))?;
        let findings = report["findings"].as_array().context("no findings")?.clone();
        Ok(Self { code: output.status.code().context("killed")?, findings })
    }

    /// What is not as it must be: check and outcome, each pair once. Whether something keeps this machine's clock is
    /// the machine's affair.
    fn complaints(&self) -> Vec<(&str, &str)> {
        let mut complaints: Vec<_> = self
            .findings
            .iter()
            .map(|finding| (finding["check"].as_str().unwrap_or("?"), finding["outcome"].as_str().unwrap_or("?")))
            .filter(|(check, outcome)| !matches!(*outcome, "ok" | "not_applicable") && *check != "clock")
            .collect();
        complaints.dedup();
        complaints
    }

    /// The first finding of that check that has something to mend.
    fn mend(&self, check: &str) -> Result<&str> {
        let finding = self.findings.iter().find(|finding| finding["check"] == check && finding["mend"].is_string());
        finding.and_then(|finding| finding["mend"].as_str()).with_context(|| format!("{check} has nothing to mend"))
    }

    fn show(&self) -> String {
        let bad = |finding: &&Value| !matches!(finding["outcome"].as_str(), Some("ok" | "not_applicable"));
        self.findings.iter().filter(bad).map(|finding| format!("{finding:#}\n")).collect()
    }
}

/// Becomes healthy: links between nodes and news of a change take a moment.
fn becomes_healthy(host: &Host) -> Result<()> {
    let deadline = Instant::now() + READY;
    loop {
        match is_healthy(host) {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
}

fn is_healthy(host: &Host) -> Result<()> {
    let report = examine(host, &[])?;
    ensure!(report.complaints().is_empty() && report.code == 0, "exit code {}:\n{}", report.code, report.show());
    Ok(())
}

/// Complains about exactly this.
fn complains(host: &Host, expected: &[(&str, &str)]) -> Result<Report> {
    let report = examine(host, &[])?;
    ensure!(report.complaints() == expected, "expected {expected:?}, and got\n{}", report.show());
    let wrong = expected.iter().any(|(_, outcome)| *outcome == "wrong");
    ensure!(report.code == if wrong { 3 } else { 0 }, "exit code {}", report.code);
    Ok(report)
}

fn shell(host: &Host, line: &str) -> Result<()> {
    host.command("sh", &["-ec", line]).map(drop)
}

/// Breaks something, sees it found, mends it as it is said to be mended, and sees nothing left.
fn broken_and_mended(host: &Host, broken: &str, check: &str, outcome: &str) -> Result<()> {
    let attempt = || {
        shell(host, broken)?;
        let report = complains(host, &[(check, outcome)])?;
        shell(host, report.mend(check)?)?;
        is_healthy(host)
    };
    attempt().with_context(|| format!("after `{broken}`"))
}

/// A listener on the foreign service's address.
fn listen(host: &Host, address: SocketAddr, protocol: Option<i32>) -> Result<TcpListener> {
    host.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, protocol.map(Protocol::from))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(16)?;
        Ok(socket.into())
    })
}

#[test]
fn one_thing_broken_at_a_time() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &foreign_service(&lab))?;
    let node = lab.node(0);
    configure(node)?;
    let foreign = SocketAddr::from((lab.virtual_address(Family::V4), FOREIGN_PORT));
    let server = listen(node, foreign, None)?;
    becomes_healthy(node).context("at first")?;

    let (config, other) = (node.run_dir().join("doctor.toml"), lab.node(1).v4());
    let too_readable = format!("chmod 644 {}", config.display());
    let narrow = format!("ip route add {other}/32 dev eth0 mtu 1400");
    for (broken, check) in [
        ("sysctl -qw net.ipv4.tcp_syncookies=0", "syncookies"),
        ("sysctl -qw net.ipv4.tcp_sack=0", "tcp-options"),
        ("sysctl -qw net.ipv4.conf.eth0.forwarding=0", "forwarding"),
        ("sysctl -qw net.ipv4.conf.all.arp_ignore=0", "arp"),
        ("sysctl -qw net.ipv4.conf.all.arp_announce=0", "arp"),
        ("ip address del 192.0.2.1/32 dev lo", "virtual-address"),
        (too_readable.as_str(), "private-files"),
    ] {
        broken_and_mended(node, broken, check, "wrong")?;
    }
    broken_and_mended(
        node,
        "ip address del 192.0.2.1/32 dev lo; ip address add 192.0.2.1/24 dev lo",
        "virtual-address",
        "warning",
    )?;
    // What is found with a mend that is no command, or depends: undone by hand.
    for (broken, check, outcome, undone) in [
        ("ip link set eth0 mtu 600", "mtu", "wrong", "ip link set eth0 mtu 1500"),
        (narrow.as_str(), "path-mtu", "wrong", &*format!("ip route del {other}/32 dev eth0")),
        (&*format!("ip route add unreachable {other}/32"), "route", "wrong", &*format!("ip route del {other}/32")),
        (
            "ip link add side type veth peer name edis; ip link set side up; ip link set edis up; \
             sysctl -qw net.ipv4.conf.side.rp_filter=0 net.ipv4.conf.eth0.rp_filter=1; \
             ip route add 198.51.100.128/25 dev side",
            "reverse-path",
            "warning",
            "sysctl -qw net.ipv4.conf.eth0.rp_filter=0; ip link del side",
        ),
    ] {
        shell(node, broken)?;
        complains(node, &[(check, outcome)]).with_context(|| format!("after `{broken}`"))?;
        shell(node, undone)?;
        becomes_healthy(node).with_context(|| format!("after `{undone}`"))?;
    }

    // Go's default.
    drop(server);
    complains(node, &[("listener", "wrong")])?;
    let server = listen(node, foreign, Some(libc::IPPROTO_MPTCP))?;
    let report = complains(node, &[("mptcp", "wrong")])?;
    ensure!(report.mend("mptcp")?.contains("GODEBUG=multipathtcp=0"));
    drop(server);
    let _server = listen(node, foreign, None)?;
    is_healthy(node)?;

    // The other node's interface takes less than ours, which its handshake tells.
    shell(lab.node(1), "ip link set eth0 mtu 1400")?;
    complains(node, &[("path-mtu", "wrong")])?;
    shell(lab.node(1), "ip link set eth0 mtu 1500")?;
    becomes_healthy(node)?;

    // The other agent gone, and back.
    fleet.agents[1].kill()?;
    complains(node, &[("peer", "wrong")])?;
    fleet.agents[1].restart()?;
    becomes_healthy(node)?;

    // The agent gone: a warning, for the kernel steers on. Scripts may take it for more.
    fleet.agents[0].kill()?;
    complains(node, &[("agent", "warning")])?;
    ensure!(examine(node, &["--strict"])?.code == 3);
    // Its programs gone, too.
    fs::remove_file(node.pin_dir().join("admit-eth0"))?;
    complains(node, &[("admit", "wrong"), ("agent", "warning")])?;
    fs::remove_file(node.pin_dir().join("nodes"))?;
    complains(node, &[("pinned-maps", "wrong"), ("admit", "wrong"), ("agent", "warning")])?;
    Ok(())
}

#[test]
fn two_rings() -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let node = lab.node(0);
    configure(node)?;
    becomes_healthy(node)?;
    let of_epoch_2 = |count: usize| {
        let members = fleet.ring.members().iter().take(count).cloned().collect();
        Ring::new(Epoch(2), fleet.ring.algorithm(), members)
    };
    fleet.give_ring(0, &of_epoch_2(3)?)?;
    fleet.give_ring(1, &of_epoch_2(2)?)?;
    // The third has heard of neither.
    let expected = [("agent", "warning"), ("ring", "wrong"), ("ring", "warning")];
    let deadline = Instant::now() + READY;
    loop {
        let report = examine(node, &[])?;
        if report.complaints() == expected && report.code == 3 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{}", report.show());
    }
}

#[test]
fn the_same_over_ipv6() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(Family::V6))?;
    let node = lab.node(0);
    configure(node)?;
    becomes_healthy(node).context("at first")?;
    let virtual_address = fleet.websocket().ip();
    let without_address = format!("ip address del {virtual_address}/128 dev lo");
    broken_and_mended(node, "sysctl -qw net.ipv6.conf.lo.forwarding=0", "forwarding", "wrong")?;
    broken_and_mended(node, &without_address, "virtual-address", "wrong")?;
    // IPv6 answers only for addresses of the interface that is asked: there is nothing to silence on `lo`.
    broken_and_mended(
        node,
        &format!("{without_address}; ip address add {virtual_address}/64 dev lo"),
        "virtual-address",
        "warning",
    )?;
    let other = lab.node(1).v6();
    shell(node, &format!("ip route add unreachable {other}/128"))?;
    complains(node, &[("route", "wrong")])?;
    Ok(())
}

#[test]
fn a_node_before_its_first_start_and_a_foreign_program() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions { gateways: false, ..FleetOptions::default() })?;
    let node = lab.node(0);
    configure(node)?;
    for agent in &fleet.agents {
        agent.terminate(READY)?;
    }
    let uninstalled = node.run(|| {
        let mut command = Command::new(fleet::command(node, "uninstall")?.get_program());
        command.arg("uninstall").arg("--config").arg(node.run_dir().join("agent.toml"));
        command.output().context("cannot run ringsteer")
    })?;
    ensure!(uninstalled.status.success(), "{}", String::from_utf8_lossy(&uninstalled.stderr));

    // Nothing runs, and nothing is wrong; only the servers are not there yet.
    complains(node, &[("listener", "warning")])?;
    // The agent would turn this on.
    shell(node, "sysctl -qw net.ipv4.tcp_syncookies=0")?;
    complains(node, &[("syncookies", "warning"), ("listener", "warning")])?;
    shell(node, "sysctl -qw net.ipv4.tcp_syncookies=1")?;

    let program = node.run(|| xdp_pass::attach([INTERFACE].into_iter()))?;
    let report = complains(node, &[("xdp", "wrong"), ("listener", "warning")])?;
    ensure!(report.mend("xdp")?.ends_with("ip link set dev eth0 xdp off"));
    drop(program);
    complains(node, &[("listener", "warning")])?;
    Ok(())
}

/// The rules by which the doctor judges a firewall are the kernel's.
#[test]
fn firewall_rules_do_what_is_said_of_them() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let nodes = lab.nodes();
    nodes.iter().try_for_each(configure)?;
    becomes_healthy(&nodes[0])?;
    let everywhere = |line: &str| nodes.iter().try_for_each(|node| shell(node, line));
    everywhere("nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }'")?;

    // Called harmless, and it is.
    everywhere("nft 'add rule inet t in ct state invalid counter drop'")?;
    is_healthy(&nodes[0])?;
    lab.client(0).run(|| Probe::open(fleet.websocket(), "somebody", Options::default())?.echo(5000))?;

    // Called wrong, and it is: the first segment goes no further than this rule.
    everywhere("nft 'add rule inet t in tcp flags & (fin|syn|rst|ack) != syn ct state new counter drop'")?;
    complains(&nodes[0], &[("firewall", "wrong")])?;
    let mut hung = lab.client(0).run(|| TcpStream::connect(fleet.websocket()))?;
    hung.write_all(&probe::request("somebody"))?;
    let deadline = Instant::now() + READY;
    loop {
        let rules = nodes.iter().map(|node| node.command("nft", &["list", "ruleset"])).collect::<Result<Vec<_>>>()?;
        let dropped = |rules: &String| {
            rules.lines().any(|line| line.contains("ct state new") && !line.contains("counter packets 0 "))
        };
        if rules.iter().any(dropped) {
            break;
        }
        ensure!(Instant::now() < deadline, "nothing was dropped: {rules:?}");
    }
    drop(hung);

    // Mended as it is said.
    everywhere("nft 'insert rule inet t in tcp dport { 10001, 10002 } accept'")?;
    is_healthy(&nodes[0])?;
    lab.client(0).run(|| Probe::open(fleet.websocket(), "somebody", Options::default())?.echo(5000))
}

#[test]
fn what_scripts_and_people_get() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let _fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let node = lab.node(0);
    configure(node)?;
    becomes_healthy(node)?;
    let json: Value = serde_json::from_slice(&run(node, &["-o", "json"])?.stdout)?;
    let outcomes = ["ok", "not_applicable", "unchecked", "warning", "wrong"];
    ensure!(outcomes.iter().any(|outcome| json["outcome"] == *outcome), "{}", json["outcome"]);
    let findings = json["findings"].as_array().context("no findings")?;
    for finding in findings {
        let fields: BTreeMap<&str, &Value> =
            finding.as_object().context("no object")?.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let names: Vec<_> = fields.keys().copied().collect();
        ensure!(names == ["check", "found", "mend", "outcome", "subject", "why"], "{names:?}");
        let text = |name: &str| fields[name].as_str().is_some_and(|text| !text.is_empty());
        ensure!(text("check") && text("found") && text("why"), "{finding}");
        ensure!(outcomes.iter().any(|outcome| finding["outcome"] == *outcome), "{finding}");
        let bad = finding["outcome"] == "warning" || finding["outcome"] == "wrong";
        ensure!(finding["mend"].is_string() == bad, "{finding}");
    }

    shell(node, "sysctl -qw net.ipv4.tcp_syncookies=0")?;
    let output = run(node, &[])?;
    let table = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(3));
    let lines: Vec<_> = table.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.starts_with("WRONG") && line.contains("syncookies"))
        .context(table.clone())?;
    ensure!(lines[at + 1].trim_start().starts_with("why "), "{table}");
    ensure!(lines[at..].iter().any(|line| line.trim() == "mend  sysctl -w net.ipv4.tcp_syncookies=1"), "{table}");
    ensure!(table.lines().last().is_some_and(|line| line.starts_with("1 wrong, ")), "{table}");

    // Without a configuration the host itself is examined; one that was named must be there.
    let without = node.run(|| {
        let mut command = Command::new(fleet::command(node, "doctor")?.get_program());
        command.args(["doctor", "-o", "json"]).env_remove("RINGSTEER_CONFIG").output().context("cannot run ringsteer")
    })?;
    let report: Value = serde_json::from_slice(&without.stdout)?;
    ensure!(report["findings"][0]["check"] == "configuration", "{report}");
    ensure!(report["findings"][0]["outcome"] == "not_applicable", "{report}");
    fs::remove_file(node.run_dir().join("doctor.toml"))?;
    let missing = examine(node, &[])?;
    ensure!(missing.code == 3 && missing.complaints().contains(&("configuration", "wrong")), "{}", missing.show());
    Ok(())
}

/// Whoever may not look is told so, and nothing is taken for wrong for that.
#[test]
fn without_privileges() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let _fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let node = lab.node(0);
    configure(node)?;
    becomes_healthy(node)?;
    let output = node.run(|| {
        let doctor = fleet::command(node, "doctor")?;
        Command::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all"])
            .arg(doctor.get_program())
            .args(doctor.get_args())
            .args(["-o", "json"])
            .output()
            .context("cannot run setpriv")
    })?;
    let report: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let Some(findings) = report["findings"].as_array() else { bail!("no findings: {report}") };
    ensure!(output.status.code() == Some(0), "{report:#}");
    let outcome = |check: &str| findings.iter().find(|one| one["check"] == check).map(|one| one["outcome"].clone());
    ensure!(outcome("firewall") == Some("unchecked".into()), "{report:#}");
    ensure!(outcome("forwarding") == Some("ok".into()), "{report:#}");
    Ok(())
}

/// With `mode = "accept"` a kernel before 6.8 is good enough, and nothing else is missed; without it the doctor names it.
#[test]
fn an_older_kernel_is_good_enough_to_accept() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let _fleet = Fleet::start(&lab, &FleetOptions::in_mode(Family::V4, Mode::Accept))?;
    let host = lab.node(0);
    configure(host)?;
    let examine = |mode: Option<&str>| -> Result<Report> {
        let mut doctor = fleet::command(host, "doctor")?;
        doctor.args(["-o", "json"]).envs(mode.map(|mode| ("RINGSTEER_NODE_MODE", mode)));
        let mut doctor = older::command(doctor, &host.run_dir().join("types"))?;
        let output = host.run(|| doctor.output().context("cannot run ringsteer"))?;
        Report::of(&output)
    };
    let deadline = Instant::now() + READY;
    loop {
        let report = examine(None)?;
        if report.complaints().is_empty() && report.code == 0 {
            break;
        }
        ensure!(Instant::now() < deadline, "{}", report.show());
    }
    let report = examine(Some("late-binding"))?;
    ensure!(report.mend("kernel-types")?.contains("set `mode = \"accept\"`"), "{}", report.show());
    Ok(())
}
