//! Bad input gets one clear message, and nothing is left half attached.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ringsteer_tests::{
    fleet::{self, Fleet, Options as FleetOptions},
    lab::{Host, Lab},
};

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
