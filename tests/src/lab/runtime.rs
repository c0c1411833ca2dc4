//! Tokio inside a host: a runtime on one thread that lives in the namespace, since sockets belong to the namespace of
//! the thread that opens them.

use super::namespace;
use anyhow::{Context, Result};
use std::fs::File;
use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// A runtime on a thread in a namespace; ends, with all its tasks, when it is dropped.
pub struct HostRuntime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A runtime for the calling thread.
///
/// # Panics
/// If the process has no file descriptors left.
pub fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime needs three file descriptors")
}

// === impl HostRuntime ===

impl HostRuntime {
    /// Starts the thread and the runtime.
    ///
    /// # Errors
    /// If the thread cannot be started or cannot enter the namespace.
    pub fn start(host: &str, namespace: Arc<File>) -> Result<Self> {
        let (report, started) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            if let Err(errno) = namespace::enter(&*namespace) {
                let _ = report.send(Err(errno));
                return;
            }
            // The lab's end must not wait for whoever keeps the host's handle.
            drop(namespace);
            let runtime = current_thread();
            let _ = report.send(Ok(runtime.handle().clone()));
            // Either the word to stop, or the loss of whoever could give it.
            let _ = runtime.block_on(stopped);
        };
        let thread =
            std::thread::Builder::new().name(format!("lab-{host}")).spawn(body).context("starting a host's thread")?;
        let handle = started
            .recv()
            .context("a host's thread ended before it began")?
            .with_context(|| format!("entering the namespace of {host}"))?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Spawns a task.
    pub fn spawn<F: Future<Output: Send> + Send + 'static>(&self, future: F) -> tokio::task::JoinHandle<F::Output> {
        self.handle.spawn(future)
    }
}

impl Drop for HostRuntime {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // A panic of a task is reported by its own handle.
            let _ = thread.join();
        }
    }
}
