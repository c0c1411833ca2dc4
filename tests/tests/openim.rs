//! Logins of OpenIM's SDKs through the virtual address, their request lines byte by byte as they are on the wire, and
//! what each is told when something is wrong.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use ringsteer_openim::{
    error::Reply,
    frame::{Request, Response, Wire, id},
    login::{Compression, Encoding},
    message::sdkws::{SetAppBackgroundStatusReq, SubUserOnlineStatus, SubUserOnlineStatusTips},
};
use ringsteer_tests::{
    client::{Login, Shape},
    lab::{Family, Lab},
    on_each_family,
    openim::Scene,
    rounds::Rounds,
    scrape::{GATEWAY, Scrape},
};
use tokio_tungstenite::tungstenite::{Message, WebSocket, protocol::Role};

on_each_family!(
    every_sdk_logs_in_at_its_owner,
    what_is_wrong_is_told_as_each_sdk_reads_it,
    a_kicked_token_is_worth_nothing_at_any_node,
    who_watches_is_told_of_users_at_any_node
);

/// All forms. In one, the kernel finds no user: such a client comes to any node, and is at its owner before it is answered.
const SHAPES: [Shape; 5] = Shape::ALL;

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

const ANDROID: u8 = 2;

/// Its clients are pinged, and answer as long as somebody reads.
const WEB: u8 = 5;

/// What a gateway says to a login.
struct Answer {
    status: u16,
    /// What follows the head; for 101 the websocket.
    rest: Rest,
}

enum Rest {
    Body(String),
    Socket(Box<WebSocket<TcpStream>>),
}

fn lab() -> Result<Lab> {
    Lab::builder().nodes(3).clients(1).stores(1).build()
}

fn login(user: &str, token: String) -> Login {
    Login { token, ..Login::new(user) }
}

fn wire(shape: Shape) -> Wire {
    match shape {
        Shape::Js => Wire { encoding: Encoding::Json, compression: Compression::None },
        _ => Wire { encoding: Encoding::Gob, compression: Compression::Gzip },
    }
}

/// Whether the SDK asks for success or error as a text frame.
fn wants_reply(shape: Shape) -> bool {
    matches!(shape, Shape::Wasm | Shape::Js)
}

/// Sends the request and reads the head of the answer.
fn dial(scene: &Scene<'_>, login: &Login, shape: Shape) -> Result<Answer> {
    dial_for(LIMIT, scene, login, shape)
}

/// The same, waiting no longer than that. It reads byte by byte, for what follows is somebody else's.
fn dial_for(limit: Duration, scene: &Scene<'_>, login: &Login, shape: Shape) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&scene.address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(&login.request(shape))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        ensure!(stream.read(&mut byte)? == 1, "the answer ends in {:?}", head.escape_ascii().to_string());
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let rest = if status == 101 {
        Rest::Socket(Box::new(WebSocket::from_raw_socket(stream, Role::Client, None)))
    } else {
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.context("no length")?];
        stream.read_exact(&mut body)?;
        Rest::Body(String::from_utf8(body)?)
    };
    Ok(Answer { status, rest })
}

impl Answer {
    fn socket(self) -> Result<Box<WebSocket<TcpStream>>> {
        match self.rest {
            Rest::Socket(socket) => Ok(socket),
            Rest::Body(body) => bail!("{} instead of 101: {body}", self.status),
        }
    }
}

fn reply(socket: &mut WebSocket<TcpStream>) -> Result<Reply> {
    match socket.read()? {
        Message::Text(text) => Ok(serde_json::from_str(&text)?),
        other => bail!("{other:?} instead of a reply"),
    }
}

