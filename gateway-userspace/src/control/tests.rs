//! Agent and followers on real sockets.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::*;
use crate::{
    config::{Mode, Serve, Service},
    peer::agreement::Tally,
    ring::{Algorithm, Epoch, Identity, MAX_IDENTITY, Member, MemberNumber, MemberState, Ring, fixtures},
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

fn member(number: u16) -> Option<MemberNumber> {
    MemberNumber::new(number).ok()
}

fn publication(epoch: u64, members: u16) -> Publication {
    let service = Service {
        name: "websocket".into(),
        address: "192.0.2.1:10001".parse().unwrap(),
        parameter: Some("sendID".to_owned().try_into().unwrap()),
        serve: Serve::Websocket,
    };
    Publication::new(member(1), &ring(epoch, members), None, vec![service])
}

fn some_status() -> Status {
    let ring = ring(1, 2);
    Status {
        node: member(1),
        name: "node-1".into(),
        version: "0.1.0".into(),
        pid: 4711,
        started_at_unix_s: 1_800_000_000,
        readiness: vec!["because".to_owned()].into(),
        ring: Some(RingStatus {
            epoch: ring.epoch(),
            digest: ring.digest(),
            algorithm: ring.algorithm(),
            members: 2,
            state: Some(MemberState::Active),
            previous: None,
        }),
        source: SourceStatus { name: "file".into(), trouble: None, trouble_s: 0, troubles: 0, rings: 1 },
        peers: Tally { agrees: 1, ..Tally::default() },
        gateways: vec![],
        mode: Mode::default(),
        pin_dir: "/sys/fs/bpf/ringsteer".into(),
        interfaces: vec![InterfaceStatus { name: "veth0".into(), xdp_mode: AttachedMode::Native }],
        programs: vec![ProgramStatus { name: "steer".into(), id: 7, tag: "0123456789abcdef".into() }],
        flows: 3,
        max_flows: 1 << 20,
        counters: [("syn_answered".to_owned(), 12)].into(),
    }
}

/// Flows that are shown, in all.
const FLOWS: u64 = 5000;

/// Answers as an agent does.
struct TestDesk;

impl Desk for TestDesk {
    fn answer(self: Arc<Self>, request: Request, answers: Answers) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let answer = match request {
                Request::Status {} => Answer::Status(Box::new(some_status())),
                Request::Ring {} => Answer::Ring(Rings { current: Some((&ring(1, 2)).into()), previous: None }),
                Request::Flows(filter) => {
                    // As the agent does it: from a thread that blocks.
                    let shown = filter.limit.unwrap_or(FLOWS);
                    let sent = tokio::task::spawn_blocking(move || {
                        for number in 0..shown {
                            let flows = Flows { flows: vec![flow(number)], end: None };
                            if answers.blocking_send(Answer::Flows(flows)).is_err() {
                                return;
                            }
                        }
                        let end = Some(FlowsEnd { total: FLOWS, matched: FLOWS, held: 0, moved: 0 });
                        let _ = answers.blocking_send(Answer::Flows(Flows { flows: vec![], end }));
                    });
                    return sent.await.unwrap();
                }
                Request::Stats {} => panic!("the counters are gone"),
                Request::Moves(moves) => Answer::Moved(vec![MoveOutcome::Done; moves.flows.len()]),
                other => Answer::Error { message: format!("{other:?} is not for tests") },
            };
            let _ = answers.send(answer).await;
        })
    }
}

fn flow(number: u64) -> FlowEntry {
    FlowEntry {
        client: "203.0.113.9:40000".parse().unwrap(),
        service: None,
        service_name: None,
        node: 2,
        key_hash: None,
        age_ms: number,
        idle_ms: 0,
        packets: 1,
        bytes: 100,
        closing: false,
        state: FlowState::Open,
        moves: 0,
    }
}

