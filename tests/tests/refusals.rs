//! Bad input gets one clear message, and nothing is left half attached.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ringsteer_tests::{
    fleet::{self, Fleet, Options as FleetOptions},
    lab::{Host, Lab},
};
use serde_json::Value;

/// Runs `ringsteer <role>` on a host, where it must fail, and gives what it said.
fn refusal(host: &Host, role: &str) -> Result<String> {
    let output = host.run(|| fleet::command(host, role)?.output().context("cannot run ringsteer"))?;
    ensure!(!output.status.success(), "{role} did not fail");
    let said = String::from_utf8(output.stderr)?;
    ensure!(!said.contains("panicked"), "{said}");
    Ok(said)
}

/// Nothing pinned, no program on the interface.
fn is_clean(host: &Host) -> Result<()> {
    let pins = fs::read_dir(host.pin_dir()).map_or(0, Iterator::count);
    ensure!(pins == 0, "{pins} pins were left");
    let link = host.command("ip", &["link", "show", "dev", "eth0"])?;
    ensure!(!link.contains("prog/xdp"), "a program was left: {link}");
    Ok(())
}

#[test]
fn a_refused_agent_says_why_and_leaves_nothing() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let node = lab.node(0);
    // A fleet that has run here, and is taken off again: this writes good configurations.
    let fleet = Fleet::start(&lab, &FleetOptions { gateways: false, ..FleetOptions::default() })?;
    for agent in &fleet.agents {
        agent.terminate(Duration::from_secs(30))?;
    }
    let path = node.run_dir().join("agent.toml");
    let good = fs::read_to_string(&path)?;
    let binary = fleet::command(node, "agent")?;
    let uninstalled =
        node.run(|| Command::new(binary.get_program()).arg("uninstall").arg("--config").arg(&path).output())?;
    ensure!(uninstalled.status.success(), "{}", String::from_utf8_lossy(&uninstalled.stderr));
    is_clean(node).context("after uninstall")?;
    ensure!(!node.run_dir().join("ring.json").exists(), "uninstall left the last ring");

    let cases = [
        ("a missing interface", good.replace("\"eth0\"", "\"eth0\", \"eth7\""), "there is no interface `eth7`"),
        ("an unknown key", good.replace("max_flows", "max_flow"), "max_flow"),
        (
            "a directory that is no BPF file system",
            good.replace("pin_dir = \"", "pin_dir = \"/tmp/ringsteer-none"),
            "BPF file system",
        ),
        ("no secret", good.replace("current = ", "previous = "), "there is no secret"),
    ];
    for (what, text, expected) in cases {
        fs::write(&path, text)?;
        let said = refusal(node, "agent").with_context(|| what.to_owned())?;
        ensure!(said.contains(expected), "{what} was answered: {said}");
        is_clean(node).with_context(|| what.to_owned())?;
    }
    // Without privileges.
    fs::write(&path, &good)?;
    let said = node.run(|| {
        let agent = fleet::command(node, "agent")?;
        let output = Command::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all"])
            .arg(agent.get_program())
            .args(agent.get_args())
            .output()?;
        ensure!(!output.status.success(), "an agent without capabilities did not fail");
        Ok(String::from_utf8(output.stderr)?)
    })?;
    ensure!(said.contains("CAP_BPF") || said.contains("not permitted"), "{said}");
    is_clean(node).context("without capabilities")
}

/// Where the kernel shows its types.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The function by which sockets are created, and a name of the same length that nothing has.
const FUNCTION: &[u8] = b"\0bpf_sk_assign_tcp_reqsk\0";
const NO_FUNCTION: &[u8] = b"\0bpf_sk_assign_tcp_reqsX\0";

/// Runs `ringsteer <role>` on a host as if this file were the kernel's account of its types: in a mount namespace in
/// which it lies there.
fn with_types(host: &Host, types: &Path, role: &str, arguments: &[&str]) -> Result<Output> {
    host.run(|| {
        let command = fleet::command(host, role)?;
        let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
        let mut confined = Command::new("unshare");
        confined.args(["--mount", "sh", "-ec", script, "sh"]).arg(types).arg(KERNEL_TYPES);
        confined.arg(command.get_program()).args(command.get_args()).args(arguments).env("NO_COLOR", "1");
        confined.output().context("cannot run ringsteer")
    })
}

/// An older kernel, and one that shows no types: what it lacks is named, by the agent, by `load` and by the doctor, and
/// nothing is touched. The kernel is this one; that it lacks something is all that its account of itself says.
#[test]
fn a_kernel_without_the_function_is_refused() -> Result<()> {
    let lab = Lab::builder().nodes(1).clients(1).build()?;
    let node = lab.node(0);
    let fleet = Fleet::start(&lab, &FleetOptions { gateways: false, ..FleetOptions::default() })?;
    fleet.agents[0].terminate(Duration::from_secs(30))?;
    let agent_toml = node.run_dir().join("agent.toml");
    let uninstalled = node.run(|| {
        let binary = fleet::command(node, "agent")?;
        anyhow::Ok(Command::new(binary.get_program()).arg("uninstall").arg("--config").arg(&agent_toml).output()?)
    })?;
    ensure!(uninstalled.status.success(), "{}", String::from_utf8_lossy(&uninstalled.stderr));
    for role in ["load", "doctor"] {
        fs::copy(&agent_toml, node.run_dir().join(format!("{role}.toml")))?;
    }

    let mut older = fs::read(KERNEL_TYPES)?;
    let at = older.windows(FUNCTION.len()).position(|bytes| bytes == FUNCTION).context("this kernel lacks it")?;
    older[at..at + FUNCTION.len()].copy_from_slice(NO_FUNCTION);
    let files = [
        ("older", older, "this kernel has no function `bpf_sk_assign_tcp_reqsk`"),
        ("mute", Vec::new(), "is not BTF this version understands"),
    ];
    for (name, content, expected) in files {
        let types = node.run_dir().join(name);
        fs::write(&types, content)?;
        for role in ["agent", "load"] {
            let output = with_types(node, &types, role, &[])?;
            let said = String::from_utf8(output.stderr)?;
            ensure!(!output.status.success() && !said.contains("panicked"), "{role}, {name}: {said}");
            ensure!(said.contains(expected), "{role}, {name}: {said}");
            ensure!(name == "mute" || said.contains("Linux 6.8 or newer"), "{role}, {name}: {said}");
            is_clean(node).with_context(|| format!("{role}, {name}"))?;
        }
        let output = with_types(node, &types, "doctor", &["-o", "json"])?;
        ensure!(output.status.code() == Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let findings = report["findings"].as_array().context("no findings")?;
        let types = findings.iter().find(|one| one["check"] == "kernel-types").context("not looked at")?;
        ensure!(types["outcome"] == "wrong", "{types}");
        ensure!(types["found"].as_str().is_some_and(|found| found.contains(expected)), "{types}");
    }
    // The same way with the kernel's own account: nothing is refused.
    let output = with_types(node, Path::new(KERNEL_TYPES), "load", &[])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
