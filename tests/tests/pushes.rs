//! A push reaches its user from wherever it comes in, by each of the three ways: steered over HTTP, over OpenIM's gRPC at
//! any node, through the front. Also while the ring is another than the user's session was placed by. Keeps the second
//! half of the promise *steering is a hint, ownership is checked*.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer::{
    config::Mode,
    ring::{Epoch, MemberState, Ring},
};
use ringsteer_openim_rpc::{
    Caller,
    msggateway::{OnlineBatchPushOneMsgReq, SingleMsgToUserResults, msg_gateway_client::MsgGatewayClient},
    sdkws::MsgData,
};
use ringsteer_tests::{
    client::{Connection, Dial, Login, Message, Push, Shape, open},
    fleet::{DIRECT_PUSH_PORT, Fleet, Options, PUSH_TOKEN, RPC_PORT},
    front,
    lab::{Family, Lab},
    on_each_family_and_in_each_mode,
    scrape::Scrape,
    status::follows,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

on_each_family_and_in_each_mode!(every_way_of_pushing_reaches_the_user_and_the_webhook_only_who_is_offline);

const NODES: usize = 4;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the webhook is, on the pusher's host.
const WEBHOOK_PORT: u16 = 10_013;

/// Somebody who is online.
struct User {
    name: String,
    /// What comes, message by message.
    received: mpsc::UnboundedReceiver<Message>,
    /// What has been pushed and not been looked at.
    expected: Vec<String>,
}

/// Over OpenIM's gRPC at that address.
async fn by_rpc(address: SocketAddr, id: &str, users: &[String], token: &str) -> Result<Vec<SingleMsgToUserResults>> {
    let channel = tonic::transport::Endpoint::new(format!("http://{address}"))?.connect().await?;
    let message =
        MsgData { server_msg_id: id.into(), content: id.to_owned().into_bytes().into(), ..MsgData::default() };
    let message = OnlineBatchPushOneMsgReq { msg_data: Some(message), push_to_user_i_ds: users.to_vec() };
    let mut request = Caller::service(id).request(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let mut client = MsgGatewayClient::new(channel);
    let answer = timeout(LIMIT, client.super_group_online_batch_push_one_msg(request)).await.context("no answer")??;
    Ok(answer.into_inner().single_push_result)
}

/// Through the front, over HTTP.
async fn by_front(address: SocketAddr, id: &str, users: &[String], token: &str) -> Result<(u16, Value)> {
    let body = json!({ "id": id, "users": users, "text": id }).to_string();
    let request = format!(
        "POST /push/batch HTTP/1.1\r\nHost: front\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
        anyhow::Ok((head.get(9..12).context("no status")?.parse()?, serde_json::from_str(body)?))
    };
    timeout(LIMIT, exchange).await.context("no answer")?
}

/// What the front says became of each user.
fn statuses(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().into_iter().flatten().filter_map(|result| result["status"].as_str()).collect()
}

/// Passes on what comes over a connection, to its end.
async fn listen(mut connection: Connection, tell: mpsc::UnboundedSender<Message>) {
    while let Ok(message) = connection.receive().await {
        if tell.send(message).is_err() {
            return;
        }
    }
}

/// Answers every call of the webhook and passes on what it says.
async fn webhook(address: SocketAddr, tell: mpsc::UnboundedSender<Value>) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut request = Vec::new();
        let body: Value = loop {
            ensure!(stream.read_buf(&mut request).await? > 0, "a call without a body");
            let text = std::str::from_utf8(&request)?;
            if let Some((_, body)) = text.split_once("\r\n\r\n")
                && let Ok(body) = serde_json::from_str(body)
            {
                break body;
            }
        };
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?;
        if tell.send(body).is_err() {
            return Ok(());
        }
    }
}

