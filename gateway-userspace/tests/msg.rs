//! `ringsteer msg` as a process: killed again and again under load, stopped, started twice, misconfigured.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ringsteer_openim_rpc::{
    Caller,
    msg::{SendMsgReq, SendMsgResp, msg_client::MsgClient},
    sdkws::{GetMaxSeqReq, MsgData, PullMessageBySeqsReq, SeqRange},
};
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinSet};
use tonic::transport::Channel;

/// The service, in a process of its own.
struct Service {
    child: Child,
    address: String,
    /// What it says, after its address.
    rest: Option<thread::JoinHandle<String>>,
}

/// A test that fails leaves nothing running.
impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(directory: &Path, sets: &[&str]) -> Command {
    let config = directory.join("ringsteer.toml");
    if !config.exists() {
        std::fs::write(&config, "[metrics]\nmsg = \"\"\n").unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsteer"));
    command.args(["msg", "--config", config.to_str().unwrap(), "--set", "msg.listen=127.0.0.1:0"]);
    command.args(["--set", &format!("msg.path={}", directory.join("msg").display())]);
    for set in sets {
        command.args(["--set", set]);
    }
    command.env_remove("RINGSTEER_CONFIG").env_remove("RUST_LOG");
    command
}

impl Service {
    /// Starts it with its storage in that directory, and waits until it listens.
    fn start(directory: &Path, sets: &[&str]) -> Self {
        let mut child = command(directory, sets).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let address = address(&mut lines);
        // Its output must not fill the pipe.
        let rest = thread::spawn(move || lines.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        Self { child, address, rest: Some(rest) }
    }

    async fn client(&self) -> MsgClient<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap();
        MsgClient::new(channel)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it by a signal; says how it ended, and what it said.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        (status.code(), self.rest.take().map(|rest| rest.join().unwrap()).unwrap_or_default())
    }
}

fn address(lines: &mut BufReader<ChildStderr>) -> String {
    let mut said = String::new();
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the service does not start: {said}");
        if let Some((_, address)) = line.trim_end().split_once("for gateways at ") {
            return address.to_owned();
        }
        said += &line;
    }
}

fn message(from: &str, to: &str, client_msg_id: &str) -> MsgData {
    MsgData {
        send_id: from.into(),
        recv_id: to.into(),
        client_msg_id: client_msg_id.into(),
        session_type: 1,
        content_type: 101,
        content: format!("{{\"content\":\"{client_msg_id}\"}}").into(),
        ..MsgData::default()
    }
}

async fn send(client: &mut MsgClient<Channel>, message: MsgData) -> Result<SendMsgResp, tonic::Status> {
    let request = Caller::service("test").request(SendMsgReq { msg_data: Some(message) });
    Ok(client.send_msg(request).await?.into_inner())
}

/// All messages of a conversation, as one of its users gets them.
async fn pull(client: &mut MsgClient<Channel>, user: &str, conversation: &str) -> Vec<MsgData> {
    let asked = Caller::service("test").request(GetMaxSeqReq { user_id: user.into() });
    let newest = client.get_max_seq(asked).await.unwrap().into_inner().max_seqs;
    let last = newest.get(conversation).copied().unwrap_or(0);
    let mut all = Vec::new();
    for begin in (1..=last).step_by(500) {
        let end = (begin + 499).min(last);
        let range = SeqRange { conversation_id: conversation.into(), begin, end, num: 500 };
        let asked = PullMessageBySeqsReq { user_id: user.into(), seq_ranges: vec![range], order: 0 };
        let mut told = client.pull_message_by_seqs(Caller::service("test").request(asked)).await.unwrap().into_inner();
        all.extend(told.msgs.remove(conversation).unwrap_or_default().msgs);
    }
    all
}

/// A small generator: the same numbers from the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A user who sends, and what came of it.
struct Sender {
    name: String,
    /// The next message's number.
    next: u64,
    /// What was acknowledged, by the sender's name for it.
    acknowledged: HashMap<String, SendMsgResp>,
}

