//! Logins of OpenIM's SDKs through the virtual address, their request lines byte by byte as they are on the wire, and
//! what each is told when something is wrong.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use ringsteer_openim::{
    error::Reply,
    frame::{Request, Response, Wire, id},
    login::{Compression, Encoding},
    message::sdkws::SetAppBackgroundStatusReq,
};
use ringsteer_tests::{
    client::{Login, Shape},
    lab::{Family, Lab},
    on_each_family,
    openim::Scene,
};
use tokio_tungstenite::tungstenite::{Message, WebSocket, protocol::Role};

on_each_family!(every_sdk_logs_in_at_its_owner, what_is_wrong_is_told_as_each_sdk_reads_it);

/// All forms. In one, the kernel finds no user: such a client comes to any node, and is at its owner before it is answered.
const SHAPES: [Shape; 5] = Shape::ALL;

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

const ANDROID: u8 = 2;

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

/// Sends the request and reads the head of the answer, byte by byte, for what follows is somebody else's.
fn dial(scene: &Scene<'_>, login: &Login, shape: Shape) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&scene.address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
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
