//! The sockets: connections, requests, streams of events.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    Response, StatusCode,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    access::Rules,
    answer,
    request::{Misunderstood, Request, WatchOptions},
    selector::Selector,
    store::{Key, Resource, Store, StoreError},
};

/// Longest object taken, as etcd limits them, in bytes.
const MAX_OBJECT: usize = 1 << 20;

/// How often a watch that nothing happens to gets a bookmark. The real one sends one a minute.
const BOOKMARKS: Duration = Duration::from_secs(1);

type Body = BoxBody<Bytes, Infallible>;

/// An API server. Ends with its value.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Accepts while it is there.
    running: Mutex<Option<JoinSet<()>>>,
}

struct Shared {
    store: Mutex<Store>,
    rules: Mutex<Option<Rules>>,
    /// Tells that the store has changed, by its revision.
    changed: watch::Sender<u64>,
    /// Method, path and status of each so far.
    requests: Mutex<Vec<String>>,
    /// How many writes wait, and whether they are to.
    held: watch::Sender<(bool, usize)>,
    /// Cuts all connections when its value changes.
    cut: watch::Sender<Cuts>,
}

/// How often connections were cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cuts {
    /// In all.
    all: u64,
    /// Of these, because the server was stopped. A connection that was accepted before that and looks only now must not
    /// survive it.
    stops: u64,
}

// === impl ApiServer ===

impl ApiServer {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn start_on(address: SocketAddr) -> std::io::Result<Self> {
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let store = Store::new();
        let shared = Arc::new(Shared {
            changed: watch::Sender::new(store.revision()),
            store: Mutex::new(store),
            rules: Mutex::default(),
            requests: Mutex::default(),
            held: watch::Sender::new((false, 0)),
            cut: watch::Sender::default(),
        });
        let server = Self { shared, address, running: Mutex::default() };
        server.accept_on(listener);
        Ok(server)
    }

    /// Where it listens; a URL is made of it by `http://`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept_on(&self, listener: TcpListener) {
        let mut tasks = JoinSet::new();
        let stops = self.shared.cut.borrow().stops;
        tasks.spawn(accept(listener, stops, Arc::clone(&self.shared)));
        *lock(&self.running) = Some(tasks);
    }

    /// Cuts all connections, in the middle of whatever they carry; new ones are welcome.
    pub fn cut_connections(&self) {
        self.shared.cut.send_modify(|cuts| cuts.all += 1);
    }

    /// Stops listening and cuts all connections. The objects stay.
    pub fn stop(&self) {
        // Dropping the task closes the listener.
        lock(&self.running).take();
        self.shared.cut.send_modify(|cuts| *cuts = Cuts { all: cuts.all + 1, stops: cuts.stops + 1 });
    }

    /// Listens again, at the same address.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn resume(&self) -> std::io::Result<()> {
        self.accept_on(listen(self.address)?);
        Ok(())
    }

    /// Forgets all past revisions: watches from one of them are told 410 Gone.
    pub fn compact(&self) {
        self.shared.store().compact();
    }

    /// From now on only what these rules of a Role allow is allowed.
    pub fn restrict(&self, rules: Value) {
        *lock(&self.shared.rules) = Some(Rules::new(rules));
    }

    /// The requests answered so far: method, path and status.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    /// Lets updates that clients send wait from now on, until [`release_updates`](Self::release_updates).
    pub fn hold_updates(&self) {
        self.shared.held.send_modify(|held| held.0 = true);
    }

    /// Waits until so many updates wait.
    pub async fn updates_held(&self, count: usize) {
        // The sender is ours.
        let _ = self.shared.held.subscribe().wait_for(|held| held.1 >= count).await;
    }

    /// Lets them all go on, in whatever order they will.
    pub fn release_updates(&self) {
        self.shared.held.send_modify(|held| held.0 = false);
    }

    /// Makes an object, as somebody else would.
    ///
    /// # Errors
    /// If there is one already, or it is none.
    pub fn create(&self, resource: Resource, namespace: &str, object: Value) -> Result<Value, StoreError> {
        let key = key(resource, namespace, &object)?;
        self.shared.write(|store| store.create(key, object))
    }

    /// Replaces an object, whatever its version.
    ///
    /// # Errors
    /// If there is none, or it is none.
    pub fn replace(&self, resource: Resource, namespace: &str, mut object: Value) -> Result<Value, StoreError> {
        let key = key(resource, namespace, &object)?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        self.shared.write(|store| store.update(key, object))
    }

    /// Removes an object.
    ///
    /// # Errors
    /// If there is none.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> Result<Value, StoreError> {
        let key = Key { resource, namespace: namespace.into(), name: name.into() };
        self.shared.write(|store| store.delete(&key))
    }

    /// An object as it is.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        let key = Key { resource, namespace: namespace.into(), name: name.into() };
        self.shared.store().get(&key).ok().cloned()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn key(resource: Resource, namespace: &str, object: &Value) -> Result<Key, StoreError> {
    let name = object["metadata"]["name"].as_str();
    let name = name.ok_or_else(|| StoreError::Invalid("the object has no name".into()))?.to_owned();
    Ok(Key { resource, namespace: namespace.into(), name })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(64)
}

