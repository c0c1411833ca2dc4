//! The path of a message, from one user of OpenIM's to another: request 1003 to the gateway of the sender, by gRPC to the
//! message service, from there to `ringsteer push`, by the kernels' steering to the gateway of the receiver, and down its
//! connection. Ten thousand messages are stored, numbered, pushed, and received once and in order, while other sessions
//! come and are kicked, those of the receivers on another platform among them.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use prost::Message as _;
use ringsteer_openim::{
    frame::{MAX_UNPACKED_BYTES, Request, Response, Wire, id},
    login::{Compression, Encoding},
    message::{
        CONTENT_TEXT,
        msg::SendMsgResp,
        sdkws::{MsgData, PullMessageBySeqsReq, PullMessageBySeqsResp, PushMessages, SeqRange},
        session_type,
    },
    platform::Platform,
    token::{Claims, Keys},
};
use ringsteer_openim_rpc::{
    Caller,
    msggateway::{KickUserOfflineReq, msg_gateway_client::MsgGatewayClient},
};
use ringsteer_tests::{
    client::{Connection, Dial, Login, Message, Shape, open},
    fleet::PUSH_TOKEN,
    front,
    lab::{Family, Lab},
    on_each_family,
    openim::{GRPC_PORT, Scene, TOKEN_SECRET},
    scrape::Scrape,
};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Mutex, Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
    time::{Interval, MissedTickBehavior, interval, timeout},
};
use tonic::transport::Endpoint;

on_each_family!(the_path_of_a_message);

/// Senders on the first node, each with a receiver on the last one. Each of the eight has a form of login of its own, or
/// another compression.
const PAIRS: usize = 4;

/// Messages that a sender may be ahead of its receiver.
const AHEAD: usize = 64;

/// After so many messages a sender waits until somebody has been kicked, so that there is as much of that on any machine.
const MESSAGES_A_KICK: usize = 50;

/// Kicks that may happen before their time has come.
const KICKS_AHEAD: usize = 4;

/// Longest wait for a single frame; whoever needs longer hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// A client that says nothing for half a minute is taken for dead.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Messages of one answer.
const PULLED_AT_ONCE: i64 = 500;

/// A field of messages that only clients newer than ringsteer know: 200, a text.
const NEWER: &[u8] = b"\xc2\x0c\x03new";

/// How the clients of a pair log in, and whether they compress.
const FORMS: [(Shape, bool); PAIRS] =
    [(Shape::Native, true), (Shape::Js, false), (Shape::NativeNewest, false), (Shape::Wasm, false)];

/// Where clients log in, and with what.
struct Door {
    address: SocketAddr,
    keys: Keys,
}

/// A client of OpenIM's, logged in.
struct Client {
    user: String,
    wire: Wire,
    connection: Connection,
    heartbeat: Interval,
}

/// What a receiver is to get of a sender.
#[derive(Clone)]
struct Pair {
    from: String,
    to: String,
    /// How many messages.
    count: usize,
}

// === impl Door ===

impl Door {
    /// Logs in with a token that lasts so much longer than a day: each is another one.
    async fn log_in(&self, user: &str, platform: Platform, form: (Shape, bool), longer_s: i64) -> Result<Client> {
        let (shape, compression) = form;
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs() as i64;
        let claims = Claims { user: user.to_owned(), platform, expires: now + 86_400 + longer_s };
        let token = self.keys.sign(&claims, now - 60);
        let login = Login { token, platform: platform.number() as u8, compression, ..Login::new(user) };
        let stream = Dial::new(self.address).connect().await?;
        // The tests' websocket knows no compression of its own.
        let request = String::from_utf8(login.request(shape))?;
        let lines = request.split_inclusive("\r\n").filter(|line| !line.starts_with("Sec-WebSocket-Extensions"));
        let request: String = lines.collect();
        let mut connection = open(stream, &[request.as_bytes()]).await?.connection()?;
        if matches!(shape, Shape::Wasm | Shape::Js) {
            let Message::Text(reply) = connection.receive().await? else { bail!("{user}: no reply to the login") };
            ensure!(reply.contains("\"errCode\":0"), "{user}: {reply}");
        }
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wire = Wire {
            encoding: if shape == Shape::Js { Encoding::Json } else { Encoding::Gob },
            compression: if compression && shape != Shape::Js { Compression::Gzip } else { Compression::None },
        };
        Ok(Client { user: user.to_owned(), wire, connection, heartbeat })
    }
}

