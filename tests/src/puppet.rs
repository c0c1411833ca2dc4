//! A client that is not ours: a process on a host of the lab that is told things on its input and says what happens on its
//! output, one JSON object a line.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::Host;

/// How long anything may take. OpenIM's SDK waits five seconds before it dials again, and may have to do so several times.
const LIMIT: Duration = Duration::from_secs(90);

/// The process.
pub struct Puppet {
    name: String,
    process: Child,
    /// None once it has been told that there is no more.
    input: Option<ChildStdin>,
    output: Receiver<Value>,
    /// What has happened that nobody has asked for yet, in order.
    unread: Vec<Value>,
    log: PathBuf,
}

impl Puppet {
    /// Starts it on a host. `name` tells it from others there; its log is of that name.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(host: &Host, name: &str, mut command: Command) -> Result<Self> {
        let log = host.run_dir().join(format!("{name}.log"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&log).with_context(|| format!("creating {}", log.display()))?);
        let mut process = host.run(|| command.spawn()).with_context(|| format!("starting {name}"))?;
        let input = process.stdin.take().context("its input is piped")?;
        let lines = BufReader::new(process.stdout.take().context("its output is piped")?).lines();
        let (sender, output) = channel();
        thread::spawn(move || {
            // Whatever else stands there is no event; the log is elsewhere.
            let events = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            events.map(|event| sender.send(event)).take_while(Result::is_ok).for_each(drop);
        });
        Ok(Self { name: name.to_owned(), process, input: Some(input), output, unread: Vec::new(), log })
    }

    /// Tells it something.
    ///
    /// # Errors
    /// If it does not listen any more.
    pub fn tell(&mut self, command: &Value) -> Result<()> {
        let input = self.input.as_mut().context("its input has ended")?;
        writeln!(input, "{command}").with_context(|| format!("telling {} to {command}", self.name))
    }

    /// Tells it that there is no more.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// What it has said that nobody has waited for, in order.
    pub fn unread(&mut self) -> &[Value] {
        self.unread.extend(self.output.try_iter());
        &self.unread
    }

    /// Forgets what it has said and nobody has waited for, unless it is this.
    pub fn forget_unread_but(&mut self, is_kept: impl FnMut(&Value) -> bool) {
        self.unread();
        self.unread.retain(is_kept);
    }

    /// Waits for something, and keeps what comes before it.
    ///
    /// # Errors
    /// If it does not come.
    pub fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
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
                        RecvTimeoutError::Disconnected => "and the process has ended".into(),
                    };
                    let (name, unread, log) = (&self.name, &self.unread, self.end_of_log());
                    bail!("{name}: {what} has not come, {why}; what came is {unread:?}; {log}");
                }
            }
        }
    }

    /// Where its log is, and what stands at the end of it.
    pub fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.reverse();
        format!("its log is {}, and ends with {lines:#?}", self.log.display())
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // It is gone already, or goes now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
