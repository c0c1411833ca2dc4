//! The ring in Kubernetes: the members are the endpoints of a service, the ring is one ConfigMap beside it.
//!
//! Every agent watches both. Whoever sees that the ring is not what it should be reads both anew, makes the ring that
//! follows and writes it on the condition that nobody has changed the object since (`resourceVersion`); who comes too
//! late reads again and finds nothing left to do. So the API server orders the epochs, and a node whose view is old
//! cannot take back what others have done.
//!
//! The nodes do not announce themselves: the endpoints do that for them, by the readiness of their pods.
//!
//! | file | subject |
//! |---|---|
//! | `endpoints` | who is behind a service, pure |
//! | `naming` | how they are called, and so who the candidates are, pure |
//! | `view` | what is known, and what to tell and do about it, pure |
//! | `follow` | list and watch |

mod endpoints;
mod follow;
mod naming;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use k8s_openapi::api::{core::v1::ConfigMap, discovery::v1::EndpointSlice};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use self::{
    endpoints::Slices,
    follow::{ANSWER, Follow, Selection},
    naming::Naming,
    view::View,
};
use super::{
    Event, Source,
    pace::{Backoff, Jitter},
};
use crate::{
    config::Kubernetes,
    ring::{MemberState, NodeAddress},
};

/// The label by which a service's endpoint slices are found.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// How long at most before a node acts on what all nodes have seen: most then find it done.
const SPREAD: Duration = Duration::from_millis(200);

/// Follows the endpoints of a service and the ring object.
pub struct KubernetesSource {
    access: Access,
    config: Kubernetes,
    /// Where we are: its family is that of the members' addresses.
    address: Option<NodeAddress>,
}

/// How the API server is reached.
enum Access {
    /// As a pod, or by the configuration that `KUBECONFIG` names.
    Inferred,
    /// By this.
    #[cfg(test)]
    By(Client),
}

// === impl KubernetesSource ===

impl KubernetesSource {
    /// As `config` says. `address` is this node's; of endpoints with two families it decides which counts.
    pub fn new(config: Kubernetes, address: Option<NodeAddress>) -> Self {
        Self { access: Access::Inferred, config, address }
    }

    async fn client(&self) -> Result<Client> {
        match &self.access {
            Access::Inferred => {
                let mut config = kube::Config::infer().await.context("there is no way to the API server")?;
                config.connect_timeout = Some(ANSWER);
                Ok(Client::try_from(config)?)
            }
            #[cfg(test)]
            Access::By(client) => Ok(client.clone()),
        }
    }

    async fn run(self, told: mpsc::Sender<Event>) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), Jitter::random());
        let mut said = false;
        let client = loop {
            let error = match self.client().await {
                Ok(client) => break client,
                Err(error) => error,
            };
            let trouble = format!(
                "{error:#}; the last ring stays in force. Run this as a pod with a service account, or set KUBECONFIG"
            );
            if !std::mem::replace(&mut said, true) && told.send(Event::Trouble(trouble)).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(backoff.wait()) => {}
                () = told.closed() => return,
            }
        };
        let namespace = self.config.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let naming = match Naming::new(&self.config, &namespace) {
            Ok(naming) => naming,
            Err(error) => {
                // No new try can mend the configuration.
                let _ = told.send(Event::Trouble(format!("{error}; check `instance` and `namespace`"))).await;
                return told.closed().await;
            }
        };
        let fleet = Fleet {
            slices: Api::namespaced(client.clone(), &namespace),
            objects: Api::namespaced(client, &namespace),
            label: format!("{SERVICE_LABEL}={}", self.config.service),
            object: self.config.config_map.clone(),
        };
        let place = format!("the ConfigMap {namespace}/{}", self.config.config_map);
        let ipv6 = self.address.map(|address| address.ip().is_ipv6());
        let view = View::new(naming, ipv6, self.config.new_ring, place);
        fleet.follow(view, told).await;
    }
}

impl Source for KubernetesSource {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn follow(self: Box<Self>, _: watch::Receiver<MemberState>, told: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        Box::pin(self.run(told))
    }
}

/// The objects of a fleet.
struct Fleet {
    slices: Api<EndpointSlice>,
    objects: Api<ConfigMap>,
    /// Of its slices.
    label: String,
    /// The ring object's name.
    object: String,
}

// === impl Fleet ===

impl Fleet {
    /// Follows them until nobody listens any more.
    async fn follow(self, mut view: View, told: mpsc::Sender<Event>) {
        let mut slices = Follow::new(self.slices.clone(), Selection::Label(self.label.clone()));
        let mut objects = Follow::new(self.objects.clone(), Selection::Name(self.object.clone()));
        let mut jitter = Jitter::random();
        let mut backoff = Backoff::new(SPREAD, Duration::from_secs(5), Jitter::random());
        let start = Instant::now();
        // When to act on a ring that is not what it should be.
        let mut act_at: Option<Instant> = None;
        loop {
            let outlook = view.look(start.elapsed());
            for event in outlook.events {
                if told.send(event).await.is_err() {
                    return;
                }
            }
            act_at = if outlook.wants_change {
                Some(act_at.unwrap_or_else(|| Instant::now() + jitter.up_to(SPREAD)))
            } else {
                None
            };
            let again = outlook.again.map(|again| start + again);
            let wake = [act_at, again].into_iter().flatten().min();
            tokio::select! {
                news = slices.next() => view.slices(news),
                news = objects.next() => view.object(news),
                () = until(wake) => {
                    if act_at.is_some_and(|at| at <= Instant::now()) {
                        let pause = match self.change(&mut view, start).await {
                            Ok(()) => {
                                backoff.reset();
                                Duration::ZERO
                            }
                            Err(why) => {
                                view.cannot_change(why);
                                backoff.wait()
                            }
                        };
                        act_at = Some(Instant::now() + pause).filter(|_| !pause.is_zero());
                    }
                }
                () = told.closed() => return,
            }
        }
    }

    /// Reads everything anew, and writes the ring that follows from it if it is another one. `Ok` also if somebody else
    /// has written in between: then we shall hear of it.
    async fn change(&self, view: &mut View, start: Instant) -> Result<(), String> {
        // The object first: a change of the endpoints after it was read is in what is read then, or still to come.
        let object = answered(self.objects.get(&self.object)).await?;
        let mut slices = Slices::default();
        let parameters = Selection::Label(self.label.clone()).list_all();
        slices.replace(answered(self.slices.list(&parameters)).await?.items);
        let Some(changed) = view.change(&object, &slices, start.elapsed()) else {
            // Somebody has done it.
            view.object(follow::Told::Changed(object));
            return Ok(());
        };
        match timeout(ANSWER, self.objects.replace(&self.object, &PostParams::default(), &changed)).await {
            Ok(Ok(written)) => {
                view.object(follow::Told::Changed(written));
                Ok(())
            }
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() => Ok(()),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err(too_late()),
        }
    }
}

/// Waits until then; without a time, for ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The answer, if it comes in time; else why not.
async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(ANSWER, call).await {
        Ok(answer) => answer.map_err(|error| words(&error)),
        Err(_) => Err(too_late()),
    }
}

fn too_late() -> String {
    format!("no answer for {} s", ANSWER.as_secs())
}

/// The error in one line, without the structures that kube prints.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        other => {
            // The innermost cause says what happened: "Connection refused" rather than "client error (Connect)".
            let mut cause: &dyn std::error::Error = other;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            cause.to_string()
        }
    }
}