/// A server as the agent runs it.
struct TestAgent {
    publications: watch::Sender<Option<Arc<Publication>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl TestAgent {
    fn start(path: &Path, first: Publication) -> Self {
        Self::start_with(path, Some(Arc::new(first)))
    }

    fn start_with(path: &Path, first: Option<Arc<Publication>>) -> Self {
        let listener = listen(path).unwrap();
        let publications = watch::Sender::new(first);
        let (stop, stopped) = oneshot::channel();
        let gateways = Arc::new(Gateways::default());
        let served = Served { publications: publications.subscribe(), desk: Arc::new(TestDesk), gateways };
        let task = tokio::spawn(serve(listener, served, async { _ = stopped.await }));
        Self { publications, stop, task }
    }

    fn publish(&self, publication: Publication) {
        self.publications.send(Some(Arc::new(publication))).unwrap();
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
    assert_eq!(first.node, member(1));
    assert_eq!(first.services, publication(1, 2).services);
    assert_eq!(follower.node(), first.node);
    for key in [&b"u1"[..], b"u2", b"", "ü".as_bytes()] {
        assert_eq!(first.owner(key), ring(1, 2).owner(key));
        assert_eq!(first.is_ours(key), Some(first.owner(key).number) == first.node);
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
    let _agent = TestAgent::start(&path, Publication::new(member(1638), &ring, Some(&ring), services));
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
async fn an_agent_without_a_ring_is_waited_for() {
    let (_directory, path) = place();
    let agent = TestAgent::start_with(&path, None);
    let follower = Follower::start(&path);
    // It is well, and says so; it has nothing to publish yet.
    soon(status(&path)).await.unwrap();
    assert!(follower.ring().is_none());
    let edge = Publication { node: None, ..publication(1, 2) };
    agent.publish(edge);
    let first = soon(follower.first()).await;
    assert_eq!(first.node, None);
    assert!(!first.is_ours(b"u1"));
}

#[tokio::test]
async fn many_answers_come_in_pieces_and_an_early_end_is_no_trouble() {
    let (_directory, path) = place();
    let _agent = TestAgent::start(&path, publication(1, 2));
    let mut shown = Vec::new();
    let end = soon(flows(&path, FlowFilter::default(), |flow| shown.push(flow.age_ms))).await.unwrap();
    assert_eq!((end.total, end.matched), (FLOWS, FLOWS));
    assert_eq!(shown, (0..FLOWS).collect::<Vec<_>>());

    // A client that has seen enough.
    let mut stream = BufReader::new(soon(UnixStream::connect(&path)).await.unwrap());
    soon(stream.write_all(b"{\"flows\":{}}\n")).await.unwrap();
    let mut line = String::new();
    soon(stream.read_line(&mut line)).await.unwrap();
    assert!(line.starts_with("{\"flows\":{\"flows\":[{\"client\":\"203.0.113.9:40000\""), "{line}");
    drop(stream);
    assert_eq!(soon(ring_of_agent(&path)).await.current.unwrap().name(), ring(1, 2).name());
}

async fn ring_of_agent(path: &Path) -> Rings {
    super::ring(path).await.unwrap()
}

#[tokio::test]
async fn a_client_that_has_only_ended_its_own_side_is_answered() {
    let (_directory, path) = place();
    let _agent = TestAgent::start(&path, publication(1, 2));
    let mut stream = soon(UnixStream::connect(&path)).await.unwrap();
    soon(stream.write_all(b"{\"ring\":{}}\n")).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(matches!(serde_json::from_str(&answer).unwrap(), Answer::Ring(_)), "{answer}");
}

#[tokio::test]
async fn a_desk_that_fails_says_so() {
    let (_directory, path) = place();
    let _agent = TestAgent::start(&path, publication(1, 2));
    let refused = soon(peers(&path)).await.unwrap_err().to_string();
    assert_eq!(refused, "the agent refused: Peers is not for tests");
    let failed = soon(stats(&path)).await.unwrap_err().to_string();
    assert!(failed.contains("the agent failed to answer") && failed.contains("the counters are gone"), "{failed}");
}

fn hold(connections: u16) -> Moves {
    let flow = |port| FlowMove {
        client: ([203, 0, 113, 9], port).into(),
        service: "192.0.2.1:10001".parse().unwrap(),
        count: 1,
        first_ack: 0,
    };
    Moves { step: MoveStep::Hold, flows: (1..=connections).map(flow).collect(), promise: None }
}

#[tokio::test]
async fn moves_are_asked_for_one_after_the_other() {
    let (_directory, path) = place();
    let _agent = TestAgent::start(&path, publication(1, 2));
    let mut stream = BufReader::new(soon(UnixStream::connect(&path)).await.unwrap());
    for connections in 1..=3 {
        let request = serde_json::to_string(&Request::Moves(hold(connections))).unwrap();
        soon(stream.write_all(format!("{request}\n").as_bytes())).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_line(&mut answer)).await.unwrap();
        let Answer::Moved(outcomes) = serde_json::from_str(&answer).unwrap() else { panic!("{answer}") };
        assert_eq!(outcomes.len(), usize::from(connections));
    }
}

#[tokio::test]
async fn one_connection_serves_many_moves_and_an_agent_that_starts_again_is_found() {
    let (_directory, path) = place();
    let mut client = MoveClient::new(path.clone());
    // Whoever accepts sees each connection: there is one for two steps.
    let listener = listen(&path).unwrap();
    let answering = async {
        let mut stream = BufReader::new(soon(listener.accept()).await.unwrap().0);
        for _ in 0..2 {
            let mut request = String::new();
            soon(stream.read_line(&mut request)).await.unwrap();
            let answer = serde_json::to_string(&Answer::Moved(vec![MoveOutcome::Done])).unwrap();
            soon(stream.write_all(format!("{answer}\n").as_bytes())).await.unwrap();
        }
        stream
    };
    let asking = async {
        for _ in 0..2 {
            assert_eq!(soon(client.ask(hold(1))).await.unwrap(), [MoveOutcome::Done]);
        }
    };
    let (stream, ()) = tokio::join!(answering, asking);
    // It ends, with the connection open, and another one is there.
    drop((stream, listener));
    let agent = TestAgent::start(&path, publication(1, 2));
    assert_eq!(soon(client.ask(hold(2))).await.unwrap(), [MoveOutcome::Done; 2]);
    // Without one, that is said.
    agent.stop().await;
    assert!(soon(client.ask(hold(1))).await.unwrap_err().agent_is_gone());
}

#[tokio::test]
async fn a_wrong_request_is_answered_with_the_right_ones() {
    let (_directory, path) = place();
    let _agent = TestAgent::start(&path, publication(1, 2));
    let endless = "x".repeat(70_000);
    for (request, complaint) in [
        ("{\"sing\":{}}\n", "not a message: unknown variant `sing`, expected one of `follow`, `attach`, `status`, "),
        ("\n", "not a message: EOF while parsing"),
        (&endless, "a line of more than 65536 bytes"),
    ] {
        let mut stream = soon(UnixStream::connect(&path)).await.unwrap();
        soon(stream.write_all(request.as_bytes())).await.unwrap();
        let mut answer = String::new();
        // An end that reads nothing more of a long line resets the connection after its answer.
        _ = soon(stream.read_to_string(&mut answer)).await;
        let Answer::Error { message } = serde_json::from_str(&answer).unwrap() else { panic!("{answer}") };
        assert!(message.starts_with(complaint), "{message}");
        assert!(message.ends_with("requests look like {\"status\":{}}"), "{message}");
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
