//! OpenIM's clients at the gateway, with the real message service behind it.

use std::time::SystemTime;

use bytes::Bytes;
use prost::Message as _;
use ringsteer::config::{OpenIm, Serve};
use ringsteer_msg::{
    book::Limits as MsgLimits,
    counters::Counters,
    service::Service as MsgService,
    store::Store,
    writer::{Fsync, Writer},
};
use ringsteer_openim::{
    frame::{Request, Response, Wire, id},
    login::{Compression, Encoding},
    platform::Platform,
    policy::Policy,
    token::{Claims, Keys},
};
use ringsteer_openim_rpc::{
    msg::SendMsgResp,
    sdkws::{
        GetMaxSeqReq, GetMaxSeqResp, MsgData, SetAppBackgroundStatusReq, SubUserOnlineStatus, SubUserOnlineStatusTips,
    },
};
use tokio::net::TcpListener;

use super::*;

const SECRET: &str = "openIM123";

/// A node for OpenIM's clients.
struct Im {
    node: Node,
    _directory: tempfile::TempDir,
}

/// A client that has logged in.
struct User {
    name: String,
    wire: Wire,
    client: Client,
    requests: u32,
}

/// The message service, in a directory of its own.
async fn message_service(directory: &std::path::Path) -> std::net::SocketAddr {
    let store = Store::open(&directory.join("msg")).unwrap();
    let limits = MsgLimits::default();
    let (writer, _thread) =
        Writer::start(store.clone(), limits, Fsync::Always, Arc::new(Counters::default()), Box::new(drop)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        MsgService::new(store, writer, limits, Some("of-the-service")).serve(listener, std::future::pending()),
    );
    address
}

impl Im {
    async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut OpenIm, &mut Limits)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = message_service(directory.path()).await;
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut openim = OpenIm {
            token_secret_files: vec![file("new", "another\n"), file("old", SECRET)],
            token_leeway: Duration::ZERO,
            login_policy: Policy::OneAPlatform,
            msg_service: Some(format!("http://{address}")),
            msg_token_file: Some(file("token", "of-the-service\n")),
            msg_timeout: Duration::from_secs(10),
            msg_in_flight: 10,
        };
        let mut config = config();
        let mut limits = Limits::of(&config);
        limits.brought_timeout = Duration::ZERO;
        change(&mut openim, &mut limits);
        config.services[0].serve = Serve::OpenIm;
        config.openim = Some(openim);
        let mut node = Node::of(config, |set| *set = limits);
        node.start_agent().await;
        Self { node, _directory: directory }
    }

    /// The request of a client with that token.
    fn query(&self, user: &str, platform: Platform, token: &str, more: &str) -> String {
        let platform = platform.number();
        format!(
            "ws://{}/?sendID={user}&token={token}&platformID={platform}&operationID=op&isBackground=false{more}",
            self.node.clients
        )
    }

    async fn log_in(&self, name: &str, platform: Platform, token: &str, wire: Wire) -> User {
        let more = match (wire.encoding, wire.compression) {
            (Encoding::Gob, Compression::None) => "",
            (Encoding::Gob, Compression::Gzip) => "&compression=gzip",
            (Encoding::Json, Compression::None) => "&sdkType=js",
            (Encoding::Json, Compression::Gzip) => "&sdkType=js&compression=gzip",
        };
        let client = connect_async(self.query(name, platform, token, more)).await.unwrap().0;
        User { name: name.to_owned(), wire, client, requests: 0 }
    }

    /// Users of this node.
    fn users(&self, count: usize) -> Vec<String> {
        let ring = self.node.config.ring().unwrap();
        let ours = (0..).map(|i| format!("u{i}")).filter(|user| ring.owner(user.as_bytes()).number == node(1));
        ours.take(count).collect()
    }

    /// What is answered to a request that is not upgraded.
    async fn refused(&self, query: &str) -> Value {
        match connect_async(query).await {
            Err(tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 200);
                serde_json::from_slice(response.body().as_ref().unwrap()).unwrap()
            }
            other => panic!("expected an error in JSON, got {other:?}"),
        }
    }
}

fn token(user: &str, platform: Platform, lifetime_s: i64) -> String {
    signed(SECRET, user, platform, lifetime_s)
}

