//! The lists of capabilities in `deploy/` are those it takes: with them everything works, without any one of them it is
//! refused. The lists are read from the manifests.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ringsteer_tests::{
    confinement::Confinement,
    deploy,
    fleet::{self, Fleet, Options as FleetOptions},
    lab::{Host, Lab},
    probe::{Options, Probe},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The numbers of `linux/capability.h`.
fn number(capability: &str) -> u32 {
    match capability {
        "NET_ADMIN" => 12,
        "PERFMON" => 38,
        "BPF" => 39,
        other => panic!("what is the number of {other}?"),
    }
}

/// A fleet of two whose agents have been stopped and whose hosts are as `prepare` leaves them; nothing is installed.
/// The configurations remain.
fn prepared(lab: &Lab) -> Result<()> {
    let fleet = Fleet::start(lab, &FleetOptions { gateways: false, ..FleetOptions::default() })?;
    for (agent, host) in fleet.agents.iter().zip(lab.nodes()) {
        agent.terminate(PATIENCE)?;
        let binary = fleet::command(host, "agent")?;
        let mut uninstall = Command::new(binary.get_program());
        uninstall.arg("uninstall").arg("--config").arg(host.run_dir().join("agent.toml"));
        let output = host.run(|| uninstall.output())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// `ringsteer load` of a node, by the agent's configuration.
fn load(host: &Host) -> Result<Command> {
    let mut command = Command::new(fleet::command(host, "agent")?.get_program());
    command.env("NO_COLOR", "1").args(["load", "--config"]).arg(host.run_dir().join("agent.toml"));
    Ok(command)
}

/// Runs a confined command on a host to its end; gives whether it succeeded, and what it said.
fn outcome(host: &Host, confinement: &Confinement, command: &Command) -> Result<(bool, String)> {
    let output = host.run(|| confinement.of(command, &[host.run_dir()]).output())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!said.contains("panicked"), "{said}");
    Ok((output.status.success(), said))
}

/// The list without each of its members in turn, and that member.
fn each_left_out(capabilities: &[String]) -> impl Iterator<Item = (Vec<String>, &String)> {
    capabilities.iter().map(|out| (capabilities.iter().filter(|one| *one != out).cloned().collect(), out))
}

#[test]
fn with_the_lists_of_the_manifests_everything_works() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    prepared(&lab)?;
    let [loading, steering, serving] =
        ["load", "agent", "gateway"].map(|container| deploy::capabilities(container).map(Confinement::sealed));
    let (loading, steering, serving) = (loading?, steering?, serving?);
    let mut running = Vec::new();
    for host in lab.nodes() {
        let (loaded, said) = outcome(host, &loading, &load(host)?)?;
        ensure!(loaded, "{said}");
        for (role, confinement, ready) in [("agent", &steering, "steering"), ("gateway", &serving, "following ring")] {
            let command = confinement.of(&fleet::command(host, role)?, &[host.run_dir()]);
            let process = host.spawn_command(&format!("confined-{role}"), command)?;
            process.wait_for_log_line(ready, PATIENCE)?;
            running.push((process, confinement.capabilities.clone()));
        }
    }
    // They have what the lists say, to the bit.
    for (process, capabilities) in &running {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
        let set: u64 = capabilities.iter().map(|one| 1 << number(one)).sum();
        for line in [format!("CapEff:\t{set:016x}"), format!("CapBnd:\t{set:016x}"), "NoNewPrivs:\t1".to_owned()] {
            ensure!(status.lines().any(|one| one == line), "{} has not {line}: {status}", process.name());
        }
    }
    // The managed neighbours, too: nothing was refused later on.
    running[0].0.wait_for_log_line("the kernel keeps the next hop", PATIENCE)?;

    let path = lab.node(0).run_dir().join("agent.toml");
    let config = ringsteer::config::Config::load(&path)?;
    let ring = config.ring().context("no ring")?;
    let address = (lab.virtual_address(FleetOptions::default().clients), fleet::WEBSOCKET_PORT).into();
    let mut owners = BTreeSet::new();
    lab.client(0).run(|| {
        for index in 0..20 {
            let user = format!("confined-{index}");
            Probe::open(address, &user, Options::default())?.echo(5_000)?;
            owners.insert(ring.owner(user.as_bytes()).number);
        }
        anyhow::Ok(())
    })?;
    ensure!(owners.len() == 2, "all users were on one node: nothing was shown");
    for (process, _) in &running {
        let log = fs::read_to_string(process.log_path())?;
        ensure!(!log.contains("WARN") && !log.contains("ERROR"), "{} complains: {log}", process.name());
    }
    Ok(())
}

