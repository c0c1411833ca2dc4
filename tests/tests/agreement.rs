//! One ring: whether all nodes have it is seen on every node, and a node that has another one says so.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{
    control::{self, Status},
    peer::agreement::Standing,
    ring::{Epoch, Member, Ring},
};
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::Lab,
    probe::{Options, Probe},
};

/// All nodes heard, and all of one mind.
fn all_agree(others: u32) -> impl Fn(&Status) -> bool {
    move |status| status.peers.agrees == others && status.readiness.ready
}

/// The fleet's ring with another epoch, and without the members that `keep` does not like.
fn changed(ring: &Ring, epoch: u64, keep: impl Fn(&Member) -> bool) -> Result<Ring> {
    let members = ring.members().iter().filter(|member| keep(member)).cloned().collect();
    Ok(Ring::new(Epoch(epoch), ring.algorithm(), members)?)
}

#[test]
fn two_agents_fed_different_lists_both_show_it() -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    lab.router().block_on(async {
        for node in 0..3 {
            fleet.wait_for_status(node, all_agree(2)).await?;
        }
        // One ring of three members and one of two, both of epoch 2, for the first two nodes.
        fleet.give_ring(0, &changed(&fleet.ring, 2, |_| true)?)?;
        fleet.give_ring(1, &changed(&fleet.ring, 2, |member| member.number.get() != 3)?)?;
        let since = Instant::now();
        for node in [0, 1] {
            let differs = |status: &Status| status.peers.differs == 1 && !status.readiness.ready;
            let status = fleet.wait_for_status(node, differs).await?;
            println!("node {node} shows it after {:?}: {:?}", since.elapsed(), status.readiness.reasons);
            ensure!(status.readiness.reasons[0].contains("has another ring of epoch 2"), "{status:?}");
            let peers = control::peers(&fleet.socket(node)).await?;
            let differs = peers.peers.iter().find(|peer| peer.standing == Standing::Differs);
            let other = differs.with_context(|| format!("{peers:?}"))?;
            ensure!(usize::from(other.number.get()) == 2 - node, "node {node} accuses {other:?}");
            ensure!(other.agent.map(|ring| ring.digest) != peers.ours.map(|ring| ring.digest), "{peers:?}");
        }
        // The third has heard of neither: it is behind the first, and the first says so, too.
        fleet.wait_for_status(2, |status| status.peers.ahead >= 1).await?;
        fleet.wait_for_status(0, |status| status.peers.lags == 1).await?;

        // One ring of a higher epoch for all of them ends it.
        fleet.give_ring_to_all(&changed(&fleet.ring, 3, |_| true)?)?;
        for node in 0..3 {
            fleet.wait_for_status(node, all_agree(2)).await?;
        }
        anyhow::Ok(())
    })?;
    for agent in &fleet.agents {
        ensure!(agent.is_running(), "an agent died");
    }
    Ok(())
}

#[test]
fn a_node_that_lags_is_not_ready_until_it_has_caught_up() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    lab.router().block_on(async {
        for node in [0, 1] {
            fleet.wait_for_status(node, all_agree(1)).await?;
        }
        let next = changed(&fleet.ring, 2, |_| true)?;
        fleet.give_ring(1, &next)?;
        // The one that has heard the news sees the other lag, and is ready itself.
        let ahead = fleet.wait_for_status(1, |status| status.peers.lags == 1).await?;
        ensure!(ahead.readiness.ready, "{:?}", ahead.readiness);
        fleet.wait_for_status(0, |status| status.peers.ahead == 1).await?;
        let behind = fleet.wait_for_status(0, |status| !status.readiness.ready).await?;
        ensure!(behind.readiness.reasons[0].contains("a higher epoch (2, ours is 1)"), "{:?}", behind.readiness);
        fleet.give_ring(0, &next)?;
        for node in [0, 1] {
            let status = fleet.wait_for_status(node, all_agree(1)).await?;
            ensure!(status.ring.as_ref().and_then(|ring| ring.previous) == Some(fleet.ring.name()), "{status:?}");
        }
        anyhow::Ok(())
    })
}

#[test]
fn a_node_whose_gateway_is_gone_is_not_ready() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    lab.router().block_on(async {
        let status = fleet.wait_for_status(0, all_agree(1)).await?;
        ensure!(status.gateways.len() == 1, "{:?}", status.gateways);
        fleet.gateways[0].kill()?;
        let status = fleet.wait_for_status(0, |status| !status.readiness.ready).await?;
        ensure!(status.readiness.reasons == ["the gateway of this node is not attached, or follows no ring"]);
        // The others hear that, too; their own readiness is none of its business.
        let told = |peers: &control::Peers| peers.peers[0].gateway.is_none();
        while !told(&control::peers(&fleet.socket(1)).await?) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let other = fleet.status(1).await?.readiness;
        ensure!(other.ready, "the other node is well: {other:?}");
        fleet.gateways[0].restart()?;
        fleet.wait_for_status(0, all_agree(1)).await?;
        anyhow::Ok(())
    })
}