async fn accept(listener: TcpListener, stops: u64, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // Not tied to the listener: a server that stops cuts them itself, in one place.
        tokio::spawn(async move {
            let mut cut = shared.cut.subscribe();
            if cut.borrow_and_update().stops != stops {
                return;
            }
            let service = service_fn(|request| respond(Arc::clone(&shared), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                _ = cut.changed() => {}
            }
        });
    }
}

// === impl Shared ===

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Waits as long as updates are held.
    async fn let_pass(&self) {
        self.held.send_modify(|held| held.1 += 1);
        // The sender is ours.
        let _ = self.held.subscribe().wait_for(|held| !held.0).await;
        self.held.send_modify(|held| held.1 -= 1);
    }

    fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store();
        let result = change(&mut store);
        self.changed.send_replace(store.revision());
        result
    }
}

async fn respond(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let response = answer_to(&shared, request).await?;
    lock(&shared.requests).push(format!("{line} {}", response.status().as_u16()));
    Ok(response)
}

async fn answer_to(shared: &Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let request = match Request::parse(parts.method.as_str(), parts.uri.path(), query) {
        Ok(request) => request,
        Err(Misunderstood::NoSuchPath) => return Ok(failure(404, "NotFound", "there is nothing at this path")),
        Err(Misunderstood::NoSuchMethod) => return Ok(failure(405, "MethodNotAllowed", "not with this method")),
        Err(Misunderstood::BadParameter(which)) => return Ok(failure(400, "BadRequest", &which)),
    };
    let (verb, resource, name) = request.subject();
    if !lock(&shared.rules).as_ref().is_none_or(|rules| rules.allow(verb, resource, name)) {
        let message = format!("cannot {verb} {} {name:?}", resource.plural());
        return Ok(failure(403, "Forbidden", &message));
    }
    let object = match body_of(body).await {
        Ok(object) => object,
        Err(message) => return Ok(failure(400, "BadRequest", &message)),
    };
    if let Request::Update(_) = request {
        shared.let_pass().await;
    }
    Ok(match request {
        Request::Get(key) => answered(&key, shared.store().get(&key).cloned(), 200),
        Request::Update(key) => answered(&key, shared.write(|store| store.update(key.clone(), object)), 200),
        Request::Delete(key) => answered(&key, shared.write(|store| store.delete(&key)), 200),
        Request::Create(resource, namespace) => match key(resource, &namespace, &object) {
            Ok(key) => answered(&key, shared.write(|store| store.create(key.clone(), object)), 201),
            Err(error) => answered(&Key { resource, namespace, name: String::new() }, Err(error), 201),
        },
        Request::List(resource, namespace, selector, page) => {
            match answer::list(&shared.store(), resource, &namespace, &selector, &page) {
                Ok(list) => whole(200, &list),
                Err(error) => answered(&Key { resource, namespace, name: String::new() }, Err(error), 200),
            }
        }
        Request::Watch(resource, namespace, selector, options) => {
            events(Arc::clone(shared), resource, namespace, selector, options)
        }
    })
}

