//! The gateway on loopback, with a real control socket beside it and clients that are not ours.

mod autobahn;
mod moving;
mod openim;

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _, future::BoxFuture};
use ringsteer::{
    config::{Config, Overrides, Service},
    control::{self, Answers, Desk, Follower, Gateways, Publication, Request, Served},
    gateway::{Gateway, Limits, moving::Sessions},
    ring::{Epoch, MemberNumber, Ring},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        self, Message,
        protocol::{
            CloseFrame,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

/// One node of three; its services take whatever ports are free.
const CONFIG: &str = r#"
    [node]
    name = "node-1"
    identity = "gateway-1.example:88"
    interfaces = ["eth0"]

    [secrets]
    current = "000102030405060708090a0b0c0d0e0f"

    [ring]
    epoch = 1
    members = [
        { number = 1, identity = "gateway-1.example:88", address = "198.51.100.1" },
        { number = 2, identity = "gateway-2.example:88", address = "198.51.100.2" },
        { number = 3, identity = "gateway-3.example:88", address = "198.51.100.3" },
    ]

    [[services]]
    name = "clients"
    address = "127.0.0.1:10001"
    parameter = "sendID"
    serve = "websocket"

    [[services]]
    name = "pushes"
    address = "127.0.0.1:10002"
    parameter = "recvID"
    serve = "push"

    [push]
    insecure_no_auth = true

    [[services]]
    name = "not-ours"
    address = "127.0.0.1:10003"
"#;

fn config() -> Config {
    let mut config = Config::parse(CONFIG, &Overrides::default()).unwrap();
    for service in &mut config.services {
        service.address.set_port(0);
    }
    config
}

fn node(number: u16) -> MemberNumber {
    MemberNumber::new(number).unwrap()
}

/// The first of `user-0`, `user-1`, … that the member of that number owns.
fn user_of(ring: &Ring, number: u16) -> String {
    (0..).map(|index| format!("user-{index}")).find(|user| ring.owner(user.as_bytes()).number == node(number)).unwrap()
}

/// An agent's control socket.
struct Agent {
    publish: watch::Sender<Option<Arc<Publication>>>,
    gateways: Arc<Gateways>,
    task: JoinHandle<()>,
}

/// A gateway asks its agent nothing.
struct NoDesk;

impl Desk for NoDesk {
    fn answer(self: Arc<Self>, request: Request, _: Answers) -> BoxFuture<'static, ()> {
        unreachable!("a gateway asks for nothing: {request:?}")
    }
}

impl Agent {
    fn start(config: &Config) -> Self {
        let publish = watch::Sender::new(Some(publication(config.ring().unwrap(), config.services.clone())));
        let listener = control::listen(&config.node.socket).unwrap();
        let gateways = Arc::new(Gateways::default());
        let served =
            Served { publications: publish.subscribe(), desk: Arc::new(NoDesk), gateways: Arc::clone(&gateways) };
        let task = tokio::spawn(control::serve(listener, served, std::future::pending()));
        Self { publish, gateways, task }
    }
}

fn publication(ring: &Ring, services: Vec<Service>) -> Arc<Publication> {
    Arc::new(Publication::new(Some(node(1)), ring, None, services))
}

/// A gateway that runs, and what a test needs around it.
struct Node {
    config: Config,
    agent: Option<Agent>,
    follower: Follower,
    clients: std::net::SocketAddr,
    pushes: std::net::SocketAddr,
    sessions: Sessions,
    stop: oneshot::Sender<()>,
    gateway: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Node {
    /// A node in its usual state.
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A node with other limits.
    async fn start_with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut node = Self::start_without_agent(change);
        node.start_agent().await;
        node
    }

    fn start_without_agent(change: impl FnOnce(&mut Limits)) -> Self {
        Self::of(config(), change)
    }

    fn of(mut config: Config, change: impl FnOnce(&mut Limits)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        config.node.socket = directory.path().join("agent.sock");
        let follower = Follower::prepare(&config.node.socket);
        let mut limits = Limits::of(&config);
        // The other members do not exist, and never follow.
        limits.brought_timeout = Duration::ZERO;
        change(&mut limits);
        let gateway = Gateway::bind(&config, limits, follower.published()).unwrap();
        let follower = follower.attach(gateway.reporter());
        let [(clients_name, clients), (pushes_name, pushes)] = gateway.addresses().collect::<Vec<_>>()[..] else {
            panic!("two services are ours")
        };
        assert_eq!((clients_name, pushes_name), ("clients", "pushes"));
        let sessions = gateway.sessions();
        let (stop, stopped) = oneshot::channel();
        let gateway = tokio::spawn(gateway.serve(async { stopped.await.unwrap_or(()) }));
        Self { config, agent: None, follower, clients, pushes, sessions, stop, gateway, _directory: directory }
    }

    async fn start_agent(&mut self) {
        self.agent = Some(Agent::start(&self.config));
        self.follower.first().await;
    }

    fn our_user(&self) -> String {
        user_of(self.config.ring().unwrap(), 1)
    }

    async fn connect(&self, user: &str) -> Client {
        connect_async(format!("ws://{}/?sendID={user}", self.clients)).await.unwrap().0
    }

    /// The response to a websocket handshake that is refused.
    async fn refused(&self, user: &str) -> tungstenite::http::Response<Option<Vec<u8>>> {
        match connect_async(format!("ws://{}/?sendID={user}", self.clients)).await {
            Err(tungstenite::Error::Http(response)) => *response,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    async fn push(&self, user: &str, content_type: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST /push?recvID={user} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        exchange(self.pushes, &[head.as_bytes(), body].concat()).await
    }

    async fn delivered(&self, user: &str, text: &str) -> u64 {
        let answer = self.push(user, "text/plain", text.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["delivered"].as_u64().unwrap()
    }
}

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The next message; a test that waits longer than this for it fails.
async fn next(client: &mut Client) -> Message {
    within(client.next()).await.expect("a message").expect("no error")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

fn close_of(message: Message) -> (u16, String) {
    match message {
        Message::Close(Some(CloseFrame { code, reason })) => (code.into(), reason.as_str().to_owned()),
        other => panic!("expected a close frame, got {other:?}"),
    }
}

/// An HTTP response.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

/// Sends bytes, and reads the one response until the server ends the connection.
async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    parse_answer(&String::from_utf8(bytes).unwrap())
}

fn parse_answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response in {text:?}"));
    let length = format!("Content-Length: {}", body.len());
    assert!(head.contains(&length), "{head} should say {length}");
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap(),
    }
}

#[tokio::test]
async fn a_session_from_its_handshake_to_its_close() {
    let node = Node::start().await;
    let mut client = node.connect(&node.our_user()).await;

    let large = "κ".repeat(25_600);
    for message in [Message::text("hello"), Message::text(""), Message::binary(vec![0, 255, 7]), Message::text(large)] {
        client.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut client).await, message);
    }

    // Three fragments with a ping between them: the pong does not wait, and the echo is one message.
    let fragment = |text: &'static str, data, fin| Message::Frame(Frame::message(text, OpCode::Data(data), fin));
    client.send(fragment("one ", Data::Text, false)).await.unwrap();
    client.send(fragment("two ", Data::Continue, false)).await.unwrap();
    client.send(Message::Ping("alive?".into())).await.unwrap();
    client.send(fragment("three", Data::Continue, true)).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Pong("alive?".into()));
    assert_eq!(next(&mut client).await, Message::text("one two three"));

    client.close(Some(CloseFrame { code: 3001.into(), reason: "bye".into() })).await.unwrap();
    assert_eq!(close_of(next(&mut client).await), (3001, String::new()));
    assert!(within(client.next()).await.is_none(), "the connection ends without an error");
    assert_eq!(node.delivered(&node.our_user(), "too late").await, 0);
}

