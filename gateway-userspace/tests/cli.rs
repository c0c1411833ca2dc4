//! The command line as scripts meet it: the binary, its output and its exit codes. What needs no agent.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

fn ringsteer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsteer"));
    command.args(arguments).env_remove("RINGSTEER_CONFIG").env_remove("RUST_LOG");
    command
}

/// Exit code, output and errors.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = ringsteer(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// OpenIM's gateways, as its chart names them.
fn hosts(count: usize, suffix: &str, separator: &str) -> String {
    let headless = "openim-openim-msggateway-headless.default.svc.cluster.local";
    let names: Vec<_> =
        (0..count).map(|index| format!("openim-openim-msggateway-{index}.{headless}{suffix}")).collect();
    names.join(separator)
}

#[test]
fn two_spellings_are_two_rings() {
    for (count, percent) in [(2, "55.3 %"), (5, "76.2 %"), (50, "98.2 %")] {
        let (code, text, errors) = run(&["ring", "diff", &hosts(count, ":88", ","), &hosts(count, "", ",")]);
        assert_eq!((code, errors.as_str()), (3, ""));
        assert!(text.contains(&format!("\n{percent} of all users have another owner in b than in a")), "{text}");
    }
    let ported = hosts(5, ":88", ",");
    let (code, text, _) = run(&["ring", "diff", &ported, &ported]);
    assert_eq!(code, 0);
    assert!(text.ends_with("\n\nThe rings are the same.\n"), "{text}");
}

#[test]
fn files_and_standard_input_say_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connections.txt");
    std::fs::write(&path, hosts(5, ":88", "\n")).unwrap();
    let mut child = ringsteer(&["ring", "diff", path.to_str().unwrap(), "-", "-o", "json", "--users", "1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(hosts(5, "", "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["differ"], &json["users"], &json["pairing"]), (&true.into(), &762.into(), &"name".into()));
    assert_eq!(format!("{:.3}", json["share"].as_f64().unwrap()), "0.762");
}

