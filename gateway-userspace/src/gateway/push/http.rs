//! One pusher's connection: `POST /push?recvID=U` and `POST /push/batch?recvID=U`, as often as it likes.

use std::sync::Arc;

use bytes::Bytes;
use ringsteer_batch::{Batch, MAX_BATCH, MAX_ID, good_id};
use serde_json::json;

use super::Push;
use crate::{
    gateway::{
        Shared,
        http::{Connection, Response, Unreadable},
        placement::{NotOurs, Ours, key, place},
    },
    push::{
        Outcome,
        batch::{self, says_text},
        round::{MAX_HOPS, Wanted},
    },
    ring::Identity,
    session::message::Message,
    websocket::{decoder::Kind, request::Head},
};

/// Where pushes go.
const PATH: &[u8] = b"/push";

/// Where pushes to many users go. The user in the query is one of them: by it the kernel steers.
const BATCH_PATH: &[u8] = b"/push/batch";

/// With the value `no`, a push is for this node's own sessions only.
const FORWARD: &str = "Ringsteer-Forward";

/// Serves the connection to its end.
pub(in crate::gateway) async fn serve(mut connection: Connection, parameter: Arc<str>, shared: Arc<Shared>) {
    let limits = &shared.limits;
    let mut is_first = true;
    let refusal = loop {
        let head = async {
            if is_first {
                shared.first_head(&mut connection).await
            } else {
                connection.head(limits.idle_timeout, limits.head_timeout).await
            }
        };
        let head = tokio::select! {
            head = head => head,
            // Between two requests there is nothing to finish.
            () = shared.stopping.cancelled() => return connection.linger(limits.close_timeout).await,
        };
        let head = match head {
            Ok(head) => head,
            Err(unreadable) => break unreadable,
        };
        let head = head.head();
        let response = match push(&mut connection, &head, &parameter, &shared).await {
            Ok(response) => response,
            Err(unreadable) => break unreadable,
        };
        let keep_alive = head.minor_version >= 1 && !head.header_has_token("Connection", "close");
        match connection.respond(&response, keep_alive, limits.close_timeout).await {
            Ok(()) if keep_alive => is_first = false,
            Ok(()) => return connection.linger(limits.close_timeout).await,
            Err(error) => return tracing::debug!("{}: lost before it was answered: {error}", connection.peer),
        }
    };
    if let Unreadable::Refused(response) = refusal {
        shared.counters.refused(response.status());
        connection.refuse(&response, limits.close_timeout).await;
    }
}

/// Carries out one request.
///
/// # Errors
/// With the response for a request that cannot be carried out. Its body has not been read then, so the connection
/// cannot go on.
async fn push(
    connection: &mut Connection,
    head: &Head<'_>,
    parameter: &str,
    shared: &Arc<Shared>,
) -> Result<Response, Unreadable> {
    let refused = |response| Err(Unreadable::Refused(response));
    let many = match head.path() {
        PATH => false,
        BATCH_PATH => true,
        _ => return refused(Response::error(404, format!("pushes go to POST /push?{parameter}=USER"))),
    };
    if head.method != b"POST" {
        return refused(Response::error(405, "a push is a POST").header("Allow", "POST"));
    }
    let mut authorization = head.header("Authorization");
    let shown = authorization.next().filter(|_| authorization.next().is_none());
    if let Err(unauthorized) = shared.pushes.authorize(shown) {
        shared.counters.push_unauthorized();
        return refused(Response::error(401, unauthorized).header("WWW-Authenticate", "Bearer"));
    }
    let id = match message_id(head) {
        Ok(id) => id,
        Err(error) => return refused(Response::error(400, error)),
    };
    let forwards = !head.header_has_token(FORWARD, "no");
    let placed = || match place(key(head.target, parameter), shared.published().as_deref()) {
        Ok(Ours { user, owner }) => Ok((user, owner)),
        Err(NotOurs::Foreign { user, owner }) if forwards => Ok((user, owner.identity)),
        Err(not_ours) => Err(Unreadable::Refused(not_ours.response(parameter))),
    };
    // Before the body, so that nobody sends one in vain; and after it, for the ring may have changed meanwhile.
    placed()?;
    let max = if many { MAX_BATCH } else { shared.limits.max_push };
    let body = connection.body(head, max, shared.limits.body_timeout).await?;
    let (user, owner) = placed()?;
    if many {
        return Ok(push_to_many(&body, id, &owner, forwards, shared).await);
    }
    let push = Push {
        id,
        users: vec![Wanted { user: user.clone(), except: vec![] }],
        message: Message::new(kind(head, &body), body),
        via: vec![],
        hops: if forwards { MAX_HOPS } else { 0 },
        patience: shared.pushes.config.deadline,
    };
    let outcome = shared.push(push).outcomes().await.pop().unwrap_or(Outcome::Unknown);
    let user = String::from_utf8_lossy(&user);
    tracing::debug!("push for {user}: {}", outcome.name());
    if outcome == Outcome::Unknown {
        let error =
            format!("a node that may have a session of {user} did not answer in time; try again, with the same id");
        return Ok(Response::error(503, error).header("Retry-After", "1"));
    }
    let platforms: Vec<i32> = outcome.reached().iter().map(|reached| reached.platform).collect();
    let body = json!({
        "user": user,
        "status": outcome.name(),
        "delivered": platforms.len(),
        "platforms": platforms,
        "node": shared.node,
        "owner": owner.to_string(),
        "forwarded": !shared.published().is_some_and(|published| published.is_ours(user.as_bytes())),
    });
    Ok(Response::new(200, body))
}