const SENDERS: usize = 8;
const ROUNDS: u64 = 10;

/// One process life: everybody sends until the process is killed, after so many acknowledgements.
async fn live(service: Service, senders: Vec<Sender>, kill_after: u64) -> Vec<Sender> {
    let (count, enough) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let mut tasks = JoinSet::new();
    for mut sender in senders {
        let mut client = service.client().await;
        let (count, enough) = (Arc::clone(&count), Arc::clone(&enough));
        tasks.spawn(async move {
            loop {
                // All write into two conversations, so that batches mix them.
                let to = if sender.next % 2 == 0 { "hub" } else { "other" };
                let name = format!("{}-{}", sender.name, sender.next);
                match send(&mut client, message(&sender.name, to, &name)).await {
                    Ok(answer) => {
                        sender.acknowledged.insert(name, answer);
                        sender.next += 1;
                        if count.fetch_add(1, SeqCst) + 1 >= kill_after {
                            enough.notify_one();
                        }
                    }
                    // Killed. The same message goes again in the next life: nobody knows whether it was stored.
                    Err(_) => return sender,
                }
            }
        });
    }
    enough.notified().await;
    let (code, _) = service.end(Signal::SIGKILL);
    assert_eq!(code, None, "it was killed, it did not end by itself");
    tasks.join_all().await
}

