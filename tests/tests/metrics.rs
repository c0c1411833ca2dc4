//! What monitoring sees of a fleet is what happens in it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ringsteer::ring::{Epoch, Ring};
use ringsteer_ebpf::layout::stats::Stats;
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::Lab,
    probe::{Options, Probe},
    scrape::{self, AGENT, GATEWAY, Scrape},
};

const CLIENTS: usize = 24;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_figures_are_those_of_the_fleet() -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    for node in 0..3 {
        lab.router()
            .block_on(fleet.wait_for_status(node, |status| status.peers.agrees == 2 && status.readiness.ready))?;
    }
    let address = fleet.websocket();
    let user = |index| format!("metric-{index}");
    let probes = lab.client(0).run(|| {
        (0..CLIENTS).map(|index| Probe::open(address, &user(index), Options::default())).collect::<Result<Vec<_>>>()
    })?;

    // What the others say comes over their links; our own may still be under way.
    let other = &fleet.ring.members()[1].identity;
    let link_up = format!("ringsteer_peer_link_up{{peer=\"{other}\"}}");
    let deadline = Instant::now() + PATIENCE;
    let edge = loop {
        let edge = Scrape::of(lab.node(lab.edge()), AGENT)?;
        if edge.value(&link_up)? == 1.0 {
            break edge;
        }
        ensure!(Instant::now() < deadline, "the link to {other} is still down after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    };
    for name in Stats::NAMES {
        edge.value(&format!("ringsteer_packets_total{{verdict=\"{name}\"}}"))?;
    }
    ensure!(edge.value("ringsteer_packets_total{verdict=\"bound_by_key\"}")? == CLIENTS as f64);
    ensure!(edge.value("ringsteer_flows")? == CLIENTS as f64);
    ensure!(edge.value("ringsteer_flows_max")? == 16_384.0);
    ensure!(edge.value("ringsteer_ring_epoch")? == 1.0);
    let digest = fleet.ring.digest();
    ensure!(edge.value(&format!("ringsteer_ring_info{{digest=\"{digest}\",algorithm=\"openim\"}}"))? == 1.0);
    ensure!(edge.value("ringsteer_ring_members{state=\"active\"}")? == 3.0);
    ensure!(edge.value("ringsteer_peers{standing=\"agrees\"}")? == 2.0);
    ensure!(edge.value(&format!("ringsteer_peer_standing{{peer=\"{other}\",standing=\"agrees\"}}"))? == 1.0);
    ensure!(edge.value(&format!("ringsteer_peer_standing{{peer=\"{other}\",standing=\"differs\"}}"))? == 0.0);
    ensure!(edge.value("ringsteer_source_trouble{source=\"file\"}")? == 0.0);
    ensure!(edge.value("ringsteer_gateway_follows")? == 1.0 && edge.value("ringsteer_ready")? == 1.0);
    ensure!(edge.value("ringsteer_clients_reset_total")? == 0.0);
    ensure!(edge.help.values().all(|help| help.len() > 8), "names without a meaning: {:?}", edge.help);

    // Each gateway has the sessions of the users that its node owns.
    for node in 0..3 {
        let number = fleet.ring.members()[node].number;
        let owned = (0..CLIENTS).filter(|&index| fleet.ring.owner(user(index).as_bytes()).number == number).count();
        let gateway = Scrape::of(lab.node(node), GATEWAY)?;
        ensure!(gateway.value("ringsteer_sessions")? == owned as f64, "node {node}: {:?}", gateway.samples);
        ensure!(gateway.value("ringsteer_sessions_opened_total")? == owned as f64);
        ensure!(gateway.value(&format!("ringsteer_ring_info{{digest=\"{digest}\"}}"))? == 1.0);
        let flows = format!("ringsteer_node_flows{{node=\"{number}\"}}");
        ensure!(edge.samples.get(&flows).copied().unwrap_or(0.0) == owned as f64, "node {node}: {:?}", edge.samples);
        for port in [AGENT, GATEWAY] {
            ensure!(scrape::page(lab.node(node), port, "/healthz")?.status == 200);
            let ready = scrape::page(lab.node(node), port, "/readyz")?;
            ensure!(ready.status == 200 && ready.body == "{\"ready\":true,\"reasons\":[]}\n", "{ready:?}");
        }
    }
    drop(probes);

    // A node with another ring of the same epoch says so to probes, too.
    let members = fleet.ring.members()[..2].to_vec();
    fleet.give_ring(0, &Ring::new(Epoch(2), fleet.ring.algorithm(), fleet.ring.members().to_vec())?)?;
    fleet.give_ring(1, &Ring::new(Epoch(2), fleet.ring.algorithm(), members)?)?;
    lab.router().block_on(fleet.wait_for_status(1, |status| status.peers.differs == 1))?;
    let unready = scrape::page(lab.node(1), AGENT, "/readyz")?;
    ensure!(unready.status == 503 && unready.body.contains("another ring of epoch 2"), "{unready:?}");
    let differing = Scrape::of(lab.node(1), AGENT)?;
    ensure!(
        differing.value("ringsteer_peers{standing=\"differs\"}")? == 1.0 && differing.value("ringsteer_ready")? == 0.0
    );
    let rings = differing.value("ringsteer_source_rings_total{source=\"file\"}")?;
    ensure!(rings >= 2.0, "{rings} rings were taken");
    Ok(())
}
