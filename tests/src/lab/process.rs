//! A child process on a host of the lab: its log, its life, its death.

use super::namespace;
use super::nursery::Nursery;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Lines of a log kept for [`Process::wait_for_log_line`]; the file has them all.
const LINES_MAX: usize = 10_000;

/// Lines of a log that an error or a panic shows.
const LINES_SHOWN: usize = 40;

/// How long a killed process may take to be gone.
const DEATH_LIMIT: Duration = Duration::from_secs(60);

/// A handle on a child process. The process belongs to its lab: it lives on when the handle is dropped and is killed
/// and reaped with the lab. Clones are handles on the same process.
#[derive(Clone)]
pub struct Process {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    log_path: PathBuf,
    command: Arc<Mutex<Command>>,
    nursery: Nursery,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Counts the starts; a thread of an earlier run must not report into a later one.
    run: u32,
    /// How signals reach exactly this process, even if its number were used again.
    handle: Option<Arc<OwnedFd>>,
    pid: u32,
    exit: Option<ExitStatus>,
    /// The log of this run, its oldest lines cut off.
    lines: VecDeque<String>,
    /// Lines cut off.
    forgotten: usize,
    log_open: bool,
    log: File,
}

/// A place in the log of a process: see [`Process::log_mark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogMark(usize);

// === impl Process ===

