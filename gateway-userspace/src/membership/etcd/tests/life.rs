//! What a fleet does by itself, and what operators do to it.

use super::*;
use crate::{
    membership::object::RingObject,
    ring::{Epoch, fixtures},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_says_so() {
    let (fleet, mut nodes) = fleet_of(2, 600).await;
    nodes[0].set_state(MemberState::Draining);
    for node in &mut nodes {
        let is_it = |ring: &Ring| member(ring, "node-1:88").unwrap().state == MemberState::Draining;
        let ring = node.ring(is_it).await;
        assert_eq!(member(&ring, "node-2:88").unwrap().state, MemberState::Active);
    }
    nodes[0].set_state(MemberState::Active);
    for node in &mut nodes {
        node.ring(|ring| member(ring, "node-1:88").unwrap().state == MemberState::Active).await;
    }
    drop(fleet);
}

/// A node that is killed, and started again before its lease and the grace period end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_started_again_has_not_been_away() {
    let (mut fleet, mut nodes) = fleet_of(2, 600).await;
    let before = fleet.ring_revision().await;
    let first = nodes.remove(0);
    let ring = first.last().unwrap().clone();
    first.kill().await;
    // The same node once more.
    fleet.nodes.clear();
    let mut again = fleet.direct(600);
    fleet.nodes = vec!["node-1:88".into(), "node-2:88".into()];
    assert_eq!(again.ring_with(&fleet, &[]).await.digest(), ring.digest());
    again.silence().await;
    nodes[0].silence().await;
    assert_eq!(fleet.ring_revision().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_start_at_once_come_to_one_ring() {
    let mut fleet = Fleet::<false>::start().await;
    let mut nodes: Vec<_> = (0..12).map(|_| fleet.direct(600)).collect();
    let mut rings = Vec::new();
    for node in &mut nodes {
        rings.push(node.ring_with(&fleet, &[]).await);
    }
    futures_util::future::join_all(nodes.iter_mut().map(Following::silence)).await;
    assert!(rings.iter().all(|ring| (ring.epoch(), ring.digest()) == (rings[0].epoch(), rings[0].digest())));
    // At worst one of them joins after the other.
    assert!(rings[0].epoch().0 <= 12, "{} epochs for 12 nodes", rings[0].epoch());
}

/// A ring key that is deleted is written again as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_that_is_lost_is_written_again() {
    let (mut fleet, mut nodes) = fleet_of(2, 600).await;
    let before = fleet.text("/fleet/ring").await.unwrap();
    fleet.client.delete("/fleet/ring", None).await.unwrap();
    fleet.wait_for("/fleet/ring", true).await;
    assert_eq!(fleet.text("/fleet/ring").await.unwrap(), before);
    // The same from an old backup.
    fleet.set_members(&["a:88"]).await;
    for node in &mut nodes {
        node.ring_with(&fleet, &["a:88"]).await;
    }
    let newest = fleet.text("/fleet/ring").await.unwrap();
    fleet.client.put("/fleet/ring", before, None).await.unwrap();
    fleet.wait_until("/fleet/ring", |text| text == Some(&newest)).await;
    for node in &mut nodes {
        node.silence().await;
    }
}

/// Agents that were all started anew go on from the ring that was in force, though etcd knows nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_go_on_after_etcd_was_replaced() {
    let members = ["node-1:88", "node-2:88"].iter().zip(201..);
    let members = members
        .map(|(identity, last)| Member { address: address(last), ..fixtures::member(u16::from(last), identity) });
    let ring = Ring::new(Epoch(7), Algorithm::OpenIm, members.collect()).unwrap();
    // One that knows nothing, and one that has begun anew.
    for older in [None, Some(Ring::new(Epoch(1), Algorithm::OpenIm, vec![fixtures::member(9, "b:88")]).unwrap())] {
        let mut fleet = Fleet::<false>::start().await;
        if let Some(older) = older {
            fleet.client.put("/fleet/ring", RingObject::from(older).to_text(), None).await.unwrap();
        }
        let config = fleet.config(fleet.server.url(), 600);
        let mut source = Box::new(fleet.node(config));
        source.remember(ring.clone());
        let mut node = Following::start(source);
        let Event::Ring(first) = node.next().await else { panic!("no ring") };
        assert_eq!((first.epoch(), first.digest()), (ring.epoch(), ring.digest()));
        fleet
            .wait_until("/fleet/ring", |text| text.is_some_and(|text| text.contains(&ring.digest().to_string())))
            .await;
    }
}

