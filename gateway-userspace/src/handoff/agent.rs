//! The requests to the agent, in order and in batches. Only the agent touches the kernel's maps.

use std::{path::PathBuf, time::Duration};

use ringsteer_handoff::name::MoveId;
use tokio::{sync::mpsc, time::sleep};

use crate::control::{FlowMove, MOVES_MAX, MoveClient, MoveOutcome, MoveStep, Moves, Promise};

/// How long to wait before an agent that could not be reached is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it is asked to take a connection before that is done without it. Who sends the packets then is the node that
/// had the connection.
const TAKE_ATTEMPTS: u32 = 40;

/// A step that one connection needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) id: MoveId,
    pub(super) step: MoveStep,
    pub(super) flow: FlowMove,
    /// Of a hold: for whom.
    pub(super) promise: Option<Promise>,
}

/// What became of it; none if the agent could not be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) request: Request,
    pub(super) outcome: Option<MoveOutcome>,
}

/// Passes requests on until nobody makes any.
pub(super) async fn ask(
    socket: PathBuf,
    mut requests: mpsc::UnboundedReceiver<Request>,
    answers: mpsc::UnboundedSender<Answered>,
) {
    let mut agent = MoveClient::new(socket);
    let mut batch: Vec<Request> = Vec::new();
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(request) => request,
            None => match requests.recv().await {
                Some(request) => request,
                None => return,
            },
        };
        batch.clear();
        batch.push(first);
        // The same step for as many as wait for it: order is kept.
        while batch.len() < MOVES_MAX {
            match requests.try_recv() {
                Ok(request) if (request.step, request.promise) == (first.step, first.promise) => batch.push(request),
                Ok(request) => {
                    next = Some(request);
                    break;
                }
                Err(_) => break,
            }
        }
        let outcomes = carry_out(&mut agent, first, &batch).await;
        for (index, &request) in batch.iter().enumerate() {
            let outcome = outcomes.as_ref().and_then(|outcomes| outcomes.get(index).copied());
            if answers.send(Answered { request, outcome }).is_err() {
                return;
            }
        }
    }
}

/// Has the agent do a step. What undoes or completes a move is repeated until it has been done.
async fn carry_out(agent: &mut MoveClient, first: Request, batch: &[Request]) -> Option<Vec<MoveOutcome>> {
    let Request { step, promise, .. } = first;
    let mut attempts = 0;
    loop {
        let wanted = Moves { step, flows: batch.iter().map(|request| request.flow).collect(), promise };
        let error = match agent.ask(wanted).await {
            Ok(outcomes) => return Some(outcomes),
            Err(error) => error,
        };
        attempts += 1;
        if attempts == 1 {
            tracing::warn!("moving connections: {error}");
        }
        match step {
            MoveStep::Hold | MoveStep::Accept { .. } => return None,
            MoveStep::Take if attempts >= TAKE_ATTEMPTS => return None,
            MoveStep::Take | MoveStep::Move { .. } | MoveStep::Release => sleep(PAUSE).await,
        }
    }
}
