//! Who listens on the services.

use std::net::{IpAddr, SocketAddr};

use crate::doctor::{
    facts::{Facts, Listener},
    finding::{Check, Finding},
    subject::{Node, Service},
};

/// Somebody must.
pub const LISTENER: Check = Check {
    name: "listener",
    why: "The ring sends its share of the connections here. With nobody to take them they hang: their packets are \
          counted as drop_no_listener.",
};

/// And not with MPTCP.
pub const MPTCP: Check = Check {
    name: "mptcp",
    why: "The kernel creates no sockets for an MPTCP listener that way: steered connections die, counted as \
          drop_admission_refused. Go programs listen with MPTCP by default since 1.24.",
};

pub(super) fn all(node: &Node, facts: &Facts) -> Vec<Finding> {
    let listeners = match &facts.listeners {
        Ok(listeners) => listeners,
        Err(unknown) => return vec![LISTENER.unchecked(unknown.0.clone()), MPTCP.unchecked(unknown.0.clone())],
    };
    let mut findings = Vec::new();
    for service in &node.services {
        let there = who_takes(service.address, listeners);
        findings.push(listener(service, there, facts).about(&service.name));
        if let Some(there) = there {
            findings.push(mptcp(service, there).about(&service.name));
        }
    }
    findings
}

/// The listener that the kernel gives a connection to `address` to: one on the very address before one on all.
fn who_takes(address: SocketAddr, listeners: &[Listener]) -> Option<&Listener> {
    let rank = |one: &&Listener| match (one.address.ip(), address.ip()) {
        _ if one.address.port() != address.port() => 0,
        (own, wanted) if own == wanted => 3,
        (IpAddr::V4(own), IpAddr::V4(_)) if own.is_unspecified() => 2,
        (IpAddr::V6(own), IpAddr::V6(_)) if own.is_unspecified() => 2,
        (IpAddr::V6(own), IpAddr::V4(_)) if own.is_unspecified() && !one.only_ipv6 => 1,
        _ => 0,
    };
    listeners.iter().filter(|one| rank(one) > 0).max_by_key(rank)
}

/// Who it is, for people.
fn named(listener: &Listener) -> String {
    match &listener.owner {
        Some(owner) => format!("{} (process {}) on {}", owner.name, owner.pid, listener.address),
        None => format!("a process that this one may not see, on {}", listener.address),
    }
}

fn listener(service: &Service, there: Option<&Listener>, facts: &Facts) -> Finding {
    if let Some(there) = there {
        return LISTENER.ok(named(there));
    }
    let found = format!("nobody listens on {} in this network namespace", service.address);
    let mend = "start the gateway, or your server; one in a container needs the host's network";
    if facts.steering() { LISTENER.wrong(found, mend) } else { LISTENER.warning(found, mend) }
}

fn mptcp(service: &Service, there: &Listener) -> Finding {
    if !there.mptcp {
        return MPTCP.ok("plain TCP");
    }
    MPTCP.wrong(
        format!("{} listens with MPTCP for {}", named(there), service.address),
        "restart it with GODEBUG=multipathtcp=0 in its environment if it is a Go program; any other: have it listen with \
         plain TCP",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::Outcome,
        fixtures::{fresh, healthy, node},
    };

    fn on(address: &str) -> Listener {
        Listener { address: address.parse().unwrap(), only_ipv6: false, mptcp: false, owner: None }
    }

    #[test]
    fn the_kernels_choice() {
        let service = "192.0.2.1:10001".parse().unwrap();
        let takes = |listeners: &[&str]| {
            let listeners: Vec<_> = listeners.iter().map(|address| on(address)).collect();
            who_takes(service, &listeners).map(|one| one.address.to_string())
        };
        assert_eq!(takes(&["192.0.2.1:10002", "198.51.100.11:10001", "[2001:db8::1]:10001"]), None);
        assert_eq!(takes(&["[::]:10001"]).unwrap(), "[::]:10001");
        assert_eq!(takes(&["[::]:10001", "0.0.0.0:10001"]).unwrap(), "0.0.0.0:10001");
        assert_eq!(takes(&["192.0.2.1:10001", "0.0.0.0:10001"]).unwrap(), "192.0.2.1:10001");
        let only_ipv6 = Listener { only_ipv6: true, ..on("[::]:10001") };
        assert_eq!(who_takes(service, &[only_ipv6]), None);
        assert!(who_takes("[2001:db8::1]:10001".parse().unwrap(), &[on("0.0.0.0:10001")]).is_none());
    }

    fn first(facts: &Facts, check: &Check) -> Option<Finding> {
        all(&node(), facts).into_iter().find(|finding| finding.check == check.name)
    }

    #[test]
    fn nobody_there() {
        let mut facts = healthy();
        facts.listeners = Ok(vec![]);
        assert_eq!(first(&facts, &LISTENER).unwrap().outcome, Outcome::Wrong);
        assert_eq!(first(&facts, &MPTCP), None);
        assert_eq!(first(&fresh(), &LISTENER).unwrap().outcome, Outcome::Warning, "before anything was started");
    }

    #[test]
    fn a_listener_with_mptcp() {
        let mut facts = healthy();
        facts.listeners.as_mut().unwrap()[0].mptcp = true;
        let finding = first(&facts, &MPTCP).unwrap();
        assert!(finding.outcome == Outcome::Wrong && finding.mend.unwrap().contains("GODEBUG=multipathtcp=0"));
        assert!(finding.found.contains("ringsteer (process 4712)"), "{}", finding.found);
        // A plain one on the very address comes before it.
        facts.listeners.as_mut().unwrap()[0].address = "0.0.0.0:10001".parse().unwrap();
        facts.listeners.as_mut().unwrap().push(on("192.0.2.1:10001"));
        assert_eq!(first(&facts, &MPTCP).unwrap().outcome, Outcome::Ok);
    }
}