fn every_way_of_pushing_reaches_the_user_and_the_webhook_only_who_is_offline(family: Family, mode: Mode) -> Result<()> {
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let fleet = Fleet::start(&lab, &Options { ring_file: true, ..Options::in_mode(family, mode) })?;
    let here = lab.pusher().address(family);
    let (tell, mut told) = mpsc::unbounded_channel();
    let listening = lab.pusher().spawn(webhook(SocketAddr::new(here, WEBHOOK_PORT), tell))?;
    let webhook_url = format!("webhook_url = \"http://{}/offline\"", SocketAddr::new(here, WEBHOOK_PORT));
    let front = front::start(&lab, &fleet, family, &webhook_url)?;
    let node_address = |node: usize, port| SocketAddr::new(lab.node(node).address(family), port);
    let steered = fleet.push();

    // A user of each node, and one of the last node who will be owned by another one.
    let mut smaller = fleet.ring.members().to_vec();
    smaller[NODES - 1].state = MemberState::Draining;
    let new = Ring::new(Epoch(2), fleet.ring.algorithm(), smaller)?;
    let owner = |ring: &Ring, user: &str| ring.owner(user.as_bytes()).number.get();
    let user_of = |number: usize| {
        let name = (0..).map(|index| format!("user-{index}"));
        name.into_iter().find(|user| usize::from(owner(&fleet.ring, user)) == number).context("nobody")
    };
    let names = (1..=NODES).map(user_of).collect::<Result<Vec<String>>>()?;
    let offline: Vec<String> = (0..5).map(|index| format!("nobody-{index}")).collect();
    // Their connections live on the client's host for as long as the test.
    let (websocket, logins) = (fleet.websocket(), names.clone());
    let opening = lab.client(0).spawn(async move {
        let mut users = Vec::new();
        for name in logins {
            let stream = Dial::new(websocket).connect().await?;
            let connection = open(stream, &[&Login::new(&name).request(Shape::Native)]).await?.connection()?;
            let (tell, received) = mpsc::unbounded_channel();
            tokio::spawn(listen(connection, tell));
            users.push(User { name, received, expected: vec![] });
        }
        anyhow::Ok(users)
    })?;
    let mut users = lab.router().block_on(opening)??;

    for round in ["one ring", "another ring"] {
        if round == "another ring" {
            // The last node's user is owned by another node now; the session stays where it is.
            fleet.give_ring_to_all(&new)?;
            lab.router().block_on(async {
                for node in 0..NODES {
                    fleet.wait_for_status(node, follows(&new)).await?;
                }
                anyhow::Ok(())
            })?;
            ensure!(usize::from(owner(&new, &names[NODES - 1])) != NODES, "nobody has moved: nothing would be shown");
        }
        let expected = lab.pusher().block_on(async {
            let mut expected: Vec<String> = Vec::new();
            let id = |way: &str| format!("{}-{way}", round.replace(' ', "-"));
            // Steered: the kernel brings each push to the owner. Past the steering: to every node, most of them wrong.
            let ways = (0..NODES).map(|node| (format!("at-{node}"), node_address(node, DIRECT_PUSH_PORT)));
            for (way, address) in [("steered".to_owned(), steered)].into_iter().chain(ways) {
                for name in names.iter().chain(&offline[..1]) {
                    let push = Push::text(name, id(&way)).send(Dial::new(address).connect().await?).await?;
                    let answer = push.json()?;
                    let online = names.contains(name);
                    ensure!(push.status == 200 && answer["delivered"] == u64::from(online), "{way}: {name}: {answer}");
                    ensure!(answer["status"] == if online { "delivered" } else { "offline" }, "{way}: {answer}");
                }
                expected.push(id(&way));
            }
            // OpenIM's service, at every node; each call twice.
            let all: Vec<String> = names.iter().chain(&offline).cloned().collect();
            for node in 0..NODES {
                let way = id(&format!("rpc-{node}"));
                for _ in 0..2 {
                    let results = by_rpc(node_address(node, RPC_PORT), &way, &all, PUSH_TOKEN).await?;
                    let reached: Vec<bool> = results.iter().map(|one| !one.resp.is_empty()).collect();
                    let wanted: Vec<bool> = all.iter().map(|user| names.contains(user)).collect();
                    ensure!(reached == wanted, "{way}: {results:?}");
                }
                expected.push(way);
            }
            // The front, over HTTP and as OpenIM calls it; each twice.
            let way = id("front");
            for _ in 0..2 {
                let (status, answer) =
                    by_front(SocketAddr::new(here, front::HTTP_PORT), &way, &all, PUSH_TOKEN).await?;
                let wanted: Vec<&str> =
                    all.iter().map(|user| if names.contains(user) { "delivered" } else { "offline" }).collect();
                ensure!(status == 200 && statuses(&answer) == wanted, "{way}: {status} {answer}");
            }
            expected.push(way);
            let way = id("front-rpc");
            let results = by_rpc(SocketAddr::new(here, front::RPC_PORT), &way, &all, PUSH_TOKEN).await?;
            ensure!(results.iter().filter(|one| !one.resp.is_empty()).count() == names.len(), "{results:?}");
            expected.push(way);
            // Each message's offline users are told once, and nobody else.
            for way in &expected[expected.len() - 2..] {
                let call =
                    timeout(LIMIT, told.recv()).await.context("the webhook was not called")?.context("it ended")?;
                let id = call["id"].as_str().unwrap_or_default();
                ensure!(id == way || id == format!("server/{way}"), "{call}, for {way}");
                ensure!(call["users"] == json!(offline), "{call}");
            }
            anyhow::Ok(expected)
        })?;
        users.iter_mut().for_each(|user| user.expected.extend(expected.iter().cloned()));
        if round == "one ring" && mode == Mode::LateBinding {
            // The kernel has brought each batch of the front to its owner itself: three messages, one of them twice.
            let figures = Scrape::of(lab.pusher(), front::METRICS_PORT)?;
            let answers =
                |from: &str| figures.samples.get(&format!("ringsteer_front_answers_total{{from=\"{from}\"}}"));
            let all = (3 * (names.len() + offline.len())) as f64;
            ensure!(answers("owner") == Some(&all), "{:?}", figures.samples);
            ensure!(answers("another") == Some(&0.0), "{:?}", figures.samples);
        }
    }

    lab.pusher().block_on(async {
        // Without a token nobody gets in by any of the ways.
        let wrong = "wrong-but-long-enough";
        let mut stream = TcpStream::connect(steered).await?;
        let request =
            "POST /push?recvID=user-1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await??;
        ensure!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        for port in [SocketAddr::new(here, front::RPC_PORT), node_address(0, RPC_PORT)] {
            match by_rpc(port, "no-token", &names, wrong).await {
                Err(error) if error.to_string().contains("token") => {}
                other => bail!("a wrong token was answered by {other:?}"),
            }
        }
        let (status, _) = by_front(SocketAddr::new(here, front::HTTP_PORT), "no-token", &names, wrong).await?;
        ensure!(status == 401, "a wrong token was answered with {status}");
        ensure!(told.is_empty(), "the webhook was called of something else: {:?}", told.recv().await);
        anyhow::Ok(())
    })?;

    // Everything once, and in the order in which it was pushed.
    lab.client(0).block_on(async {
        for User { name, received, expected } in &mut users {
            for text in expected.drain(..) {
                let next = timeout(LIMIT, received.recv()).await.with_context(|| format!("{name} misses {text}"))?;
                match next.with_context(|| format!("{name} has lost the connection before {text}"))? {
                    Message::Text(got) if got.as_str() == text => {}
                    other => bail!("{name} expected {text} and got {other:?}"),
                }
            }
        }
        anyhow::Ok(())
    })?;

    front.terminate(LIMIT)?;
    listening.abort();
    Ok(())
}
