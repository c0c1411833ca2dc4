//! Packets made by hand, tempers and clients, seen from the other end of the wire.

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use ringsteer_tests::client::{
    Dial, Login, Message, Opening, Pace, Push, Shape, leave, open, open_paced, write_chunks,
};
use ringsteer_tests::lab::{Family, Host, Lab, temper};
use ringsteer_tests::on_each_family;
use ringsteer_tests::packet::{Datagram, Flags, RawSocket, Segment, Sniffer, SynFlood, TcpOption};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 10001;

on_each_family!(
    a_handshake_by_hand_from_an_address_without_a_kernel,
    a_flood_arrives_and_its_answers_go_nowhere,
    a_datagram_with_a_forged_source_arrives,
    tempers_show_in_the_syn,
    a_source_port_can_be_used_again_at_once,
    each_chunk_has_a_segment_of_its_own,
    a_client_speaks_websocket_with_a_server_that_is_not_ours,
    a_refusal_and_a_push_are_read,
);

/// Listens on the virtual address of node 0; what comes is read and forgotten.
fn sink(lab: &Lab, family: Family) -> Result<SocketAddr> {
    let address = SocketAddr::new(lab.virtual_address(family), PORT);
    let (report, listening) = tokio::sync::oneshot::channel();
    lab.node(0).spawn(async move {
        let listener = TcpListener::bind(address).await.expect("the address is on lo");
        let _ = report.send(());
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    })?;
    lab.router().block_on(listening)?;
    Ok(address)
}

/// Reads segments between two ends, in this direction.
fn between(source: SocketAddr, destination: SocketAddr) -> impl FnMut(&[u8]) -> Option<Segment> {
    move |packet| Segment::parse(packet).filter(|seen| seen.source == source && seen.destination == destination)
}

fn a_handshake_by_hand_from_an_address_without_a_kernel(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let address = SocketAddr::new(lab.virtual_address(family), PORT);
    let (report, listening) = tokio::sync::oneshot::channel();
    let server = lab.node(0).spawn(async move {
        let listener = TcpListener::bind(address).await?;
        let _ = report.send(());
        let (mut stream, from) = listener.accept().await?;
        let mut received = [0; 5];
        stream.read_exact(&mut received).await?;
        anyhow::Ok((from, received))
    })?;
    lab.router().block_on(listening)?;

    let client = lab.client(0);
    let us = SocketAddr::new(client.spare_address(family), 4000);
    let (socket, sniffer) = (RawSocket::open(client)?, Sniffer::open(client)?);
    socket.send(&Segment::syn(us, address, 1000).to_bytes())?;
    let syn_ack = sniffer.first(LIMIT, between(address, us))?.context("no answer to the SYN")?;
    ensure!(syn_ack.flags == Flags::SYN | Flags::ACK && syn_ack.acknowledgement == 1001, "{syn_ack:?}");
    let mut data = Segment::acknowledging(&syn_ack);
    data.payload = b"hello".to_vec();
    socket.send(&data.to_bytes())?;

    let (from, received) = lab.router().block_on(server)??;
    ensure!(from == us && &received == b"hello");
    // A kernel that knew the address would have answered the SYN+ACK by RST.
    let resets = sniffer.collect(Duration::from_millis(50), |packet| {
        Segment::parse(packet).filter(|seen| seen.flags.contains(Flags::RST))
    })?;
    ensure!(resets.is_empty(), "{resets:?}");
    Ok(())
}

