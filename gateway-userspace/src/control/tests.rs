//! Agent and followers on real sockets.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::*;
use crate::{
    config::{Serve, Service},
    ring::{Algorithm, Epoch, Identity, MAX_IDENTITY, Member, MemberNumber, Ring, fixtures},
};

/// Nothing here takes longer, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("still waiting")
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    (directory, path)
}

fn ring(epoch: u64, members: u16) -> Ring {
    let members = (1..=members).map(|number| fixtures::member(number, &format!("gw-{number}:88"))).collect();
    Ring::new(Epoch(epoch), Algorithm::OpenIm, members).unwrap()
}

fn publication(epoch: u64, members: u16) -> Publication {
    let service = Service {
        name: "websocket".into(),
        address: "192.0.2.1:10001".parse().unwrap(),
        parameter: Some("sendID".to_owned().try_into().unwrap()),
        serve: Serve::Websocket,
    };
    Publication::new(MemberNumber::new(1).unwrap(), &ring(epoch, members), vec![service])
}

fn some_status() -> Status {
    Status {
        node: MemberNumber::new(1).unwrap(),
        name: "node-1".into(),
        version: "0.1.0".into(),
        pid: 4711,
        started_at_unix_s: 1_800_000_000,
        epoch: Epoch(1),
        digest: ring(1, 2).digest(),
        members: 2,
        pin_dir: "/sys/fs/bpf/ringsteer".into(),
        interfaces: vec![InterfaceStatus { name: "veth0".into(), xdp_mode: AttachedMode::Native }],
        programs: vec![ProgramStatus { name: "steer".into(), id: 7, tag: "0123456789abcdef".into() }],
        flows: 3,
        max_flows: 1 << 20,
        counters: [("syn_answered".to_owned(), 12)].into(),
    }
}

/// A server as the agent runs it.
struct TestAgent {
    publications: watch::Sender<Arc<Publication>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl TestAgent {
    fn start(path: &Path, first: Publication) -> Self {
        let listener = listen(path).unwrap();
        let (publications, receiver) = watch::channel(Arc::new(first));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, receiver, some_status, async { _ = stopped.await }));
        Self { publications, stop, task }
    }

    fn publish(&self, publication: Publication) {
        self.publications.send(Arc::new(publication)).unwrap();
    }

    /// Returns when it has let go of the socket.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.task).await.unwrap();
    }
}

/// The next thing the follower puts in force.
async fn next(published: &mut watch::Receiver<Option<Arc<Published>>>) -> Arc<Published> {
    soon(published.changed()).await.unwrap();
    published.borrow_and_update().clone().unwrap()
}

#[tokio::test]
async fn a_follower_has_the_ring_and_each_change() {
    let (_directory, path) = place();
    let agent = TestAgent::start(&path, publication(1, 2));
    let follower = Follower::start(&path);
    let mut published = follower.published();

    let first = next(&mut published).await;
    assert_eq!(first.ring.digest(), ring(1, 2).digest());
    assert_eq!(first.node.get(), 1);
    assert_eq!(first.services, publication(1, 2).services);
    assert_eq!(follower.node(), Some(first.node));
    for key in [&b"u1"[..], b"u2", b"", "ü".as_bytes()] {
        assert_eq!(first.owner(key), ring(1, 2).owner(key));
        assert_eq!(first.is_ours(key), first.owner(key).number == first.node);
    }

    agent.publish(publication(2, 3));
    assert_eq!(next(&mut published).await.ring.digest(), ring(2, 3).digest());
    assert_eq!(follower.ring().unwrap().epoch(), Epoch(2));
}

#[tokio::test]
async fn the_last_ring_outlives_the_agent() {
    let (_directory, path) = place();
    let agent = TestAgent::start(&path, publication(1, 2));
    let follower = Follower::start(&path);
    let mut published = follower.published();
    next(&mut published).await;

    agent.stop().await;
    // That it asks again shows that it has noticed; whoever is there now says nothing.
    let silent = listen(&path).unwrap();
    let connection = meet(&silent).await;
    assert!(!published.has_changed().unwrap());
    assert_eq!(follower.ring().unwrap().digest(), ring(1, 2).digest());

    drop((silent, connection));
    let _agent = TestAgent::start(&path, publication(2, 3));
    assert_eq!(next(&mut published).await.ring.epoch(), Epoch(2));
}

#[tokio::test]
async fn a_follower_may_come_before_the_agent() {
    let (_directory, path) = place();
    let follower = Follower::start(&path);
    assert!(follower.ring().is_none() && follower.node().is_none());
    let _agent = TestAgent::start(&path, publication(5, 2));
    assert_eq!(soon(follower.first()).await.ring.epoch(), Epoch(5));
}