#[tokio::test]
async fn a_violation_is_answered_with_its_code() {
    let node = Node::start().await;
    for (message, code) in [
        (Message::binary(vec![0; 51_201]), 1009),
        (Message::Frame(Frame::message(vec![0xff], OpCode::Data(Data::Text), true)), 1007),
        (Message::Frame(Frame::message("x", OpCode::Data(Data::Continue), true)), 1002),
    ] {
        let mut client = node.connect(&node.our_user()).await;
        client.send(message).await.unwrap();
        assert_eq!(close_of(next(&mut client).await).0, code);
        assert_eq!(node.delivered(&node.our_user(), "too late").await, 0);
    }
}

#[tokio::test]
async fn a_push_reaches_every_session_of_its_user_and_nobody_else() {
    let node = Node::start().await;
    let ring = node.config.ring().unwrap();
    let user = node.our_user();
    let other =
        (0..).map(|i| format!("other-{i}")).find(|other| ring.owner(other.as_bytes()).number.get() == 1).unwrap();
    let mut phone = node.connect(&user).await;
    let mut desktop = node.connect(&user).await;
    let mut stranger = node.connect(&other).await;

    let answer = node.push(&user, "text/plain; charset=utf-8", "héllo".as_bytes()).await;
    assert_eq!(answer.status, 200);
    let expected = json!({
        "user": user, "status": "delivered", "delivered": 2, "platforms": [0, 0], "node": "node-1",
        "owner": "gateway-1.example:88", "forwarded": false,
    });
    assert_eq!(answer.body, expected);
    for client in [&mut phone, &mut desktop] {
        assert_eq!(next(client).await, Message::text("héllo"));
    }

    assert_eq!(node.push(&user, "application/octet-stream", b"\x00\xff").await.body["delivered"], 2);
    assert_eq!(node.push(&user, "text/plain", b"\xff").await.body["delivered"], 2);
    assert_eq!(node.push(&user, "application/json", b"{}").await.body["delivered"], 2);
    for client in [&mut phone, &mut desktop] {
        assert_eq!(next(client).await, Message::binary(vec![0, 255]));
        assert_eq!(next(client).await, Message::binary(vec![255]));
        assert_eq!(next(client).await, Message::text("{}"));
    }

    // Nothing but their own came to the others.
    assert_eq!(node.delivered(&other, "yours").await, 1);
    assert_eq!(next(&mut stranger).await, Message::text("yours"));

    phone.close(None).await.unwrap();
    assert_eq!(next(&mut phone).await, Message::Close(None));
    assert_eq!(node.delivered(&user, "to one").await, 1);
    // A client that vanishes without a word is noticed by its end of stream.
    drop(desktop);
    let mut delivered = 1;
    for _ in 0..1000 {
        delivered = node.delivered(&user, "anybody?").await;
        if delivered == 0 {
            break;
        }
    }
    assert_eq!(delivered, 0);
}

