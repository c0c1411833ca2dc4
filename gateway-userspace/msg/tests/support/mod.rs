//! A message service on loopback, with its storage in a directory of its own, and somebody who takes its pushes.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ringsteer_msg::{
    book::{Limits, Push, Reader},
    counters::Counters,
    push::{Lanes, Patience, PushError, Pusher},
    service::Service,
    store::Store,
    writer::{Fsync, Thread, Writer},
};
use ringsteer_openim_rpc::{
    Caller,
    groups::groups_client::GroupsClient,
    msg::{SendMsgReq, SendMsgResp, msg_client::MsgClient},
    sdkws::{GetMaxSeqReq, MsgData},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tonic::{Request, async_trait, transport::Channel};

/// Longest wait for anything. Nothing is measured by it.
const LIMIT: Duration = Duration::from_secs(60);

/// A message as it was pushed, and to whom.
type Pushed = (MsgData, Vec<String>);

/// Takes pushes.
pub struct Recorder {
    pushed: mpsc::UnboundedSender<Pushed>,
    failing: Mutex<(u32, bool)>,
}

/// The service.
pub struct Fixture {
    pub msg: MsgClient<Channel>,
    pub groups: GroupsClient<Channel>,
    pub channel: Channel,
    pub pusher: Arc<Recorder>,
    pub counters: Arc<Counters>,
    directory: Arc<TempDir>,
    token: Option<&'static str>,
    interval: Duration,
    pushes: mpsc::UnboundedReceiver<Pushed>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    lanes: Lanes,
    thread: Thread,
}

impl Recorder {
    /// Fails the next pushes; `may_pass` says whether trying again is told to help.
    pub fn fail_next(&self, times: u32, may_pass: bool) {
        *self.failing.lock().unwrap() = (times, may_pass);
    }
}

#[async_trait]
impl Pusher for Recorder {
    async fn push(&self, push: &Push, users: &[String]) -> Result<(), PushError> {
        let mut failing = self.failing.lock().unwrap();
        if failing.0 > 0 {
            failing.0 -= 1;
            return Err(PushError { reason: "as wished".into(), may_pass: failing.1 });
        }
        // Nobody listens any more when the test is over.
        let _ = self.pushed.send((push.message.clone(), users.to_vec()));
        Ok(())
    }
}

impl Fixture {
    pub async fn start() -> Self {
        Self::start_with(None, Duration::ZERO).await
    }

    /// With a token that calls need, and with an interval after which the disk is told (zero: at once).
    pub async fn start_with(token: Option<&'static str>, interval: Duration) -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), token, interval).await
    }

    async fn start_in(directory: Arc<TempDir>, token: Option<&'static str>, interval: Duration) -> Self {
        let store = Store::open(&directory.path().join("msg")).unwrap();
        let (pushed, pushes) = mpsc::unbounded_channel();
        let pusher = Arc::new(Recorder { pushed, failing: Mutex::default() });
        let (counters, limits) = (Arc::new(Counters::default()), Limits::default());
        let of = store.clone();
        let members = Arc::new(move |group: &str| {
            let members = Reader::new(of.now(), limits).members(group);
            Ok(members.expect("the storage can be read").into_iter().collect())
        });
        let patience = Patience { first_pause: Duration::from_millis(1), ..Patience::default() };
        let lanes = Lanes::start(Arc::clone(&pusher) as _, members, patience, Arc::clone(&counters));
        let fsync = if interval.is_zero() { Fsync::Always } else { Fsync::Interval(interval) };
        let deliver = Box::new(lanes.deliver());
        let (writer, thread) = Writer::start(store.clone(), limits, fsync, Arc::clone(&counters), deliver).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let service = Service::new(store, writer, limits, token);
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            service.serve(listener, stopped).await.unwrap();
        });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self {
            msg: MsgClient::new(channel.clone()),
            groups: GroupsClient::new(channel.clone()),
            channel,
            pusher,
            counters,
            directory,
            token,
            interval,
            pushes,
            stop,
            served,
            lanes,
            thread,
        }
    }

    /// Where the storage is.
    pub fn path(&self) -> &'static Path {
        // For the length of the test.
        Box::leak(self.directory.path().join("msg").into_boxed_path())
    }

    pub async fn send(&mut self, message: MsgData) -> SendMsgResp {
        let from = message.send_id.clone();
        self.msg.send_msg(for_user(&from, SendMsgReq { msg_data: Some(message) })).await.unwrap().into_inner()
    }

    /// The next push.
    pub async fn pushed(&mut self) -> Pushed {
        timeout(LIMIT, self.pushes.recv()).await.expect("no push").expect("the service is gone")
    }

    pub async fn newest(&mut self, user: &str) -> BTreeMap<String, i64> {
        let asked = for_user(user, GetMaxSeqReq { user_id: user.into() });
        self.msg.get_max_seq(asked).await.unwrap().into_inner().max_seqs
    }

    /// Ends the service as SIGTERM does.
    pub async fn stop(self) -> Arc<TempDir> {
        let Self { msg, groups, channel, stop, served, lanes, thread, directory, .. } = self;
        drop((msg, groups, channel));
        let _ = stop.send(());
        timeout(LIMIT, served).await.expect("does not stop").unwrap();
        tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
        lanes.finish(LIMIT).await;
        directory
    }

    /// Ends the service and starts it again with the same storage.
    pub async fn restart(self) -> Self {
        let (token, interval) = (self.token, self.interval);
        let directory = self.stop().await;
        Self::start_in(directory, token, interval).await
    }
}

/// A call that a gateway makes for a user's session.
pub fn for_user<T>(user: &str, message: T) -> Request<T> {
    Caller { user_id: Some(user.into()), ..Caller::service("test") }.request(message)
}

/// A call of a service.
pub fn service<T>(message: T) -> Request<T> {
    Caller::service("test").request(message)
}

/// A message of one user to another.
pub fn single(from: &str, to: &str, client_msg_id: &str) -> MsgData {
    MsgData {
        send_id: from.into(),
        recv_id: to.into(),
        client_msg_id: client_msg_id.into(),
        session_type: 1,
        content_type: 101,
        content: format!("{{\"content\":\"{client_msg_id}\"}}").into(),
        ..MsgData::default()
    }
}

/// A message to a group.
pub fn to_group(from: &str, group: &str, client_msg_id: &str) -> MsgData {
    MsgData { recv_id: String::new(), group_id: group.into(), session_type: 3, ..single(from, "", client_msg_id) }
}
