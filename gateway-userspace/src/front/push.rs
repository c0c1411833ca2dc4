//! One message from its arrival to its results.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::{Request, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ringsteer_batch::{Answer, Batch, Status, UserResult};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Shared,
    plan::{Group, Plan},
    webhook::Offline,
};
use crate::{
    config::{Serve, Service},
    control::Published,
    push::{
        Outcome,
        batch::content,
        memory::{Key, Known},
    },
    random::Spread,
    session::message::Message,
    websocket::decoder::Kind,
};

/// Most users of one batch.
const MAX_USERS: usize = 2000;

/// How long to wait before what nobody knew is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// A message for users.
#[derive(Clone, Debug)]
pub(super) struct Push {
    /// What makes a repeat the same push.
    pub(super) id: Option<String>,
    pub(super) users: Vec<String>,
    pub(super) message: Message,
}

/// Why a group has no answer.
enum NoAnswer {
    /// Worth trying again.
    Failed(String),
    /// It will not help: a gateway does not want it.
    Refused(String),
}

impl Shared {
    /// Brings a message to its users. Every user has a result, in their order.
    pub(super) async fn push(self: &Arc<Self>, push: Push) -> Vec<UserResult> {
        let deadline = Instant::now() + self.config.deadline;
        let Push { id, users, message } = push;
        let named = id.is_some();
        let id = id.unwrap_or_else(|| format!("{:016x}{:016x}", Spread::seed(), Spread::seed()));
        let mut plan = Plan::new(users);
        if let Ok(_place) = timeout_at(deadline, self.under_way.acquire()).await {
            // What has been found by then counts.
            let _ = timeout_at(deadline, self.carry_out(&mut plan, &id, &message, deadline)).await;
        }
        let results = plan.finish();
        self.counters.pushed(&results);
        self.tell_webhook(&id, named, &message, &results);
        results
    }

    async fn carry_out(&self, plan: &mut Plan, id: &str, message: &Message, deadline: Instant) {
        let mut complaint = String::new();
        loop {
            let published = self.published.borrow().clone();
            let service = published.as_deref().and_then(|published| self.service(published));
            if let (Some(published), Some(service)) = (&published, service) {
                let groups = plan.groups(&published.ring, MAX_USERS);
                let asked = groups.iter().map(|group| self.ask(plan, group, service, id, message, deadline));
                for (group, answer) in groups.iter().zip(join_all(asked).await) {
                    let why = match answer {
                        Ok(results) => {
                            if plan.answered(group, results) {
                                continue;
                            }
                            "a gateway answers for other users than it was asked for".to_owned()
                        }
                        Err(NoAnswer::Failed(why)) => why,
                        Err(NoAnswer::Refused(why)) => {
                            tracing::warn!("pushes to {} are refused: {why}", group.owner);
                            return;
                        }
                    };
                    self.counters.retried();
                    if why != complaint {
                        tracing::info!("pushing to {} again: {why}", group.owner);
                        complaint = why;
                    }
                }
                if plan.is_complete() {
                    return;
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// The service that pushes go to.
    fn service<'a>(&self, published: &'a Published) -> Option<&'a Service> {
        let named = |service: &&Service| match &self.config.service {
            Some(name) => service.name == *name,
            None => service.serve == Serve::Push,
        };
        published.services.iter().find(named)
    }

    /// Asks the owner of a group.
    async fn ask(
        &self,
        plan: &Plan,
        group: &Group,
        service: &Service,
        id: &str,
        message: &Message,
        deadline: Instant,
    ) -> Result<Vec<UserResult>, NoAnswer> {
        let users: Vec<&str> = group.users.iter().map(|&index| plan.user(index)).collect();
        let request =
            self.request(&users, service, id, message).map_err(|error| NoAnswer::Refused(error.to_string()))?;
        let address: SocketAddr = service.address;
        let asked = timeout_at(deadline, self.streams.send(&group.owner, address, request)).await;
        let answered = match asked {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(NoAnswer::Failed(error.to_string())),
            Err(_) => return Err(NoAnswer::Failed("no answer in time".into())),
        };
        let said = || String::from_utf8_lossy(&answered.body).trim().to_owned();
        match answered.status {
            200 => {}
            status @ (400 | 401 | 404 | 413) => return Err(NoAnswer::Refused(format!("{status}: {}", said()))),
            status => return Err(NoAnswer::Failed(format!("{status}: {}", said()))),
        }
        let Answer { member, results } =
            Answer::read(&answered.body).map_err(|error| NoAnswer::Failed(error.to_string()))?;
        if member.as_deref() == Some(group.owner.as_str()) {
            self.counters.steered(group.users.len());
            self.streams.keep(answered);
        } else {
            // It has passed the push on, so its answer is good; the stream leads to the wrong node and is not kept.
            self.counters.misdirected(group.users.len());
        }
        Ok(results)
    }

    fn request(
        &self,
        users: &[&str],
        service: &Service,
        id: &str,
        message: &Message,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let body = Batch::write(Some(id), users, &content(message), message.operation());
        let parameter = service.parameter.as_ref().map_or("recvID", |parameter| parameter.as_str());
        let user = utf8_percent_encode(users.first().copied().unwrap_or_default(), NON_ALPHANUMERIC);
        let mut request = Request::post(format!("/push/batch?{parameter}={user}"))
            .header(header::HOST, service.address.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = self.tokens.first() {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        request.body(Full::new(body.into()))
    }

    /// Reports who was offline, each of them once for a message.
    fn tell_webhook(&self, id: &str, named: bool, message: &Message, results: &[UserResult]) {
        let webhook = self.webhook.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(webhook) = &*webhook else { return };
        let mut users: BTreeSet<&str> = BTreeSet::new();
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            for result in results.iter().filter(|result| result.status == Status::Offline) {
                let key = Key::new(id, result.user.as_bytes());
                if matches!(told.begin(key, (), self.started.elapsed()), Known::New(())) {
                    told.finish(key, &Outcome::Offline);
                    users.insert(&result.user);
                }
            }
        }
        if users.is_empty() {
            return;
        }
        // A notification shows what was said; who it was said to in which envelope is nothing to show.
        let (kind, content) = message.plain();
        let text = str::from_utf8(&content).ok().filter(|_| kind == Kind::Text);
        let offline = Offline {
            id: named.then(|| id.to_owned()),
            users: users.into_iter().map(str::to_owned).collect(),
            operation: message.operation().to_owned(),
            text: text.map(str::to_owned),
            data: text.is_none().then(|| BASE64_STANDARD.encode(&content)),
        };
        webhook.tell(offline);
    }
}