#[tokio::test]
async fn user_ids_are_read_as_go_reads_them() {
    let node = Node::start().await;
    let ring = node.config.ring().unwrap();
    let user =
        (0..).map(|i| format!("用户 +{i}#&")).find(|user| ring.owner(user.as_bytes()).number.get() == 1).unwrap();
    let escaped: String = user.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut client = node.connect(&format!("{escaped}&sendID=other")).await;
    // The same user in another spelling: raw UTF-8, `+` for the space, and a bare `#`.
    let spelling = user.replace('+', "%2B").replace(' ', "+").replace('&', "%26");
    let answer = node.push(&spelling, "text/plain", b"hi").await;
    assert_eq!((&answer.body["user"], &answer.body["delivered"]), (&json!(user), &json!(1)));
    assert_eq!(next(&mut client).await, Message::text("hi"));
}

#[tokio::test]
async fn a_handshake_may_arrive_in_any_pieces() {
    let node = Node::start().await;
    let request = format!(
        "GET /?sendID={} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        node.our_user()
    );
    // "hi", masked with zeros; the client does not even wait for the 101.
    let bytes = [request.as_bytes(), b"\x81\x82\0\0\0\0hi"].concat();
    let mut stream = TcpStream::connect(node.clients).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = vec![0; 4096];
    let mut length = 0;
    while !answer[..length].ends_with(b"\r\n\r\n\x81\x02hi") {
        let read = within(stream.read(&mut answer[length..])).await.unwrap();
        assert!(read > 0, "ended after {:?}", answer[..length].escape_ascii().to_string());
        length += read;
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
}

#[tokio::test]
async fn another_nodes_user_is_sent_away_with_the_owners_name() {
    let node = Node::start().await;
    let user = user_of(node.config.ring().unwrap(), 3);

    let response = node.refused(&user).await;
    assert_eq!(response.status(), 421);
    assert_eq!(response.headers()["Ringsteer-Owner"], "gateway-3.example:88");
    let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
    assert_eq!((&body["user"], &body["owner"]), (&json!(user), &json!("gateway-3.example:88")));

    // A push would go on to the owner, unless the pusher does not want that.
    let push = format!(
        "POST /push?recvID={user} HTTP/1.1\r\nRingsteer-Forward: no\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    );
    let answer = exchange(node.pushes, push.as_bytes()).await;
    assert_eq!(answer.status, 421);
    assert!(answer.head.contains("\r\nRingsteer-Owner: gateway-3.example:88\r\n"), "{}", answer.head);
    assert_eq!((&answer.body["user"], &answer.body["owner"]), (&json!(user), &json!("gateway-3.example:88")));
}

#[tokio::test]
async fn a_wrong_request_is_told_what_is_wrong() {
    let node = Node::start().await;
    let user = node.our_user();
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let long = "x".repeat(20_000);
    let clients = [
        (400, format!("GET / HTTP/1.1\r\n{upgrade}\r\n"), "sendID"),
        (400, format!("GET /?sendID= HTTP/1.1\r\n{upgrade}\r\n"), "sendID"),
        (400, format!("GET /?sendID=&sendID={user} HTTP/1.1\r\n{upgrade}\r\n"), "sendID"),
        (400, format!("GET /?sendID=a\x01b HTTP/1.1\r\n{upgrade}\r\n"), "control"),
        (400, "\x16\x03\x01\x02".to_owned(), "request line"),
        (405, format!("POST /?sendID={user} HTTP/1.1\r\n{upgrade}\r\n"), "GET"),
        (426, format!("GET /?sendID={user} HTTP/1.1\r\n\r\n"), "Upgrade"),
        (426, format!("GET /?sendID={user} HTTP/1.1\r\n{}\r\n", upgrade.replace("13", "8")), "13"),
        (431, format!("GET /?sendID={user} HTTP/1.1\r\nA: {long}\r\n\r\n"), "16384"),
        (505, format!("GET /?sendID={user} HTTP/2.0\r\n\r\n"), "HTTP/1.1"),
    ];
    let pushes = [
        (400, "POST /push HTTP/1.1\r\n\r\n".to_owned(), "recvID"),
        (400, format!("POST /push?sendID={user} HTTP/1.1\r\n\r\n"), "recvID"),
        (400, format!("POST /push?recvID={user} HTTP/1.1\r\nContent-Length: x\r\n\r\n"), "length"),
        (404, format!("POST /?recvID={user} HTTP/1.1\r\n\r\n"), "/push"),
        (405, format!("GET /push?recvID={user} HTTP/1.1\r\n\r\n"), "POST"),
        (413, format!("POST /push?recvID={user} HTTP/1.1\r\nContent-Length: 262145\r\n\r\nmore to come"), "262144"),
        (501, format!("POST /push?recvID={user} HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"), "chunked"),
    ];
    let clients = clients.into_iter().map(|case| (node.clients, case));
    let pushes = pushes.into_iter().map(|case| (node.pushes, case));
    for (address, (status, request, hint)) in clients.chain(pushes) {
        let answer = exchange(address, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{request:.100}: {answer:?}");
        assert!(answer.body["error"].as_str().unwrap().contains(hint), "{request:.100}: {answer:?}");
    }
    let answer = exchange(node.clients, b"POST / HTTP/1.1\r\n\r\n").await;
    assert!(answer.head.contains("\r\nAllow: GET\r\n"), "{}", answer.head);
    assert_eq!(node.delivered(&user, "nobody was let in").await, 0);
}

#[tokio::test]
async fn one_connection_carries_many_pushes() {
    let node = Node::start().await;
    let user = node.our_user();
    let mut client = node.connect(&user).await;
    let mut pusher = TcpStream::connect(node.pushes).await.unwrap();
    let requests = [
        "Content-Length: 5\r\n\r\nfirst",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3\r\nond\r\n0\r\n\r\n",
        "Connection: close\r\nContent-Length: 5\r\n\r\nthird",
    ];
    let requests: Vec<String> = requests
        .iter()
        .map(|rest| format!("POST /push?recvID={user} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n{rest}"))
        .collect();
    // The first alone, the others at once: pipelined.
    pusher.write_all(requests[0].as_bytes()).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("first"));
    pusher.write_all(requests[1..].concat().as_bytes()).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("second"));
    assert_eq!(next(&mut client).await, Message::text("third"));
    let mut answers = String::new();
    within(pusher.read_to_string(&mut answers)).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answers}");
    assert_eq!(answers.matches("\"delivered\":1").count(), 3, "{answers}");
}

