//! Users of OpenIM's own JS SDK, unmodified, each in a Node process on a host of the lab (`tests/js-sdk/user.mjs`).

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{lab::Host, puppet::Puppet};

/// A user.
pub struct JsUser {
    /// Who is logged in.
    user: String,
    sdk: Puppet,
}

/// What the SDK tells of its connection.
const ABOUT_THE_CONNECTION: [&str; 6] = [
    "OnConnecting",
    "OnConnectSuccess",
    "OnConnectFailed",
    "OnKickedOffline",
    "OnUserTokenExpired",
    "OnUserTokenInvalid",
];

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
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("js-sdk/user.mjs");
        let mut command = Command::new("node");
        command.arg("--experimental-websocket").arg(script).arg(sdk);
        Ok(Self { user: String::new(), sdk: Puppet::start(host, &format!("{name}.js"), command)? })
    }

    /// Logs in, and waits until the SDK has asked for all it wants to know.
    ///
    /// # Errors
    /// If it cannot, or an event says that it failed.
    pub fn log_in(&mut self, user: &str, token: &str, platform: u8, gateway: SocketAddr) -> Result<()> {
        user.clone_into(&mut self.user);
        self.sdk.tell(&json!({
            "do": "login", "userID": user, "token": token, "platformID": platform, "wsAddr": format!("ws://{gateway}/"),
        }))?;
        self.wait_for_event("OnConnectSuccess")?;
        self.wait_for_event("OnSyncServerFinish")?;
        // That it connects, above all; from here on that would be news.
        self.sdk.forget_unread_but(|event| event["event"] == "message");
        Ok(())
    }

    /// Has the SDK send a text; returns when it says that it is sent.
    ///
    /// # Errors
    /// If it says that it failed.
    pub fn send(&mut self, to: &str, text: &str) -> Result<()> {
        let sent = self.call(&json!({ "do": "send", "recvID": to, "text": text }))?;
        ensure!(sent["serverMsgID"].as_str().is_some_and(|id| !id.is_empty()), "{}: sent as {sent}", self.user);
        Ok(())
    }

    /// Waits for the next message of somebody else. Users are told of their own, too, wherever they are logged in.
    ///
    /// # Errors
    /// If none comes.
    pub fn next_message(&mut self) -> Result<Received> {
        let user = self.user.clone();
        received(&self.sdk.wait_for("a message", |event| is_message_for(&user, event))?)
    }

    /// The messages of others that have come and that nobody has waited for.
    ///
    /// # Errors
    /// If one of them is none.
    pub fn unread_messages(&mut self) -> Result<Vec<Received>> {
        self.sdk.unread().iter().filter(|event| is_message_for(&self.user, event)).map(received).collect()
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
        self.sdk.wait_for(name, |event| event["event"] == name)
    }

    /// Makes sure that the SDK has noticed nothing since it logged in: it was connected all the time.
    ///
    /// # Errors
    /// If it has said anything about its connection.
    pub fn assert_undisturbed(&mut self) -> Result<()> {
        let (user, unread) = (&self.user, self.sdk.unread());
        let is_it = |event: &&Value| ABOUT_THE_CONNECTION.iter().any(|name| event["event"] == *name);
        let noticed = unread.iter().find(is_it).cloned();
        ensure!(noticed.is_none(), "{user} has noticed something: {noticed:?}; {}", self.sdk.end_of_log());
        Ok(())
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
        self.sdk.tell(command)?;
        let name = &command["do"];
        let answer = self.sdk.wait_for("an answer", |event| event["done"] == *name || event["failed"] == *name)?;
        ensure!(answer["failed"].is_null(), "{command} failed: {answer}; {}", self.sdk.end_of_log());
        Ok(answer["data"].clone())
    }
}

/// Whether the event is a message of somebody else.
fn is_message_for(user: &str, event: &Value) -> bool {
    event["event"] == "message" && event["sendID"] != *user
}

fn received(event: &Value) -> Result<Received> {
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("{event} is no message"));
    Ok(Received {
        seq: event["seq"].as_u64().with_context(|| format!("{event} has no place"))?,
        from: text(&event["sendID"])?,
        text: text(&event["text"])?,
    })
}