/// Carries out one push to many users.
async fn push_to_many(
    body: &[u8],
    id: Option<String>,
    owner: &Identity,
    forwards: bool,
    shared: &Arc<Shared>,
) -> Response {
    let batch = match Batch::read(body, shared.limits.max_push) {
        Ok(batch) => batch,
        Err(error) => return Response::error(error.status(), error),
    };
    let Batch { id: own_id, users, content, operation } = batch;
    let config = &shared.pushes.config;
    let push = Push {
        id: id.or(own_id),
        users: users.iter().map(|user| Wanted { user: user.clone().into_bytes(), except: vec![] }).collect(),
        message: batch::message(content, operation),
        via: vec![],
        hops: if forwards { MAX_HOPS } else { 0 },
        patience: config.deadline,
    };
    let outcomes = shared.push(push).outcomes().await;
    tracing::debug!("push for {} users", users.len());
    let results: Vec<_> =
        users.into_iter().zip(&outcomes).map(|(user, outcome)| batch::result(user, outcome, config.online)).collect();
    let published = shared.published();
    let ring = published.as_ref().map(|published| published.ring.name());
    // Who answers, as the ring calls it: by that a pusher sees whether it has come to the owner itself.
    let member = published.and_then(|published| {
        let member = published.ring.member(published.node?)?;
        Some(member.identity.to_string())
    });
    let body = json!({
        "node": shared.node,
        "member": member,
        "owner": owner.to_string(),
        "ring": ring,
        "results": results,
    });
    Response::new(200, body)
}

/// The name that makes a push one push however often it is sent, if the pusher gives one.
fn message_id(head: &Head<'_>) -> Result<Option<String>, String> {
    let mut named = head.header("Ringsteer-Message-Id").chain(head.header("Idempotency-Key"));
    let Some(id) = named.next() else { return Ok(None) };
    if named.next().is_some_and(|other| other != id) {
        return Err("the push has two ids; send one, as Ringsteer-Message-Id or as Idempotency-Key".into());
    }
    let id = str::from_utf8(id).ok().filter(|id| good_id(id));
    id.map(|id| Some(id.to_owned())).ok_or_else(|| format!("an id is 1 to {MAX_ID} characters without spaces"))
}

/// Text, if the pusher says so and it is.
fn kind(head: &Head<'_>, body: &Bytes) -> Kind {
    let says_text = head.header("Content-Type").next().is_some_and(says_text);
    if says_text && str::from_utf8(body).is_ok() { Kind::Text } else { Kind::Binary }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::request::parse_head;

    #[test]
    fn text_is_what_is_called_so_and_is() {
        for (content_type, body, expected) in [
            ("Content-Type: text/plain\r\n", &b"a"[..], Kind::Text),
            ("content-type: Text/Markdown; charset=utf-8\r\n", b"a", Kind::Text),
            ("Content-Type: application/json;charset=utf-8\r\n", b"{}", Kind::Text),
            ("Content-Type: application/json-seq\r\n", b"{}", Kind::Binary),
            ("Content-Type: application/octet-stream\r\n", b"a", Kind::Binary),
            ("Content-Type: text\r\n", b"a", Kind::Binary),
            ("Content-Type: text/plain\r\n", b"\xff", Kind::Binary),
            ("", b"a", Kind::Binary),
        ] {
            let bytes = format!("POST /push HTTP/1.1\r\n{content_type}\r\n");
            let (head, _) = parse_head(bytes.as_bytes()).unwrap().unwrap();
            assert_eq!(kind(&head, &Bytes::from_static(body)), expected, "{content_type:?} {body:?}");
        }
    }
}