#[tokio::test]
async fn a_pusher_that_asks_first_is_told_to_go_on() {
    let node = Node::start().await;
    let mut pusher = TcpStream::connect(node.pushes).await.unwrap();
    let head = format!(
        "POST /push?recvID={} HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        node.our_user()
    );
    pusher.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    within(pusher.read_exact(&mut go_on)).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    pusher.write_all(b"hi").await.unwrap();
    let mut answer = String::new();
    within(pusher.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(parse_answer(&answer).status, 200);
}

#[tokio::test]
async fn without_a_ring_nobody_is_let_in_and_without_an_agent_the_last_one_stays() {
    let mut node = Node::start_without_agent(|_| {});
    let user = node.our_user();
    let response = node.refused(&user).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["Retry-After"], "1");
    assert_eq!(node.push(&user, "text/plain", b"hi").await.status, 503);

    node.start_agent().await;
    let mut client = node.connect(&user).await;

    let agent = node.agent.take().unwrap();
    agent.task.abort();
    assert!(agent.task.await.unwrap_err().is_cancelled());
    assert_eq!(node.delivered(&user, "still here").await, 1);
    assert_eq!(next(&mut client).await, Message::text("still here"));
    node.connect(&user).await;
}

#[tokio::test]
async fn a_new_ring_is_followed() {
    let node = Node::start().await;
    let old = node.config.ring().unwrap();
    // The same members without the third: some of its users are ours now.
    let members = old.members().iter().filter(|member| member.number.get() != 3).cloned().collect();
    let new = Ring::new(Epoch(2), old.algorithm(), members).unwrap();
    let user = (0..)
        .map(|index| format!("user-{index}"))
        .find(|user| old.owner(user.as_bytes()).number.get() == 3 && new.owner(user.as_bytes()).number.get() == 1)
        .unwrap();
    assert_eq!(node.refused(&user).await.status(), 421);

    let mut published = node.follower.published();
    let agent = node.agent.as_ref().unwrap();
    let mut following = agent.gateways.following();
    within(following.wait_for(|name| *name == Some(old.name()))).await.unwrap();
    agent.publish.send_replace(Some(publication(&new, vec![])));
    within(following.wait_for(|name| *name == Some(new.name()))).await.unwrap();
    let in_force =
        |epoch| move |p: &Option<Arc<control::Published>>| p.as_ref().is_some_and(|p| p.ring.epoch() == epoch);
    within(published.wait_for(in_force(Epoch(2)))).await.unwrap();
    let mut client = node.connect(&user).await;
    assert_eq!(node.delivered(&user, "welcome").await, 1);
    assert_eq!(next(&mut client).await, Message::text("welcome"));
}