#[test]
fn a_ring_that_was_shown_can_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let [file, kept] = ["ring.toml", "kept.json"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
    let member = |number: u8| {
        format!(
            "[[ring.members]]\nnumber = {number}\nidentity = \"gw-{number}.example:88\"\naddress = \"198.51.100.{number}\"\n"
        )
    };
    let text = format!("[ring]\nepoch = 7\nalgorithm = \"multiprobe\"\n{}{}", member(1), member(2));
    std::fs::write(&file, &text).unwrap();
    let (code, json, errors) = run(&["ring", "show", &file, "--output", "json"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    std::fs::write(&kept, json).unwrap();
    assert_eq!(run(&["ring", "diff", &file, &kept]).0, 0);

    let (code, text, _) = run(&["ring", "check", &kept]);
    assert_eq!(code, 0);
    assert!(text.contains(": epoch 7, digest ") && text.contains(", 2 members\nmultiprobe; "), "{text}");

    let (code, text, _) = run(&["ring", "simulate", "--ring", &kept, "--drain", "gw-1.example"]);
    assert_eq!(code, 0);
    assert!(text.contains("(measured over 2^20 hashes)\n") && text.contains(" then 1.00\n"), "{text}");
}

#[test]
fn what_is_wrong_is_said_and_counted() {
    let (code, text, errors) = run(&["ring", "check", "gw-0:88,gw-0:88"]);
    assert_eq!((code, text.as_str()), (1, ""));
    assert_eq!(
        errors,
        "ringsteer: the list of hosts: members 1 and 2 both have the identity gw-0:88, so one of them would own nothing; \
         correct or remove one\n"
    );
    let (code, _, errors) = run(&["ring", "show", "/nowhere/ring.toml"]);
    assert_eq!(code, 1);
    assert!(
        errors.starts_with("ringsteer: /nowhere/ring.toml (a ring is `current`, `previous`, a file, `-`, or hosts"),
        "{errors}"
    );
    let (code, _, errors) = run(&["ring", "show", "--socket", "/nowhere/agent.sock"]);
    assert_eq!(code, 1);
    assert!(errors.starts_with("ringsteer: no agent answers on /nowhere/agent.sock: "), "{errors}");
    for wrong in [&["ring", "diff", "a:1,"][..], &["ring", "simulate"], &["ring", "show", "--outptu", "json"]] {
        assert_eq!(run(wrong).0, 2, "{wrong:?}");
    }
}

#[test]
fn a_reader_may_stop_reading() {
    let many: String = (0..1000).map(|index| format!("gw-{index}:88,")).collect();
    let mut child = ringsteer(&["ring", "show", &many, "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn every_command_tells_its_exit_codes() {
    for command in [&["ring"][..], &["ring", "show"], &["ring", "diff"], &["ring", "simulate"], &["ring", "check"]] {
        let (code, text, _) = run(&[command, &["--help"]].concat());
        assert_eq!(code, 0);
        assert!(text.contains("\nExit codes:\n  0  "), "{text}");
        assert_eq!(text.contains("\n  3  "), command.ends_with(&["diff"]) || command == ["ring"], "{text}");
    }
}

const CONFIGURATION: &str = r#"[node]
name = "node-1"
identity = "gw-0.example:88"
interfaces = ["eth0"]

[secrets]
current_file = "SECRET"

[ring]
epoch = 3

[[ring.members]]
number = 1
identity = "gw-0.example:88"
address = "198.51.100.11"

[[services]]
name = "websocket"
address = "192.0.2.1:10001"
parameter = "sendID"
serve = "websocket"
"#;

#[test]
fn a_configuration_is_checked_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let (path, secret) = (directory.path().join("ringsteer.toml"), directory.path().join("secret"));
    let text = CONFIGURATION.replace("SECRET", secret.to_str().unwrap());
    std::fs::write(&path, &text).unwrap();
    let path = path.to_str().unwrap();

    // The secret's file is not there yet.
    let (code, said, _) = run(&["config", "check", "--config", path]);
    assert_eq!(code, 3);
    assert!(said.starts_with(&format!("cannot read the secret in {}", secret.display())), "{said}");
    std::fs::write(&secret, "000102030405060708090a0b0c0d0e0f").unwrap();
    let (code, said, errors) = run(&["config", "check", "--config", path]);
    assert_eq!((code, said, errors), (0, format!("{path}: fine\n"), String::new()));

    let mut command = ringsteer(&["config", "show", "--config", path, "--set", "gateway.max_message_bytes=9"]);
    let output = command.env("RINGSTEER_NODE_MAX_FLOWS", "77").env("RINGSTEER_GATEWAY_PORT", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let shown = String::from_utf8(output.stdout).unwrap();
    let has = |line: &str, origin: &str| {
        let found = shown.lines().any(|one| one.starts_with(line) && one.ends_with(&format!("# {origin}")));
        assert!(found, "{line} … {origin} is missing in:\n{shown}");
    };
    has("identity = \"gw-0.example:88\"", "line 3");
    has("max_flows = 77", "RINGSTEER_NODE_MAX_FLOWS");
    has("max_message_bytes = 9", "--set gateway.max_message_bytes");
    has("tunnel_port = 6080", "default");
    // What is shown is a configuration that says the same.
    let again = directory.path().join("again.toml");
    std::fs::write(&again, &shown).unwrap();
    let (code, second, errors) = run(&["config", "show", "--config", again.to_str().unwrap()]);
    assert_eq!(code, 0, "{errors}");
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" # ").next().unwrap().trim_end().to_owned()).collect()
    };
    assert_eq!(values(&second), values(&shown));

    let (_, json, _) = run(&["config", "show", "--config", path, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["node"]["name"], serde_json::json!({ "value": "node-1", "from": { "line": 2 } }));
    assert_eq!(json["services"][0]["name"], "websocket");

    let mut command = ringsteer(&["config", "check", "--config", path]);
    let output = command.env("RINGSTEER_NODE_MAX_FLOWZ", "1").env("RINGSTEER_PEERS_PORT", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("the environment's RINGSTEER_NODE_MAX_FLOWZ sets no key; it is not used\n"), "{said}");
    std::fs::write(path, text.replace("[node]", "[node]\nnmae = 1")).unwrap();
    let (code, _, errors) = run(&["config", "check", "--config", path]);
    assert_eq!(code, 1);
    assert!(errors.contains("line 2: unknown field `nmae`"), "{errors}");
}