fn a_flood_arrives_and_its_answers_go_nowhere(family: Family) -> Result<()> {
    const COUNT: u32 = 2000;
    let lab = Lab::builder().nodes(1).build()?;
    let target = sink(&lab, family)?;
    let sniffer = Sniffer::open(lab.node(0))?;
    let flood = SynFlood { target, count: COUNT, seed: 1 };
    let expected: HashSet<_> = flood.segments().map(|syn| (syn.source, syn.sequence)).collect();
    flood.send(&RawSocket::open(lab.client(0))?)?;
    let (mut syns, mut others) = (HashSet::new(), Vec::new());
    sniffer.first(LIMIT, |packet| {
        let seen = Segment::parse(packet).filter(|seen| seen.destination == target)?;
        if seen.flags == Flags::SYN {
            syns.insert((seen.source, seen.sequence));
        } else {
            others.push(seen);
        }
        (syns.len() == expected.len()).then_some(())
    })?;
    ensure!(syns == expected, "{} of {} SYNs arrived", syns.len(), expected.len());
    ensure!(others.is_empty(), "somebody answers for the sources: {:?}", others[0]);
    Ok(())
}

fn a_datagram_with_a_forged_source_arrives(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(2).build()?;
    let target = SocketAddr::new(lab.node(0).address(family), 6080);
    let forged = SocketAddr::new(lab.node(1).address(family), 50_000);
    let (report, listening) = tokio::sync::oneshot::channel();
    let server = lab.node(0).spawn(async move {
        let socket = UdpSocket::bind(target).await?;
        let _ = report.send(());
        let mut payload = [0; 100];
        let (length, from) = socket.recv_from(&mut payload).await?;
        anyhow::Ok((payload[..length].to_vec(), from))
    })?;
    lab.router().block_on(listening)?;
    let datagram = Datagram::new(forged, target, b"a packet".to_vec());
    RawSocket::open(lab.client(0))?.send(&datagram.to_bytes())?;
    let (payload, from) = lab.router().block_on(server)??;
    ensure!(payload == b"a packet" && from == forged);
    Ok(())
}

/// Connects from a host, closes, and gives the SYN as the router saw it.
fn syn_of(lab: &Lab, host: &Host, dial: Dial) -> Result<Segment> {
    let sniffer = Sniffer::open(lab.router())?;
    host.block_on(async { leave(dial.connect().await?).await })?;
    let is_syn = |packet: &[u8]| Segment::parse(packet).filter(|seen| seen.flags.contains(Flags::SYN));
    sniffer.first(LIMIT, is_syn)?.context("no SYN passed")
}

fn tempers_show_in_the_syn(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let target = sink(&lab, family)?;
    for temper in temper::ALL {
        temper.apply(lab.client(0))?;
        let syn = syn_of(&lab, lab.client(0), Dial::new(target).max_segment(temper.max_segment))?;
        let has = |wanted: fn(&TcpOption) -> bool| syn.options.iter().any(wanted);
        let seen = temper::Temper {
            name: temper.name,
            timestamps: has(|option| matches!(option, TcpOption::Timestamps(..))),
            window_scaling: has(|option| matches!(option, TcpOption::WindowScale(_))),
            sack: has(|option| matches!(option, TcpOption::SackPermitted)),
            ecn: syn.flags.contains(Flags::ECE | Flags::CWR),
            max_segment: syn.options.iter().find_map(|option| match option {
                TcpOption::MaximumSegmentSize(bytes) if *bytes == family.segment_max() => None,
                TcpOption::MaximumSegmentSize(bytes) => Some(*bytes),
                _ => None,
            }),
        };
        ensure!(seen == temper, "wanted {temper:?}, saw {syn:?}");
    }
    Ok(())
}

fn a_source_port_can_be_used_again_at_once(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let target = sink(&lab, family)?;
    for _ in 0..3 {
        let syn = syn_of(&lab, lab.client(0), Dial::new(target).source_port(4711))?;
        ensure!(syn.source == SocketAddr::new(lab.client(0).address(family), 4711));
    }
    Ok(())
}