/// Whoever is let in is at the owner, and is spoken to as it asked for.
fn every_sdk_logs_in_at_its_owner(family: Family) -> Result<()> {
    let lab = lab()?;
    let scene = Scene::set(&lab, family)?;
    scene.fleet.wait_for_links()?;
    lab.client(0).run(|| {
        for node in 0..3 {
            let user = scene.user_of(node);
            let token = scene.token(&user, ANDROID, "1h")?;
            for shape in SHAPES {
                let told = || format!("{shape:?}, {user} of node {node}");
                let mut socket = dial(&scene, &login(&user, token.clone()), shape)?.socket().with_context(told)?;
                if wants_reply(shape) {
                    ensure!(reply(&mut socket)?.err_code == 0);
                }
                let data = SetAppBackgroundStatusReq { user_id: user.clone(), is_background: true }.encode_to_vec();
                let request = Request {
                    id: id::BACKGROUND,
                    send_id: user.clone(),
                    operation_id: "op".into(),
                    msg_incr: "1".into(),
                    data: data.into(),
                    ..Request::default()
                };
                socket.send(Message::Binary(wire(shape).write_request(&request)))?;
                let Message::Binary(frame) = socket.read().with_context(told)? else { bail!("no frame: {}", told()) };
                let answer = wire(shape).read_response(&frame, 1 << 20)?;
                let expected = Response {
                    id: id::BACKGROUND,
                    msg_incr: "1".into(),
                    operation_id: "op".into(),
                    ..Response::default()
                };
                ensure!(answer == expected, "{}: {answer:?}", told());
            }
        }
        Ok(())
    })
}

fn what_is_wrong_is_told_as_each_sdk_reads_it(family: Family) -> Result<()> {
    let lab = lab()?;
    let scene = Scene::set(&lab, family)?;
    scene.fleet.wait_for_links()?;
    let user = scene.user_of(2);
    let good = scene.token(&user, ANDROID, "1h")?;
    let cases = [
        (scene.token(&user, ANDROID, "0s")?, 1501),
        (scene.token("somebody else", ANDROID, "1h")?, 1502),
        (scene.token(&user, 1, "1h")?, 1502),
        ("no-token".into(), 1503),
        (format!("{}AAAA", &good[..good.len() - 4]), 1505),
        (String::new(), 1602),
    ];
    lab.client(0).run(|| {
        for (token, code) in cases {
            for shape in SHAPES {
                let answer = dial(&scene, &login(&user, token.clone()), shape)?;
                let told = || format!("{shape:?}, {code}");
                let reply = if wants_reply(shape) {
                    let mut socket = answer.socket().with_context(told)?;
                    let reply = reply(&mut socket)?;
                    ensure!(
                        !matches!(socket.read(), Ok(Message::Text(_) | Message::Binary(_))),
                        "it goes on: {}",
                        told()
                    );
                    reply
                } else {
                    let Answer { status, rest: Rest::Body(body) } = answer else { bail!("let in: {}", told()) };
                    ensure!(status == 200, "{status}: {}", told());
                    serde_json::from_str(&body)?
                };
                ensure!(reply.err_code == code, "{}: {reply:?}", told());
            }
        }
        Ok(())
    })
}

