//! A client's connection until it has become a session: its request, and the answer to it.

use std::sync::Arc;

use bytes::BytesMut;
use ringsteer_openim::{dispatch::Client, error::SUCCESS, login::Login, token::TokenDigest};

use super::{
    Shared,
    http::{Connection, Response, Unreadable, WholeHead},
    line::Line,
    misplaced::{Awaited, LetIn, Misplaced},
    openim::{self, OpenIm, Refusal},
    placement::{NotOurs, key, place},
    running::{Registration, Running},
};
use crate::{
    config::Serve,
    random::Spread,
    session::{
        application::{self, Application, Plain},
        core::Session,
        table::Card,
    },
    websocket::{decoder::Decoder, handshake::Upgrade, request::Head},
};

/// The service at whose address the client has come.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// Its name.
    pub(super) service: Arc<str>,
    /// The query parameter that names the user.
    pub(super) parameter: Arc<str>,
    /// What is served.
    pub(super) serve: Serve,
}

/// A request that may become a session.
struct Request {
    upgrade: Upgrade,
    user: Vec<u8>,
    /// With OpenIM, as whom the client wants to log in.
    login: Option<Login>,
}

/// Why a request becomes none.
enum Refused {
    /// In a way that has nothing to do with what is served.
    Http(Response),
    /// In OpenIM's way.
    OpenIm(Upgrade, Refusal),
    /// Its user is another node's.
    Misplaced(NotOurs),
}

/// A session whose client does not know of it yet.
struct Begun {
    application: Application,
    greeting: BytesMut,
    line: Arc<Line>,
    registration: Registration,
}

/// Serves the connection until it has become a session, or will never be one.
pub(super) async fn serve(connection: Connection, door: Door, shared: Arc<Shared>) {
    serve_request(connection, door, None, shared).await;
}

/// The same, and says so if somebody waits for it.
pub(super) async fn serve_request(
    mut connection: Connection,
    door: Door,
    awaited: Option<Awaited>,
    shared: Arc<Shared>,
) {
    let limits = &shared.limits;
    let head = async {
        match awaited {
            // Its request has been read once, and whatever a proxy has said before that is known.
            Some(_) => connection.head(limits.head_timeout, limits.head_timeout).await,
            None => shared.first_head(&mut connection).await,
        }
    };
    let head = tokio::select! {
        head = head => head,
        () = shared.stopping.cancelled() => return,
    };
    let head = match head {
        Ok(head) => head,
        Err(Unreadable::Gone) => return,
        Err(Unreadable::Refused(response)) => return refuse(connection, &response, &shared).await,
    };
    let mut judged = judge(&head.head(), &door, &shared);
    if let Ok(request) = &judged
        && let Some(published) = shared.has_just_brought(&request.user)
    {
        tokio::select! {
            () = shared.comes_into_force(&published) => {}
            () = shared.stopping.cancelled() => return,
        }
        judged = judge(&head.head(), &door, &shared);
    }
    let request = match judged {
        Ok(request) => request,
        Err(refused) => return send_away(connection, &head, door, refused, awaited, &shared).await,
    };
    let deflate = request.upgrade.deflate();
    match register(&connection, request, &shared) {
        Ok(begun) => {
            let registration = &begun.registration;
            if let Some(awaited) = awaited {
                // Nobody waits any more when the gateway stops.
                let _ = awaited.send(LetIn::Here(registration.id));
            }
            tracing::debug!("{}: session of {} begins", connection.peer, String::from_utf8_lossy(&registration.user));
            let now_ms = shared.sweeper.now_ms();
            let decoder = Decoder::new(limits.max_message).with_deflate(deflate);
            let limits = limits.session(&begun.application);
            let mut session = Session::new(begun.application, decoder, &begun.greeting, limits, now_ms);
            // The client may have gone on without waiting for us.
            session.receive(&connection.unread, now_ms);
            shared.presence_changed(&registration.user);
            Running::new(connection.stream, begun.line, session, begun.registration).spawn();
        }
        Err(refused) => send_away(connection, &head, door, refused, awaited, &shared).await,
    }
}

