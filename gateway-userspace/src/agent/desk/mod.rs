//! The one place that answers what is asked on the control socket.
//!
//! | file | subject |
//! |---|---|
//! | `status` | agent, programs, counters |
//! | `members` | members, and whether they agree |
//! | `flows` | the flow table, and what is steered |
//! | `lookup` | where a user belongs |
//! | `handoff` | how sessions move, and what operators want of that |
//! | `sessions` | where a user's sessions are |
//!
//! Nothing here waits for whoever publishes, `lookup` apart, which reads the ring in force; and a walk of the flow
//! table delays nobody but who asked for it.

mod flows;
mod handoff;
mod lookup;
mod members;
mod sessions;
mod status;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::task::spawn_blocking;

use super::shared::Agent;
use crate::{
    control::{Answer, Answers, Desk, Request, Rings},
    ring::Ring,
};

/// Connections of which a step is done where it is asked for, without another thread.
const MOVES_AT_ONCE: usize = 32;

impl Desk for Agent {
    fn answer(self: Arc<Self>, request: Request, answers: Answers) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let answer = match request {
                Request::Status {} => {
                    blocking(move || self.status().map(|status| Answer::Status(Box::new(status)))).await
                }
                Request::Stats {} => blocking(move || self.stats().map(Answer::Stats)).await,
                Request::Ring {} => Answer::Ring(self.rings()),
                Request::Peers {} => Answer::Peers(self.peers()),
                Request::Members {} => blocking(move || self.members().map(Answer::Members)).await,
                Request::Services {} => blocking(move || self.services().map(Answer::Services)).await,
                Request::Lookup { user } => blocking(move || Ok(Answer::Lookup(Box::new(self.lookup(&user))))).await,
                Request::Sessions { user, everywhere } => Answer::Sessions(self.sessions(user, everywhere).await),
                Request::Flows(filter) => {
                    let sender = answers.clone();
                    // Several answers: the last one tells the end.
                    blocking(move || self.flows(&filter, &sender).map(Answer::Flows)).await
                }
                Request::Handoff { node, order } => match self.handoff(node, order).await {
                    Ok(nodes) => Answer::Handoff(nodes),
                    Err(refusal) => error(format!("{refusal:#}")),
                },
                Request::Announce { state, node } => match self.announce_at(node, state).await {
                    Ok(state) => Answer::Announced { state },
                    Err(refusal) => error(format!("{refusal:#}")),
                },
                // A few system calls each: over before another thread has been woken.
                Request::Moves(moves) if moves.flows.len() <= MOVES_AT_ONCE => {
                    self.moves(&moves).map_or_else(|failure| error(format!("{failure:#}")), Answer::Moved)
                }
                Request::Moves(moves) => blocking(move || self.moves(&moves).map(Answer::Moved)).await,
                Request::Claim(claim) => match self.claim(claim).await {
                    Ok(outcomes) => Answer::Moved(outcomes),
                    Err(why) => error(why),
                },
                Request::Follow {} | Request::Attach(_) => error("the server follows and attaches by itself"),
            };
            // A client that has gone away needs no answer.
            let _ = answers.send(answer).await;
        })
    }
}

impl Agent {
    fn rings(&self) -> Rings {
        let in_force = self.in_force();
        let named = |ring: &Option<Ring>| ring.as_ref().map(Into::into);
        Rings { current: named(&in_force.ring), previous: named(&in_force.previous) }
    }
}

/// Does what may take a while on a thread where it may.
async fn blocking(work: impl FnOnce() -> anyhow::Result<Answer> + Send + 'static) -> Answer {
    match spawn_blocking(work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => error(format!("{failure:#}")),
        Err(failure) => error(failure),
    }
}

fn error(what: impl std::fmt::Display) -> Answer {
    Answer::Error { message: what.to_string() }
}
