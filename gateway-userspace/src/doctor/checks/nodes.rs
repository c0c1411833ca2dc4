//! The way to the other nodes.

use std::{collections::BTreeSet, net::IpAddr};

use ringsteer_ebpf::tunnel;

use crate::doctor::{
    facts::{Facts, Neighbour, NodePath, PeerAnswer, PeerView, Standing, Way},
    finding::{Check, Finding},
    subject::Node,
};

/// A way to go.
pub const ROUTE: Check = Check {
    name: "route",
    why: "Tunnel packets follow this host's routes; without one they are dropped, counted as drop_no_route.",
};

/// The next hop's link-layer address.
pub const NEIGHBOUR: Check = Check {
    name: "neighbour",
    why: "XDP writes the next hop's link-layer address itself and cannot ask for it: packets to an unknown one are \
          dropped, counted as drop_no_neighbour.",
};

/// Room for all next hops.
pub const NEIGHBOUR_TABLE: Check = Check {
    name: "neighbour-table",
    why: "The kernel has one neighbour table for all of its network namespaces. Beyond gc_thresh2 entries it throws out \
          such as were not heard for five seconds, beyond gc_thresh3 it takes no more: packets to next hops that are not \
          in it are dropped, counted as drop_no_neighbour.",
};

/// Room for the largest packet.
pub const PATH_MTU: Check = Check {
    name: "path-mtu",
    why: "Clients are offered an MSS by this node's own MTU. What does not fit the way to an owner, or the owner's \
          interface, is dropped there: small requests pass, large ones hang.",
};

/// The other agents.
pub const PEER: Check = Check {
    name: "peer",
    why: "Agents compare their rings with each other; one that cannot be reached cannot be told.",
};

/// One ring.
pub const RING: Check = Check {
    name: "ring",
    why: "Everybody must look a user up in the same ring. Where two nodes have different ones, each takes the other's \
          users for its own or for nobody's.",
};

/// One time.
pub const CLOCK_SKEW: Check = Check {
    name: "clock-skew",
    why: "A cookie is valid in the slot of time it was made in and the ones beside it: where clocks differ by more, one \
          node refuses what another has begun, counted as drop_admission_cookie.",
};

/// What the table holds of a family before the kernel cleans up, and what it holds at most.
const LIMITS: [(&str, [&str; 2]); 2] = [
    ("IPv4", ["net/ipv4/neigh/default/gc_thresh2", "net/ipv4/neigh/default/gc_thresh3"]),
    ("IPv6", ["net/ipv6/neigh/default/gc_thresh2", "net/ipv6/neigh/default/gc_thresh3"]),
];

/// Settings these checks look at.
pub fn settings() -> Vec<String> {
    LIMITS.iter().flat_map(|(_, names)| names).map(|&name| name.into()).collect()
}

pub(super) fn all(node: &Node, facts: &Facts) -> Vec<Finding> {
    let of_nodes = facts.nodes.iter().flat_map(|path| of_node(node, path, facts));
    neighbour_table(facts).into_iter().chain(of_nodes).collect()
}

/// For each family that next hops have.
fn neighbour_table(facts: &Facts) -> Vec<Finding> {
    let way = |path: &NodePath| path.route.as_ref().ok()?.as_ref().map(|way| way.gateway.unwrap_or(path.address));
    let hops: BTreeSet<IpAddr> = facts.nodes.iter().filter_map(way).collect();
    let (v4, v6): (Vec<_>, Vec<_>) = hops.into_iter().partition(IpAddr::is_ipv4);
    let families = LIMITS.iter().zip([v4.len(), v6.len()]);
    families.filter(|(_, hops)| *hops > 0).map(|((family, names), hops)| room(family, names, hops, facts)).collect()
}

