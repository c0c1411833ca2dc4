//! Several gateways on loopback addresses, each with an agent's control socket of its own: pushes that come in anywhere,
//! are repeated, and meet a change of the ring; words about moves that nobody should say, and one that is not said.

#[path = "pushes/brought.rs"]
mod brought;
#[path = "pushes/forged.rs"]
mod forged;
#[path = "pushes/third.rs"]
mod third;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{SinkExt as _, StreamExt as _, future::BoxFuture};
use ringsteer::{
    config::{Config, Overrides, Parameter, Serve, Service},
    control::{self, Answer, Answers, Desk, Follower, Gateways, MoveOutcome, Publication, Published, Request, Served},
    front::Front,
    gateway::{Gateway, Limits},
    ring::{Algorithm, Epoch, Identity, Member, MemberNumber, MemberState, NodeAddress, Ring},
};
use ringsteer_openim::{
    frame::{Wire, id},
    message::content,
    platform::Platform,
    token::{Claims, Keys},
};
use ringsteer_openim_rpc::{
    Caller, FormerClient,
    msggateway::{
        GetUsersOnlineStatusReq, KickUserOfflineReq, OnlineBatchPushOneMsgReq, msg_gateway_client::MsgGatewayClient,
    },
    sdkws::MsgData,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

const TOKEN: &str = "for-pushes-in-this-test";

/// What tokens of OpenIM's clients are signed with.
const TOKEN_SECRET: &str = "openIM123";

/// Nothing here takes longer, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// A gateway, and its agent's socket.
struct Node {
    address: NodeAddress,
    publish: watch::Sender<Option<Arc<Publication>>>,
    gateways: Arc<Gateways>,
    clients: SocketAddr,
    pushes: SocketAddr,
    openim: SocketAddr,
    rpc: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
    subject: Arc<dyn ringsteer::telemetry::Subject>,
    _follower: Follower,
    _directory: tempfile::TempDir,
}

/// An agent that steers nothing: no connection is one of its services', so none can be held, and sessions stay where
/// they are whatever the ring says.
struct NoSteering;

impl Desk for NoSteering {
    fn answer(self: Arc<Self>, request: Request, answers: Answers) -> BoxFuture<'static, ()> {
        let Request::Moves(moves) = request else { unreachable!("a gateway asks for nothing else: {request:?}") };
        Box::pin(async move {
            let outcomes = vec![MoveOutcome::NoService; moves.flows.len()];
            let _ = answers.send(Answer::Moved(outcomes)).await;
        })
    }
}

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Nodes 1 to n of a fleet; `base` keeps the addresses of one test apart from those of others.
struct Fleet {
    nodes: Vec<Node>,
    ring: Ring,
    /// Of the gateways' links.
    port: u16,
}

fn member(base: u8, number: u16) -> Member {
    Member {
        number: MemberNumber::new(number).unwrap(),
        identity: Identity::new(format!("gateway-{number}.example:88")).unwrap(),
        address: format!("127.0.{base}.{number}").parse().unwrap(),
        state: MemberState::Active,
    }
}

fn ring(base: u8, epoch: u64, numbers: &[u16]) -> Ring {
    let members = numbers.iter().map(|&number| member(base, number)).collect();
    Ring::new(Epoch(epoch), Algorithm::OpenIm, members).unwrap()
}