fn each_chunk_has_a_segment_of_its_own(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let target = sink(&lab, family)?;
    let request: Vec<u8> = Login::new("alice").request(Shape::Native);
    let chunks: Vec<&[u8]> = request.chunks(1).take(40).chain([&request[40..100], &request[100..]]).collect();
    for (pace, port) in [(Pace::Sent, 4000), (Pace::Acknowledged, 4001)] {
        let sniffer = Sniffer::open(lab.client(0))?;
        lab.client(0).block_on(async {
            let mut stream = Dial::new(target).source_port(port).connect().await?;
            write_chunks(&mut stream, &chunks, pace).await?;
            stream.shutdown().await?;
            anyhow::Ok(())
        })?;
        let mut seen = Vec::new();
        let mut read = between(SocketAddr::new(lab.client(0).address(family), port), target);
        sniffer.first(LIMIT, |packet| {
            let segment = read(packet)?;
            let last = segment.flags.contains(Flags::FIN);
            if !segment.payload.is_empty() {
                seen.push(segment.payload);
            }
            last.then_some(())
        })?;
        ensure!(seen == chunks, "{pace:?}: {:?} became {:?}", lengths(&chunks), lengths(&seen));
    }
    Ok(())
}

fn lengths(chunks: &[impl AsRef<[u8]>]) -> Vec<usize> {
    chunks.iter().map(|chunk| chunk.as_ref().len()).collect()
}

/// A websocket server, not ours, that echoes on node 0.
fn echo_server(lab: &Lab, family: Family) -> Result<SocketAddr> {
    let address = SocketAddr::new(lab.virtual_address(family), PORT);
    let (report, listening) = tokio::sync::oneshot::channel();
    lab.node(0).spawn(async move {
        let listener = TcpListener::bind(address).await.expect("the address is on lo");
        let _ = report.send(());
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await?;
                while let Some(Ok(message)) = socket.next().await {
                    if matches!(message, Message::Text(_) | Message::Binary(_)) {
                        socket.send(message).await?;
                    }
                }
                anyhow::Ok(())
            });
        }
    })?;
    lab.router().block_on(listening)?;
    Ok(address)
}

fn a_client_speaks_websocket_with_a_server_that_is_not_ours(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let address = echo_server(&lab, family)?;
    lab.client(0).block_on(async {
        for shape in Shape::ALL {
            let request = Login::new("alice").request(shape);
            let mut connection = open(Dial::new(address).connect().await?, &[&request]).await?.connection()?;
            connection.echo(Message::text("hello")).await?;
            connection.echo(Message::binary(vec![0; 100_000])).await?;
            connection.close().await?;
        }
        let request = Login::new("bob").request(Shape::Wasm);
        let pieces = [&request[..1], &request[1..200], &request[200..]];
        let stream = Dial::new(address).connect().await?;
        let mut connection = open_paced(stream, &pieces, Pace::Acknowledged).await?.connection()?;
        connection.echo(Message::text("in pieces")).await
    })
}

fn a_refusal_and_a_push_are_read(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(1).build()?;
    let address = SocketAddr::new(lab.virtual_address(family), PORT);
    let (report, listening) = tokio::sync::oneshot::channel();
    let server = lab.node(0).spawn(async move {
        let listener = TcpListener::bind(address).await?;
        let _ = report.send(());
        let mut requests = Vec::new();
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"errCode\":1502}",
            "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"delivered\":2}",
        ] {
            let (mut stream, _) = listener.accept().await?;
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await?;
            request.truncate(length);
            requests.push(request);
            stream.write_all(answer.as_bytes()).await?;
        }
        anyhow::Ok(requests)
    })?;
    let push = Push::text("a +é", "news");
    let (refusal, pushed, requests) = lab.client(0).block_on(async {
        listening.await?;
        let stream = Dial::new(address).connect().await?;
        let opening: Opening = open(stream, &[&Login::new("alice").request(Shape::Native)]).await?;
        let refusal = opening.refusal()?;
        let pushed = push.send(Dial::new(address).connect().await?).await?;
        anyhow::Ok((refusal, pushed, server.await??))
    })?;
    ensure!(refusal.status == 200 && refusal.json()?["errCode"] == 1502);
    ensure!(pushed.json()?["delivered"] == 2);
    ensure!(requests[1].starts_with(b"POST /push?recvID=a%20%2B%C3%A9 HTTP/1.1\r\n") && requests[1].ends_with(b"news"));
    Ok(())
}