impl Process {
    /// Starts `command` in the network namespace. The file must stay open as long as the process may be restarted,
    /// which is why it is taken by `Arc`.
    pub(super) fn start(
        name: &str,
        mut command: Command,
        namespace: Arc<File>,
        log_path: PathBuf,
        nursery: Nursery,
    ) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("creating {}", log_path.display()))?;
        let parent = std::process::id();
        // A group of its own: Ctrl-C at the terminal reaches us, and we end the lab in order.
        command.stdin(Stdio::null()).process_group(0);
        // SAFETY: only system calls that are safe between fork and exec; nothing is allocated or locked.
        unsafe { command.pre_exec(move || prepare_child(&namespace, parent)) };

        let state = State {
            run: 0,
            handle: None,
            pid: 0,
            exit: None,
            lines: VecDeque::new(),
            forgotten: 0,
            log_open: false,
            log,
        };
        let process = Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                log_path,
                command: Arc::new(Mutex::new(command)),
                nursery,
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        };
        process.begin()?;
        Ok(process)
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The process number of the present run.
    pub fn pid(&self) -> u32 {
        self.lock().pid
    }

    /// The file with all that it printed, over all runs.
    pub fn log_path(&self) -> &Path {
        &self.inner.log_path
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        self.lock().exit.is_none()
    }

    /// Sends a signal. A process that has ended already is fine.
    pub fn signal(&self, signal: Signal) {
        // The handle is taken out of the lock: a system call needs none.
        let handle = self.lock().handle.clone();
        if let Some(handle) = handle {
            // The one possible error is that it has ended.
            let _ = pidfd_send_signal(&*handle, signal);
        }
    }

    /// Kills it (SIGKILL) and returns when it is gone.
    ///
    /// # Errors
    /// If it is still there ten seconds later.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.wait(DEATH_LIMIT)
    }

    /// Asks it to end (SIGTERM) and returns when it has.
    ///
    /// # Errors
    /// If it has not within `limit`.
    pub fn terminate(&self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Stops it (SIGSTOP), until [`Signal::CONT`], and returns when none of its threads runs any more: a signal takes its
    /// time, and until then they go on.
    ///
    /// # Errors
    /// If it has ended, or that takes longer than `limit`.
    pub fn freeze(&self, limit: Duration) -> Result<()> {
        self.signal(Signal::STOP);
        let deadline = Instant::now() + limit;
        loop {
            let mut threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()))
                .with_context(|| format!("{} has ended", self.name()))?;
            let stands = |thread: &std::fs::DirEntry| {
                // The state is behind the name, which is in parentheses. A thread may end meanwhile.
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('T'))
            };
            if threads.all(|thread| thread.is_ok_and(|thread| stands(&thread))) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not stop", self.name());
            std::thread::yield_now();
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it has not ended within `limit`; the message carries the end of its log.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let state = self.lock();
        let (state, _) = self
            .inner
            .changed
            .wait_timeout_while(state, limit, |state| state.exit.is_none())
            .expect("no one panics with the lock");
        state.exit.with_context(|| format!("{} still runs after {limit:?}; {}", self.name(), tail(&state)))
    }

    /// Kills it if it runs, and starts it again with the same arguments; the log file goes on.
    ///
    /// # Errors
    /// If it does not die, or cannot be started.
    pub fn restart(&self) -> Result<()> {
        self.kill()?;
        self.begin()
    }

    /// Waits for a line of this run's log that contains `text`, and gives it.
    ///
    /// # Errors
    /// If there is none within `limit`, or the process ends without one; the message carries the end of its log.
    pub fn wait_for_log_line(&self, text: &str, limit: Duration) -> Result<String> {
        self.wait_for_log(LogMark::default(), limit, |line| line.contains(text))
            .with_context(|| format!("waiting for a line with {text:?}"))
    }

    /// The present end of this run's log, for [`wait_for_log`](Self::wait_for_log).
    pub fn log_mark(&self) -> LogMark {
        let state = self.lock();
        LogMark(state.forgotten + state.lines.len())
    }

    /// Waits for the first line after `mark` that `is_it` accepts, and gives it.
    ///
    /// # Errors
    /// As [`wait_for_log_line`](Self::wait_for_log_line).
    pub fn wait_for_log(&self, mark: LogMark, limit: Duration, is_it: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        let mut seen = mark.0;
        loop {
            let skip = seen.saturating_sub(state.forgotten);
            if let Some(line) = state.lines.iter().skip(skip).find(|line| is_it(line)) {
                return Ok(line.clone());
            }
            seen = state.forgotten + state.lines.len();
            if !state.log_open {
                bail!("{} closed its log without it; {}", self.name(), tail(&state));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} has not printed it within {limit:?}; {}", self.name(), tail(&state));
            }
            state = self.inner.changed.wait_timeout(state, left).expect("no one panics with the lock").0;
        }
    }

    /// The last lines of this run's log.
    pub fn log_tail(&self) -> String {
        tail(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("no one panics with the lock")
    }

    /// Starts a run, with one thread that reads the log and one that waits for the end.
    fn begin(&self) -> Result<()> {
        let (reader, writer) = io::pipe().context("making the pipe for a log")?;
        {
            let mut command = self.inner.command.lock().expect("no one panics with the lock");
            let copy = writer.try_clone().context("making the pipe for a log")?;
            command.stdout(writer).stderr(copy);
        }
        let child = self.inner.nursery.spawn(self.inner.command.clone());
        // The command keeps what it was given; with our ends of the pipe open the log would never end.
        self.inner.command.lock().expect("no one panics with the lock").stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.with_context(|| format!("starting {}", self.name()))?;

        let pid = Pid::from_child(&child);
        // Nobody has waited for the child yet, so its number is still its own.
        let handle = pidfd_open(pid, PidfdFlags::empty()).expect("an unreaped child has a process number");
        let run = {
            let mut state = self.lock();
            state.run += 1;
            state.handle = Some(Arc::new(handle));
            state.pid = child.id();
            state.exit = None;
            state.lines.clear();
            state.forgotten = 0;
            state.log_open = true;
            state.run
        };
        let process = self.clone();
        spawn_thread("lab-log", move || process.read_log(reader, run))?;
        let process = self.clone();
        spawn_thread("lab-reaper", move || process.reap(child, run))
    }

    fn read_log(&self, reader: PipeReader, run: u32) {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            let mut state = self.lock();
            // A full disk must not stop the process whose log we drain.
            let _ = state.log.write_all(&line);
            if state.run == run {
                if state.lines.len() == LINES_MAX {
                    state.lines.pop_front();
                    state.forgotten += 1;
                }
                state.lines.push_back(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
                self.inner.changed.notify_all();
            }
            line.clear();
        }
        let mut state = self.lock();
        if state.run == run {
            state.log_open = false;
            self.inner.changed.notify_all();
        }
    }

    fn reap(&self, mut child: Child, run: u32) {
        let status = child.wait().expect("nobody else waits for our child");
        let mut state = self.lock();
        if state.run == run {
            state.exit = Some(status);
            self.inner.changed.notify_all();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({} {})", self.name(), self.pid())
    }
}

fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(body).context("starting a thread for a process")?;
    Ok(())
}

fn tail(state: &State) -> String {
    let skip = state.lines.len().saturating_sub(LINES_SHOWN);
    let status = match state.exit {
        Some(exit) => format!("ended with {exit}"),
        None => format!("runs as {}", state.pid),
    };
    let lines: Vec<&str> = state.lines.iter().skip(skip).map(String::as_str).collect();
    format!("it {status}; the end of its log:\n  {}", lines.join("\n  "))
}

/// Between fork and exec: into the namespace, and bound to the parent's life.
fn prepare_child(namespace: &File, parent: u32) -> io::Result<()> {
    namespace::enter(namespace)?;
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    // The parent may have died before that call.
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}
