//! The thread that all children of a lab descend from.
//!
//! A child asks the kernel to die with its parent (PR_SET_PDEATHSIG), so that a killed test leaves none behind. To the
//! kernel the parent is the *thread* that forked; so they are all forked by one that lives as long as the lab.

use anyhow::{Context, Result};
use std::io;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, mpsc};

type Job = Box<dyn FnOnce() + Send>;

/// A handle on the thread; it ends with the last one.
#[derive(Clone)]
pub struct Nursery {
    jobs: mpsc::Sender<Job>,
}

// === impl Nursery ===

impl Nursery {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there cannot be another thread.
    pub fn start() -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("lab-nursery".into())
            .spawn(move || queue.into_iter().for_each(|job| job()))
            .context("starting the thread that starts processes")?;
        Ok(Self { jobs })
    }

    /// Spawns a child from the thread.
    pub fn spawn(&self, command: Arc<Mutex<Command>>) -> io::Result<Child> {
        let (answer, result) = mpsc::sync_channel(1);
        let job = move || {
            let child = command.lock().expect("no one panics with the lock").spawn();
            let _ = answer.send(child);
        };
        // The thread only ends when nobody is left to ask it; were it gone, `recv` would say so.
        let _ = self.jobs.send(Box::new(job));
        result.recv().map_err(io::Error::other)?
    }
}
