//! What is in the flow table, and what is steered.

use std::{mem, ops::ControlFlow};

use anyhow::{Context as _, Result};

use crate::{
    agent::shared::{Agent, monotonic_ns},
    control::{Answer, Answers, FlowFilter, Flows, Services},
    inspect::{self, flows::Wanted},
};

/// Flows in one answer.
const CHUNK: usize = 512;

impl Agent {
    /// Sends the flows that `filter` lets through, and gives the last of them with the end.
    pub(in crate::agent) fn flows(&self, filter: &FlowFilter, answers: &Answers) -> Result<Flows> {
        let FlowFilter { node, client, limit, .. } = *filter;
        let wanted = Wanted { node, client, key_hash: self.key_hash(filter)?, limit };
        let mut chunk = Vec::new();
        let end = inspect::flows::each(&self.readings, &self.config().services, &wanted, monotonic_ns(), |flow| {
            chunk.push(flow);
            if chunk.len() == CHUNK {
                let flows = Flows { flows: mem::take(&mut chunk), end: None };
                if answers.blocking_send(Answer::Flows(flows)).is_err() {
                    // Nobody waits for the rest.
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(Flows { flows: chunk, end: Some(end) })
    }

    pub(in crate::agent) fn services(&self) -> Result<Services> {
        Ok(Services { services: inspect::services::all(&self.readings, &self.config().services)? })
    }

    /// The hash that the flows asked for were bound by, if they are asked for by it.
    fn key_hash(&self, filter: &FlowFilter) -> Result<Option<u32>> {
        let Some(user) = &filter.user else { return Ok(filter.key_hash) };
        let in_force = self.in_force();
        let ring = in_force.ring.as_ref().context("there is no ring yet, so no flow was bound by a user")?;
        Ok(Some(ring.algorithm().hash_key(user.as_bytes())))
    }
}