/// A follower's connection, once it has asked to follow.
async fn meet(listener: &UnixListener) -> UnixStream {
    let (stream, _) = soon(listener.accept()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    soon(stream.read_line(&mut request)).await.unwrap();
    assert_eq!(request, "{\"follow\":{}}\n");
    stream.into_inner()
}

async fn send(stream: &mut UnixStream, answer: &Answer) {
    let line = serde_json::to_string(answer).unwrap() + "\n";
    soon(stream.write_all(line.as_bytes())).await.unwrap();
}

#[tokio::test]
async fn a_ring_that_is_not_what_it_says_is_not_followed() {
    let (_directory, path) = place();
    let listener = listen(&path).unwrap();
    let follower = Follower::start(&path);
    let mut published = follower.published();

    let mut lying = publication(2, 3);
    lying.ring.members.swap(0, 1);
    let mut connection = meet(&listener).await;
    send(&mut connection, &Answer::Publication(publication(1, 2))).await;
    assert_eq!(next(&mut published).await.ring.epoch(), Epoch(1));
    send(&mut connection, &Answer::Publication(lying)).await;

    // It hangs up on the liar, keeps what it had, and comes back.
    let mut rest = Vec::new();
    soon(connection.read_to_end(&mut rest)).await.unwrap();
    let mut connection = meet(&listener).await;
    assert!(!published.has_changed().unwrap());
    assert_eq!(follower.ring().unwrap().epoch(), Epoch(1));
    send(&mut connection, &Answer::Publication(publication(3, 3))).await;
    assert_eq!(next(&mut published).await.ring.epoch(), Epoch(3));
}

#[tokio::test]
async fn nonsense_from_the_agent_does_not_stop_a_follower() {
    let (_directory, path) = place();
    let listener = listen(&path).unwrap();
    let follower = Follower::start(&path);
    let endless = vec![b'x'; line::MAX_ANSWER_BYTES + 1];
    for nonsense in
        [&b"{}\n"[..], b"\xff\n", b"{\"publication\":{\"node\":0}}\n", b"{\"error\":{\"message\":\"no\"}}\n", &endless]
    {
        let mut connection = meet(&listener).await;
        // The follower may hang up before it has taken everything.
        _ = soon(connection.write_all(nonsense)).await;
        let mut rest = Vec::new();
        _ = soon(connection.read_to_end(&mut rest)).await;
    }
    send(&mut meet(&listener).await, &Answer::Publication(publication(1, 2))).await;
    assert_eq!(soon(follower.first()).await.ring.epoch(), Epoch(1));
}

#[tokio::test]
async fn the_kernels_ring_is_followed_whatever_its_epoch() {
    let (_directory, path) = place();
    let agent = TestAgent::start(&path, publication(9, 2));
    let follower = Follower::start(&path);
    let mut published = follower.published();
    next(&mut published).await;
    agent.publish(publication(3, 3));
    assert_eq!(next(&mut published).await.ring.epoch(), Epoch(3));
}

#[tokio::test]
async fn the_largest_ring_fits_on_a_line() {
    let (_directory, path) = place();
    // The identities that JSON stretches most.
    let members: Vec<Member> = (1..=1638)
        .map(|number| Member {
            identity: Identity::new(format!("{}{number:04}:65535", "\"".repeat(MAX_IDENTITY - 10))).unwrap(),
            ..fixtures::member(number, "gw:88")
        })
        .collect();
    let ring = Ring::new(Epoch(1), Algorithm::OpenIm, members).unwrap();
    let services = vec![publication(1, 2).services[0].clone(); 256];
    let _agent = TestAgent::start(&path, Publication::new(MemberNumber::new(1638).unwrap(), &ring, services));
    let follower = Follower::start(&path);
    assert_eq!(soon(follower.first()).await.ring.digest(), ring.digest());
}

#[tokio::test]
async fn the_status_arrives_as_it_was() {
    let (_directory, path) = place();
    let agent = TestAgent::start(&path, publication(1, 2));
    assert_eq!(soon(status(&path)).await.unwrap(), some_status());
    agent.stop().await;
    let error = soon(status(&path)).await.unwrap_err().to_string();
    let begin = format!("cannot reach the agent on {}: ", path.display());
    assert!(
        error.starts_with(&begin) && error.ends_with("is `ringsteer agent` running, and may this user connect?"),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_request_is_answered_with_the_right_ones() {
    let (_directory, path) = place();
    let _agent = TestAgent::start(&path, publication(1, 2));
    let endless = "x".repeat(5000);
    for (request, complaint) in [
        ("{\"sing\":{}}\n", "not a message: unknown variant `sing`, expected `follow` or `status`"),
        ("\n", "not a message: EOF while parsing"),
        (&endless, "a line of more than 4096 bytes"),
    ] {
        let mut stream = soon(UnixStream::connect(&path)).await.unwrap();
        soon(stream.write_all(request.as_bytes())).await.unwrap();
        let mut answer = String::new();
        // An end that reads nothing more of a long line resets the connection after its answer.
        _ = soon(stream.read_to_string(&mut answer)).await;
        let Answer::Error { message } = serde_json::from_str(&answer).unwrap() else { panic!("{answer}") };
        assert!(message.starts_with(complaint), "{message}");
        assert!(message.ends_with("requests are {\"follow\":{}} and {\"status\":{}}"), "{message}");
    }
}

#[tokio::test]
async fn clients_beyond_the_limit_are_turned_away() {
    let (_directory, path) = place();
    let _agent = TestAgent::start(&path, publication(1, 2));
    let mut followers = Vec::new();
    for _ in 0..64 {
        let follower = Follower::start(&path);
        soon(follower.first()).await;
        followers.push(follower);
    }
    let error = soon(status(&path)).await.unwrap_err();
    assert!(matches!(error, ClientError::HungUp | ClientError::Line(_)), "{error}");
    // Room again when one has left; the server notices that at its own pace.
    followers.pop();
    soon(async { while status(&path).await.is_err() {} }).await;
}