#[tokio::test]
async fn the_agent_can_ask_where_a_user_is() {
    let mut node = Node::start().await;
    let user = node.our_user();
    let client = node.connect(&user).await;
    let MaybeTlsStream::Plain(stream) = client.get_ref() else { unreachable!("no TLS here") };
    let address = stream.local_addr().unwrap();
    let agent = node.agent.as_ref().unwrap();
    let mut following = agent.gateways.following();
    within(following.wait_for(Option::is_some)).await.unwrap();

    let sessions = within(agent.gateways.sessions(&user)).await.unwrap();
    assert_eq!(sessions.iter().map(|session| (session.client, session.queued)).collect::<Vec<_>>(), [(address, 0)]);
    assert_eq!(within(agent.gateways.sessions("nobody")).await.unwrap(), []);
    let report = within(async {
        loop {
            // It reports every second, too.
            let reports = agent.gateways.reports();
            if reports[0].report.sessions == 1 {
                break reports;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!((report.len(), report[0].pid, report[0].report.users), (1, std::process::id(), 1));

    // A gateway that goes is forgotten, and says nothing any more.
    let agent = node.agent.take().unwrap();
    drop(node.follower);
    within(following.wait_for(Option::is_none)).await.unwrap();
    assert_eq!(agent.gateways.sessions(&user).await.unwrap_err(), "no gateway is attached to the agent of this node");
    agent.task.abort();
}

#[tokio::test]
async fn a_silent_client_is_let_go_and_a_live_one_is_not() {
    let node = Node::start_with(|limits| limits.idle_timeout = Duration::from_millis(500)).await;
    let user = node.our_user();
    let mut silent = node.connect(&user).await;
    let mut live = node.connect(&user).await;
    let goodbye = tokio::spawn(async move { (next(&mut silent).await, silent) });
    // Four times as long as a silent one may live.
    for _ in 0..20 {
        live.send(Message::Ping("".into())).await.unwrap();
        assert_eq!(next(&mut live).await, Message::Pong("".into()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Having been told, it is no session any more, whether it answers or not.
    let (message, _unanswered) = goodbye.await.unwrap();
    assert_eq!(close_of(message).0, 1008);
    assert_eq!(node.delivered(&user, "you").await, 1);
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up() {
    let node = Node::start_with(|limits| {
        limits.head_timeout = Duration::from_millis(200);
        limits.body_timeout = Duration::from_millis(200);
    })
    .await;
    assert_eq!(exchange(node.clients, b"GET /?sendID=").await.status, 408);
    let head = format!("POST /push?recvID={} HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf", node.our_user());
    assert_eq!(exchange(node.pushes, head.as_bytes()).await.status, 408);
    // Who says nothing at all is told nothing.
    let mut stream = TcpStream::connect(node.clients).await.unwrap();
    assert_eq!(within(stream.read(&mut [0; 9])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_listen_is_closed_and_gets_what_it_was_promised() {
    let node = Node::start().await;
    let user = node.our_user();
    let mut client = node.connect(&user).await;
    let body = "x".repeat(200_000);
    let mut delivered = 0;
    // What fits into both sockets' buffers and the queue is delivered; then the client has had its chance.
    while node.delivered(&user, &format!("{delivered} {body}")).await == 1 {
        delivered += 1;
        assert!(delivered < 1000, "the queue has no end");
    }
    assert!(delivered >= 5, "the queue alone holds five");
    for number in 0..delivered {
        assert_eq!(next(&mut client).await, Message::text(format!("{number} {body}")));
    }
    assert_eq!(close_of(next(&mut client).await).0, 1013);
}

#[tokio::test]
async fn a_gateway_that_stops_says_goodbye() {
    let node = Node::start().await;
    let user = node.our_user();
    let mut client = node.connect(&user).await;
    let pusher = TcpStream::connect(node.pushes).await.unwrap();
    node.stop.send(()).unwrap();
    assert_eq!(close_of(next(&mut client).await).0, 1012);
    assert!(within(client.next()).await.is_none(), "the connection ends without an error");
    drop(pusher);
    within(node.gateway).await.unwrap();
    let refused = TcpStream::connect(node.clients).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn stopping_waits_for_nobody_for_ever() {
    let node = Node::start_with(|limits| limits.stop_timeout = Duration::from_millis(200)).await;
    // This client never answers the goodbye.
    let client = node.connect(&node.our_user()).await;
    node.stop.send(()).unwrap();
    within(node.gateway).await.unwrap();
    drop(client);
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named() {
    let node = Node::start().await;
    let bind = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Gateway::bind(&config, Limits::of(&config), node.follower.published()).unwrap_err().to_string()
    };
    let clients = node.clients;
    assert_eq!(
        bind(&|config| config.services[0].address = clients),
        format!("service clients: another program listens on {clients}; stop it, or choose another port")
    );
    assert_eq!(
        bind(&|config| config.services[0].address = "192.0.2.1:10001".parse().unwrap()),
        "service clients: this host does not have the address 192.0.2.1; add it with `ip address add 192.0.2.1/32 dev lo`"
    );
    assert_eq!(
        bind(&|config| config.services.truncate(0)),
        "no service is served by this gateway; give one of them `serve = \"websocket\"` or `serve = \"push\"`"
    );
}