/// A port that is free on the addresses of so many nodes.
async fn free_port(base: u8, count: u16) -> u16 {
    loop {
        let first = TcpListener::bind((member(base, 1).address.ip(), 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut taken = Vec::new();
        for number in 2..=count {
            taken.push(TcpListener::bind((member(base, number).address.ip(), port)).await);
        }
        if taken.iter().all(Result::is_ok) {
            return port;
        }
    }
}

impl Node {
    fn start(base: u8, number: u16, port: u16, ring: &Ring, set: impl Fn(&mut Limits)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let member = member(base, number);
        let token_secret = directory.path().join("token-secret");
        std::fs::write(&token_secret, TOKEN_SECRET).unwrap();
        let text = format!(
            r#"
            [node]
            name = "node-{number}"
            identity = "{}"
            address = "{}"
            interfaces = ["eth0"]
            socket = "{}"
            [secrets]
            current = "000102030405060708090a0b0c0d0e0f"
            [ring]
            epoch = 1
            members = [{{ number = {number}, identity = "{}", address = "{}" }}]
            [peers]
            gateway_port = {port}
            [push]
            tokens = ["another-token-that-is-valid", "{TOKEN}"]
            deadline_ms = 1500
            grpc = "127.0.0.1:0"
            [[services]]
            name = "clients"
            address = "127.0.0.1:1"
            parameter = "sendID"
            serve = "websocket"
            [[services]]
            name = "pushes"
            address = "127.0.0.1:2"
            parameter = "recvID"
            serve = "push"
            [[services]]
            name = "openim"
            address = "127.0.0.1:3"
            parameter = "sendID"
            serve = "openim"
            [openim]
            token_secret_files = ["{}"]
            "#,
            member.identity,
            member.address,
            directory.path().join("agent.sock").display(),
            member.identity,
            member.address,
            token_secret.display(),
        );
        let mut config = Config::parse(&text, &Overrides::default()).unwrap();
        config.services.iter_mut().for_each(|service| service.address.set_port(0));
        let follower = Follower::prepare(&config.node.socket);
        let mut limits = Limits::of(&config);
        set(&mut limits);
        let gateway = Gateway::bind(&config, limits, follower.published()).unwrap();
        let follower = follower.attach(gateway.reporter());
        let addresses: Vec<_> = gateway.addresses().map(|(_, address)| address).collect();
        let (subject, rpc) = (gateway.subject(), gateway.rpc_address().unwrap());
        let publish = watch::Sender::new(Some(publication(&member, ring, None)));
        let listener = control::listen(&config.node.socket).unwrap();
        let gateways = Arc::new(Gateways::default());
        let served =
            Served { publications: publish.subscribe(), desk: Arc::new(NoSteering), gateways: Arc::clone(&gateways) };
        let tasks = vec![
            tokio::spawn(gateway.serve(std::future::pending())),
            tokio::spawn(control::serve(listener, served, std::future::pending())),
        ];
        Self {
            address: member.address,
            publish,
            gateways,
            clients: addresses[0],
            pushes: addresses[1],
            openim: addresses[2],
            rpc,
            tasks,
            subject,
            _follower: follower,
            _directory: directory,
        }
    }

    /// A figure, as monitoring sees it.
    fn figure(&self, line: &str) -> f64 {
        let text = self.subject.figures().unwrap().to_text();
        let value = text.lines().find_map(|one| one.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {line} in {text}"))
    }

    async fn follows(&self, ring: &Ring) {
        let mut following = self.gateways.following();
        within(following.wait_for(|name| *name == Some(ring.name()))).await.unwrap();
    }

    async fn connect(&self, user: &str) -> Client {
        within(connect_async(format!("ws://{}/?sendID={user}", self.clients))).await.unwrap().0
    }

    /// A client of OpenIM's, logged in as the newest SDKs may: by a parameter in which the kernel finds no user.
    async fn log_in(&self, user: &str, platform: Platform) -> Client {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let keys = Keys::new([TOKEN_SECRET.as_bytes().to_vec()], Duration::ZERO).unwrap();
        let token = keys.sign(&Claims { user: user.to_owned(), platform, expires: now + 1000 }, now - 100);
        let login = json!({ "token": token, "userID": user, "platformID": platform.number(), "operationID": "op" });
        let login = BASE64_URL_SAFE_NO_PAD.encode(login.to_string());
        within(connect_async(format!("ws://{}/?v={login}", self.openim))).await.unwrap().0
    }

    async fn request(&self, target: &str, headers: &str, body: &str) -> (u16, Value) {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        post(self.pushes, &request).await
    }

    async fn push(&self, user: &str, id: &str, text: &str) -> (u16, Value) {
        let headers = format!("Authorization: Bearer {TOKEN}\r\nRingsteer-Message-Id: {id}\r\n");
        self.request(&format!("/push?recvID={user}"), &headers, text).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn publication(member: &Member, ring: &Ring, previous: Option<&Ring>) -> Arc<Publication> {
    let number = ring.member(member.number).map(|member| member.number);
    let publication = Publication::new(number, ring, previous, vec![]);
    Arc::new(Publication { address: Some(member.address), ..publication })
}

impl Fleet {
    /// Nodes `1..=count`, of which those in `numbers` are members; all are linked.
    async fn start(base: u8, count: u16, numbers: &[u16]) -> Self {
        Self::start_with(base, count, numbers, |_| ()).await
    }

    /// The same, with other limits.
    async fn start_with(base: u8, count: u16, numbers: &[u16], set: impl Fn(&mut Limits)) -> Self {
        let (port, ring) = (free_port(base, count).await, ring(base, 1, numbers));
        let nodes: Vec<_> = (1..=count).map(|number| Node::start(base, number, port, &ring, &set)).collect();
        let fleet = Self { nodes, ring, port };
        for node in &fleet.nodes {
            node.follows(&fleet.ring).await;
        }
        let running: Vec<u16> = numbers.iter().copied().filter(|&number| number <= count).collect();
        fleet.linked(&running).await;
        fleet
    }

    /// Waits until each of these nodes has a link to each other one.
    async fn linked(&self, numbers: &[u16]) {
        let linked = async {
            for &number in numbers {
                while (self.node(number).figure("ringsteer_gateway_links ") as usize) < numbers.len() - 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        within(linked).await;
    }

    fn node(&self, number: u16) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// Gives one node another ring.
    async fn publish(&self, base: u8, number: u16, ring: &Ring, previous: Option<&Ring>) {
        let node = self.node(number);
        node.publish.send_replace(Some(publication(&member(base, number), ring, previous)));
        node.follows(ring).await;
    }
}

/// The first user for whom `wanted` is true.
fn user_where(wanted: impl Fn(&[u8]) -> bool) -> String {
    (0..).map(|index| format!("user-{index}")).find(|user| wanted(user.as_bytes())).unwrap()
}

fn owned(ring: &Ring, number: u16) -> impl Fn(&[u8]) -> bool {
    move |user| ring.owner(user).number.get() == number
}

async fn next(client: &mut Client) -> String {
    match within(client.next()).await.expect("a message").expect("no error") {
        Message::Text(text) => text.as_str().to_owned(),
        other => panic!("expected a text, got {other:?}"),
    }
}

#[tokio::test]
async fn a_push_reaches_its_user_wherever_it_comes_in_and_once() {
    let fleet = Fleet::start(20, 3, &[1, 2, 3]).await;
    let user = user_where(owned(&fleet.ring, 2));
    let mut client = fleet.node(2).connect(&user).await;
    for number in 1..=3 {
        let node = fleet.node(number);
        let (status, answer) = node.push(&user, &format!("id-{number}"), &format!("from {number}")).await;
        assert_eq!(status, 200, "{answer}");
        let expected = json!({
            "user": user, "status": "delivered", "delivered": 1, "platforms": [0], "node": format!("node-{number}"),
            "owner": "gateway-2.example:88", "forwarded": number != 2,
        });
        assert_eq!(answer, expected);
        assert_eq!(next(&mut client).await, format!("from {number}"));
    }
    // The same pushes again, each at another node: the owner knows them, and the answer is the first one's.
    for number in 1..=3u16 {
        let (status, answer) = fleet.node(number % 3 + 1).push(&user, &format!("id-{number}"), "again").await;
        assert_eq!((status, &answer["delivered"]), (200, &json!(1)), "{answer}");
    }
    let (_, answer) = fleet.node(1).push(&user, "id-last", "the last").await;
    assert_eq!(answer["delivered"], 1);
    assert_eq!(next(&mut client).await, "the last", "nothing came twice");
    assert!(fleet.node(2).figure("ringsteer_pushes_repeated_total ") >= 3.0);
    assert_eq!(fleet.node(1).figure("ringsteer_pushes_total{outcome=\"delivered\"} "), 3.0);

    let nobody = user_where(owned(&fleet.ring, 3));
    let (status, answer) = fleet.node(1).push(&nobody, "id-nobody", "hi").await;
    assert_eq!((status, &answer["status"], &answer["delivered"]), (200, &json!("offline"), &json!(0)));
}

#[tokio::test]
async fn many_users_are_answered_for_one_by_one() {
    let fleet = Fleet::start(21, 3, &[1, 2, 3]).await;
    let online: Vec<String> = (1..=3).map(|number| user_where(owned(&fleet.ring, number))).collect();
    let mut clients = Vec::new();
    for (user, number) in online.iter().zip(1..) {
        clients.push(fleet.node(number).connect(user).await);
    }
    let offline: Vec<String> = (0..40).map(|index| format!("nobody-{index}")).collect();
    let users: Vec<&String> = online.iter().chain(&offline).chain(&online[..1]).collect();
    let body = json!({ "id": "b-1", "users": users, "text": "to all" }).to_string();
    let target = format!("/push/batch?recvID={}", online[1]);
    for _ in 0..2 {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n");
        let (status, answer) = fleet.node(1).request(&target, &headers, &body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!((&answer["node"], &answer["owner"]), (&json!("node-1"), &json!("gateway-2.example:88")));
        assert_eq!(answer["ring"]["epoch"], 1);
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), users.len());
        for (result, user) in results.iter().zip(&users) {
            let status = if online.contains(user) { "delivered" } else { "offline" };
            assert_eq!((&result["user"], &result["status"]), (&json!(user), &json!(status)));
            // Nobody said what kind of device it is: no phone.
            assert_eq!(result["online_push"], false);
        }
    }
    let body = json!({ "users": online, "text": "the last" }).to_string();
    fleet.node(3).request(&target, "Authorization: Bearer another-token-that-is-valid\r\n", &body).await;
    for client in &mut clients {
        assert_eq!((next(client).await, next(client).await), ("to all".into(), "the last".into()), "once each");
    }
}

#[tokio::test]
async fn nobody_pushes_without_a_token() {
    let fleet = Fleet::start(22, 1, &[1]).await;
    let node = fleet.node(1);
    for (headers, hint) in [
        ("", "Authorization: Bearer"),
        ("Authorization: Basic Zm9vOmJhcg==\r\n", "Authorization: Bearer"),
        ("Authorization: Bearer wrong-but-long-enough\r\n", "not valid"),
        ("Authorization: Bearer another-token-that-is-valid\r\nAuthorization: Bearer x\r\n", "Authorization: Bearer"),
    ] {
        for target in ["/push?recvID=u", "/push/batch?recvID=u"] {
            let (status, answer) = node.request(target, headers, "hi").await;
            assert_eq!(status, 401, "{headers}: {answer}");
            assert!(answer["error"].as_str().unwrap().contains(hint), "{answer}");
        }
    }
    assert_eq!(node.figure("ringsteer_pushes_unauthorized_total "), 8.0);
    let bad_id = format!("Authorization: Bearer {TOKEN}\r\nIdempotency-Key: a b\r\n");
    assert_eq!(node.request("/push?recvID=u", &bad_id, "hi").await.0, 400);
}

/// The ring changes, and the user's session is where it was: pushes find it, and nobody calls the user offline.
#[tokio::test]
async fn who_is_still_at_the_owner_before_is_found_there() {
    const BASE: u8 = 23;
    let fleet = Fleet::start(BASE, 3, &[1, 2]).await;
    let new = ring(BASE, 2, &[1, 2, 3]);
    let moves = |user: &[u8]| owned(&fleet.ring, 2)(user) && owned(&new, 3)(user);
    let user = user_where(moves);
    let offline = user_where(|other| moves(other) && other != user.as_bytes());
    let mut client = fleet.node(2).connect(&user).await;
    // First those who come, then who was there, then the rest: at each moment everybody reaches the user.
    for (step, number) in [3, 2, 1].into_iter().enumerate() {
        fleet.publish(BASE, number, &new, Some(&fleet.ring)).await;
        if step == 1 {
            fleet.linked(&[2, 3]).await;
        }
        for entry in 1..=2 {
            let text = format!("step {step} from {entry}");
            let (status, answer) = fleet.node(entry).push(&user, &text.replace(' ', "-"), &text).await;
            assert_eq!((status, &answer["delivered"]), (200, &json!(1)), "{text}: {answer}");
            assert_eq!(next(&mut client).await, text);
        }
    }
    fleet.linked(&[1, 2, 3]).await;
    for entry in 1..=3 {
        let text = format!("after from {entry}");
        let (status, answer) = fleet.node(entry).push(&user, &text.replace(' ', "-"), &text).await;
        assert_eq!((status, &answer["status"]), (200, &json!("delivered")), "{text}: {answer}");
        assert_eq!(next(&mut client).await, text);
        // And who is nowhere is offline.
        let (_, answer) = fleet.node(entry).push(&offline, &format!("off-{entry}"), "hi").await;
        assert_eq!(answer["status"], "offline");
    }
    // The user leaves and comes back at the new owner: both are asked until the old one has nobody left.
    drop(client);
    let mut client = fleet.node(3).connect(&user).await;
    let (_, answer) = fleet.node(1).push(&user, "again", "again").await;
    assert_eq!(answer["status"], "delivered");
    assert_eq!(next(&mut client).await, "again");
}

/// A ring has come to the node that gets the users, and not to the one that had them: a push that comes in there reaches
/// them all the same.
#[tokio::test]
async fn who_has_come_by_a_ring_that_has_not_come_everywhere_is_found() {
    const BASE: u8 = 31;
    let fleet = Fleet::start(BASE, 2, &[1, 2]).await;
    // The first node drains.
    let mut members = fleet.ring.members().to_vec();
    members.iter_mut().filter(|member| member.number.get() == 1).for_each(|one| one.state = MemberState::Draining);
    let new = Ring::new(Epoch(2), Algorithm::OpenIm, members).unwrap();
    let users: Vec<String> = (0..10_000).map(|index| format!("user-{index}")).collect();
    let mut users = users.iter().filter(|user| owned(&fleet.ring, 1)(user.as_bytes()));
    let (offline, first) = (users.next().unwrap(), users.next().unwrap());
    let (_, answer) = fleet.node(1).push(first, "before", "before").await;
    assert_eq!(answer["status"], "offline", "{answer}");

    fleet.publish(BASE, 2, &new, Some(&fleet.ring)).await;
    let mut user = first;
    let mut client = loop {
        let began = std::time::Instant::now();
        let client = fleet.node(2).connect(user).await;
        // Nobody waits for longer than a second until the other node has heard, however busy it is.
        if began.elapsed() < Duration::from_millis(900) {
            break client;
        }
        user = users.next().unwrap();
    };
    let (status, answer) = fleet.node(1).push(user, "during", "during").await;
    assert_eq!((status, &answer["status"]), (200, &json!("delivered")), "{answer}");
    assert_eq!(next(&mut client).await, "during");
    let (_, answer) = fleet.node(1).push(offline, "nobody", "hi").await;
    assert_eq!(answer["status"], "offline", "{answer}");

    fleet.publish(BASE, 1, &new, Some(&fleet.ring)).await;
    let (_, answer) = fleet.node(1).push(user, "after", "after").await;
    assert_eq!(answer["status"], "delivered", "{answer}");
    assert_eq!(next(&mut client).await, "after");
}

/// Who does not answer may have a session: then nobody is called offline.
#[tokio::test]
async fn an_owner_that_does_not_answer_is_not_an_offline_user() {
    const BASE: u8 = 24;
    let fleet = Fleet::start(BASE, 1, &[1, 2]).await;
    let user = user_where(owned(&fleet.ring, 2));
    let (status, answer) = fleet.node(1).push(&user, "id-1", "hi").await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("did not answer"), "{answer}");
    assert_eq!(fleet.nodes[0].address, member(BASE, 1).address);
    // It has left the ring, and is not there: its users are ours now, and offline.
    let new = ring(BASE, 2, &[1]);
    fleet.publish(BASE, 1, &new, Some(&fleet.ring)).await;
    let gone = async { while fleet.node(1).push(&user, "id-2", "hi").await.0 != 200 {} };
    within(gone).await;
}

/// OpenIM's services push through whichever node they reach, under either name of the service.
#[tokio::test]
async fn openims_services_push_ask_and_kick_through_any_node() {
    let fleet = Fleet::start(25, 3, &[1, 2, 3]).await;
    let users: Vec<String> = (1..=3).map(|number| user_where(owned(&fleet.ring, number))).collect();
    let mut clients = Vec::new();
    for (user, number) in users.iter().zip(1..) {
        clients.push(fleet.node(number).connect(user).await);
    }
    let asked: Vec<String> = users.iter().cloned().chain(["nobody".to_owned()]).collect();
    let push = |number: u32| OnlineBatchPushOneMsgReq {
        msg_data: Some(MsgData {
            server_msg_id: format!("s-{number}"),
            content: format!("message {number}").into_bytes().into(),
            ..MsgData::default()
        }),
        push_to_user_i_ds: asked.clone(),
    };
    let call = |message: OnlineBatchPushOneMsgReq, token: Option<&str>| {
        let mut request = Caller::service("op-1").request(message);
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    };
    let channel = tonic::transport::Endpoint::new(format!("http://{}", fleet.node(1).rpc)).unwrap().connect_lazy();
    let mut now = MsgGatewayClient::new(channel.clone());
    let mut former = MsgGatewayClient::new(FormerClient(channel));
    for token in [None, Some("wrong-but-long-enough")] {
        let refused = within(now.super_group_online_batch_push_one_msg(call(push(0), token))).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    }
    let answers = [
        within(now.super_group_online_batch_push_one_msg(call(push(1), Some(TOKEN)))).await,
        within(former.super_group_online_batch_push_one_msg(call(push(2), Some(TOKEN)))).await,
        // The first message once more.
        within(now.online_batch_push_one_msg(call(push(1), Some(TOKEN)))).await,
        within(now.online_batch_push_one_msg(call(push(3), Some(TOKEN)))).await,
    ];
    for answer in answers {
        let results = answer.unwrap().into_inner().single_push_result;
        let said: Vec<_> = results.iter().map(|one| (one.user_id.clone(), one.resp.len())).collect();
        let expected: Vec<_> = asked.iter().map(|user| (user.clone(), usize::from(user != "nobody"))).collect();
        assert_eq!(said, expected);
        assert!(results.iter().all(|one| !one.online_push), "nobody has a phone");
    }
    for client in &mut clients {
        for number in 1..=3 {
            assert_eq!(next(client).await, format!("message {number}"), "once, and in order");
        }
    }
    let mut request = Caller::service("op-2").request(GetUsersOnlineStatusReq { user_i_ds: asked.clone() });
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let found = within(now.get_users_online_status(request)).await.unwrap().into_inner();
    let status: Vec<_> = found.success_result.iter().map(|one| (one.user_id.clone(), one.status)).collect();
    let expected: Vec<_> = asked.iter().map(|user| (user.clone(), i32::from(user != "nobody"))).collect();
    assert_eq!((status, found.failed_result.len()), (expected, 0));

    let kicked = KickUserOfflineReq { platform_id: 0, kick_user_id_list: users.clone() };
    let mut request = Caller::service("op-3").request(kicked);
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    within(now.kick_user_offline(request)).await.unwrap();
    for client in &mut clients {
        assert!(matches!(within(client.next()).await, Some(Ok(Message::Close(_)))));
    }
    let (_, answer) = fleet.node(2).push(&users[2], "after", "hi").await;
    assert_eq!(answer["status"], "offline");
}

/// `ringsteer msg`, as a process of its own, which pushes through one of the nodes.
struct MessageService {
    child: std::process::Child,
    client: ringsteer_openim_rpc::msg::msg_client::MsgClient<tonic::transport::Channel>,
    _directory: tempfile::TempDir,
}

impl Drop for MessageService {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl MessageService {
    /// One that pushes there.
    async fn start(push: SocketAddr) -> Self {
        use std::io::BufRead as _;

        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let config = file("ringsteer.toml", "[metrics]\nmsg = \"\"\n[msg]\nfsync = \"interval\"\n");
        let sets = [
            "msg.listen=127.0.0.1:0".to_owned(),
            format!("msg.path={}", directory.path().join("msg").display()),
            format!("msg.push=http://{push}"),
            format!("msg.push_token_file={}", file("token", TOKEN)),
        ];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringsteer"));
        command.args(["msg", "--config", &config]).env_remove("RUST_LOG").stderr(std::process::Stdio::piped());
        for set in &sets {
            command.args(["--set", set]);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("for gateways at ")?.1.trim().to_owned()));
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("msg: {line}")));
        let url = format!("http://{}", address.expect("the service starts"));
        let channel = tonic::transport::Endpoint::new(url).unwrap().connect().await.unwrap();
        Self { child, client: ringsteer_openim_rpc::msg::msg_client::MsgClient::new(channel), _directory: directory }
    }

    /// Sends as a gateway does for the sender's session; the message's number.
    async fn send(&self, from: &str, to: &str, name: &str, text: &str) {
        let message = MsgData {
            send_id: from.into(),
            recv_id: to.into(),
            client_msg_id: name.into(),
            session_type: 1,
            content_type: 101,
            content: text.to_owned().into(),
            ..MsgData::default()
        };
        let caller = Caller { user_id: Some(from.into()), ..Caller::service(name) };
        let request = caller.request(ringsteer_openim_rpc::msg::SendMsgReq { msg_data: Some(message) });
        within(self.client.clone().send_msg(request)).await.unwrap();
    }

    /// All that a user has of a conversation.
    async fn pull(&self, user: &str, conversation: &str) -> Vec<MsgData> {
        use ringsteer_openim_rpc::sdkws::{PullMessageBySeqsReq, SeqRange};

        let caller = Caller { user_id: Some(user.into()), ..Caller::service("pull") };
        let mut all = Vec::new();
        loop {
            let begin = all.len() as i64 + 1;
            let range = SeqRange { conversation_id: conversation.into(), begin, end: begin + 499, num: 500 };
            let asked = PullMessageBySeqsReq { user_id: user.into(), seq_ranges: vec![range], order: 0 };
            let told = within(self.client.clone().pull_message_by_seqs(caller.request(asked))).await.unwrap();
            match told.into_inner().msgs.remove(conversation) {
                Some(some) => all.extend(some.msgs),
                None => return all,
            }
        }
    }
}

/// A sends to B, who is at another node than the one through which messages are pushed: stored, numbered, pushed, seen
/// once and in order, while others come, go and are kicked. The whole path, of ten thousand messages, is in
/// `tests/tests/path_of_a_message.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_pushed_in_the_order_of_their_numbers() {
    const MESSAGES: usize = 300;
    const KICKS_EACH: usize = 10;
    let fleet = Arc::new(Fleet::start(27, 3, &[1, 2, 3]).await);
    let service = MessageService::start(fleet.node(1).rpc).await;
    let (a, b) = (user_where(owned(&fleet.ring, 1)), user_where(owned(&fleet.ring, 3)));
    let conversation = if a < b { format!("si_{a}_{b}") } else { format!("si_{b}_{a}") };
    let mut seen_by_b = fleet.node(3).connect(&b).await;

    // Others: each comes, and is kicked through a node that may be another, again and again.
    let mut crowd = tokio::task::JoinSet::new();
    for number in 1..=3_u16 {
        let fleet = Arc::clone(&fleet);
        let user = user_where(|user| owned(&fleet.ring, number)(user) && user != a.as_bytes() && user != b.as_bytes());
        crowd.spawn(async move {
            let url = format!("http://{}", fleet.node(number % 3 + 1).rpc);
            let mut gateway = MsgGatewayClient::new(tonic::transport::Endpoint::new(url).unwrap().connect_lazy());
            for _ in 0..KICKS_EACH {
                let mut client = fleet.node(number).connect(&user).await;
                let kick = KickUserOfflineReq { platform_id: 0, kick_user_id_list: vec![user.clone()] };
                let mut request = Caller::service("kick").request(kick);
                request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
                within(gateway.kick_user_offline(request)).await.unwrap();
                while let Some(Ok(_)) = within(client.next()).await {}
            }
        });
    }

    let sending = async {
        for number in 1..=MESSAGES {
            service.send(&a, &b, &format!("m{number}"), &format!("message {number}")).await;
        }
    };
    let receiving = async {
        for number in 1..=MESSAGES {
            assert_eq!(next(&mut seen_by_b).await, format!("message {number}"), "once, and in order");
        }
    };
    tokio::join!(sending, receiving, crowd.join_all());

    let kept = service.pull(&b, &conversation).await;
    let expected = (1..=MESSAGES as i64).map(|number| (number, format!("message {number}").into()));
    assert!(kept.iter().map(|one| (one.seq, one.content.clone())).eq(expected), "all of them, under their numbers");

    // Nobody at all is online: the message is there when its receiver asks.
    within(seen_by_b.close(None)).await.unwrap();
    service.send(&a, &b, "later", "for later").await;
    assert_eq!(service.pull(&b, &conversation).await.last().unwrap().content, "for later".as_bytes());
}

/// A server of the operator's that is told who is offline: fails at first, then listens.
struct Webhook {
    address: SocketAddr,
    calls: mpsc::UnboundedReceiver<(String, Value)>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// One that answers with these statuses, the last one again and again.
    async fn start(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, calls) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut answered = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                let (head, body) = loop {
                    stream.read_buf(&mut request).await.unwrap();
                    let text = String::from_utf8(request.clone()).unwrap();
                    if let Some((head, body)) = text.split_once("\r\n\r\n")
                        && let Ok(body) = serde_json::from_str(body)
                    {
                        break (head.to_ascii_lowercase(), body);
                    }
                };
                let status = statuses[answered.min(statuses.len() - 1)];
                answered += 1;
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _ = tell.send((head, body));
            }
        });
        Self { address, calls, task }
    }

    async fn call(&mut self) -> (String, Value) {
        within(self.calls.recv()).await.unwrap()
    }
}

