use super::*;
use crate::doctor::{
    facts::Route,
    finding::Outcome,
    fixtures::{healthy, node},
};

fn set(facts: &mut Facts, name: &str, value: &str) {
    assert!(facts.settings.0.insert(name.into(), Ok(value.into())).is_some(), "{name} is not looked at");
}

/// The findings that are not as they must be.
fn complaints(node: &Node, facts: &Facts) -> Vec<(&'static str, Outcome, String)> {
    let bad = |finding: &Finding| finding.outcome > Outcome::NotApplicable;
    let mut complaints: Vec<_> = all(node, facts)
        .into_iter()
        .filter(bad)
        .map(|one| (one.check, one.outcome, one.mend.unwrap_or_default()))
        .collect();
    // One setting of `all` shows on every interface.
    complaints.dedup();
    complaints
}

#[test]
fn a_healthy_host_has_no_complaint() {
    assert_eq!(complaints(&node(), &healthy()), []);
}

#[test]
fn one_setting_at_a_time() {
    for (name, value, check, mend) in [
        (TCP_SYNCOOKIES, "0", "syncookies", "sysctl -w net.ipv4.tcp_syncookies=1"),
        ("net/ipv4/tcp_sack", "0", "tcp-options", "sysctl -w net.ipv4.tcp_sack=1"),
        ("net/ipv4/tcp_timestamps", "0", "tcp-options", "sysctl -w net.ipv4.tcp_timestamps=1"),
        ("net/ipv4/conf/eth0/forwarding", "0", "forwarding", "sysctl -w net.ipv4.conf.eth0.forwarding=1"),
        ("net/ipv4/conf/all/arp_ignore", "0", "arp", "sysctl -w net.ipv4.conf.all.arp_ignore=1"),
        ("net/ipv4/conf/all/arp_announce", "1", "arp", "sysctl -w net.ipv4.conf.all.arp_announce=2"),
        // Too high is as bad as too low, and is to be lowered where it stands.
        ("net/ipv4/conf/eth0/arp_ignore", "3", "arp", "sysctl -w net.ipv4.conf.eth0.arp_ignore=1"),
    ] {
        let mut facts = healthy();
        set(&mut facts, name, value);
        assert_eq!(complaints(&node(), &facts), [(check, Outcome::Wrong, mend.to_owned())], "{name}");
    }
}

#[test]
fn what_the_agent_may_mend_itself() {
    let mut facts = healthy();
    set(&mut facts, TCP_SYNCOOKIES, "0");
    assert_eq!(syncookies(&facts.settings).settings, [Setting::new(TCP_SYNCOOKIES, "1")]);
    set(&mut facts, "net/ipv4/conf/eth0/forwarding", "0");
    assert_eq!(
        forwarding(&node(), node().own_address().unwrap(), &facts.settings, &Ok(vec![]))[0].settings,
        [Setting::new("net/ipv4/conf/eth0/forwarding", "1")]
    );
}

#[test]
fn what_silences_arp() {
    let mut facts = healthy();
    assert_eq!(silence(&facts.settings), []);
    set(&mut facts, "net/ipv4/conf/all/arp_ignore", "3");
    set(&mut facts, "net/ipv4/conf/all/arp_announce", "0");
    let commands: Vec<_> = silence(&facts.settings).iter().map(Setting::command).collect();
    assert_eq!(commands, ["sysctl -w net.ipv4.conf.all.arp_ignore=1", "sysctl -w net.ipv4.conf.all.arp_announce=2"]);
}

#[test]
fn the_interfaces_own_value_silences_arp_too() {
    let mut facts = healthy();
    set(&mut facts, "net/ipv4/conf/all/arp_ignore", "0");
    set(&mut facts, "net/ipv4/conf/eth0/arp_ignore", "1");
    set(&mut facts, "net/ipv4/conf/eth1/arp_ignore", "2");
    assert_eq!(complaints(&node(), &facts), []);
}

#[test]
fn a_strict_filter_harms_where_routes_leave_elsewhere() {
    let mut facts = healthy();
    set(&mut facts, "net/ipv4/conf/all/rp_filter", "1");
    let outcome = |facts: &Facts| reverse_path(&node(), "eth0", facts).unwrap().outcome;
    assert_eq!(outcome(&facts), Outcome::Ok, "all routes leave by eth0");
    let by = |index, destination| Route { destination, ipv6: false, interfaces: vec![index] };
    let routes = facts.routes.as_mut().unwrap();
    routes.push(by(3, Some(("203.0.113.0".parse().unwrap(), 24))));
    assert_eq!(outcome(&facts), Outcome::Warning, "some clients are routed elsewhere");
    facts.routes.as_mut().unwrap()[0] = by(3, None);
    let finding = reverse_path(&node(), "eth0", &facts).unwrap();
    assert_eq!(finding.outcome, Outcome::Wrong, "all clients are");
    assert_eq!(finding.mend.unwrap(), "sysctl -w net.ipv4.conf.eth0.rp_filter=2");
    set(&mut facts, "net/ipv4/conf/eth0/rp_filter", "2");
    assert_eq!(outcome(&facts), Outcome::Ok, "the higher value is in force");
}

#[test]
fn nodes_with_ipv6_addresses_forward_on_lo() {
    let mut facts = healthy();
    let mut node = node();
    for member in &mut node.members {
        member.address = format!("2001:db8::{}", member.number.get()).parse().unwrap();
    }
    set(&mut facts, "net/ipv4/conf/eth0/forwarding", "0");
    assert_eq!(complaints(&node, &facts), []);
    set(&mut facts, FORWARDING_IPV6, "0");
    let finding = |facts: &Facts| forwarding_ipv6(&facts.settings, &facts.learnt_routes);
    assert_eq!(
        complaints(&node, &facts),
        [("forwarding", Outcome::Wrong, "sysctl -w net.ipv6.conf.lo.forwarding=1".into())]
    );
    assert_eq!(finding(&facts).settings, [Setting::new(FORWARDING_IPV6, "1")]);
    // Routes that would be lost are not for the agent to lose.
    facts.learnt_routes = Ok(vec!["eth0".into()]);
    assert!(finding(&facts).outcome == Outcome::Wrong && finding(&facts).settings.is_empty());
    assert!(finding(&facts).mend.unwrap().contains(" net.ipv6.conf.lo.forwarding=1 in /etc/sysctl.d"));
    set(&mut facts, "net/ipv6/conf/eth0/accept_ra", "2");
    assert_eq!(finding(&facts).settings.len(), 1);
    facts.learnt_routes = Err(crate::doctor::facts::Unknown("hidden".into()));
    assert_eq!(finding(&facts).outcome, Outcome::Unchecked);
}

#[test]
fn what_cannot_be_read_is_not_judged() {
    let mut facts = healthy();
    facts.settings.0.clear();
    assert!(complaints(&node(), &facts).iter().all(|(_, outcome, _)| *outcome == Outcome::Unchecked));
}