/// The object in a body; null if that is empty.
async fn body_of(body: Incoming) -> Result<Value, String> {
    let bytes = Limited::new(body, MAX_OBJECT).collect().await.map_err(|error| error.to_string())?.to_bytes();
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn answered(key: &Key, result: Result<Value, StoreError>, code: u16) -> Response<Body> {
    match result {
        Ok(stored) => whole(code, &answer::object(key.resource, &key.namespace, &stored)),
        Err(error) => {
            let (code, status) = answer::refusal(&error, key);
            whole(code, &status)
        }
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    whole(code, &answer::status(code, reason, message))
}

fn whole(code: u16, value: &Value) -> Response<Body> {
    json_response(code, Full::new(Bytes::from(value.to_string())).boxed())
}

fn json_response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

/// A watch in progress.
struct Watching {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    resource: Resource,
    namespace: String,
    selector: Selector,
    bookmarks: bool,
    /// What has been told, up to here.
    told: u64,
    /// Lines that wait to be sent.
    waiting: std::collections::VecDeque<Value>,
    until: Instant,
    over: bool,
}

/// A stream of events, each a line.
fn events(
    shared: Arc<Shared>,
    resource: Resource,
    namespace: String,
    selector: Selector,
    options: WatchOptions,
) -> Response<Body> {
    let until = Instant::now() + Duration::from_secs(options.timeout_s.unwrap_or(300));
    let changed = shared.changed.subscribe();
    let mut watching = Watching {
        told: 0,
        waiting: Default::default(),
        over: false,
        bookmarks: options.bookmarks,
        shared,
        changed,
        resource,
        namespace,
        selector,
        until,
    };
    watching.begin(options.after);
    let lines = stream::unfold(watching, |mut watching| async move {
        let line = watching.next().await?;
        Some((Ok(Frame::data(Bytes::from(format!("{line}\n")))), watching))
    });
    json_response(200, StreamBody::new(lines).boxed())
}

impl Watching {
    fn begin(&mut self, after: Option<u64>) {
        let store = self.shared.store();
        match after {
            Some(after) => self.told = after,
            None => {
                let there = store.list(self.resource, &self.namespace).map(|(_, object)| object);
                let selected = there.filter(|object| self.selector.selects(object));
                self.waiting = selected.map(|object| answer::present(self.resource, &self.namespace, object)).collect();
                self.told = store.revision();
            }
        }
    }

    /// The next line; none when the watch is over.
    async fn next(&mut self) -> Option<Value> {
        let bookmark = Instant::now() + BOOKMARKS;
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            self.changed.mark_unchanged();
            if self.catch_up() {
                continue;
            }
            tokio::select! {
                // The sender lives as long as the server, and the server is in our hands.
                _ = self.changed.changed() => {}
                () = sleep_until(self.until) => return None,
                () = sleep_until(bookmark), if self.bookmarks => {
                    return Some(answer::bookmark(self.resource, self.told));
                }
            }
        }
    }

    /// Queues what has happened since; whether there is anything to send or the watch is over.
    fn catch_up(&mut self) -> bool {
        let store = self.shared.store();
        match store.since(self.told) {
            Ok(changes) => {
                let lines = changes
                    .iter()
                    .filter_map(|change| answer::event(change, self.resource, &self.namespace, &self.selector));
                self.waiting.extend(lines);
                self.told = self.told.max(store.revision());
            }
            Err(_) => {
                self.waiting.push_back(answer::gone());
                self.over = true;
            }
        }
        !self.waiting.is_empty() || self.over
    }
}