// === impl Client ===

impl Client {
    async fn ask(&mut self, id: i32, number: usize, data: Vec<u8>) -> Result<()> {
        let request = Request {
            id,
            send_id: self.user.clone(),
            operation_id: format!("{} {number}", self.user),
            msg_incr: number.to_string(),
            data: data.into(),
            ..Request::default()
        };
        self.connection.send(Message::Binary(self.wire.write_request(&request))).await
    }

    /// The next frame.
    async fn next(&mut self) -> Result<Response> {
        let frame = async {
            loop {
                tokio::select! {
                    _ = self.heartbeat.tick() => self.connection.send(Message::Ping(Bytes::new())).await?,
                    message = self.connection.receive() => match message? {
                        Message::Binary(frame) => {
                            return anyhow::Ok(self.wire.read_response(&frame, MAX_UNPACKED_BYTES)?);
                        }
                        Message::Ping(_) | Message::Pong(_) => {}
                        other => bail!("{other:?} instead of a frame"),
                    },
                }
            }
        };
        timeout(LIMIT, frame).await.context("nothing comes any more")?.with_context(|| self.user.clone())
    }

    /// Receives what is pushed until it is kicked, and then cut off; how many messages that were.
    async fn until_kicked(mut self, sender: Option<String>) -> Result<usize> {
        let mut numbers: Option<std::ops::Range<usize>> = None;
        loop {
            let response = self.next().await?;
            match response.id {
                id::PUSH => {
                    let message = only(response.data)?;
                    ensure!(Some(&message.send_id) == sender.as_ref(), "{}: from {}", self.user, message.send_id);
                    let number = number_of(&message)?;
                    let seen = numbers.get_or_insert(number..number);
                    ensure!(seen.end == number, "{}: {number} instead of {}", self.user, seen.end);
                    seen.end += 1;
                }
                id::KICKED => break,
                _ => bail!("{}: {response:?}", self.user),
            }
        }
        let mut rest = [0; 1];
        match timeout(LIMIT, self.connection.into_stream().read(&mut rest)).await.context("it goes on after a kick")? {
            Ok(0) | Err(_) => Ok(numbers.map_or(0, |numbers| numbers.len())),
            Ok(_) => bail!("{}: something is said after a kick", self.user),
        }
    }
}

/// The one message that is pushed.
fn only(pushed: Bytes) -> Result<MsgData> {
    let PushMessages { msgs, notification_msgs } = PushMessages::decode(pushed)?;
    ensure!(notification_msgs.is_empty(), "pushed as notification: {notification_msgs:?}");
    let mut all: Vec<_> = msgs.into_iter().collect();
    let (Some((conversation, mut pulled)), true) = (all.pop(), all.is_empty()) else { bail!("not one conversation") };
    let (Some(message), true) = (pulled.msgs.pop(), pulled.msgs.is_empty()) else { bail!("not one message") };
    ensure!(message.conversation_id().as_ref() == Some(&conversation), "{message:?} in {conversation}");
    Ok(message)
}

/// The place of a message in its conversation, by the service's account and by the sender's.
fn number_of(message: &MsgData) -> Result<usize> {
    let number = usize::try_from(message.seq)?;
    let MsgData { send_id, recv_id, .. } = message;
    ensure!(message.content == content(send_id, recv_id, number), "as number {number} came {message:?}");
    ensure!(message.client_msg_id == name(number) && !message.server_msg_id.is_empty(), "{message:?}");
    ensure!(message.unknown == NEWER, "what only newer clients know is lost: {message:?}");
    Ok(number)
}

fn content(from: &str, to: &str, number: usize) -> Bytes {
    format!("{{\"content\":\"{number} from {from} to {to} ☂\"}}").into()
}

fn name(number: usize) -> String {
    format!("m{number}")
}