/// Whether the table has room for so many next hops of a family, and as much again for everybody else.
fn room(family: &str, [soft, hard]: &[&str; 2], hops: usize, facts: &Facts) -> Finding {
    let limits = (facts.settings.number(soft), facts.settings.number(hard));
    let (Ok(cleans_up), Ok(holds)) = limits else {
        return NEIGHBOUR_TABLE
            .not_applicable("its limits show in the host's own network namespace only")
            .about(family);
    };
    let hops = hops as i64;
    let found = format!("{hops} next hops in a table of {holds} that is cleaned up beyond {cleans_up}");
    let enough = (4 * hops as u64).next_power_of_two();
    let mend = || {
        let [soft, hard] = [soft, hard].map(|name| crate::doctor::finding::shown(name));
        format!("sysctl -w {soft}={enough} {hard}={}", 2 * enough)
    };
    let finding = if hops >= holds {
        NEIGHBOUR_TABLE.wrong(found, mend())
    } else if 2 * hops > cleans_up {
        NEIGHBOUR_TABLE.warning(found, mend())
    } else {
        NEIGHBOUR_TABLE.ok(found)
    };
    finding.about(family)
}

fn of_node(node: &Node, path: &NodePath, facts: &Facts) -> Vec<Finding> {
    let about = format!("node {}, {}", path.number.get(), path.address);
    let mut findings = Vec::new();
    match &path.route {
        Err(unknown) => findings.push(ROUTE.unchecked(unknown.0.clone())),
        Ok(None) => findings.push(ROUTE.wrong(
            "there is no route",
            format!("add one (ip route add …); check with: ip route get {}", path.address),
        )),
        Ok(Some(way)) => {
            findings.push(route(node, way, facts));
            findings.push(neighbour(path, way, facts));
            findings.push(path_mtu(node, path, way, facts));
        }
    }
    findings.push(match path.route {
        // One thing to mend, one finding.
        Ok(None) => PEER.not_applicable("there is no route to it"),
        _ => peer(path, facts),
    });
    if let Some(view) = view(path, facts) {
        findings.push(ring(view));
        findings.push(clock_skew(view, node.slot_shift));
    }
    findings.into_iter().map(|finding| finding.about(&about)).collect()
}

/// What our agent knows of that node.
fn view<'a>(path: &NodePath, facts: &'a Facts) -> Option<&'a PeerView> {
    facts.running()?.peers.as_ref().ok()?.iter().find(|view| view.number == path.number)
}

fn peer(path: &NodePath, facts: &Facts) -> Finding {
    let Some(running) = facts.running() else {
        return PEER.not_applicable(match &path.peer {
            PeerAnswer::Connected { .. } => "takes connections; no agent runs here to make one".to_owned(),
            PeerAnswer::Failed(reason) => format!("no agent runs here, nor can that one be reached: {reason}"),
        });
    };
    if let PeerAnswer::Failed(reason) = &path.peer {
        return PEER.wrong(
            format!("its agent cannot be reached: {reason}"),
            "look whether the agent runs there, and whether a firewall between the nodes lets its port through",
        );
    }
    match (view(path, facts), &running.peers) {
        (Some(PeerView { standing: Standing::Silent, trouble, .. }), _) => {
            let reason = trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
            PEER.wrong(
                format!("its agent takes connections, but is not heard{reason}"),
                "look whether both have the same fleet secret, and into both agents' logs",
            )
        }
        (Some(_), _) => PEER.ok("heard"),
        (None, Ok(_)) => PEER.unchecked("this node's agent does not know it yet"),
        (None, Err(unknown)) => PEER.unchecked(unknown.0.clone()),
    }
}

fn ring(view: &PeerView) -> Finding {
    let wait = "wait a moment and look again; if it stays so: ringsteer status, and the log of the agent that lags";
    match view.standing {
        Standing::Agrees => RING.ok("the same as here"),
        Standing::Silent => RING.not_applicable("not heard"),
        Standing::Lags => RING.warning("it has an older ring than this node", wait),
        Standing::Ahead => RING.warning("it has a newer ring than this node", wait),
        Standing::Differs => RING.wrong(
            "it has another ring of the same epoch",
            "two nodes were given different members: correct the source of one of them, and raise the epoch",
        ),
    }
}