/// An operator may write the ring, too: with a higher epoch, and without a digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_change_the_ring() {
    let (mut fleet, mut nodes) = fleet_of(2, 600).await;
    let text = fleet.text("/fleet/ring").await.unwrap();
    let object = RingObject::parse(text.as_bytes()).unwrap();
    let epoch = object.ring().epoch().0 + 10;
    let mut written: serde_json::Value = serde_json::from_str(&text).unwrap();
    written["epoch"] = epoch.into();
    written["members"].as_array_mut().unwrap().reverse();
    written.as_object_mut().unwrap().remove("digest");
    fleet.client.put("/fleet/ring", written.to_string(), None).await.unwrap();
    for node in &mut nodes {
        let ring = node.ring(|ring| ring.epoch().0 == epoch).await;
        let names: Vec<_> = ring.members().iter().map(|member| member.identity.as_str()).collect();
        assert_eq!(names, ["node-2:88", "node-1:88"]);
        node.silence().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_one_name_are_told() {
    let (mut fleet, mut nodes) = fleet_of(1, 600).await;
    let value = r#"{"address":"198.51.100.77"}"#;
    fleet.client.put("/fleet/members/node-1:88", value, None).await.unwrap();
    let complaint = "another node, at 198.51.100.77, announces itself as node-1:88, which is this one's name; give \
                     one of them another `identity`";
    assert_eq!(nodes[0].trouble().await, complaint);
    // Who came last has the place, and it is said again with the ring that follows from it.
    let ring = match nodes[0].next().await {
        Event::Ring(ring) => ring,
        other => panic!("{other:?}"),
    };
    assert_eq!(member(&ring, "node-1:88").unwrap().address.to_string(), "198.51.100.77");
    assert_eq!(nodes[0].trouble().await, complaint);
    // When the other one goes, ours is there again.
    fleet.client.delete("/fleet/members/node-1:88", None).await.unwrap();
    let back = |ring: &Ring| member(ring, "node-1:88").unwrap().address == address(201);
    while !matches!(nodes[0].next().await, Event::Ring(ring) if back(&ring)) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announcement_that_cannot_be_read_is_told() {
    let (mut fleet, mut nodes) = fleet_of(1, 600).await;
    fleet.client.put("/fleet/members/b:88", "hello", None).await.unwrap();
    let trouble = nodes[0].trouble().await;
    assert!(trouble.starts_with("the key /fleet/members/b:88 in etcd announces no node: "), "{trouble}");
    nodes[0].silence().await;
    fleet.client.delete("/fleet/members/b:88", None).await.unwrap();
    assert!(matches!(nodes[0].next().await, Event::Well));
}

/// More at once than etcd takes conditions in a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_vanish_at_once_leave_the_ring() {
    let (mut fleet, mut nodes) = fleet_of(1, 0).await;
    for last in 1..=200 {
        let value = format!("{{\"address\":\"{}\"}}", address(last));
        fleet.client.put(format!("/fleet/members/many-{last}:88"), value, None).await.unwrap();
    }
    nodes[0].ring(|ring| ring.members().len() == 201).await;
    let prefix = etcd_client::DeleteOptions::new().with_prefix();
    fleet.client.delete("/fleet/members/many-", Some(prefix)).await.unwrap();
    nodes[0].ring(|ring| ring.members().len() == 1).await;
}
