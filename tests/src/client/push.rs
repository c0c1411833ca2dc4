//! `POST /push?recvID=U`.

use super::{Answer, Pace, within_limit, write_chunks};
use crate::fleet::PUSH_TOKEN;
use anyhow::Result;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tokio::net::TcpStream;

/// A push to one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    user: Vec<u8>,
    content_type: &'static str,
    body: Vec<u8>,
}

// === impl Push ===

impl Push {
    /// A text for a user.
    pub fn text(user: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        let (user, body) = (user.as_ref().to_vec(), body.as_ref().to_vec());
        Self { user, content_type: "text/plain; charset=utf-8", body }
    }

    /// Bytes for a user.
    pub fn binary(user: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        Self { content_type: "application/octet-stream", ..Self::text(user, body) }
    }

    /// The request, as `curl` would send it.
    pub fn request(&self) -> Vec<u8> {
        let Self { user, content_type, body } = self;
        let mut request = format!(
            "POST /push?recvID={} HTTP/1.1\r\n\
             Host: push.example\r\n\
             User-Agent: curl/7.88.1\r\n\
             Accept: */*\r\n\
             Authorization: Bearer {PUSH_TOKEN}\r\n\
             Content-Type: {content_type}\r\n\
             Content-Length: {}\r\n\
             \r\n",
            percent_encode(user, NON_ALPHANUMERIC),
            body.len(),
        )
        .into_bytes();
        request.extend_from_slice(body);
        request
    }

    /// Sends it over a new connection, which is closed afterwards, and reads the answer.
    ///
    /// # Errors
    /// If the connection breaks, or there is no answer within [`LIMIT`](super::LIMIT).
    pub async fn send(&self, mut stream: TcpStream) -> Result<Answer> {
        write_chunks(&mut stream, &[&self.request()], Pace::Sent).await?;
        let (answer, _) = within_limit(Answer::read(&mut stream), || "waiting for the answer to a push".into()).await?;
        Ok(answer)
    }
}