#[test]
fn without_any_one_of_its_capabilities_loading_is_refused() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    prepared(&lab)?;
    let host = lab.node(0);
    for (rest, out) in each_left_out(&deploy::capabilities("load")?) {
        let (loaded, said) = outcome(host, &Confinement::open(rest), &load(host)?)?;
        ensure!(!loaded, "it loads without CAP_{out}");
        ensure!(said.contains(&format!("this process lacks CAP_{out};")), "without CAP_{out} it says: {said}");
        let pins = fs::read_dir(host.pin_dir()).map_or(0, Iterator::count);
        ensure!(pins == 0, "{pins} pins were left without CAP_{out}");
    }
    Ok(())
}

#[test]
fn without_any_one_of_its_capabilities_the_agent_refuses() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    prepared(&lab)?;
    let host = lab.node(0);
    let command = fleet::command(host, "agent")?;
    let agent = deploy::capabilities("agent")?;
    // The programs are not loaded: then it takes what `load` has more.
    let (started, said) = outcome(host, &Confinement::open(agent.clone()), &command)?;
    ensure!(!started, "it loads the programs without the capabilities of `load`");
    for more in deploy::capabilities("load")?.iter().filter(|one| !agent.contains(one)) {
        ensure!(said.contains(&format!("this process lacks CAP_{more};")), "{said}");
        ensure!(said.contains("run `ringsteer load`"), "{said}");
    }

    let (loaded, said) = outcome(host, &Confinement::open(deploy::capabilities("load")?), &load(host)?)?;
    ensure!(loaded, "{said}");
    for (rest, out) in each_left_out(&agent) {
        let (started, said) = outcome(host, &Confinement::open(rest), &command)?;
        ensure!(!started, "the agent starts without CAP_{out}");
        ensure!(said.contains(&format!("this process lacks CAP_{out}")), "without CAP_{out} it says: {said}");
        let link = host.command("ip", &["link", "show", "dev", "eth0"])?;
        ensure!(!link.contains("prog/xdp"), "a program was left without CAP_{out}: {link}");
    }
    Ok(())
}

/// What the agent asks of the kernel by CAP_NET_ADMIN while it runs, and the gateway when it moves a connection: it is
/// the kernel that insists, not our own check.
#[test]
fn the_kernel_insists_on_net_admin() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let host = lab.node(0);
    let mut neighbour = Command::new("ip");
    let other = lab.node(1).v4().to_string();
    neighbour.args(["neighbour", "replace", &other, "dev", "eth0", "managed"]);
    let mut forwarding = Command::new("sh");
    forwarding.args(["-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding"]);
    let mut repair = Command::new("/usr/bin/python3");
    // TCP_REPAIR is 19.
    repair.args(["-c", "import socket; socket.socket().setsockopt(socket.IPPROTO_TCP, 19, 1)"]);

    let without = |list: &[String]| list.iter().filter(|one| *one != "NET_ADMIN").cloned().collect::<Vec<_>>();
    for (container, command) in [("agent", &neighbour), ("agent", &forwarding), ("gateway", &repair)] {
        let list = deploy::capabilities(container)?;
        let (done, said) = outcome(host, &Confinement::open(list.clone()), command)?;
        ensure!(done, "with the capabilities of {container}: {said}");
        let (done, said) = outcome(host, &Confinement::open(without(&list)), command)?;
        ensure!(!done, "the kernel lets {command:?} pass without CAP_NET_ADMIN");
        let refused =
            said.contains("not permitted") || said.contains("Permission denied") || said.contains("I/O error");
        ensure!(refused, "{said}");
    }
    Ok(())
}

