//! Whether others may rely on this node, and if not, why. Pure.
//!
//! A node that is ready steers by the ring that everybody has. It need not be a member: whoever makes members of nodes
//! waits for them to be ready.

use std::time::Duration;

use crate::{
    peer::agreement::{Agreement, Standing},
    ring::RingName,
};

/// How long a node may be behind the others, or its gateway behind it, before it is not ready: news takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is known. Times are since the agent's start.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The ring in force here.
    pub ring: Option<RingName>,
    /// What the others say.
    pub agreement: &'a Agreement,
    /// How the gateway stands, if this node is to have one.
    pub gateway: Option<GatewayFact>,
    /// Now.
    pub now: Duration,
}

/// How the gateway of this node stands to its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayFact {
    /// The ring it follows; none if it follows none or is not there.
    pub ring: Option<RingName>,
    /// Since when it has followed that one.
    pub since: Duration,
    /// Since when the agent's ring has been in force.
    pub ring_since: Duration,
}

/// Why this node is not ready: a sentence each, none if it is.
pub fn reasons(facts: &Facts<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    let Some(ours) = facts.ring else {
        reasons.push("there is no ring yet: the source of membership has told none".to_owned());
        return reasons;
    };
    for (address, peer) in facts.agreement.peers() {
        let theirs = peer.heard.as_ref().and_then(|heard| heard.state.agent);
        let Some(theirs) = theirs else { continue };
        let waited = facts.now.saturating_sub(peer.since);
        match peer.standing {
            Standing::Ahead if waited > PATIENCE => reasons.push(format!(
                "node {address} has had a ring of a higher epoch ({}, ours is {}) for {} s",
                theirs.epoch,
                ours.epoch,
                waited.as_secs()
            )),
            Standing::Differs => reasons.push(format!(
                "node {address} has another ring of epoch {}: {}, ours is {}; publish one ring with a higher epoch",
                ours.epoch,
                theirs.digest.short(),
                ours.digest.short()
            )),
            _ => {}
        }
    }
    if let Some(gateway) = facts.gateway
        && gateway.ring != Some(ours)
    {
        // Behind since it fell behind: when the agent's ring changed, or when the gateway went.
        let since = gateway.since.max(gateway.ring_since);
        if facts.now.saturating_sub(since) > PATIENCE {
            reasons.push(match gateway.ring {
                None => "the gateway of this node is not attached, or follows no ring".to_owned(),
                Some(theirs) => format!("the gateway of this node follows ring {theirs}, not {ours}"),
            });
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        peer::message::State,
        ring::{Epoch, NodeAddress, fixtures},
    };

    fn ring(epoch: u64, members: usize) -> RingName {
        RingName { epoch: Epoch(epoch), digest: fixtures::openim(members, ":88").digest() }
    }

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn said(ring: Option<RingName>, agreement: &Agreement, gateway: Option<GatewayFact>, now: u64) -> Vec<String> {
        reasons(&Facts { ring, agreement, gateway, now: second(now) })
    }

    /// A peer that says it has `theirs` from second 10 to `now`.
    fn hearing(theirs: RingName, now: u64) -> Agreement {
        let address: NodeAddress = "198.51.100.12".parse().unwrap();
        let mut agreement = Agreement::default();
        agreement.follow(Some(ring(5, 2)), [address], second(0));
        for at in 10..=now {
            let state = State {
                identity: None,
                number: None,
                agent: Some(theirs),
                gateway: None,
                uptime_ms: 0,
                clock_ms: at as i64 * 1000,
            };
            agreement.heard(address, state, 0, second(at));
        }
        agreement
    }

    #[test]
    fn a_node_without_a_ring_is_not_ready() {
        let reasons = said(None, &Agreement::default(), None, 100);
        assert_eq!(reasons, ["there is no ring yet: the source of membership has told none"]);
        assert!(said(Some(ring(5, 2)), &Agreement::default(), None, 0).is_empty());
    }

    #[test]
    fn being_behind_is_forgiven_for_a_while_and_differing_is_not() {
        let ours = Some(ring(5, 2));
        assert!(said(ours, &hearing(ring(6, 2), 15), None, 15).is_empty());
        let behind = said(ours, &hearing(ring(6, 2), 16), None, 16);
        assert_eq!(behind, ["node 198.51.100.12 has had a ring of a higher epoch (6, ours is 5) for 6 s"]);
        // One that lags behind us is its own problem, and one that has gone silent says nothing.
        assert!(said(ours, &hearing(ring(4, 2), 30), None, 30).is_empty());
        let mut gone = hearing(ring(6, 2), 30);
        gone.judge(second(40));
        assert!(said(ours, &gone, None, 40).is_empty());

        let differing = said(ours, &hearing(ring(5, 3), 10), None, 10);
        assert!(differing[0].starts_with("node 198.51.100.12 has another ring of epoch 5: "), "{differing:?}");
    }

    #[test]
    fn the_gateway_must_follow() {
        let ours = Some(ring(5, 2));
        let none = Agreement::default();
        let fact = |ring, since| Some(GatewayFact { ring, since: second(since), ring_since: second(100) });
        assert!(said(ours, &none, fact(ours, 0), 200).is_empty());
        // Not yet there after the ring changed.
        assert!(said(ours, &none, fact(Some(ring(4, 2)), 0), 105).is_empty());
        let lagging = said(ours, &none, fact(Some(ring(4, 2)), 0), 106);
        assert!(lagging[0].starts_with("the gateway of this node follows ring "), "{lagging:?}");
        // Gone since second 150.
        assert!(said(ours, &none, fact(None, 150), 155).is_empty());
        assert_eq!(
            said(ours, &none, fact(None, 150), 156),
            ["the gateway of this node is not attached, or follows no ring"]
        );
    }
}