/// Sends all its messages, is told of each that it is stored, and is pushed each, as all sessions of a sender are.
async fn send(
    mut client: Client,
    pair: Pair,
    room: Arc<Semaphore>,
    kicks: Arc<Mutex<mpsc::Receiver<()>>>,
) -> Result<()> {
    let (mut sent, mut stored, mut pushed) = (0, 0, 0);
    while stored < pair.count || pushed < pair.count {
        tokio::select! {
            place = room.acquire(), if sent < pair.count => {
                place?.forget();
                sent += 1;
                if sent % MESSAGES_A_KICK == 0 {
                    kicks.lock().await.recv().await.context("nobody is kicked any more")?;
                }
                let message = MsgData {
                    send_id: pair.from.clone(),
                    recv_id: pair.to.clone(),
                    client_msg_id: name(sent),
                    session_type: session_type::SINGLE,
                    content_type: CONTENT_TEXT,
                    content: content(&pair.from, &pair.to, sent),
                    unknown: NEWER.to_vec(),
                    ..MsgData::default()
                };
                client.ask(id::SEND, sent, message.encode_to_vec()).await?;
            }
            response = client.next() => {
                let response = response?;
                match response.id {
                    id::SEND => {
                        stored += 1;
                        ensure!(response.err_code == 0 && response.msg_incr == stored.to_string(), "{response:?}");
                        ensure!(SendMsgResp::decode(response.data)?.client_msg_id == name(stored), "{stored}");
                    }
                    id::PUSH => {
                        pushed += 1;
                        let number = number_of(&only(response.data)?)?;
                        ensure!(number == pushed, "{} is pushed {number} instead of {pushed}", pair.from);
                    }
                    _ => bail!("{}: {response:?}", pair.from),
                }
            }
        }
    }
    Ok(())
}

/// Is pushed all messages, and then asks for them: they are stored as they came.
async fn receive(mut client: Client, pair: Pair, room: Arc<Semaphore>) -> Result<()> {
    let mut came = Vec::new();
    while came.len() < pair.count {
        let response = client.next().await?;
        ensure!(response.id == id::PUSH, "{}: {response:?}", pair.to);
        let message = only(response.data)?;
        let (number, expected) = (number_of(&message)?, came.len() + 1);
        ensure!(message.send_id == pair.from && number == expected, "{} got {number}, not {expected}", pair.to);
        came.push(message.server_msg_id);
        room.add_permits(1);
    }
    let mut stored = Vec::new();
    let conversation = MsgData {
        send_id: pair.from.clone(),
        recv_id: pair.to.clone(),
        session_type: session_type::SINGLE,
        ..MsgData::default()
    };
    let conversation = conversation.conversation_id().context("a conversation")?;
    // One more than there should be.
    while stored.len() <= came.len() {
        let begin = stored.len() as i64 + 1;
        let range = SeqRange {
            conversation_id: conversation.clone(),
            begin,
            end: begin + PULLED_AT_ONCE - 1,
            num: PULLED_AT_ONCE,
        };
        let question = PullMessageBySeqsReq { user_id: pair.to.clone(), seq_ranges: vec![range], order: 0 };
        client.ask(id::PULL_BY_RANGES, stored.len(), question.encode_to_vec()).await?;
        let response = client.next().await?;
        ensure!(response.id == id::PULL_BY_RANGES && response.err_code == 0, "{}: {response:?}", pair.to);
        let mut answer = PullMessageBySeqsResp::decode(response.data)?;
        let some = answer.msgs.remove(&conversation).unwrap_or_default().msgs;
        if some.is_empty() {
            break;
        }
        for message in some {
            ensure!(number_of(&message)? == stored.len() + 1, "stored as {}: {message:?}", stored.len() + 1);
            stored.push(message.server_msg_id);
        }
    }
    ensure!(stored == came, "{} are stored, and {} came", stored.len(), came.len());
    Ok(())
}

/// A user who logs in again and again, always on the same platform, and so is kicked every time.
struct Restless {
    door: Arc<Door>,
    user: String,
    platform: Platform,
    form: (Shape, bool),
    /// Who sends messages to that user, if anybody does.
    sender: Option<String>,
    /// Where an operator kicks every other session before the next one comes, if one does.
    operator: Option<SocketAddr>,
    kicked: mpsc::Sender<()>,
}

