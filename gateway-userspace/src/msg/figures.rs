//! What monitoring sees of the message service.

use std::sync::Arc;

use ringsteer_msg::{counters::Counters, store::Store, writer::Writer};

use crate::telemetry::{self, Subject};

/// The service, to be looked at.
pub(super) struct Figures {
    pub(super) counters: Arc<Counters>,
    pub(super) writer: Writer,
    pub(super) store: Store,
}

impl Subject for Figures {
    fn figures(&self) -> anyhow::Result<telemetry::Figures> {
        let mut figures = telemetry::Figures::default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        figures.info("build_info", "The program's version", vec![("role", "msg".into()), ("version", version)]);
        figures.gauge("ready", "1 if this service takes messages; /readyz says why not", self.unready().is_empty());
        let Counters {
            stored,
            passed_on,
            repeated,
            refused,
            batches,
            syncs,
            pushed,
            push_retries,
            push_failed,
            push_dropped,
        } = &*self.counters;
        figures.counters(
            "msg_messages",
            "Messages, by what became of them",
            [("stored", stored), ("passed_on", passed_on), ("repeated", repeated), ("refused", refused)]
                .map(|(fate, count)| (vec![("fate", fate.into())], count.get())),
        );
        figures.counter("msg_batches", "Batches of messages stored with one write", batches.get());
        figures.counter("msg_fsyncs", "Times that the disk was told to keep what it was given", syncs.get());
        figures.counters(
            "msg_pushes",
            "Messages for those online, by what became of them",
            [("delivered", pushed), ("failed", push_failed), ("dropped", push_dropped)]
                .map(|(fate, count)| (vec![("fate", fate.into())], count.get())),
        );
        figures.counter("msg_push_retries", "Times that a push was tried once more", push_retries.get());
        figures.gauge("msg_waiting", "Commands that wait to be stored", self.writer.waiting());
        if let Some(bytes) = self.store.disk_bytes() {
            figures.gauge("msg_disk_bytes", "Size of the messages on disk", bytes);
        }
        Ok(figures)
    }

    fn unready(&self) -> Vec<String> {
        self.writer.failed().map(|error| format!("the storage has failed: {error}")).into_iter().collect()
    }
}