/// A front before the gateways of a fleet.
struct TestFront {
    http: SocketAddr,
    rpc: SocketAddr,
    subject: Arc<dyn ringsteer::telemetry::Subject>,
    publish: watch::Sender<Option<Arc<Published>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl TestFront {
    /// It pushes to the address of one of the gateways: nothing steers here, so the others are reached through that one.
    async fn start(ring: &Ring, to: SocketAddr, webhook: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "Jefe\n").unwrap();
        let text = format!(
            r#"
            [node]
            name = "front"
            identity = "front:88"
            interfaces = ["eth0"]
            [secrets]
            current = "000102030405060708090a0b0c0d0e0f"
            [ring]
            epoch = 1
            members = [{{ number = 1, identity = "front:88", address = "127.0.0.1" }}]
            [push]
            tokens = ["{TOKEN}"]
            [front]
            http = "127.0.0.1:0"
            grpc = "127.0.0.1:0"
            deadline_ms = 2500
            webhook_url = "http://{webhook}/offline"
            webhook_secret_file = "{}"
            "#,
            secret.display()
        );
        let config = Config::parse(&text, &Overrides::default()).unwrap();
        let service = Service {
            name: "push".into(),
            address: to,
            parameter: Some(Parameter::try_from("recvID".to_owned()).unwrap()),
            serve: Serve::Push,
        };
        let plain = Service { name: "websocket".into(), serve: Serve::Websocket, ..service.clone() };
        let published =
            Published { node: None, address: None, ring: ring.clone(), previous: None, services: vec![plain, service] };
        let publish = watch::Sender::new(Some(Arc::new(published)));
        let front = Front::bind(&config, publish.subscribe()).await.unwrap();
        let (http, rpc) = front.addresses();
        let (stop, stopped) = oneshot::channel();
        let subject = front.subject();
        let task = tokio::spawn(front.serve(async { stopped.await.unwrap_or(()) }));
        Self { http: http.unwrap(), rpc: rpc.unwrap(), subject, publish, stop, task, _directory: directory }
    }

