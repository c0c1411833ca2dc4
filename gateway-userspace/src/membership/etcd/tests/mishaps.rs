//! What can happen to a fleet that keeps its members in etcd.

use etcd_client::CompactionOptions;

use super::*;

/// The lease goes, and the announcement with it: the node announces itself again, and nobody moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lease_moves_nobody() {
    let (mut fleet, mut nodes) = fleet_of(2, 600).await;
    let before = fleet.ring_revision().await;
    let key = "/fleet/members/node-1:88";
    let lease = fleet.lease(key).await.expect("the node is there");
    fleet.client.lease_revoke(lease).await.unwrap();
    fleet.wait_for(key, true).await;
    assert_ne!(fleet.lease(key).await, Some(lease));
    for node in &mut nodes {
        node.silence().await;
    }
    assert_eq!(fleet.ring_revision().await, before);
}

/// A node that cannot reach etcd for longer than its lease, but not than the grace period, has not been away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cut_off_for_less_than_the_grace_period_moves_nobody() {
    for way in [Way::Closed, Way::Silent] {
        let mut fleet = Fleet::<false>::start().await;
        let (mut here, mut cut) = (fleet.direct(600), fleet.proxied(600));
        here.ring_with(&fleet, &[]).await;
        let ring = cut.ring_with(&fleet, &[]).await;
        let before = fleet.ring_revision().await;

        fleet.proxy.set(way);
        fleet.wait_for("/fleet/members/node-2:88", false).await;
        let trouble = cut.trouble().await;
        assert!(trouble.contains("cannot be reached"), "{trouble}");
        fleet.proxy.set(Way::Open);
        assert!(matches!(cut.next().await, Event::Well));
        fleet.wait_for("/fleet/members/node-2:88", true).await;
        here.silence().await;
        assert_eq!(fleet.ring_revision().await, before, "{way:?}");
        assert_eq!(fleet.client.get("/fleet/ring", None).await.unwrap().kvs()[0].version(), ring.epoch().0 as i64);
    }
}

/// One that is away for longer leaves the ring, keeps the last one meanwhile, and joins again under another number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cut_off_for_longer_leaves_and_joins_again() {
    let mut fleet = Fleet::<false>::start().await;
    let (mut here, mut cut) = (fleet.direct(1), fleet.proxied(1));
    here.ring_with(&fleet, &[]).await;
    let before = cut.ring_with(&fleet, &[]).await;

    fleet.proxy.set(Way::Silent);
    cut.trouble().await;
    let without = here.ring(|ring| ring.members().len() == 1).await;
    assert_eq!(without.members()[0], before.members()[0]);
    assert_eq!(cut.last().unwrap().epoch(), before.epoch());

    fleet.proxy.set(Way::Open);
    let again = here.ring_with(&fleet, &[]).await;
    assert_eq!(cut.ring(|ring| ring.epoch() == again.epoch()).await.digest(), again.digest());
    assert_eq!(again.members()[0], before.members()[0]);
    let numbers = [&before, &again].map(|ring| member(ring, "node-2:88").unwrap().number.get());
    assert_ne!(numbers[0], numbers[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_started_again_changes_nothing() {
    let (mut fleet, mut nodes) = fleet_of(2, 600).await;
    for round in 0..2 {
        let before = fleet.ring_revision().await;
        fleet.server.kill();
        for node in &mut nodes {
            let trouble = node.trouble().await;
            assert!(trouble.ends_with("the last ring stays in force"), "{trouble}");
        }
        fleet.server.restart();
        for node in &mut nodes {
            assert!(matches!(node.next().await, Event::Well));
        }
        fleet.client = fleet.server.client().await;
        assert_eq!(fleet.ring_revision().await, before);
        let name = format!("round-{round}:88");
        fleet.set_members(&[&name]).await;
        for node in &mut nodes {
            node.ring(|ring| member(ring, &name).is_some()).await;
        }
    }
}

/// A watch that is too slow to tell everything before it is compacted: etcd ends it, and what it would have told is
/// read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_under_the_watch_loses_nothing() {
    let mut fleet = Fleet::<false>::start().await;
    let mut here = fleet.direct(600);
    // Its lease must outlive the silence.
    let config = Etcd { lease_ttl_s: 120, ..fleet.config(fleet.proxy.url(), 600) };
    let mut deaf = Following::start(Box::new(fleet.node(config)));
    here.ring_with(&fleet, &[]).await;
    deaf.ring_with(&fleet, &[]).await;
    // A watch of the test's own on the same way, to see that etcd does end it.
    let mut witness = Client::connect([fleet.proxy.url()], None).await.unwrap();
    let mut witness = witness.watch("/fleet/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    assert!(witness.message().await.unwrap().unwrap().created());

    fleet.proxy.set(Way::Deaf);
    // More than etcd, HTTP/2 and TCP hold back for a watch that is not read from.
    let filler = "x".repeat(8 << 10);
    for _ in 0..40 {
        let batch = (0..50).map(|_| {
            let (mut client, filler) = (fleet.client.clone(), filler.clone());
            async move { client.put("/fleet/noise", filler, None).await.unwrap() }
        });
        futures_util::future::join_all(batch).await;
    }
    fleet.set_members(&["a:88"]).await;
    let ring = here.ring_with(&fleet, &["a:88"]).await;
    let revision = fleet.client.get("x", None).await.unwrap().header().unwrap().revision();
    fleet.client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();

    fleet.proxy.set(Way::Open);
    let ended = async {
        loop {
            let message = witness.message().await.unwrap().expect("a word before it ends");
            if message.compact_revision() > 0 {
                return;
            }
        }
    };
    timeout(PATIENCE, ended).await.expect("etcd compacts what the watch has not told");
    assert_eq!(deaf.ring_with(&fleet, &["a:88"]).await.digest(), ring.digest());
    fleet.set_members(&["a:88", "b:88"]).await;
    deaf.ring_with(&fleet, &["a:88", "b:88"]).await;
}