fn clock_skew(view: &PeerView, slot_shift: u8) -> Finding {
    let Some(ahead_ms) = view.clock_ahead_ms else { return CLOCK_SKEW.not_applicable("not heard") };
    let slot_ms = (1u64 << slot_shift) / 1_000_000;
    let (apart_ms, how) = (ahead_ms.unsigned_abs(), if ahead_ms < 0 { "behind" } else { "ahead of" });
    let found = format!("its clock is {apart_ms} ms {how} ours, and a slot lasts {} ms", slot_ms);
    let mend = "run a time daemon on both nodes, such as chrony; see clock and clock-tai on both";
    if apart_ms >= slot_ms {
        CLOCK_SKEW.wrong(found, mend)
    } else if apart_ms >= slot_ms / 4 {
        CLOCK_SKEW.warning(found, mend)
    } else {
        CLOCK_SKEW.ok(found)
    }
}

fn route(node: &Node, way: &Way, facts: &Facts) -> Finding {
    let by = facts.interface_name(way.interface);
    let over = way.gateway.map(|gateway| format!(" over {gateway}")).unwrap_or_default();
    if node.interfaces.contains(&by) {
        return ROUTE.ok(format!("by {by}{over}"));
    }
    ROUTE.warning(
        format!("by {by}, where `steer` does not run"),
        format!("add \"{by}\" to `interfaces`: what comes from there through the tunnel most likely arrives by it"),
    )
}

fn neighbour(path: &NodePath, way: &Way, facts: &Facts) -> Finding {
    let hop = way.gateway.unwrap_or(path.address);
    let by = facts.interface_name(way.interface);
    match way.neighbour {
        Neighbour::Known => NEIGHBOUR.ok(format!("{hop} is known")),
        Neighbour::Failed => NEIGHBOUR.wrong(
            format!("{hop} does not answer on {by}"),
            format!("look whether it is up, and in the same network: ip neigh show {hop}; ping {hop}"),
        ),
        Neighbour::Unknown if facts.running().is_some() => NEIGHBOUR.warning(
            format!("the link-layer address of {hop} is not known, though it is asked for"),
            format!("look whether it is up, and in the same network: ip neigh show {hop}; ping {hop}"),
        ),
        Neighbour::Unknown => NEIGHBOUR.not_applicable("nobody has asked lately; the agent will"),
    }
}