/// The source is away when the agent starts again: it goes on with the last ring, and so do its gateway and the kernel.
#[test]
fn an_agent_without_its_source_goes_on_with_the_last_ring() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions { ring_file: true, ..FleetOptions::default() })?;
    let file = lab.node(0).run_dir().join("ring.toml");
    let aside = file.with_extension("aside");
    let address = fleet.websocket();
    let talk = |user: &str| lab.client(0).run(|| Probe::open(address, user, Options::default())?.echo(100));
    lab.router().block_on(async {
        let second = changed(&fleet.ring, 2, |_| true)?;
        fleet.give_ring_to_all(&second)?;
        for node in [0, 1] {
            let followed =
                |status: &Status| all_agree(1)(status) && status.ring.as_ref().is_some_and(|r| r.epoch.0 == 2);
            fleet.wait_for_status(node, followed).await?;
        }
        fs::rename(&file, &aside)?;
        fleet.wait_for_status(0, |status| status.source.trouble.is_some()).await?;
        fleet.agents[0].kill()?;
        talk("while-the-agent-is-dead")?;
        fleet.agents[0].restart()?;
        let status = fleet.wait_for_status(0, |status| status.source.trouble.is_some()).await?;
        let ring = status.ring.as_ref().context("the ring was forgotten")?;
        ensure!((ring.epoch, ring.digest) == (second.epoch(), second.digest()), "{status:?}");
        ensure!(ring.previous == Some(fleet.ring.name()), "the ring before was forgotten: {status:?}");
        talk("with-a-new-agent-that-has-no-source")?;
        // It agrees with the others, its gateway has come back to it, and it is ready.
        let status = fleet.wait_for_status(0, all_agree(1)).await?;
        println!("{:?}", status.source);

        // The source comes back, with what it had: that is no news.
        fs::rename(&aside, &file)?;
        fleet.wait_for_status(0, |status| status.source.trouble.is_none()).await?;
        // And with something older: that is refused.
        fleet.give_ring(0, &changed(&fleet.ring, 1, |_| true)?)?;
        let status = fleet.wait_for_status(0, |status| status.source.trouble.is_some()).await?;
        ensure!(status.ring.is_some_and(|ring| ring.epoch.0 == 2), "an older ring was taken");
        anyhow::Ok(())
    })
}

/// What the kernel's map says, what userspace says, and where the sessions really are.
#[test]
fn a_user_is_found_in_the_kernel_in_userspace_and_at_the_gateway() -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let address = fleet.websocket();
    let mut open = Vec::new();
    lab.router().block_on(async {
        for node in 0..3 {
            fleet.wait_for_status(node, all_agree(2)).await?;
        }
        for index in 0..12 {
            let user = format!("who-{index}");
            open.push(lab.client(0).run(|| Probe::open(address, &user, Options::default()))?);
            let owner = fleet.ring.owner(user.as_bytes());
            for node in 0..3 {
                let lookup = control::lookup(&fleet.socket(node), &user).await?;
                let kernel = lookup.kernel.as_ref().with_context(|| format!("{lookup:?}"))?;
                ensure!(lookup.agree && kernel.node == u32::from(owner.number.get()), "{lookup:?}");
                ensure!(kernel.address == Some(owner.address) && lookup.previous.is_none(), "{lookup:?}");
                let sessions = control::sessions(&fleet.socket(node), &user, false).await?;
                for place in &sessions.nodes {
                    let expected = usize::from(place.number == Some(owner.number));
                    ensure!(
                        place.error.is_none() && place.sessions.len() == expected,
                        "from node {node}: {sessions:?}"
                    );
                }
                ensure!(sessions.nodes.iter().any(|place| place.number == Some(owner.number)), "{sessions:?}");
            }
            // The edge knows the flow by the user.
            let filter = control::FlowFilter { user: Some(user.clone()), ..Default::default() };
            let mut flows = Vec::new();
            let end = control::flows(&fleet.socket(lab.edge()), filter, |flow| flows.push(flow)).await?;
            ensure!(end.matched == 1 && end.total == index + 1, "{end:?}");
            ensure!(flows[0].node == u32::from(owner.number.get()) && !flows[0].closing, "{flows:?}");
            ensure!(flows[0].service == Some(address) && flows[0].service_name.as_deref() == Some("websocket"));
            let client = open.last().context("just opened")?;
            ensure!(flows[0].client.port() == client.port(), "{flows:?}");
        }
        let members = control::members(&fleet.socket(lab.edge())).await?;
        ensure!(members.members.iter().map(|member| member.flows).sum::<u64>() == 12, "{members:?}");
        ensure!(members.orphaned_flows == 0 && members.members[0].here, "{members:?}");
        let shares: f64 = members.members.iter().map(|member| member.share).sum();
        ensure!((shares - 1.0).abs() < 1e-9, "{shares}");
        anyhow::Ok(())
    })
}