/// `ringsteer prepare` turns a bare host into one on which the confined agent can start.
#[test]
fn a_bare_host_is_prepared() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    prepared(&lab)?;
    let host = lab.node(0);
    let virtual_address = lab.virtual_address(FleetOptions::default().clients).to_string();
    let settings = [
        ("net/ipv4/tcp_syncookies", "0", "1"),
        ("net/ipv4/conf/eth0/forwarding", "0", "1"),
        ("net/ipv4/conf/all/arp_ignore", "0", "1"),
        ("net/ipv4/conf/all/arp_announce", "0", "2"),
    ];
    for (name, bare, _) in settings {
        host.set_sysctl(name, bare)?;
    }
    host.command("ip", &["address", "del", &format!("{virtual_address}/32"), "dev", "lo"])?;
    // A place as the host's `/sys/fs/bpf` is before anybody mounted anything there.
    let above = host.run_dir().join("bare");
    let text = fs::read_to_string(host.run_dir().join("agent.toml"))?;
    let pin_dir = format!("pin_dir = \"{}\"", host.pin_dir().display());
    ensure!(text.contains(&pin_dir), "the configuration has no {pin_dir}");
    fs::create_dir(&above)?;
    let text = text.replace(&pin_dir, &format!("pin_dir = \"{}/ringsteer\"", above.display()));
    fs::write(host.run_dir().join("bare.toml"), text)?;

    // As Kubernetes does it: the directory is shared with the container, which mounts into it what the host shall see.
    let binary = fleet::command(host, "agent")?;
    let script = r#"
set -eu
config=$1 above=$2 ringsteer=$3
mount --bind "$above" "$above"
mount --make-shared "$above"
unshare --mount --propagation unchanged "$ringsteer" prepare --config "$config"
test "$(stat --file-system --format %T "$above")" = bpf_fs
"$ringsteer" prepare --config "$config"
test "$(grep -c " $above " /proc/self/mountinfo)" = 2
"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(host.run_dir().join("bare.toml")).arg(&above).arg(binary.get_program()).env("NO_COLOR", "1");
    let output = host.run(|| command.output())?;
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}");
    ensure!(said.matches("mounted a BPF file system").count() == 1, "{said}");
    for (name, _, good) in settings {
        let value = host.run(|| fs::read_to_string(format!("/proc/sys/{name}")))?;
        ensure!(value.trim() == good, "{name} is {value}");
    }
    let addresses = host.command("ip", &["-4", "address", "show", "dev", "lo"])?;
    ensure!(addresses.contains(&format!("inet {virtual_address}/32")), "{addresses}");
    ensure!(said.matches("this host is ready").count() == 2, "{said}");
    Ok(())
}

/// A container's view is no fiction: sealed means sealed.
#[test]
fn a_sealed_command_can_write_nowhere_else() -> Result<()> {
    let lab = Lab::builder().nodes(1).clients(1).build()?;
    let host = lab.node(0);
    let sealed = Confinement::sealed(deploy::capabilities("agent")?);
    let attempt = |path: &str| -> Result<bool> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo 1 > {path}")]);
        Ok(outcome(host, &sealed, &command)?.0)
    };
    ensure!(attempt(&host.run_dir().join("file").display().to_string())?, "its own directory cannot be written");
    for path in ["/etc/ringsteer-test", "/usr/bin/ringsteer-test", "/proc/sys/net/ipv4/tcp_syncookies"] {
        ensure!(!attempt(path)?, "{path} can be written");
    }
    let open = Confinement::open(deploy::capabilities("agent")?);
    let mut command = Command::new("sh");
    command.args(["-c", "echo 1 > /proc/sys/net/ipv4/tcp_syncookies"]);
    let (written, said) = outcome(host, &open, &command).context("the control")?;
    ensure!(written, "{said}");
    Ok(())
}
