//! `ringsteer connect`: a client in a terminal, to see what a gateway says.
//!
//! | file | subject |
//! |---|---|
//! | `dial` | the request line, and the connection |
//! | `command` | what a line of input means |
//! | `talk` | from commands to requests, and which answers are awaited |
//! | `show` | what happened, for people or for scripts |
//! | `decode` | what is in frames |
//!
//! All but this file and `dial` are pure.

mod command;
mod decode;
mod dial;
mod show;
mod talk;

use std::{
    io::BufRead as _,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures_util::{SinkExt as _, StreamExt as _};
use ringsteer_openim::{
    frame::{Wire, text},
    login::{Compression, Encoding},
    platform::Platform,
};
use tokio::{
    sync::mpsc,
    time::{Instant as Timer, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use self::{
    command::Command,
    dial::Stream,
    show::{Event, Show},
    talk::Talk,
};
use super::{
    output::{self, Output, Reader, Verdict},
    token::{self, SecretFile},
};
use crate::told_to_stop::told_to_stop;

/// How long the other side may take to say close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// After the end of input: how long answers may still take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Lines of input that wait at most.
const MAX_LINES: usize = 64;

/// Log a user in at a gateway and talk to it from the terminal
///
/// Shows every frame as it comes, decoded, and sends what is typed. With -o json there is one JSON object a line.
#[derive(Debug, Parser)]
#[command(after_help = "\
Lines of input:
  @bob hello           send a text to the user bob
  #team hello          send a text to the group team
  hello                send a text to whom the last one went (or --to)
  /newest              ask for the newest sequence numbers of all conversations
  /pull CONVERSATION FROM TO
                       ask for messages, as in /pull si_alice_bob 1 20
  /watch USER…         be told when these users come and go; /unwatch USER…
  /background on|off   the app is in the background, or back
  /request ID [HEX]    any request, with the bytes of its data
  /logout              log out, which ends the session
  /quit                say close and leave, as Ctrl-C and the end of input do

The end of input waits for the answers that are still to come; with --stay the session goes on until
Ctrl-C or until the other side ends it.

Examples:
  ringsteer connect --url ws://192.0.2.1:10001/ --user alice --platform web
  ringsteer connect --url ws://192.0.2.1:10001/ --user alice --secret-file token-secret
  echo '@bob hello' | ringsteer connect --url ws://192.0.2.1:10001/ --user alice --platform linux --token \"$TOKEN\"
  ringsteer connect … --stay -o json </dev/null | jq 'select(.event == \"push\")'

Exit codes:
  0  we ended the session, or logged out
  1  no session came about, and why was said
  2  the command line is wrong
  3  the other side ended the session")]
pub struct Args {
    /// Where the gateway is, such as ws://192.0.2.1:10001/
    #[arg(long, value_parser = dial::url)]
    url: dial::Url,
    /// The user id
    #[arg(long)]
    user: String,
    /// What to log in from: a name such as ios, android, web, linux, or OpenIM's number, 1 to 11
    #[arg(long, value_parser = token::platform, default_value = "linux")]
    platform: Platform,
    /// The token; without it one is made with the secret
    #[arg(long, env = "RINGSTEER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    secret: SecretFile,
    /// How frames are written
    #[arg(long, value_enum, default_value_t)]
    encoding: EncodingArg,
    /// Have frames compressed
    #[arg(long)]
    gzip: bool,
    /// Whom lines without @ or # are for: @USER or #GROUP
    #[arg(long, value_name = "WHOM", value_parser = command::whom)]
    to: Option<command::Whom>,
    /// Go on after the end of input
    #[arg(long)]
    stay: bool,
    /// Show heartbeats, too
    #[arg(long)]
    heartbeats: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How frames are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum EncodingArg {
    /// As the native SDKs do
    #[default]
    Gob,
    /// As the JS SDK does
    Json,
}

/// How it went.
enum Outcome {
    /// We are done.
    Done,
    /// The other side ended the session.
    Ended,
}

impl Args {
    /// Talks to the gateway until somebody has enough.
    pub async fn run(self) -> Result<Verdict> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => token::for_an_hour(&self.secret, &self.user, self.platform)?,
        };
        let wire = Wire {
            encoding: match self.encoding {
                EncodingArg::Gob => Encoding::Gob,
                EncodingArg::Json => Encoding::Json,
            },
            compression: if self.gzip { Compression::Gzip } else { Compression::None },
        };
        let login = dial::Login { user: &self.user, token: &token, platform: self.platform, wire };
        let stream = dial::dial(&self.url, &login).await?;
        let show = Show::new(self.output, wire, Instant::now());
        let mut session = Session {
            talk: Talk::new(self.user.clone(), self.platform, self.to.clone()),
            stream,
            show,
            wire,
            heartbeats: self.heartbeats,
            stay: self.stay,
            printing: true,
        };
        session.print(&Event::Connected { url: self.url.to_string(), user: self.user, platform: self.platform })?;
        match session.run().await? {
            Outcome::Done => Ok(Verdict::Fine),
            Outcome::Ended => Ok(Verdict::Wanting),
        }
    }
}

/// A session, its terminal and its connection.
struct Session {
    talk: Talk,
    stream: Stream,
    show: Show,
    wire: Wire,
    heartbeats: bool,
    stay: bool,
    /// Nobody reads what is printed any more.
    printing: bool,
}

impl Session {
    async fn run(&mut self) -> Result<Outcome> {
        // Listened to for good: a signal must not fall between two waits.
        let told_to_stop = told_to_stop()?;
        tokio::pin!(told_to_stop);
        let mut lines = read_lines();
        // When answers are late, once the input has ended.
        let mut late: Option<Timer> = None;
        // As the SDKs do it: every 24 s by the websocket's own ping, and in browsers, which have none, every 10 s by text.
        let every = Duration::from_secs(if self.wire.encoding == Encoding::Json { 10 } else { 24 });
        let mut heartbeat = interval_at(Timer::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !self.printing || (late.is_some() && !self.stay && self.talk.awaits_nothing()) {
                return self.say_close().await;
            }
            tokio::select! {
                () = &mut told_to_stop => return self.say_close().await,
                _ = heartbeat.tick() => self.send_heartbeat().await?,
                () = sleep_until(late.unwrap_or(Timer::now())), if late.is_some() && !self.stay => {
                    let unanswered = output::count(self.talk.awaited(), "request");
                    bail!("unanswered after {} s: {unanswered}", ANSWER_TIMEOUT.as_secs());
                }
                line = lines.recv(), if late.is_none() => match line {
                    None => late = Some(Timer::now() + ANSWER_TIMEOUT),
                    Some(line) => match command::parse(&line) {
                        Ok(None) => {}
                        Ok(Some(Command::Quit)) => return self.say_close().await,
                        Ok(Some(command)) => self.obey(command).await?,
                        Err(why) => eprintln!("ringsteer: {why}"),
                    },
                },
                message = self.stream.next() => {
                    if let Some(outcome) = self.hear(message).await? {
                        return Ok(outcome);
                    }
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Result<()> {
        match self.talk.request(command, wall_clock_ms()) {
            Ok(request) => {
                let frame = self.wire.write_request(&request);
                self.print(&Event::Sent(request))?;
                self.send(Message::Binary(frame)).await
            }
            Err(why) => {
                eprintln!("ringsteer: {why}");
                Ok(())
            }
        }
    }

    /// What the other side has sent; the outcome, if that was the end.
    async fn hear(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<Option<Outcome>> {
        let done = if self.talk.has_logged_out() { Outcome::Done } else { Outcome::Ended };
        match message {
            None => {
                self.print(&Event::Ended { code: None, reason: "the connection ended without a close".into() })?;
                Ok(Some(done))
            }
            Some(Err(error)) => {
                self.print(&Event::Ended { code: None, reason: error.to_string() })?;
                Ok(Some(done))
            }
            Some(Ok(Message::Close(close))) => {
                let (code, reason) = close.map_or((None, String::new()), |close| {
                    (Some(u16::from(close.code)), close.reason.as_str().to_owned())
                });
                self.print(&Event::Ended { code, reason })?;
                // The answer to it has to be written; whether it arrives is not our business any more.
                let _ = timeout(CLOSE_TIMEOUT, self.stream.flush()).await;
                Ok(Some(done))
            }
            Some(Ok(Message::Binary(frame))) => {
                let event = self.read(&frame);
                if let Event::Received(response) = &event {
                    self.talk.answered(&response.msg_incr);
                }
                self.print(&event)?;
                Ok(None)
            }
            Some(Ok(Message::Text(text))) => {
                match text::read(&text) {
                    Some((_, Some(answer))) => self.send(Message::Text(answer.into())).await?,
                    Some((_, None)) if !self.heartbeats => {}
                    _ => self.print(&Event::Text(text.as_str().to_owned()))?,
                }
                Ok(None)
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        }
    }

    fn read(&self, frame: &Bytes) -> Event {
        // The server is whom we chose to trust; still no frame is a reason to fill the memory.
        match self.wire.read_response(frame, 64 << 20) {
            Ok(response) => Event::Received(response),
            Err(why) => Event::Unreadable { bytes: frame.len(), why: why.to_string() },
        }
    }

    async fn send_heartbeat(&mut self) -> Result<()> {
        let message = match self.wire.encoding {
            Encoding::Gob => Message::Ping(Bytes::from_static(b"ringsteer")),
            Encoding::Json => Message::Text(text::ping("ringsteer").into()),
        };
        if self.heartbeats {
            self.print(&Event::Heartbeat)?;
        }
        self.send(message).await
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        // If the connection is gone, reading tells, and why.
        let _ = self.stream.send(message).await;
        Ok(())
    }

    /// Says close and waits a little for the answer; what comes meanwhile is still shown.
    async fn say_close(&mut self) -> Result<Outcome> {
        let _ = self.stream.close(None).await;
        let _ = timeout(CLOSE_TIMEOUT, async {
            while let Some(Ok(message)) = self.stream.next().await {
                if let Message::Binary(frame) = message {
                    let event = self.read(&frame);
                    self.print(&event)?;
                }
            }
            anyhow::Ok(())
        })
        .await;
        self.print(&Event::Left)?;
        Ok(Outcome::Done)
    }

    fn print(&mut self, event: &Event) -> Result<()> {
        if self.printing && output::show(&self.show.line(event))? == Reader::Gone {
            self.printing = false;
        }
        Ok(())
    }
}

/// The lines of standard input. A thread reads them, for a terminal cannot be waited for otherwise; it ends with the
/// process.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(MAX_LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Milliseconds since 1970, as messages are stamped.
fn wall_clock_ms() -> i64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64)
}
