//! One pusher's connection: `POST /push?recvID=U`, as often as it likes.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::{
    Shared,
    http::{Connection, Response, Unreadable},
    placement::place,
};
use crate::{
    session::{message::Message, table::Fate},
    websocket::{decoder::Kind, request::Head},
};

/// Where pushes go.
const PATH: &[u8] = b"/push";

/// Serves the connection to its end.
pub(super) async fn serve(mut connection: Connection, parameter: Arc<str>, shared: Arc<Shared>) {
    let limits = &shared.limits;
    let mut first_byte = limits.head_timeout;
    let refusal = loop {
        let head = tokio::select! {
            head = connection.head(first_byte, limits.head_timeout) => head,
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
            Ok(()) if keep_alive => first_byte = limits.idle_timeout,
            Ok(()) => return connection.linger(limits.close_timeout).await,
            Err(error) => return tracing::debug!("{}: lost before it was answered: {error}", connection.peer),
        }
    };
    if let Unreadable::Refused(response) = refusal {
        shared.counters.refused(response.status());
        connection.refuse(&response, limits.close_timeout).await;
    }
}

/// Carries out one push.
///
/// # Errors
/// With the response for a request that cannot be carried out. Its body has not been read then, so the connection
/// cannot go on.
async fn push(
    connection: &mut Connection,
    head: &Head<'_>,
    parameter: &str,
    shared: &Shared,
) -> Result<Response, Unreadable> {
    let refused = |response| Err(Unreadable::Refused(response));
    if head.path() != PATH {
        return refused(Response::error(404, format!("pushes go to POST /push?{parameter}=USER")));
    }
    if head.method != b"POST" {
        return refused(Response::error(405, "a push is a POST").header("Allow", "POST"));
    }
    let placed = || {
        place(head.target, parameter, shared.published().as_deref())
            .map_err(|not_ours| Unreadable::Refused(not_ours.response(parameter)))
    };
    // Before the body, so that nobody sends one in vain; and after it, for the ring may have changed meanwhile.
    placed()?;
    let body = connection.body(head, shared.limits.max_push, shared.limits.body_timeout).await?;
    let ours = placed()?;

    let message = Message::new(kind(head, &body), body);
    let deliveries = shared.deliver(&ours.user, &message).decided().await;
    let delivered = deliveries.iter().filter(|delivery| delivery.fate == Some(Fate::Taken)).count();
    shared.counters.pushed(delivered);
    let user = String::from_utf8_lossy(&ours.user);
    tracing::debug!("push for {user}: {} bytes to {delivered} sessions", message.payload().len());
    Ok(Response::new(
        200,
        json!({ "user": user, "delivered": delivered, "node": shared.node, "owner": ours.owner.to_string() }),
    ))
}

/// Text, if the pusher says so and it is.
fn kind(head: &Head<'_>, body: &Bytes) -> Kind {
    let says_text = head.header("Content-Type").next().is_some_and(|value| {
        let media_type = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        media_type.eq_ignore_ascii_case(b"application/json")
            || media_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"))
    });
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