fn path_mtu(node: &Node, path: &NodePath, way: &Way, facts: &Facts) -> Finding {
    let Ok(interfaces) = &facts.interfaces else { return PATH_MTU.unchecked("the interfaces could not be read") };
    // What clients are offered goes by the smallest of the interfaces, and leaves room for the larger tunnel header.
    let own = interfaces.iter().filter(|one| node.interfaces.contains(&one.name)).map(|one| one.mtu).min();
    let Some(own) = own else { return PATH_MTU.unchecked("none of the configured interfaces is here") };
    let header = if path.address.is_ipv4() { tunnel::OVERHEAD_V4 } else { tunnel::OVERHEAD_V6 };
    let largest = own.saturating_sub(tunnel::RESERVED - header);
    let tunnelled = format!("tunnel packets have up to {largest} bytes");
    let by = facts.interface_name(way.interface);
    let leaving = facts.interface(way.interface).map_or(u32::MAX, |one| one.mtu).min(way.mtu.unwrap_or(u32::MAX));
    if leaving < largest {
        return PATH_MTU.wrong(
            format!("{tunnelled}, and the way by {by} takes {leaving}"),
            format!("raise the MTU of {by}, or of the route, to {own}; or lower that of the configured interfaces"),
        );
    }
    match path.peer {
        PeerAnswer::Connected { mtu: Some(mtu) } if mtu < largest => PATH_MTU.wrong(
            format!("{tunnelled}, and that node takes {mtu}"),
            format!("raise the MTU there to {own}, or lower it here: the fleet's nodes should have the same"),
        ),
        _ => PATH_MTU.ok(tunnelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::Outcome,
        fixtures::{fresh, healthy, node},
    };

    fn way(facts: &mut Facts) -> &mut Way {
        facts.nodes[0].route.as_mut().unwrap().as_mut().unwrap()
    }

    fn finding(facts: &Facts, check: &Check) -> Finding {
        all(&node(), facts).into_iter().find(|finding| finding.check == check.name).unwrap()
    }

    #[test]
    fn no_route_or_a_strange_one() {
        assert_eq!(finding(&healthy(), &ROUTE).found, "by eth0");
        assert_eq!(finding(&healthy(), &ROUTE).subject.unwrap(), "node 2, 198.51.100.12");
        let mut facts = healthy();
        way(&mut facts).interface = 3;
        assert_eq!(finding(&facts, &ROUTE).outcome, Outcome::Warning);
        facts.nodes[0].route = Ok(None);
        assert_eq!(finding(&facts, &ROUTE).outcome, Outcome::Wrong);
        assert!(all(&node(), &facts).iter().all(|finding| finding.check != "neighbour"));
        facts.nodes[0].peer = PeerAnswer::Failed("no route to host".into());
        assert_eq!(finding(&facts, &PEER).outcome, Outcome::NotApplicable);
    }

    #[test]
    fn a_next_hop_that_does_not_answer() {
        let outcome = |mut facts: Facts, neighbour| {
            way(&mut facts).neighbour = neighbour;
            finding(&facts, &NEIGHBOUR).outcome
        };
        assert_eq!(outcome(healthy(), Neighbour::Known), Outcome::Ok);
        assert_eq!(outcome(healthy(), Neighbour::Failed), Outcome::Wrong);
        assert_eq!(outcome(healthy(), Neighbour::Unknown), Outcome::Warning);
        assert_eq!(outcome(fresh(), Neighbour::Unknown), Outcome::NotApplicable);
    }

    #[test]
    fn a_table_that_is_too_small_for_its_next_hops() {
        let with = |nodes: u16, limits: Option<(&str, &str)>| {
            let mut facts = healthy();
            let first = facts.nodes[0].clone();
            let path =
                |index: u16| NodePath { address: [10, 0, (index >> 8) as u8, index as u8].into(), ..first.clone() };
            facts.nodes = (0..nodes).map(path).collect();
            for name in LIMITS[0].1 {
                facts.settings.0.remove(name);
            }
            for (name, limit) in LIMITS[0].1.iter().zip(limits.map(<[_; 2]>::from).into_iter().flatten()) {
                facts.settings.0.insert((*name).into(), Ok(limit.into()));
            }
            facts
        };
        let limits = Some(("512", "1024"));
        let outcome = |nodes| finding(&with(nodes, limits), &NEIGHBOUR_TABLE).outcome;
        assert_eq!([1, 256].map(outcome), [Outcome::Ok; 2]);
        assert_eq!([257, 1023].map(outcome), [Outcome::Warning; 2]);
        let full = finding(&with(1024, limits), &NEIGHBOUR_TABLE);
        assert_eq!((full.outcome, full.subject.as_deref()), (Outcome::Wrong, Some("IPv4")));
        assert_eq!(
            full.mend.unwrap(),
            "sysctl -w net.ipv4.neigh.default.gc_thresh2=4096 net.ipv4.neigh.default.gc_thresh3=8192"
        );
        // In a network namespace that does not show them.
        assert_eq!(finding(&with(1024, None), &NEIGHBOUR_TABLE).outcome, Outcome::NotApplicable);
        // All behind one router: one entry.
        let mut facts = with(1024, limits);
        for path in &mut facts.nodes {
            path.route.as_mut().unwrap().as_mut().unwrap().gateway = Some([10, 1, 0, 1].into());
        }
        assert_eq!(finding(&facts, &NEIGHBOUR_TABLE).outcome, Outcome::Ok);
        // Of the other family there are none.
        assert_eq!(all(&node(), &facts).iter().filter(|one| one.check == NEIGHBOUR_TABLE.name).count(), 1);
    }

    #[test]
    fn a_way_that_is_too_narrow() {
        assert_eq!(finding(&healthy(), &PATH_MTU).found, "tunnel packets have up to 1480 bytes");
        let by_route = |mtu| {
            let mut facts = healthy();
            way(&mut facts).mtu = Some(mtu);
            finding(&facts, &PATH_MTU)
        };
        assert_eq!(by_route(1480).outcome, Outcome::Ok);
        assert!(by_route(1479).outcome == Outcome::Wrong && by_route(1479).found.ends_with("by eth0 takes 1479"));
        let mut facts = healthy();
        facts.nodes[0].peer = PeerAnswer::Connected { mtu: Some(1400) };
        let there = finding(&facts, &PATH_MTU);
        assert!(there.outcome == Outcome::Wrong && there.found.ends_with("that node takes 1400"), "{there:?}");
        facts.nodes[0].address = "2001:db8::2".parse().unwrap();
        facts.nodes[0].peer = PeerAnswer::Connected { mtu: Some(1499) };
        assert_eq!(finding(&facts, &PATH_MTU).outcome, Outcome::Wrong, "the IPv6 header takes all the room");
    }

    fn peer_view(facts: &mut Facts) -> &mut PeerView {
        let running = facts.agent.running.as_mut().unwrap().as_mut().unwrap();
        &mut running.peers.as_mut().unwrap()[0]
    }

    #[test]
    fn a_peer_that_is_down_or_mute() {
        let mut facts = healthy();
        assert_eq!(finding(&facts, &PEER).outcome, Outcome::Ok);
        peer_view(&mut facts).standing = Standing::Silent;
        peer_view(&mut facts).trouble = Some("another secret".into());
        let mute = finding(&facts, &PEER);
        assert!(mute.outcome == Outcome::Wrong && mute.found.ends_with("not heard: another secret"), "{mute:?}");
        assert_eq!(finding(&facts, &RING).outcome, Outcome::NotApplicable);
        facts.nodes[0].peer = PeerAnswer::Failed("connection refused".into());
        let down = finding(&facts, &PEER);
        assert!(down.outcome == Outcome::Wrong && down.found.ends_with("connection refused"), "{down:?}");
        assert_eq!(finding(&fresh(), &PEER).outcome, Outcome::NotApplicable);
    }

    #[test]
    fn rings_that_are_not_one() {
        let mut facts = healthy();
        let mut outcome = |standing| {
            peer_view(&mut facts).standing = standing;
            finding(&facts, &RING).outcome
        };
        assert_eq!(outcome(Standing::Agrees), Outcome::Ok);
        assert_eq!(outcome(Standing::Lags), Outcome::Warning);
        assert_eq!(outcome(Standing::Ahead), Outcome::Warning);
        assert_eq!(outcome(Standing::Differs), Outcome::Wrong);
    }

    #[test]
    fn clocks_apart_by_parts_of_a_slot() {
        let mut facts = healthy();
        let mut outcome = |ahead_ms| {
            peer_view(&mut facts).clock_ahead_ms = ahead_ms;
            finding(&facts, &CLOCK_SKEW).outcome
        };
        // A slot of 2^36 ns.
        for (ahead_ms, expected) in [
            (17_178, Outcome::Ok),
            (-17_178, Outcome::Ok),
            (-17_179, Outcome::Warning),
            (68_718, Outcome::Warning),
            (68_719, Outcome::Wrong),
            (i64::MIN, Outcome::Wrong),
        ] {
            assert_eq!(outcome(Some(ahead_ms)), expected, "{ahead_ms}");
        }
        assert_eq!(outcome(None), Outcome::NotApplicable);
    }
}
