//! Ctrl-C: the demo leaves nothing behind either.

use super::Estate;
use anyhow::{Context, Result};
use std::sync::{Arc, Mutex, Weak};
use tokio::signal::unix::{SignalKind, signal};

/// The labs of this process that may still have to be cleared away.
static ESTATES: Mutex<Vec<Weak<Estate>>> = Mutex::new(Vec::new());

/// From now on SIGINT and SIGTERM remove all labs of this process and end it with the shell's status for the signal
/// (130, 143). To be called once, at the start of a program that a person watches; a killed test is left to the next
/// lab.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn clean_up_on_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("waiting for signals")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        let open = |kind| signal(kind).context("installing a signal handler");
        (open(SignalKind::interrupt())?, open(SignalKind::terminate())?)
    };
    let body = move || {
        let status = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        let estates = std::mem::take(&mut *ESTATES.lock().expect("no one panics with the lock"));
        for estate in estates.iter().filter_map(Weak::upgrade) {
            estate.clear_away();
        }
        std::process::exit(status);
    };
    std::thread::Builder::new().name("lab-interrupt".into()).spawn(body).context("starting a thread")?;
    Ok(())
}

/// Remembers a lab, for as long as it lives.
pub(super) fn register(estate: &Arc<Estate>) {
    let mut estates = ESTATES.lock().expect("no one panics with the lock");
    estates.retain(|estate| estate.strong_count() > 0);
    estates.push(Arc::downgrade(estate));
}
