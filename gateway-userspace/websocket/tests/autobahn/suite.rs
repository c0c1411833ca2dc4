//! The suite's client against a server, and what it must say of it.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

/// Sections 1 to 7 and 10, and how many cases each has.
pub const CASES: [(&str, usize); 8] =
    [("1.*", 16), ("2.*", 11), ("3.*", 7), ("4.*", 10), ("5.*", 20), ("6.*", 145), ("7.*", 37), ("10.*", 1)];

/// Sections about compression.
pub const COMPRESSION: [(&str, usize); 2] = [("12.*", 90), ("13.*", 126)];

/// Cases whose outcome is left open by the RFC, so that the suite only tells it: closes with codes that nobody
/// assigned (7.13.*), and what comes after a long message in mid-close (7.1.6).
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];

/// What each case about compression sends. The suite sends a thousand messages of any size, to measure; what can go
/// wrong with them goes wrong sooner.
const BYTES: usize = 64 << 10;

/// Runs the cases of `sections` against the server at `url`, which echoes, and panics unless all of them pass in the
/// strictest way that they know.
pub fn run(sections: &[(&str, usize)], url: &str) {
    let (patterns, counts): (Vec<_>, Vec<_>) = sections.iter().copied().unzip();
    let verdicts = verdicts(&json!({ "url": url, "cases": patterns, "bytes": BYTES }));

    let table: String = verdicts.values().map(|verdict| format!("{}\n", line(verdict))).collect();
    let mut tally = BTreeMap::<_, usize>::new();
    for verdict in verdicts.values() {
        *tally.entry(verdict["behavior"].as_str().unwrap()).or_default() += 1;
    }
    println!("{table}{tally:?}");

    assert_eq!(verdicts.len(), counts.iter().sum::<usize>(), "cases of {patterns:?} in\n{table}");
    let failed: Vec<_> = verdicts.values().filter(|verdict| !is_strict(verdict)).collect();
    assert!(failed.is_empty(), "{} of {} cases: {failed:#?}", failed.len(), verdicts.len());
}

/// Runs the suite; its verdicts by case.
fn verdicts(spec: &Value) -> BTreeMap<Vec<u32>, Value> {
    let suite = installed();
    let mut client = Command::new(suite.join("bin/python"))
        .args(["-c", include_str!("run.py")])
        .arg(suite.join("suite"))
        .arg(spec.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let verdicts = lines
        .map(|line| {
            let verdict: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let id = verdict["id"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
            (id, verdict)
        })
        .collect();
    assert!(client.wait().unwrap().success(), "the suite itself failed");
    verdicts
}

/// Where `cargo xtask test` installed the suite.
fn installed() -> PathBuf {
    let below = |directory: &Path| directory.join("target/autobahn");
    std::env::var_os("RINGSTEER_AUTOBAHN")
        .map(PathBuf::from)
        .or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(below).find(|path| path.exists()))
        .expect("there is no target/autobahn: run this through `cargo xtask test`, which installs it")
}

/// Whether a case passed, in the strict way where there are several, and the connection was closed as it should be.
fn is_strict(verdict: &Value) -> bool {
    let may_be_informational = INFORMATIONAL.iter().any(|id| verdict["id"] == *id);
    let passed = |outcome: &Value| outcome == "OK" || may_be_informational && outcome == "INFORMATIONAL";
    passed(&verdict["behavior"]) && passed(&verdict["behaviorClose"])
}

fn line(verdict: &Value) -> String {
    let text = |key: &str| verdict[key].as_str().unwrap_or_default().to_owned();
    format!("{:8} {:14} {:14} {}", text("id"), text("behavior"), text("behaviorClose"), verdict["remoteCloseCode"])
}