    fn figure(&self, line: &str) -> f64 {
        let text = self.subject.figures().unwrap().to_text();
        let value = text.lines().find_map(|one| one.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {line} in {text}"))
    }

    async fn push(&self, authorization: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "POST /push/batch HTTP/1.1\r\nHost: x\r\n{authorization}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        post(self.http, &request).await
    }
}

/// Sends a request, and reads the answer's status and body.
async fn post(to: SocketAddr, request: &str) -> (u16, Value) {
    within(async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    })
    .await
}

fn statuses(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_front_brings_a_message_to_everybody_and_tells_the_webhook_who_was_offline() {
    let fleet = Fleet::start(26, 3, &[1, 2, 3]).await;
    let mut webhook = Webhook::start(&[500, 503, 200]).await;
    let front = TestFront::start(&fleet.ring, fleet.node(1).pushes, webhook.address).await;
    let online: Vec<String> = (1..=3).map(|number| user_where(owned(&fleet.ring, number))).collect();
    let mut clients = Vec::new();
    for (user, number) in online.iter().zip(1..) {
        clients.push(fleet.node(number).connect(user).await);
    }
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let users: Vec<&str> =
        ["nobody-1"].into_iter().chain(online.iter().map(String::as_str)).chain(["nobody-2"]).collect();
    let message = json!({ "id": "m-1", "users": users, "text": "to all" });
    assert_eq!(front.push("", &message).await.0, 401);
    assert_eq!(front.push("Authorization: Bearer wrong-but-long-enough\r\n", &message).await.0, 401);
    let (status, answer) = front.push(&token, &message).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(statuses(&answer), ["offline", "delivered", "delivered", "delivered", "offline"]);
    // The same call until it is heard, and it says who sends it.
    let (head, body) = webhook.call().await;
    assert_eq!(body, json!({ "id": "m-1", "users": ["nobody-1", "nobody-2"], "operation": "", "text": "to all" }));
    assert!(head.starts_with("post /offline ") && head.contains("\r\nringsteer-signature: sha256="), "{head}");
    let key = |head: &str| head.lines().find(|line| line.starts_with("idempotency-key: ")).unwrap().to_owned();
    for _ in 0..2 {
        let (again, same) = webhook.call().await;
        assert_eq!((key(&again), &same), (key(&head), &body));
    }
    // The message once more: nobody gets it twice, and nobody is reported twice.
    let (_, answer) = front.push(&token, &message).await;
    assert_eq!(statuses(&answer), ["offline", "delivered", "delivered", "delivered", "offline"]);
    // Somebody who is online is not reported at all; the next call is that of the next message.
    let (_, answer) = front.push(&token, &json!({ "users": online, "text": "the second" })).await;
    assert_eq!(statuses(&answer), ["delivered"; 3]);
    let channel = tonic::transport::Endpoint::new(format!("http://{}", front.rpc)).unwrap().connect_lazy();
    let mut openim = MsgGatewayClient::new(channel);
    let call = |token: bool| {
        let message = MsgData { server_msg_id: "s-1".into(), content: "the last".into(), ..MsgData::default() };
        let users = online.iter().cloned().chain(["nobody-3".to_owned()]).collect();
        let message = OnlineBatchPushOneMsgReq { msg_data: Some(message), push_to_user_i_ds: users };
        let mut request = Caller::service("op-9").request(message);
        if token {
            request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        }
        request
    };
    let refused = within(openim.super_group_online_batch_push_one_msg(call(false))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let results = within(openim.super_group_online_batch_push_one_msg(call(true))).await.unwrap().into_inner();
    let reached: Vec<usize> = results.single_push_result.iter().map(|one| one.resp.len()).collect();
    assert_eq!(reached, [1, 1, 1, 0]);
    let (_, body) = webhook.call().await;
    let expected = json!({ "id": "server/s-1", "users": ["nobody-3"], "operation": "op-9", "text": "the last" });
    assert_eq!(body, expected);
    // Of OpenIM's ids, operations and users some are none that a gateway takes from a pusher. They reach their users all the
    // same, and a repeat is known.
    for _ in 0..2 {
        let message =
            MsgData { server_msg_id: "an id ".repeat(100), content: "an odd one".into(), ..MsgData::default() };
        let users = online.iter().cloned().chain([String::new(), "x".repeat(300)]).collect();
        let push = OnlineBatchPushOneMsgReq { msg_data: Some(message), push_to_user_i_ds: users };
        let mut request = Caller::service("op ".repeat(200)).request(push);
        request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        let results = within(openim.super_group_online_batch_push_one_msg(request)).await.unwrap().into_inner();
        let reached: Vec<usize> = results.single_push_result.iter().map(|one| one.resp.len()).collect();
        assert_eq!(reached, [1, 1, 1, 0, 0]);
    }
    let (_, body) = webhook.call().await;
    assert_eq!(body["users"], json!(["", "x".repeat(300)]));
    assert!(body["id"].as_str().unwrap().starts_with("sha256/"), "{body}");
    let (_, answer) = front.push(&token, &json!({ "users": online, "text": "the end" })).await;
    assert_eq!(statuses(&answer), ["delivered"; 3]);
    for client in &mut clients {
        for expected in ["to all", "the second", "the last", "an odd one", "the end"] {
            assert_eq!(next(client).await, expected, "once each, in order");
        }
    }
    assert!(front.figure("ringsteer_front_answers_total{from=\"owner\"} ") > 0.0);
    assert!(front.figure("ringsteer_front_answers_total{from=\"another\"} ") > 0.0);
    assert_eq!(front.figure("ringsteer_front_unauthorized_total "), 3.0);
    let heard = async {
        while front.figure("ringsteer_webhook_calls_total{outcome=\"heard\"} ") < 3.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(heard).await;
    assert_eq!(front.figure("ringsteer_webhook_failures_total "), 2.0);
    front.stop.send(()).unwrap();
    within(front.task).await.unwrap();
    webhook.task.abort();
}

/// What OpenIM's clients are pushed, and the content of the message in it.
async fn next_pushed(client: &mut Client) -> String {
    let frame = match within(client.next()).await.expect("a frame").expect("no error") {
        Message::Binary(frame) => frame,
        other => panic!("expected a frame, got {other:?}"),
    };
    let response = Wire::default().read_response(&frame, 1 << 20).unwrap();
    assert_eq!(response.id, id::PUSH);
    String::from_utf8(content(response.data).expect("an envelope").into()).unwrap()
}

/// In a fleet that serves both kinds of clients each gets a message as it understands it, whichever way it comes in. For
/// whoever has a browser only, OpenIM wants a notification beside it.
#[tokio::test]
async fn clients_of_both_kinds_are_pushed_what_they_understand() {
    let fleet = Fleet::start(29, 2, &[1, 2]).await;
    let webhook = Webhook::start(&[200]).await;
    let front = TestFront::start(&fleet.ring, fleet.node(1).pushes, webhook.address).await;
    // One of each kind at either node; those of the second are reached over a link.
    let (mut users, mut plain, mut openim) = (Vec::new(), Vec::new(), Vec::new());
    for (number, platform) in [(1, Platform::Web), (2, Platform::Ios)] {
        let node = fleet.node(number);
        let user = user_where(owned(&fleet.ring, number));
        plain.push(node.connect(&user).await);
        openim.push(node.log_in(&user, platform).await);
        users.push(user);
    }
    for (to, name) in [(fleet.node(1).rpc, "through-a-node"), (front.rpc, "through-the-front")] {
        let channel = tonic::transport::Endpoint::new(format!("http://{to}")).unwrap().connect_lazy();
        let message = MsgData {
            send_id: "somebody".into(),
            server_msg_id: format!("s-{name}"),
            content: name.to_owned().into(),
            session_type: 1,
            ..MsgData::default()
        };
        let push = OnlineBatchPushOneMsgReq { msg_data: Some(message), push_to_user_i_ds: users.clone() };
        let mut request = Caller::service("op").request(push);
        request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        let mut gateway = MsgGatewayClient::new(channel);
        let pushed = gateway.super_group_online_batch_push_one_msg(request);
        let results = within(pushed).await.unwrap().into_inner().single_push_result;
        let online: Vec<_> = results.iter().map(|one| (one.resp.len(), one.online_push)).collect();
        assert_eq!(online, [(2, false), (2, true)], "{name}: a browser is no phone");
        for client in &mut plain {
            assert_eq!(next(client).await, name);
        }
        for client in &mut openim {
            assert_eq!(next_pushed(client).await, name);
        }
    }
    front.stop.send(()).unwrap();
    within(front.task).await.unwrap();
    assert!(webhook.calls.is_empty(), "nobody was offline");
    webhook.task.abort();
}

/// B is nowhere: the webhook is told, once, and B finds the message when it comes.
#[tokio::test]
async fn a_message_for_somebody_offline_is_told_to_the_webhook_and_kept() {
    let fleet = Fleet::start(30, 2, &[1, 2]).await;
    let mut webhook = Webhook::start(&[200]).await;
    let front = TestFront::start(&fleet.ring, fleet.node(1).pushes, webhook.address).await;
    let service = MessageService::start(front.rpc).await;
    // The sender's other devices are pushed what it says, too, and it is there.
    let a = user_where(owned(&fleet.ring, 2));
    let mut sender = fleet.node(2).connect(&a).await;
    service.send(&a, "b", "m1", "for later").await;
    let told = |body: &Value| (body["users"].clone(), body["text"].clone());
    assert_eq!(told(&webhook.call().await.1), (json!(["b"]), json!("for later")));
    // The sender was not sure whether it had been heard. The service knows the message.
    service.send(&a, "b", "m1", "for later").await;
    // The next call is that of the next message.
    service.send(&a, "b", "m2", "another").await;
    assert_eq!(told(&webhook.call().await.1), (json!(["b"]), json!("another")));
    let kept = service.pull("b", &format!("si_b_{a}")).await;
    let kept: Vec<_> = kept.iter().map(|one| (one.seq, &one.content[..])).collect();
    assert_eq!(kept, [(1, &b"for later"[..]), (2, b"another")]);
    assert_eq!((next(&mut sender).await, next(&mut sender).await), ("for later".to_owned(), "another".to_owned()));
    front.stop.send(()).unwrap();
    within(front.task).await.unwrap();
    assert!(webhook.calls.is_empty(), "it is told once a message");
    webhook.task.abort();
}

#[tokio::test]
async fn the_front_calls_nobody_offline_whom_it_cannot_ask_for() {
    let fleet = Fleet::start(28, 2, &[1, 2]).await;
    let mut webhook = Webhook::start(&[200]).await;
    // Nobody listens there.
    let nowhere = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let front = TestFront::start(&fleet.ring, nowhere, webhook.address).await;
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let user = user_where(owned(&fleet.ring, 2));
    let (status, answer) = front.push(&token, &json!({ "id": "m-1", "users": [user], "text": "hi" })).await;
    assert_eq!((status, statuses(&answer)), (200, vec!["unknown"]));
    // The service comes back while the next push is being tried.
    let message = json!({ "id": "m-1", "users": [user], "text": "hi" });
    let pushing = front.push(&token, &message);
    let publishing = async {
        let before = front.publish.borrow().clone().unwrap();
        let mut next = (*before).clone();
        next.services.iter_mut().for_each(|service| service.address = fleet.node(1).pushes);
        front.publish.send_replace(Some(Arc::new(next)));
    };
    let ((_, answer), ()) = tokio::join!(pushing, publishing);
    assert_eq!(statuses(&answer), ["offline"]);
    let (_, body) = webhook.call().await;
    assert_eq!(body["users"], json!([user]));
    assert!(webhook.calls.is_empty(), "it is told once, and not of what nobody knew");
    webhook.task.abort();
}
