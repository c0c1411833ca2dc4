//! Pushes to many users, over a connection that stays.

use super::{Answer, Dial, within_limit};
use crate::fleet::PUSH_TOKEN;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// A pusher's connection, for one batch after the other.
#[derive(Debug)]
pub struct BatchPusher {
    stream: TcpStream,
    service: SocketAddr,
}

/// What became of a push to one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStatus {
    /// A session took it.
    Delivered,
    /// There is none.
    Offline,
    /// Nobody knows: to be sent again, with the same id.
    Unknown,
}

// === impl BatchPusher ===

impl BatchPusher {
    /// Connects to the push service. The kernel places the connection by the first user of the first batch.
    ///
    /// # Errors
    /// If that cannot be done within [`LIMIT`](super::LIMIT).
    pub async fn connect(service: SocketAddr) -> Result<Self> {
        Ok(Self { stream: Dial::new(service).connect().await?, service })
    }

    /// Pushes a text to users, of whom there must be one, and says what became of it, in their order.
    ///
    /// # Errors
    /// If the connection breaks, or the answer is another one. Whether the push was made is not known then.
    pub async fn push(&mut self, id: &str, users: &[&str], text: &str) -> Result<Vec<PushStatus>> {
        let first = users.first().context("a batch without users")?;
        let body = json!({ "id": id, "users": users, "text": text }).to_string();
        let request = format!(
            "POST /push/batch?recvID={first} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {PUSH_TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.service,
            body.len()
        );
        within_limit(self.stream.write_all(request.as_bytes()), || "sending a batch".into()).await?;
        let (answer, rest) =
            within_limit(Answer::read(&mut self.stream), || "waiting for the answer to a batch".into()).await?;
        ensure!(
            answer.status == 200 && rest.is_empty(),
            "answered {}: {:.300}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        let answer = answer.json()?;
        let results = answer["results"].as_array().context("no results")?;
        ensure!(results.len() == users.len(), "results for {} of {} users", results.len(), users.len());
        results.iter().map(|result| PushStatus::of(&result["status"])).collect()
    }
}

// === impl PushStatus ===

impl PushStatus {
    fn of(status: &Value) -> Result<Self> {
        match status.as_str() {
            Some("delivered") => Ok(Self::Delivered),
            Some("offline") => Ok(Self::Offline),
            Some("unknown") => Ok(Self::Unknown),
            _ => anyhow::bail!("there is no status {status}"),
        }
    }
}
