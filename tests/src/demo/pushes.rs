//! Pushes: plain HTTP, one request a user, from the pusher's host.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::users::{self, Users};
use crate::fleet::{Fleet, PUSH_TOKEN};

/// How many are under way at any one time.
const AT_ONCE: usize = 32;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of a round of pushes.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Delivered to a session of the user.
    pub delivered: usize,
    /// Reached a node without the user's session, while that session was open elsewhere, and went no further.
    pub misrouted: usize,
    /// The same, but that node passed it on to the one with the session; among those delivered.
    pub forwarded: usize,
    /// Sessions reached, by the node that held them.
    pub by_node: BTreeMap<String, usize>,
}

/// One push to every user, each to the address that `place` finds. Where it does, gateways pass on what is another's if
/// `forward` says so.
pub fn to_all(
    fleet: &Fleet<'_>,
    users: &Users,
    round: &'static str,
    forward: bool,
    place: impl Fn(&str) -> SocketAddr,
) -> Result<Outcome> {
    let pushes: Vec<_> = users.names().into_iter().map(|user| (user.clone(), place(&user))).collect();
    fleet.lab.pusher().block_on(async move {
        let mut outcome = Outcome::default();
        let mut under_way = JoinSet::new();
        let count = |outcome: &mut Outcome, answer: Answer| match answer.node {
            Some(node) => {
                outcome.delivered += 1;
                outcome.forwarded += usize::from(answer.forwarded);
                *outcome.by_node.entry(node).or_default() += 1;
            }
            None => outcome.misrouted += 1,
        };
        for (user, address) in pushes {
            if under_way.len() >= AT_ONCE
                && let Some(done) = under_way.join_next().await
            {
                count(&mut outcome, done??);
            }
            under_way.spawn(async move {
                let pushed = tokio::time::timeout(PATIENCE, one(&user, address, forward, users::text(round, &user)));
                pushed.await.with_context(|| format!("the push to {user} got no answer"))?
            });
        }
        while let Some(done) = under_way.join_next().await {
            count(&mut outcome, done??);
        }
        Ok(outcome)
    })
}

/// What the gateway answered.
struct Answer {
    /// The node that delivered it, if one did.
    node: Option<String>,
    /// Whether another one passed it on.
    forwarded: bool,
}

async fn one(user: &str, address: SocketAddr, forward: bool, text: String) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
    let forward = if forward { "" } else { "Ringsteer-Forward: no\r\n" };
    let request = format!(
        "POST /push?recvID={user} HTTP/1.1\r\nHost: push\r\nAuthorization: Bearer {PUSH_TOKEN}\r\n{forward}\
         Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?;
    let body: serde_json::Value = serde_json::from_str(body.trim()).with_context(|| format!("not JSON: {answer}"))?;
    match status {
        "200" if body["delivered"] == 1 => Ok(Answer {
            node: body["node"].as_str().map(str::to_owned),
            forwarded: body["forwarded"].as_bool().context("the answer does not say whether it was passed on")?,
        }),
        // Nobody there, or "misdirected": that is what a miss looks like.
        "200" | "421" => Ok(Answer { node: None, forwarded: false }),
        _ => anyhow::bail!("the push to {user} was answered {head}"),
    }
}