/// Logs in as soon as the ring allows it. While one comes into force a client may be told to come back; and the ring before
/// gives it to a gateway that is dead, and nobody answers.
fn dial_patiently(scene: &Scene<'_>, login: &Login, shape: Shape) -> Result<Answer> {
    let since = Instant::now();
    loop {
        match dial_for(Duration::from_secs(5), scene, login, shape) {
            Ok(answer) if !matches!(answer.status, 421 | 503) => return Ok(answer),
            answer if since.elapsed() > 2 * LIMIT => bail!("never let in: {:?}", answer.map(|answer| answer.status)),
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A token that another login has ended stays ended when the gateway that did it is dead and the ring has given the user to
/// another one, and at one that was started later.
fn a_kicked_token_is_worth_nothing_at_any_node(family: Family) -> Result<()> {
    let lab = lab()?;
    let scene = Scene::set(&lab, family)?;
    scene.fleet.wait_for_links()?;
    let user = scene.user_of(0);
    let [first, second, third] = [1, 2, 3].map(|hours| scene.token(&user, ANDROID, &format!("{hours}h")));
    let (first, second, third) = (login(&user, first?), login(&user, second?), login(&user, third?));
    let kicked = lab.client(0).run(|| {
        let mut socket = dial(&scene, &first, Shape::Native)?.socket()?;
        let _newer = dial(&scene, &second, Shape::Native)?.socket()?;
        let Message::Binary(frame) = socket.read()? else { bail!("no frame") };
        Ok(wire(Shape::Native).read_response(&frame, 1 << 20)?.id)
    })?;
    ensure!(kicked == id::KICKED, "{kicked} instead of a kick");
    for node in 0..3 {
        wait_for_figure(&scene, node, "ringsteer_tokens_kicked", 1.0)?;
    }

    scene.fleet.gateways[0].kill()?;
    let mut rounds = Rounds::of(&scene.fleet);
    for (node, good) in [(1, &second), (2, &third)] {
        if node == 2 {
            scene.fleet.gateways[2].kill()?;
            scene.fleet.gateways[2].restart()?;
            wait_for_figure(&scene, 2, "ringsteer_tokens_kicked", 1.0)?;
        }
        rounds.next(&[node])?;
        lab.client(0).run(|| {
            let Answer { status, rest: Rest::Body(body) } = dial_patiently(&scene, &first, Shape::Native)? else {
                bail!("a kicked token is good at node {node}");
            };
            let reply: Reply = serde_json::from_str(&body).with_context(|| format!("node {node}: {status} {body}"))?;
            ensure!(status == 200 && reply.err_code == 1506, "node {node}: {status} {body}");
            // Who was not kicked is let in. It goes away before the next ring.
            dial_patiently(&scene, good, Shape::Native)?.socket()?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Somebody who is there, and listens all the time.
struct Listener {
    stream: TcpStream,
    frames: Receiver<Response>,
}

/// What is told of a user: the platforms on which the user is online.
type Told = Vec<(String, Vec<i32>)>;

impl Listener {
    /// Logs in, and asks to be told of others.
    fn log_in(scene: &Scene<'_>, user: &str, platform: u8, watched: &[&String]) -> Result<Self> {
        let login = Login { platform, ..login(user, scene.token(user, platform, "1h")?) };
        scene.fleet.lab.client(0).run(|| {
            let mut socket = dial_patiently(scene, &login, Shape::Native)?.socket()?;
            let stream = socket.get_ref().try_clone()?;
            stream.set_read_timeout(None)?;
            if !watched.is_empty() {
                let subscribe = SubUserOnlineStatus {
                    subscribe_user_id: watched.iter().copied().cloned().collect(),
                    unsubscribe_user_id: vec![],
                };
                let request = Request {
                    id: id::ONLINE_STATUS,
                    send_id: user.to_owned(),
                    operation_id: "op".into(),
                    msg_incr: "1".into(),
                    data: subscribe.encode_to_vec().into(),
                    ..Request::default()
                };
                socket.send(Message::Binary(wire(Shape::Native).write_request(&request)))?;
            }
            let (sender, frames) = mpsc::channel();
            thread::spawn(move || {
                while let Ok(message) = socket.read() {
                    if let Message::Binary(frame) = message
                        && let Ok(response) = wire(Shape::Native).read_response(&frame, 1 << 20)
                        && sender.send(response).is_err()
                    {
                        return;
                    }
                }
            });
            Ok(Self { stream, frames })
        })
    }

    /// What it is told next.
    fn next(&self) -> Result<Told> {
        let Response { id, err_code, data, .. } = self.frames.recv_timeout(LIMIT).context("it is told nothing")?;
        ensure!((id, err_code) == (id::ONLINE_STATUS, 0), "{id} with {err_code}");
        let tips = SubUserOnlineStatusTips::decode(data)?;
        Ok(tips.subscribers.into_iter().map(|user| (user.user_id, user.online_platform_i_ds)).collect())
    }

    /// It must be told this and nothing else.
    fn expect(&self, user: &str, platforms: &[i32]) -> Result<()> {
        let told = self.next()?;
        ensure!(told == [(user.to_owned(), platforms.to_vec())], "{told:?} instead of {user} on {platforms:?}");
        Ok(())
    }

    fn leave(self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Both)?)
    }
}

/// Waits until the gateway of a node has that figure.
fn wait_for_figure(scene: &Scene<'_>, node: usize, name: &str, value: f64) -> Result<()> {
    let since = Instant::now();
    loop {
        match Scrape::of(scene.fleet.lab.node(node), GATEWAY).and_then(|scrape| scrape.value(name)) {
            Ok(known) if known == value => return Ok(()),
            last if since.elapsed() > LIMIT => bail!("{name} of node {node} is {last:?}, not {value}"),
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Who watches hears of users at other nodes who come and go; hears nothing while they, or it, go from node to node; hears
/// that they are gone when their gateway has died; and knows how it is when two gateways could not talk for a while.
fn who_watches_is_told_of_users_at_any_node(family: Family) -> Result<()> {
    let lab = lab()?;
    let scene = Scene::set(&lab, family)?;
    scene.fleet.wait_for_links()?;
    // The first node is the edge. Its links are left alone.
    let [far, watcher, near] = [0, 1, 2].map(|node| scene.user_of(node));
    let watching = Listener::log_in(&scene, &watcher, WEB, &[&far, &near])?;
    let answer: BTreeSet<_> = watching.next()?.into_iter().collect();
    ensure!(answer == [(far.clone(), vec![]), (near.clone(), vec![])].into(), "{answer:?}");
    let come = |user: &str, platform| Listener::log_in(&scene, user, platform, &[]);

    let first = come(&far, WEB)?;
    watching.expect(&far, &[5])?;
    let second = come(&far, ANDROID)?;
    watching.expect(&far, &[2, 5])?;
    first.leave()?;
    watching.expect(&far, &[2])?;
    second.leave()?;
    watching.expect(&far, &[])?;
    let (_far, near_by) = (come(&far, WEB)?, come(&near, WEB)?);
    let both: BTreeSet<_> = [watching.next()?, watching.next()?].concat().into_iter().collect();
    ensure!(both == [(far.clone(), vec![5]), (near.clone(), vec![5])].into(), "{both:?}");

    // Everybody moves, alone and together.
    let users = [far.clone(), watcher.clone(), near.clone()];
    let mut rounds = Rounds::of(&scene.fleet);
    for active in [&[0][..], &[1, 2], &[2], &[0, 1], &[1], &[0, 1, 2]] {
        rounds.send_to(active, &users)?;
    }
    near_by.leave()?;
    watching.expect(&near, &[]).context("after moves of which nothing is told")?;
    let _near_by = come(&near, WEB)?;
    watching.expect(&near, &[5])?;

    scene.fleet.gateways[2].kill()?;
    watching.expect(&near, &[]).context("after the end of a gateway")?;
    scene.fleet.gateways[2].restart()?;
    let near_by = come(&near, WEB)?;
    watching.expect(&near, &[5]).context("after its return")?;

    scene.fleet.wait_for_links()?;
    let cut = lab.partition(&[lab.node(1)], &[lab.node(2)])?;
    wait_for_figure(&scene, 1, "ringsteer_gateway_links", 1.0)?;
    near_by.leave()?;
    wait_for_figure(&scene, 2, "ringsteer_sessions", 0.0)?;
    let _near_by = come(&near, ANDROID)?;
    cut.heal()?;
    // Before that, somebody who was not heard for long may have been called offline; and that a session has begun is known
    // a moment before it is certain that another has ended.
    while watching.next()? != [(near.clone(), vec![2])] {}

    wait_for_figure(&scene, 1, "ringsteer_users_watched", 2.0)?;
    watching.leave()?;
    for node in 0..3 {
        wait_for_figure(&scene, node, "ringsteer_users_watched", 0.0)?;
        wait_for_figure(&scene, node, "ringsteer_watched_elsewhere", 0.0)?;
    }
    Ok(())
}