async fn killed_again_and_again(fsync: &str) {
    let seed = std::env::var("RINGSTEER_SEED").map_or(1, |seed| seed.parse().expect("RINGSTEER_SEED is a number"));
    println!("RINGSTEER_SEED={seed} replays this");
    let mut chance = Chance(seed);
    let directory = TempDir::new().unwrap();
    let sets = [fsync, "msg.fsync_interval_ms=20"];
    let mut senders: Vec<_> =
        (0..SENDERS).map(|n| Sender { name: format!("user{n}"), next: 0, acknowledged: HashMap::new() }).collect();
    for _ in 0..ROUNDS {
        let service = Service::start(directory.path(), &sets);
        senders = live(service, senders, 1 + chance.below(400)).await;
    }

    let service = Service::start(directory.path(), &sets);
    let mut client = service.client().await;
    let mut stored: BTreeMap<String, MsgData> = BTreeMap::new();
    for sender in &senders {
        for to in ["hub", "other"] {
            let mut names = [sender.name.as_str(), to];
            names.sort_unstable();
            let messages = pull(&mut client, to, &format!("si_{}_{}", names[0], names[1])).await;
            let seqs: Vec<_> = messages.iter().map(|message| message.seq).collect();
            assert_eq!(seqs, (1..=messages.len() as i64).collect::<Vec<_>>(), "numbers without gaps or repeats");
            for message in messages {
                let name = message.client_msg_id.clone();
                assert!(stored.insert(name.clone(), message).is_none(), "{name} is there twice");
            }
        }
    }
    let mut acknowledged = 0;
    for sender in &senders {
        for (name, answer) in &sender.acknowledged {
            let message = stored.get(name).unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
            assert_eq!((&message.server_msg_id, message.send_time), (&answer.server_msg_id, answer.send_time));
            acknowledged += 1;
        }
        // What was on its way at the last kill may be there or not, but nothing else.
        let own = stored.values().filter(|message| message.send_id == sender.name).count();
        assert!((sender.acknowledged.len()..=sender.acknowledged.len() + 1).contains(&own));
    }
    assert!(acknowledged as u64 >= ROUNDS, "{acknowledged} messages prove little");
    service.end(Signal::SIGTERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    killed_again_and_again("msg.fsync=always").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_when_the_disk_is_told_now_and_then() {
    killed_again_and_again("msg.fsync=interval").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_has_seen_is_there_after_a_kill() {
    let directory = TempDir::new().unwrap();
    for round in 0..5 {
        let service = Service::start(directory.path(), &["msg.fsync=interval"]);
        let mut client = service.client().await;
        let mut writer = service.client().await;
        let sending = tokio::spawn(async move {
            for n in 0.. {
                if send(&mut writer, message("alice", "bob", &format!("{round}-{n}"))).await.is_err() {
                    return;
                }
            }
        });
        let seen = loop {
            let seen = pull(&mut client, "bob", "si_alice_bob").await;
            if seen.len() >= 40 * (round + 1) {
                break seen;
            }
        };
        service.end(Signal::SIGKILL);
        sending.await.unwrap();
        let service = Service::start(directory.path(), &[]);
        let after = pull(&mut service.client().await, "bob", "si_alice_bob").await;
        assert_eq!(after[..seen.len()], seen);
        service.end(Signal::SIGKILL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_told_and_finds_everything_again() {
    let directory = TempDir::new().unwrap();
    let service = Service::start(directory.path(), &[]);
    let mut client = service.client().await;
    let first = send(&mut client, message("alice", "bob", "m1")).await.unwrap();
    let (code, said) = service.end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    let service = Service::start(directory.path(), &[]);
    assert_eq!(send(&mut service.client().await, message("alice", "bob", "m1")).await.unwrap(), first);

    // A second one with the same storage is told so, and the first is none the worse.
    let second = command(directory.path(), &[]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("is in use by another process; there can be one at a time"), "{said}");
    send(&mut service.client().await, message("alice", "bob", "m2")).await.unwrap();
    assert_eq!(service.end(Signal::SIGINT).0, Some(0));
}

#[test]
fn what_is_wrong_is_said() {
    let directory = TempDir::new().unwrap();
    let said = |sets: &[&str]| {
        let output = command(directory.path(), sets).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, text) = said(&[&format!("msg.path={}/msg", file.display())]);
    assert_eq!(code, Some(1));
    assert!(text.contains("cannot make the directory") && text.contains("writable to this user"), "{text}");
    let (code, text) = said(&["msg.listen=198.51.100.1:1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("cannot listen on 198.51.100.1:1 for gateways"), "{text}");
    let (code, text) = said(&["msg.push=push.example"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("the command line's --set msg.push: `push = \"push.example\"` must be a URL"), "{text}");
    let (code, text) = said(&["msg.pushh=x"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("`[msg]` has no key \"pushh\"; it has listen, path,"), "{text}");
    let (code, text) = said(&[&format!("msg.token_file={}", file.display())]);
    assert_eq!(code, Some(1));
    assert!(text.contains("must hold a token: a line"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_made_from_the_command_line() {
    let directory = TempDir::new().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "only-for-the-test\n").unwrap();
    let token = format!("msg.token_file={}", token.display());
    let service = Service::start(directory.path(), &[&token]);
    let listen = format!("msg.listen={}", service.address);
    let group = |arguments: &[&str], token: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringsteer"));
        command.args(["--set", &listen]);
        if let Some(token) = token {
            command.args(["--set", token]);
        }
        command.args(["msg", "group"]).args(arguments);
        let output = command.env("RINGSTEER_CONFIG", directory.path().join("ringsteer.toml")).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(group(&["set", "g", "bob", "alice"], Some(&token)).1, "alice\nbob\n");
    let (_, json, _) = group(&["add", "g", "carol", "-o", "json"], Some(&token));
    assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), ["alice", "bob", "carol"]);
    assert_eq!(group(&["remove", "g", "bob"], Some(&token)).1, "alice\ncarol\n");
    assert_eq!(group(&["show", "g"], Some(&token)).1, "alice\ncarol\n");
    let (code, _, errors) = group(&["show", "g"], None);
    assert_eq!(code, Some(1));
    assert!(errors.contains("the call needs the message service's token"), "{errors}");
    service.end(Signal::SIGTERM);
    let (code, _, errors) = group(&["show", "g"], Some(&token));
    assert_eq!(code, Some(1));
    assert!(errors.contains("does not answer; is it running?"), "{errors}");
}
