//! Users of OpenIM's own JS SDK, unmodified, each in a Node process on a host of the lab (`tests/js-sdk/user.mjs`).

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::lab::Host;

/// How long anything may take. The SDK waits five seconds before it dials again, and may have to do so several times.
const LIMIT: Duration = Duration::from_secs(90);

/// A user.
pub struct JsUser {
    name: String,
    /// Who is logged in.
    user: String,
    process: Child,
    input: ChildStdin,
    output: Receiver<Value>,
    /// What has happened that nobody has asked for yet, in order.
    unread: Vec<Value>,
    log: PathBuf,
}

/// A message as the SDK hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its place in the conversation.
    pub seq: u64,
    /// Who sent it.
    pub from: String,
    /// The text.
    pub text: String,
}

impl JsUser {
    /// Starts the SDK on a host. `name` tells it from others there, in what is logged.
    ///
    /// # Errors
    /// If Node cannot be started, or nobody has told where the SDK is.
    pub fn start(host: &Host, name: &str) -> Result<Self> {
        let sdk = std::env::var_os("RINGSTEER_JS_SDK")
            .context("RINGSTEER_JS_SDK is not set: run this through `cargo xtask`, which installs the SDK")?;
        let log = host.run_dir().join(format!("{name}.js.log"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("js-sdk/user.mjs");
        let mut command = Command::new("node");
        command.arg("--experimental-websocket").arg(script).arg(sdk);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&log).with_context(|| format!("creating {}", log.display()))?);
        let mut process = host.run(|| command.spawn()).context("starting node")?;
        let input = process.stdin.take().context("its input is piped")?;
        let lines = BufReader::new(process.stdout.take().context("its output is piped")?).lines();
        let (sender, output) = channel();
        thread::spawn(move || {
            // Whatever else stands there is no event; the log is elsewhere.
            let events = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            events.map(|event| sender.send(event)).take_while(Result::is_ok).for_each(drop);
        });
        Ok(Self { name: name.to_owned(), user: String::new(), process, input, output, unread: Vec::new(), log })
    }

    /// Logs in, and waits until the SDK has asked for all it wants to know.
    ///
    /// # Errors
    /// If it cannot, or an event says that it failed.
    pub fn log_in(&mut self, user: &str, token: &str, platform: u8, gateway: SocketAddr) -> Result<()> {
        user.clone_into(&mut self.user);
        self.tell(&json!({
            "do": "login", "userID": user, "token": token, "platformID": platform, "wsAddr": format!("ws://{gateway}/"),
        }))?;
        self.wait_for_event("OnConnectSuccess")?;
        self.wait_for_event("OnSyncServerFinish")?;
        Ok(())
    }

    /// Has the SDK send a text; returns when it says that it is sent.
    ///
    /// # Errors
    /// If it says that it failed.
    pub fn send(&mut self, to: &str, text: &str) -> Result<()> {
        let sent = self.call(&json!({ "do": "send", "recvID": to, "text": text }))?;
        ensure!(sent["serverMsgID"].as_str().is_some_and(|id| !id.is_empty()), "{}: sent as {sent}", self.name);
        Ok(())
    }

    /// Waits for the next message of somebody else. Users are told of their own, too, wherever they are logged in.
    ///
    /// # Errors
    /// If none comes.
    pub fn next_message(&mut self) -> Result<Received> {
        let user = self.user.clone();
        let is_it = |event: &Value| event["event"] == "message" && event["sendID"] != *user;
        received(&self.wait_for("a message", is_it)?)
    }

    /// The messages of a conversation, the oldest first, as the SDK has them or asks for them.
    ///
    /// # Errors
    /// If it says that it failed.
    pub fn history(&mut self, conversation: &str) -> Result<Vec<Received>> {
        let history = self.call(&json!({ "do": "history", "conversationID": conversation }))?;
        let messages = history["messageList"].as_array().with_context(|| format!("no messages in {history}"))?;
        messages
            .iter()
            .map(|message| {
                received(&json!({
                    "seq": message["seq"], "sendID": message["sendID"], "text": message["textElem"]["content"],
                }))
            })
            .collect()
    }

    /// Waits for an event of that name.
    ///
    /// # Errors
    /// If it does not come.
    pub fn wait_for_event(&mut self, name: &str) -> Result<Value> {
        self.wait_for(name, |event| event["event"] == name)
    }

    /// Logs out.
    ///
    /// # Errors
    /// If the SDK says that it failed.
    pub fn log_out(&mut self) -> Result<()> {
        self.call(&json!({ "do": "logout" })).map(drop)
    }

    /// Has the SDK do something; what it returned.
    fn call(&mut self, command: &Value) -> Result<Value> {
        self.tell(command)?;
        let name = &command["do"];
        let answer = self.wait_for("an answer", |event| event["done"] == *name || event["failed"] == *name)?;
        ensure!(
            answer["failed"].is_null(),
            "{}: {command} failed: {answer}; its log is {}",
            self.name,
            self.log.display()
        );
        Ok(answer["data"].clone())
    }

    fn tell(&mut self, command: &Value) -> Result<()> {
        writeln!(self.input, "{command}").with_context(|| format!("telling {} to {command}", self.name))
    }

    /// Waits for something, and keeps what comes before it.
    fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + LIMIT;
        let mut looked_at = 0;
        loop {
            if let Some(found) = self.unread[looked_at..].iter().position(&is_it) {
                return Ok(self.unread.remove(looked_at + found));
            }
            looked_at = self.unread.len();
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => self.unread.push(event),
                Err(why) => {
                    let why = match why {
                        RecvTimeoutError::Timeout => format!("not within {LIMIT:?}"),
                        RecvTimeoutError::Disconnected => "and node has ended".into(),
                    };
                    let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                    let tail: Vec<&str> = log.lines().rev().take(20).collect();
                    let (name, unread) = (&self.name, &self.unread);
                    bail!(
                        "{name}: {what} has not come, {why}; what came is {unread:?}; the end of its log, backwards: {tail:#?}"
                    );
                }
            }
        }
    }
}

impl Drop for JsUser {
    fn drop(&mut self) {
        // It is gone already, or goes now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn received(event: &Value) -> Result<Received> {
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("{event} is no message"));
    Ok(Received {
        seq: event["seq"].as_u64().with_context(|| format!("{event} has no place"))?,
        from: text(&event["sendID"])?,
        text: text(&event["text"])?,
    })
}