fn signed(secret: &str, user: &str, platform: Platform, lifetime_s: i64) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let keys = Keys::new([secret.as_bytes().to_vec()], Duration::ZERO).unwrap();
    keys.sign(&Claims { user: user.to_owned(), platform, expires: now + lifetime_s }, now - 100)
}

impl User {
    async fn ask(&mut self, id: i32, data: impl prost::Message) {
        self.requests += 1;
        let request = Request {
            id,
            send_id: self.name.clone(),
            operation_id: "op".into(),
            msg_incr: self.requests.to_string(),
            data: data.encode_to_vec().into(),
            ..Request::default()
        };
        self.client.send(Message::Binary(self.wire.write_request(&request))).await.unwrap();
    }

    async fn next(&mut self) -> Response {
        match next(&mut self.client).await {
            Message::Binary(frame) => self.wire.read_response(&frame, 1 << 20).unwrap(),
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    /// The answer to the last request, without an error.
    async fn answer<T: prost::Message + Default>(&mut self) -> T {
        let response = self.next().await;
        assert_eq!(
            (response.msg_incr, response.err_code, response.err_msg),
            (self.requests.to_string(), 0, String::new())
        );
        T::decode(response.data).unwrap()
    }

    /// The connection ends, without a close frame.
    async fn is_cut(&mut self) {
        let end = within(self.client.next()).await;
        assert!(matches!(end, None | Some(Err(_))), "{end:?}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_in_the_way_it_reads() {
    let im = Im::start().await;
    let [user, other] = &im.users(2)[..] else { unreachable!() };
    let web = Platform::Web;
    let good = token(user, web, 100);
    for (query, code) in [
        (im.query(user, web, &token(user, web, -1), ""), 1501),
        (im.query(user, web, &token(other, web, 100), ""), 1502),
        (im.query(user, Platform::Ios, &good, ""), 1502),
        (im.query(user, web, "x.y", ""), 1503),
        (im.query(user, web, &signed("nobody's", user, web, 100), ""), 1505),
        (im.query(user, web, "", ""), 1602),
        (im.query(user, web, &good, "&sdkType=basic"), 1602),
    ] {
        assert_eq!(im.refused(&query).await["errCode"], code, "{query}");
        // A browser is not shown the body of such an answer; it is told in a frame.
        let mut client = connect_async(format!("{query}&isMsgResp=true")).await.unwrap().0;
        let text = next(&mut client).await.into_text().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["errCode"], code, "{query}");
        assert_eq!(close_of(next(&mut client).await).0, 1000);
        assert!(within(client.next()).await.is_none());
    }
    assert!(im.node.sessions.of(user.as_bytes()).is_empty());

    let mut client = connect_async(im.query(user, web, &good, "&isMsgResp=true")).await.unwrap().0;
    assert_eq!(next(&mut client).await, Message::text(r#"{"errCode":0,"errMsg":"","errDlt":""}"#));

    // Another node's user is neither let in nor told anything about its token.
    let foreign = user_of(im.node.config.ring().unwrap(), 3);
    match connect_async(im.query(&foreign, web, "x", "&isMsgResp=true")).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 421),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_are_stored_by_the_service_and_pushed_in_every_encoding() {
    let im = Im::start().await;
    for (user, wire) in im.users(4).iter().zip(Wire::ALL) {
        let mut alice = im.log_in(user, Platform::Ios, &token(user, Platform::Ios, 100), wire).await;
        let message = MsgData {
            send_id: user.clone(),
            recv_id: "bob".into(),
            client_msg_id: "m1".into(),
            session_type: 1,
            content_type: 101,
            content: Bytes::from_static(b"{\"content\":\"hi\"}"),
            ..MsgData::default()
        };
        alice.ask(id::SEND, message).await;
        let sent: SendMsgResp = alice.answer().await;
        assert_eq!(sent.client_msg_id, "m1");
        alice.ask(id::NEWEST_SEQS, GetMaxSeqReq { user_id: user.clone() }).await;
        let newest: GetMaxSeqResp = alice.answer().await;
        let mut pair = [user.as_str(), "bob"];
        pair.sort_unstable();
        assert_eq!(newest.max_seqs, [(format!("si_{}_{}", pair[0], pair[1]), 1)].into());

        // What is not its own is refused by number, and the session goes on.
        alice.ask(id::NEWEST_SEQS, GetMaxSeqReq { user_id: "bob".into() }).await;
        assert_eq!(alice.next().await.err_code, 1002);
        alice.ask(id::SIGNAL, GetMaxSeqReq::default()).await;
        assert_eq!(alice.next().await.err_code, 1001);

        assert_eq!(im.node.push(user, "application/octet-stream", b"pushed").await.body["delivered"], 1);
        let pushed = alice.next().await;
        assert_eq!((pushed.id, &pushed.data[..]), (id::PUSH, &b"pushed"[..]));
    }
}

#[tokio::test]
async fn without_the_service_there_is_an_error_and_the_session_goes_on() {
    let im = Im::start_with(|openim, _| openim.msg_service = Some("http://127.0.0.1:9".into())).await;
    let user = &im.users(1)[0];
    let mut alice = im.log_in(user, Platform::Ios, &token(user, Platform::Ios, 100), Wire::default()).await;
    for _ in 0..3 {
        alice.ask(id::NEWEST_SEQS, GetMaxSeqReq::default()).await;
        assert_eq!(alice.next().await.err_code, 500);
    }
}

#[tokio::test]
async fn another_login_ends_the_first_one_for_good() {
    let im = Im::start().await;
    let user = &im.users(1)[0];
    let (first, second) = (token(user, Platform::Ios, 100), token(user, Platform::Ios, 101));
    let mut phone = im.log_in(user, Platform::Ios, &first, Wire::default()).await;
    let mut web = im.log_in(user, Platform::Web, &token(user, Platform::Web, 100), Wire::default()).await;
    let mut new_phone = im.log_in(user, Platform::Ios, &second, Wire::default()).await;
    assert_eq!(phone.next().await.id, id::KICKED);
    phone.is_cut().await;
    assert_eq!(im.refused(&im.query(user, Platform::Ios, &first, "")).await["errCode"], 1506);

    // The same client, back on another connection: nobody is told to give up.
    let mut again = im.log_in(user, Platform::Ios, &second, Wire::default()).await;
    new_phone.is_cut().await;
    assert_eq!(im.node.push(user, "text/plain", b"x").await.body["delivered"], 2);
    for user in [&mut web, &mut again] {
        assert_eq!(user.next().await.id, id::PUSH);
    }
}

#[tokio::test]
async fn there_are_limits_to_sessions() {
    let im = Im::start_with(|openim, limits| {
        openim.login_policy = Policy::Everybody;
        limits.sessions_per_user = 2;
    })
    .await;
    let user = &im.users(1)[0];
    let token = token(user, Platform::Linux, 100);
    let _one = im.log_in(user, Platform::Linux, &token, Wire::default()).await;
    let _two = im.log_in(user, Platform::Linux, &token, Wire::default()).await;
    assert_eq!(im.refused(&im.query(user, Platform::Linux, &token, "")).await["errCode"], 1601);

    let node = Node::start_with(|limits| limits.logins_per_s = 1).await;
    let user = node.our_user();
    let _client = node.connect(&user).await;
    let response = node.refused(&user).await;
    assert_eq!((response.status().as_u16(), &response.headers()["Retry-After"]), (503, &"1".parse().unwrap()));
}

#[tokio::test]
async fn background_logout_and_what_makes_no_sense() {
    let im = Im::start().await;
    let user = &im.users(1)[0];
    let log_in = async || im.log_in(user, Platform::Ios, &token(user, Platform::Ios, 100), Wire::default()).await;
    let mut alice = log_in().await;
    let background = |is_background| SetAppBackgroundStatusReq { user_id: user.clone(), is_background };
    alice.ask(id::BACKGROUND, background(true)).await;
    assert_eq!(alice.next().await.err_code, 0);
    assert!(im.node.sessions.of(user.as_bytes())[0].1.background);
    alice.client.send(Message::text(r#"{"type":"ping","body":"x"}"#)).await.unwrap();
    assert_eq!(next(&mut alice.client).await, Message::text(r#"{"type":"pong","body":"x"}"#));
    alice.ask(id::LOGOUT, GetMaxSeqReq::default()).await;
    assert_eq!(alice.next().await.id, id::LOGOUT);
    assert_eq!(close_of(next(&mut alice.client).await).0, 1000);

    let mut alice = log_in().await;
    alice.client.send(Message::binary(vec![0xff; 30])).await.unwrap();
    assert_eq!(close_of(next(&mut alice.client).await).0, 1007);
    let mut alice = log_in().await;
    alice.name = "somebody-else".into();
    alice.ask(id::NEWEST_SEQS, GetMaxSeqReq::default()).await;
    assert_eq!(close_of(next(&mut alice.client).await).0, 1008);
    assert!(im.node.sessions.of(user.as_bytes()).is_empty());
}

#[tokio::test]
async fn browsers_are_pinged_and_others_are_not() {
    let im = Im::start_with(|_, limits| {
        limits.ping_interval = Duration::from_millis(200);
        limits.openim_idle_timeout = Duration::from_millis(700);
    })
    .await;
    let [web, phone] = &im.users(2)[..] else { unreachable!() };
    let mut web = im.log_in(web, Platform::Web, &token(web, Platform::Web, 100), Wire::default()).await;
    let mut phone = im.log_in(phone, Platform::Ios, &token(phone, Platform::Ios, 100), Wire::default()).await;
    // It answers each by itself, and so lives longer than who says nothing.
    for _ in 0..6 {
        assert_eq!(next(&mut web.client).await, Message::Ping("".into()));
    }
    assert_eq!(close_of(next(&mut phone.client).await).0, 1008);
}

#[tokio::test]
async fn who_watches_is_told_who_comes_and_goes() {
    let im = Im::start().await;
    let [alice, bob] = &im.users(2)[..] else { unreachable!() };
    let foreign = user_of(im.node.config.ring().unwrap(), 2);
    let mut watcher = im.log_in(alice, Platform::Web, &token(alice, Platform::Web, 100), Wire::default()).await;
    let status = |data: Bytes| {
        let tips = SubUserOnlineStatusTips::decode(data).unwrap();
        tips.subscribers.into_iter().map(|user| (user.user_id, user.online_platform_i_ds)).collect::<Vec<_>>()
    };
    let subscribe =
        SubUserOnlineStatus { subscribe_user_id: vec![bob.clone(), foreign.clone()], unsubscribe_user_id: vec![] };
    watcher.ask(id::ONLINE_STATUS, subscribe).await;
    // The other user's node cannot be asked, so nothing is said of that one.
    assert_eq!(status(watcher.next().await.data), [(bob.clone(), vec![])]);

    let mut phone = im.log_in(bob, Platform::Ios, &token(bob, Platform::Ios, 100), Wire::default()).await;
    // As long as nobody has been heard there, that user may be called offline.
    let next = async |watcher: &mut User| loop {
        let told = status(watcher.next().await.data);
        if told != [(foreign.clone(), vec![])] {
            break told;
        }
    };
    assert_eq!(next(&mut watcher).await, [(bob.clone(), vec![1])]);
    // A move within the node is no coming or going, whoever moves, and does not end the watching.
    for user in [alice, bob] {
        let moving = im.node.take(user).await;
        moving.place.resume(moving.stream, moving.suspended);
    }
    phone.client.close(None).await.unwrap();
    assert_eq!(next(&mut watcher).await, [(bob.clone(), vec![])]);
    // Whom it does not watch any more it is not told of: what comes next is of the other.
    let carol = &im.users(3)[2];
    let fewer = SubUserOnlineStatus { subscribe_user_id: vec![carol.clone()], unsubscribe_user_id: vec![bob.clone()] };
    watcher.ask(id::ONLINE_STATUS, fewer).await;
    assert_eq!(next(&mut watcher).await, [(carol.clone(), vec![])]);
    let _bob = im.log_in(bob, Platform::Web, &token(bob, Platform::Web, 100), Wire::default()).await;
    let _carol = im.log_in(carol, Platform::Web, &token(carol, Platform::Web, 100), Wire::default()).await;
    assert_eq!(next(&mut watcher).await, [(carol.clone(), vec![5])]);
}

#[tokio::test]
async fn a_client_moves_in_mid_question_and_misses_nothing() {
    let im = Im::start().await;
    let user = &im.users(1)[0];
    for wire in Wire::ALL {
        let mut alice = im.log_in(user, Platform::Ios, &token(user, Platform::Ios, 100), wire).await;
        for number in 0..20 {
            let message = MsgData {
                send_id: user.clone(),
                recv_id: "bob".into(),
                client_msg_id: format!("{wire:?}-{number}"),
                session_type: 1,
                content_type: 101,
                ..MsgData::default()
            };
            alice.ask(id::SEND, message).await;
            let moving = im.node.take(user).await;
            let kept = im.node.sessions.deliver(
                user.as_bytes(),
                &ringsteer::session::message::Message::new(ringsteer::websocket::decoder::Kind::Binary, "x".into()),
            );
            let suspended = ringsteer::session::suspended::Suspended::from_bytes(&moving.suspended.to_bytes(), 51_200);
            moving.place.resume(moving.stream, suspended.unwrap());
            assert_eq!(kept.decided().await.len(), 1);
            let (mut answered, mut pushed) = (0, 0);
            while answered + pushed < 2 {
                let response = alice.next().await;
                match response.id {
                    id::SEND => answered += usize::from(response.err_code == 0),
                    id::PUSH => pushed += 1,
                    other => panic!("{other}"),
                }
            }
            assert_eq!((answered, pushed), (1, 1));
        }
        alice.client.close(None).await.unwrap();
        while within(alice.client.next()).await.is_some() {}
    }
}

/// A proxy that is trusted says whose connection it is; from anybody else the same bytes are a bad request.
#[tokio::test]
async fn a_trusted_proxy_says_whose_connection_it_is() {
    let v1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n".to_vec();
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[203, 0, 113, 7, 192, 0, 2, 1],
        &4711u16.to_be_bytes(),
        &80u16.to_be_bytes(),
    ]
    .concat();
    for trusted in [true, false] {
        let mut config = config();
        if trusted {
            config.gateway.proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()];
        }
        let mut node = Node::of(config, |_| {});
        node.start_agent().await;
        let user = node.our_user();
        let request = format!(
            "GET /?sendID={user} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut clients = Vec::new();
        for header in [&v1, &v2, &vec![]] {
            let mut client = TcpStream::connect(node.clients).await.unwrap();
            let bytes = [header, request.as_bytes()].concat();
            // In two pieces, the first of which ends within the header.
            let (first, second) = bytes.split_at(header.len() / 2 + 1);
            client.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            client.write_all(second).await.unwrap();
            let mut answer = [0; 12];
            within(client.read_exact(&mut answer)).await.unwrap();
            let expected: &[u8] = if trusted || header.is_empty() { b"HTTP/1.1 101" } else { b"HTTP/1.1 400" };
            assert_eq!(answer, expected, "{}", header.escape_ascii());
            clients.push(client);

            // A pusher behind the same proxy: the header is the connection's, not each request's.
            let push = format!("POST /push?recvID={user} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
            let bytes = [header, push.as_bytes()].concat();
            let (first, second) = bytes.split_at(header.len() / 2 + 1);
            let mut pusher = TcpStream::connect(node.pushes).await.unwrap();
            pusher.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            pusher.write_all(second).await.unwrap();
            let expected = if trusted || header.is_empty() { "HTTP/1.1 200" } else { "HTTP/1.1 400" };
            let answer = one_answer(&mut pusher).await;
            assert!(answer.starts_with(expected), "{}: {answer}", header.escape_ascii());
            if answer.starts_with("HTTP/1.1 200") {
                pusher.write_all(push.as_bytes()).await.unwrap();
                assert!(one_answer(&mut pusher).await.starts_with("HTTP/1.1 200"), "the connection goes on");
                pusher.write_all(&bytes).await.unwrap();
                let answer = one_answer(&mut pusher).await;
                let expected = if header.is_empty() { "HTTP/1.1 200" } else { "HTTP/1.1 400" };
                assert!(answer.starts_with(expected), "{answer}");
            }
        }
        let agent = node.agent.as_ref().unwrap();
        within(agent.gateways.following().wait_for(Option::is_some)).await.unwrap();
        let sessions = within(agent.gateways.sessions(&user)).await;
        let named =
            sessions.map(|all| all.iter().filter(|one| one.client == "203.0.113.7:4711".parse().unwrap()).count());
        if trusted {
            assert_eq!(named, Ok(2));
        }
    }
}

/// The next response on a connection.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let complete = async {
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
                if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                    return text;
                }
            }
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "ended after {text:?}");
        }
    };
    within(complete).await
}