impl Restless {
    async fn go_on(self) -> Result<()> {
        let operator = self.operator.map(|address| Endpoint::new(format!("http://{address}"))).transpose()?;
        let mut operator = operator.map(|endpoint| MsgGatewayClient::new(endpoint.connect_lazy()));
        let mut before: Option<JoinHandle<Result<usize>>> = None;
        for turn in 0.. {
            if let (Some(operator), Some(_), true) = (&mut operator, &before, turn % 2 == 0) {
                let kick = KickUserOfflineReq {
                    platform_id: self.platform.number(),
                    kick_user_id_list: vec![self.user.clone()],
                };
                let mut request = Caller::service(format!("kick {turn}")).request(kick);
                request.metadata_mut().insert("authorization", format!("Bearer {PUSH_TOKEN}").parse()?);
                operator.kick_user_offline(request).await?;
            }
            let client = self.door.log_in(&self.user, self.platform, self.form, turn).await?;
            let kicked = before.replace(tokio::spawn(client.until_kicked(self.sender.clone())));
            let Some(kicked) = kicked else { continue };
            kicked.await??;
            if self.kicked.send(()).await.is_err() {
                // All messages are there.
                break;
            }
        }
        before.inspect(JoinHandle::abort);
        Ok(())
    }
}

/// How many messages: the whole number in one family, and fewer in the other, for whom all but the addresses is the same.
fn messages(family: Family) -> usize {
    match family {
        Family::V4 => 10_000,
        Family::V6 => 1_000,
    }
}

fn the_path_of_a_message(family: Family) -> Result<()> {
    const NODES: usize = 3;

    let lab = Lab::builder().nodes(NODES).clients(1).stores(1).build()?;
    let scene = Scene::set_with_front(&lab, family)?;
    scene.fleet.wait_for_links()?;
    let keys = Keys::new([TOKEN_SECRET.as_bytes().to_vec()], Duration::ZERO)?;
    let door = Arc::new(Door { address: scene.address, keys });
    let count = messages(family) / PAIRS;
    let mut users = [0, 1, 2].map(|node| scene.users_of(node));
    let mut user_of = |node: usize| users[node].next().context("every node owns many");
    let pairs =
        (0..PAIRS).map(|_| Ok(Pair { from: user_of(0)?, to: user_of(2)?, count })).collect::<Result<Vec<_>>>()?;

    let (kicked, kicks) = mpsc::channel(KICKS_AHEAD);
    let restless = |user, form| Restless {
        door: Arc::clone(&door),
        user,
        platform: Platform::Web,
        form,
        sender: None,
        operator: None,
        kicked: kicked.clone(),
    };
    let mut crowd = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        crowd.push(Restless {
            sender: Some(pair.from.clone()),
            ..restless(pair.to.clone(), FORMS[(index + 2) % FORMS.len()])
        });
    }
    for (node, form) in FORMS.into_iter().enumerate().take(NODES) {
        let operator = Some((lab.node((node + 1) % NODES).address(family), GRPC_PORT).into());
        crowd.push(Restless { operator, platform: Platform::Ios, ..restless(user_of(node)?, form) });
    }
    drop(kicked);

    lab.client(0).block_on(async {
        let kicks = Arc::new(Mutex::new(kicks));
        let (mut talking, mut coming) = (JoinSet::new(), JoinSet::new());
        for (index, pair) in pairs.iter().enumerate() {
            let room = Arc::new(Semaphore::new(AHEAD));
            let to = door.log_in(&pair.to, Platform::Ios, FORMS[(index + 1) % FORMS.len()], 0).await?;
            let from = door.log_in(&pair.from, Platform::Ios, FORMS[index], 0).await?;
            talking.spawn(receive(to, pair.clone(), Arc::clone(&room)));
            talking.spawn(send(from, pair.clone(), room, Arc::clone(&kicks)));
        }
        drop(kicks);
        for restless in crowd {
            coming.spawn(restless.go_on());
        }
        // Whoever fails first says why.
        while !talking.is_empty() {
            tokio::select! {
                Some(talked) = talking.join_next() => talked??,
                Some(came) = coming.join_next(), if !coming.is_empty() => came?.context("in the crowd")?,
            }
        }
        while let Some(came) = coming.join_next().await {
            came?.context("in the crowd")?;
        }
        anyhow::Ok(())
    })?;

    // The kernels have brought each batch to its owner themselves.
    let figures = Scrape::of(lab.pusher(), front::METRICS_PORT)?;
    let answers = |from: &str| figures.value(&format!("ringsteer_front_answers_total{{from=\"{from}\"}}"));
    ensure!(answers("another")? == 0.0, "{:?}", figures.samples);
    ensure!(answers("owner")? >= (2 * PAIRS * count) as f64, "{:?}", figures.samples);
    Ok(())
}
