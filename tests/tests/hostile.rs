//! What strangers can send. Keeps the promises *a SYN never creates state* and *nothing is believed unauthenticated*.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use ringsteer::config::Mode;
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions, PUSH_PORT, WEBSOCKET_PORT},
    lab::{Family, Lab},
    on_each_family_and_in_each_mode, on_each_mix,
    packet::{Datagram, Flags, RawSocket, Segment, SynFlood},
    probe::{Options, Probe},
};

on_each_family_and_in_each_mode!(
    a_syn_flood_leaves_no_trace_and_keeps_nobody_out,
    forged_segments_leave_a_live_connection_intact,
);

on_each_mix!(tunnel_packets_of_strangers_are_dropped_and_counted);

/// The tunnel's port.
const TUNNEL_PORT: u16 = 6080;

fn a_syn_flood_leaves_no_trace_and_keeps_nobody_out(family: Family, mode: Mode) -> Result<()> {
    const COUNT: u32 = 100_000;
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::in_mode(family, mode))?;
    let address = fleet.websocket();
    let flood = SynFlood { target: address, count: COUNT, seed: 7 };
    let socket = RawSocket::open(lab.pusher())?;
    let meanwhile = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood.send(&socket));
        let mut connected = 0;
        // At least one connection while the flood lasts, and as many more as fit.
        while connected == 0 || !flooding.is_finished() {
            lab.client(0)
                .run(|| Probe::open(address, &format!("meanwhile-{connected}"), Options::default())?.echo(100))?;
            connected += 1;
        }
        flooding.join().expect("no panic")?;
        anyhow::Ok(connected)
    })?;
    let name = match mode {
        Mode::LateBinding => "syn_answered",
        Mode::Accept => "syn_passed_on",
    };
    // News of the last connection may still be on its way to the edge.
    let edge = lab.router().block_on(fleet.wait_for_status(lab.edge(), |edge| edge.flows >= meanwhile))?;
    let dialled = edge.counters[name];
    ensure!(dialled >= u64::from(COUNT), "{name} is only {dialled}");
    ensure!(edge.flows == meanwhile, "{} flows for {meanwhile} connections", edge.flows);
    if mode == Mode::Accept {
        return Ok(());
    }
    let mut admitted = 0;
    for node in 0..2 {
        admitted += lab.router().block_on(fleet.counter(node, "admitted"))?;
    }
    ensure!(admitted == meanwhile, "{admitted} sockets were created for {meanwhile} connections");
    Ok(())
}

fn forged_segments_leave_a_live_connection_intact(family: Family, mode: Mode) -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::in_mode(family, mode))?;
    let address = fleet.websocket();
    let client = lab.client(0);
    let forger = RawSocket::open(lab.pusher())?;
    for user in ["victim-1", "victim-2", "victim-3", "victim-4"] {
        let mut probe = client.run(|| Probe::open(address, user, Options::default()))?;
        probe.echo(500)?;
        let source = SocketAddr::new(client.address(family), probe.port());
        for round in 0..20u32 {
            let sequence = round.wrapping_mul(0x1234_5677).wrapping_add(99);
            forger.send(&Segment::syn(source, address, sequence).to_bytes())?;
            for flags in [Flags::ACK, Flags::ACK | Flags::FIN, Flags::RST, Flags::RST | Flags::ACK] {
                let mut forged = Segment::new(source, address, flags);
                forged.sequence = sequence;
                forged.acknowledgement = sequence.rotate_left(9);
                forger.send(&forged.to_bytes())?;
            }
            let mut data = Segment::new(source, address, Flags::ACK | Flags::PSH);
            data.sequence = sequence;
            data.acknowledgement = !sequence;
            data.payload = b"GET /?sendID=forged HTTP/1.1\r\n\r\n".to_vec();
            forger.send(&data.to_bytes())?;
            probe.echo(2000).with_context(|| format!("{user} after {round} rounds of forgery"))?;
        }
    }
    let edge = lab.router().block_on(fleet.status(lab.edge()))?;
    ensure!(
        edge.flows == 4 && edge.counters["rebound"] == 0,
        "{} flows, {} rebound",
        edge.flows,
        edge.counters["rebound"]
    );
    Ok(())
}

fn tunnel_packets_of_strangers_are_dropped_and_counted(clients: Family, nodes: Family) -> Result<()> {
    const COUNT: u64 = 50;
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::mixed(clients, nodes))?;
    let inner = |port| {
        let to = SocketAddr::new(lab.virtual_address(clients), port);
        Segment::syn(SocketAddr::new(lab.client(0).address(clients), 4000), to, 1).to_bytes()
    };
    let socket = RawSocket::open(lab.pusher())?;
    let send = |source, port| {
        let to = SocketAddr::new(lab.node(1).address(nodes), TUNNEL_PORT);
        let packet = Datagram::new((source, 50_000), to, inner(port));
        (0..COUNT).try_for_each(|_| socket.send(&packet.to_bytes()))
    };
    // From an address that is no node's.
    send(lab.pusher().address(nodes), PUSH_PORT)?;
    // From a node's, for something that is none of our services.
    send(lab.node(0).address(nodes), WEBSOCKET_PORT + 7)?;
    // Behind them, on the same way, something that is answered: by then they have arrived.
    lab.pusher().run(|| Probe::open(fleet.websocket(), "after", Options::default()).map(drop))?;
    let status = lab.router().block_on(fleet.status(1))?;
    let counted = |name: &str| status.counters[name];
    ensure!(counted("drop_tunnel_sender") == COUNT, "{} from a stranger", counted("drop_tunnel_sender"));
    ensure!(counted("drop_tunnel_content") == COUNT, "{} with foreign content", counted("drop_tunnel_content"));
    Ok(())
}