/// Whether the request may become a session here, and whose.
fn judge(head: &Head<'_>, door: &Door, shared: &Shared) -> Result<Request, Refused> {
    let upgrade = Upgrade::of(head).map_err(|refusal| {
        let response = Response::error(refusal.status(), refusal);
        Refused::Http(match refusal.header() {
            Some((name, value)) => response.header(name, value),
            None => response,
        })
    })?;
    let upgrade = if shared.limits.compression { upgrade.with_deflate() } else { upgrade };
    let (user, login) = match door.serve {
        Serve::OpenIm => match Login::parse(head) {
            Ok(login) => (login.user.clone().into_bytes(), Some(login)),
            Err(refused) => {
                let refusal = Refusal { error: refused.error, wants_reply: refused.wants_reply };
                return Err(Refused::OpenIm(upgrade, refusal));
            }
        },
        _ => (key(head.target, &door.parameter), None),
    };
    // Who comes to the wrong node is sent on before anything is promised or proven.
    let ours = place(user, shared.published().as_deref()).map_err(Refused::Misplaced)?;
    Ok(Request { upgrade, user: ours.user, login })
}

/// Puts the session into the table, before its client learns of it: a push made once the client is connected must find
/// it.
fn register(connection: &Connection, request: Request, shared: &Arc<Shared>) -> Result<Begun, Refused> {
    let Request { upgrade, user, login } = request;
    if !shared.pace().take(shared.sweeper.now_ms()) {
        let response = Response::error(503, "too many clients come at once; try again").header("Retry-After", "1");
        return Err(Refused::Http(response));
    }
    let line = Arc::new(Line::new(connection.peer, shared.sweeper.now_ms(), shared.limits.queue));
    let (application, id, text) = match (login, &shared.openim) {
        (Some(login), Some(openim)) => match log_in(openim, &login, shared, &line) {
            Ok((application, id)) => (application, id, login.wants_reply.then_some(SUCCESS)),
            Err(refusal) => return Err(Refused::OpenIm(upgrade, refusal)),
        },
        _ => {
            let mut sessions = shared.sessions();
            // Under the table's lock, so that whoever stops the gateway says goodbye to this session or finds it refused.
            if shared.stopping.is_cancelled() {
                let response = Response::error(503, "the gateway stops").header("Retry-After", "1");
                return Err(Refused::Http(response));
            }
            let card = Card { connection: connection_name(), ..Card::default() };
            let id = sessions
                .insert(&user, card, Arc::clone(&line))
                .map_err(|crowded| Refused::Http(Response::error(503, crowded).header("Retry-After", "5")))?;
            (Application::Plain(Plain), id, None)
        }
    };
    shared.counters.opened();
    let greeting = openim::greeting(&upgrade, text);
    Ok(Begun { application, greeting, line, registration: Registration::new(shared, &user, id) })
}

/// Lets a client of OpenIM in, if it is who it says.
fn log_in(
    openim: &OpenIm,
    login: &Login,
    shared: &Arc<Shared>,
    line: &Arc<Line>,
) -> Result<(Application, crate::session::table::SessionId), Refusal> {
    let claims = openim::authenticate(openim, login)?;
    let card = Card {
        platform: login.platform.number(),
        connection: connection_name(),
        token: Some(TokenDigest::of(&login.token)),
        token_expires: claims.expires,
        background: login.background,
    };
    let client = Client::new(login, &claims, card.connection.clone().into());
    let id = openim::register(shared, openim, login, card, line)?;
    Ok((Application::OpenIm(application::OpenIm::new(client)), id))
}

/// A name that no other connection has.
fn connection_name() -> Box<str> {
    format!("{:016x}", Spread::seed()).into()
}

/// Answers a request that becomes no session here.
async fn send_away(
    connection: Connection,
    head: &WholeHead,
    door: Door,
    refused: Refused,
    awaited: Option<Awaited>,
    shared: &Arc<Shared>,
) {
    match refused {
        Refused::Http(response) => refuse(connection, &response, shared).await,
        Refused::OpenIm(upgrade, refusal) => {
            shared.counters.login_refused(refusal.error.code as u16);
            tracing::debug!("{}: not let in: {}", connection.peer, refusal.error);
            connection.end_with(&refusal.encode(&upgrade), shared.limits.close_timeout).await;
        }
        Refused::Misplaced(not_ours) => match (not_ours, door.serve) {
            (NotOurs::Foreign { user, .. }, _) => {
                Misplaced::new(connection, head, door, user, awaited, shared).go().await;
            }
            (NotOurs::NoKey, Serve::OpenIm) => unreachable!("a login names a user"),
            (not_ours, _) => refuse(connection, &not_ours.response(&door.parameter), shared).await,
        },
    }
}

async fn refuse(connection: Connection, response: &Response, shared: &Shared) {
    shared.counters.refused(response.status());
    connection.refuse(response, shared.limits.close_timeout).await;
}
