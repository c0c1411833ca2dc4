//! A client's connection until it has become a session: its request, and the answer to it.

use std::sync::Arc;

use super::{
    Shared,
    http::{Connection, Response, Unreadable},
    line::Line,
    placement::place,
    running::{Registration, Running},
};
use crate::{
    random::Spread,
    session::{
        application::{Application, Plain},
        core::Session,
        table::Card,
    },
    websocket::{decoder::Decoder, handshake::Upgrade, request::Head},
};

/// Serves the connection until it has become a session, or will never be one.
pub(super) async fn serve(mut connection: Connection, parameter: Arc<str>, shared: Arc<Shared>) {
    let limits = &shared.limits;
    let head = tokio::select! {
        head = connection.head(limits.head_timeout, limits.head_timeout) => head,
        () = shared.stopping.cancelled() => return,
    };
    let placed = match &head {
        Ok(head) => judge(&head.head(), &parameter, &shared),
        Err(Unreadable::Gone) => return,
        Err(Unreadable::Refused(response)) => Err(response.clone()),
    };
    let begun = match placed {
        Ok((upgrade, user)) => register(&connection, &user, &shared).map(|registered| (upgrade, registered)),
        Err(response) => Err(response),
    };
    match begun {
        Ok((upgrade, (line, registration))) => begin(connection, &upgrade, line, registration),
        Err(response) => {
            shared.counters.refused(response.status());
            connection.refuse(&response, limits.close_timeout).await;
        }
    }
}

/// Puts the session into the table, before its client learns of it: a push made once the client is connected must find
/// it.
fn register(connection: &Connection, user: &[u8], shared: &Arc<Shared>) -> Result<(Arc<Line>, Registration), Response> {
    let line = Arc::new(Line::new(connection.peer, shared.sweeper.now_ms(), shared.limits.queue));
    // A name that no other connection of the user has, on whichever node.
    let card = Card { connection: format!("{:016x}", Spread::seed()).into(), ..Card::default() };
    let mut sessions = shared.sessions();
    // Under the table's lock, so that whoever stops the gateway says goodbye to this session or finds it refused.
    if shared.stopping.is_cancelled() {
        return Err(Response::error(503, "the gateway stops").header("Retry-After", "1"));
    }
    let id = sessions
        .insert(user, card, Arc::clone(&line))
        .map_err(|crowded| Response::error(503, crowded).header("Retry-After", "5"))?;
    drop(sessions);
    shared.counters.opened();
    Ok((line, Registration { shared: Arc::clone(shared), user: user.into(), id }))
}

/// The connection is a session from here on, and the client is told so.
fn begin(connection: Connection, upgrade: &Upgrade, line: Arc<Line>, registration: Registration) {
    let shared = &registration.shared;
    tracing::debug!("{}: session of {} begins", connection.peer, String::from_utf8_lossy(&registration.user));
    let now_ms = shared.sweeper.now_ms();
    let decoder = Decoder::new(shared.limits.max_message);
    let application = Application::Plain(Plain);
    let mut session = Session::new(application, decoder, &upgrade.response(), shared.limits.session(), now_ms);
    // The client may have gone on without waiting for us.
    session.receive(&connection.unread, now_ms);
    Running::new(connection.stream, line, session, registration).spawn();
}

/// Whether the request may become a session here, and whose.
fn judge(head: &Head<'_>, parameter: &str, shared: &Shared) -> Result<(Upgrade, Vec<u8>), Response> {
    let upgrade = Upgrade::of(head).map_err(|refusal| {
        let response = Response::error(refusal.status(), refusal);
        match refusal.header() {
            Some((name, value)) => response.header(name, value),
            None => response,
        }
    })?;
    let ours = place(head.target, parameter, shared.published().as_deref())
        .map_err(|not_ours| not_ours.response(parameter))?;
    Ok((upgrade, ours.user))
}
