//! Packets that came while their connection was held, until it is not.

use std::collections::HashMap;

use ringsteer_ebpf::layout::{flow::FlowKey, moves::HeldFrame};
use tracing::debug;

use crate::dataplane::held::HeldFrames;

/// Packets kept in all. More are lost, and TCP sends them again.
const KEPT_MAX: usize = 8192;

/// Packets kept for one connection.
const KEPT_PER_FLOW_MAX: usize = 512;

/// The packets.
pub(super) struct Kept {
    frames: HeldFrames,
    waiting: HashMap<[u8; size_of::<FlowKey>()], Vec<HeldFrame>>,
    count: usize,
}

impl Kept {
    pub(super) fn new(frames: HeldFrames) -> Self {
        Self { frames, waiting: HashMap::new(), count: 0 }
    }

    /// Takes in what has come.
    pub(super) fn collect(&mut self) {
        while let Some(frame) = self.frames.take_next() {
            let waiting = self.waiting.entry(bytemuck::cast(frame.key)).or_default();
            if self.count < KEPT_MAX && waiting.len() < KEPT_PER_FLOW_MAX {
                waiting.push(frame);
                self.count += 1;
            }
        }
    }

    /// Has everything arrive once more whose connection is not held (any more), and tells how much that is.
    pub(super) fn release(&mut self, mut is_held: impl FnMut(&FlowKey) -> bool) -> u64 {
        let mut released = 0;
        let frames = &self.frames;
        self.waiting.retain(|key, waiting| {
            if is_held(&bytemuck::cast(*key)) {
                return true;
            }
            for frame in waiting.iter() {
                if let Err(error) = frames.replay(frame) {
                    debug!("a packet kept for a connection is lost: {error}");
                }
            }
            released += waiting.len() as u64;
            false
        });
        self.count -= released as usize;
        released
    }
}
