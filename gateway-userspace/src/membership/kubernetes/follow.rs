//! Following a kind of object: list, then watch from there; list again when the past is gone.
//!
//! kube's own `watcher` does the same, but keeps to itself that a broken watch goes on, and somebody who has to say
//! whether the API can be reached must know.

use std::{fmt::Debug, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// When the server ends a watch, in seconds; we go on from where it ended. Also the longest that a connection which has
/// silently died looks alive.
const WATCH_S: u32 = 20;

/// How long beyond that we wait for the end, and how long for any other answer.
pub const ANSWER: Duration = Duration::from_secs(5);

/// Objects in one page of a list.
const PAGE: u32 = 500;

/// How long to wait before trying again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What is told of the objects.
#[derive(Debug)]
pub enum Told<K> {
    /// These are all there are.
    All(Vec<K>),
    /// One was made or has changed.
    Changed(K),
    /// One is gone.
    Gone(K),
    /// The API cannot be reached, or refuses: why.
    Broken(String),
    /// It can be reached again, and nothing has happened that was not told.
    Connected,
}

/// Follows the objects that `selection` means.
pub struct Follow<K> {
    api: Api<K>,
    selection: Selection,
    state: State<K>,
    /// Whether the last thing told was that it is broken.
    broken: bool,
    pause: Duration,
    not_before: Instant,
}

/// Which objects.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Those with this label.
    Label(String),
    /// The one of this name.
    Name(String),
}

enum State<K> {
    /// Nothing is known.
    Unknown,
    /// Everything is known up to a version.
    Known(String),
    /// Changes come.
    Watching {
        version: String,
        stream: BoxStream<'static, kube::Result<WatchEvent<K>>>,
        began: Instant,
        /// When the end of the watch is overdue.
        overdue: Instant,
    },
}

/// Why a step did not work.
enum Failure {
    /// The past is forgotten: all has to be listed anew. Nobody's fault.
    Forgotten,
    /// Something is wrong.
    Broken(String),
}

// === impl Follow ===

impl<K> Follow<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Asks nothing yet.
    pub fn new(api: Api<K>, selection: Selection) -> Self {
        let (pause, not_before) = (PAUSE.0, Instant::now());
        Self { api, selection, state: State::Unknown, broken: false, pause, not_before }
    }

    /// What happens next. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Told<K> {
        loop {
            sleep_until(self.not_before).await;
            match self.step().await {
                Ok(Some(told)) => {
                    self.broken = false;
                    self.pause = PAUSE.0;
                    return told;
                }
                Ok(None) => {}
                Err(Failure::Forgotten) => self.state = State::Unknown,
                Err(Failure::Broken(why)) => {
                    // A watch that broke is taken up where it was.
                    if let State::Watching { version, .. } = &self.state {
                        self.state = State::Known(version.clone());
                    }
                    self.not_before = Instant::now() + self.pause;
                    self.pause = (self.pause * 2).min(PAUSE.1);
                    self.broken = true;
                    return Told::Broken(why);
                }
            }
        }
    }

    /// One step towards something to tell.
    async fn step(&mut self) -> Result<Option<Told<K>>, Failure> {
        match &mut self.state {
            State::Unknown => {
                let (all, version) = list(self.api.clone(), self.selection.list()).await?;
                self.state = State::Known(version);
                Ok(Some(Told::All(all)))
            }
            State::Known(version) => {
                let version = version.clone();
                let parameters = self.selection.watch();
                let stream = answered(self.api.watch(&parameters, &version)).await?.boxed();
                let began = Instant::now();
                let overdue = began + Duration::from_secs(WATCH_S.into()) + ANSWER;
                self.state = State::Watching { version, stream, began, overdue };
                Ok(self.broken.then_some(Told::Connected))
            }
            State::Watching { version, stream, began, overdue } => {
                let event = match timeout_at(*overdue, stream.try_next()).await {
                    Ok(event) => event.map_err(failure)?,
                    Err(_) => return Err(Failure::Broken("a watch did not end when it should have".to_owned())),
                };
                let Some(event) = event else {
                    // Not in a circle, should somebody between us and the server end every watch at once.
                    self.not_before = *began + PAUSE.0;
                    self.state = State::Known(version.clone());
                    return Ok(None);
                };
                let (told, newer) = match event {
                    WatchEvent::Added(one) | WatchEvent::Modified(one) => {
                        let newer = one.meta().resource_version.clone();
                        (Some(Told::Changed(one)), newer)
                    }
                    WatchEvent::Deleted(one) => {
                        let newer = one.meta().resource_version.clone();
                        (Some(Told::Gone(one)), newer)
                    }
                    WatchEvent::Bookmark(mark) => (None, Some(mark.metadata.resource_version)),
                    WatchEvent::Error(status) => return Err(failure(kube::Error::Api(status.boxed()))),
                };
                if let Some(newer) = newer {
                    *version = newer;
                }
                Ok(told)
            }
        }
    }
}

/// All objects, and the version that the list is of.
async fn list<K>(api: Api<K>, mut parameters: ListParams) -> Result<(Vec<K>, String), Failure>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut all = Vec::new();
    loop {
        let page = answered(api.list(&parameters)).await?;
        all.extend(page.items);
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            return Ok((all, page.metadata.resource_version.unwrap_or_default()));
        }
    }
}

/// The answer, if it comes in time.
async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match timeout(ANSWER, call).await {
        Ok(answer) => answer.map_err(failure),
        Err(_) => Err(Failure::Broken(format!("no answer for {} s", ANSWER.as_secs()))),
    }
}

fn failure(error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 410 => Failure::Forgotten,
        other => Failure::Broken(super::words(&other)),
    }
}

// === impl Selection ===

impl Selection {
    fn list(&self) -> ListParams {
        self.list_all().limit(PAGE)
    }

    /// The same in one piece, as it is now.
    pub fn list_all(&self) -> ListParams {
        let parameters = ListParams::default();
        match self {
            Self::Label(label) => parameters.labels(label),
            Self::Name(name) => parameters.fields(&format!("metadata.name={name}")),
        }
    }

    fn watch(&self) -> WatchParams {
        let parameters = WatchParams::default().timeout(WATCH_S);
        match self {
            Self::Label(label) => parameters.labels(label),
            Self::Name(name) => parameters.fields(&format!("metadata.name={name}")),
        }
    }
}
