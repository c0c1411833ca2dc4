use super::*;
use crate::doctor::{
    facts::{Unknown, XdpFeatures},
    finding::Outcome,
    fixtures::{fresh, healthy, node},
};

fn one(facts: &Facts) -> &Interface {
    &facts.interfaces.as_ref().unwrap()[1]
}

fn change(facts: &mut Facts, how: impl FnOnce(&mut Interface)) {
    how(&mut facts.interfaces.as_mut().unwrap()[1]);
}

fn finding(facts: &Facts, node: &Node, check: &Check) -> Finding {
    all(node, facts).into_iter().find(|finding| finding.check == check.name).unwrap()
}

#[test]
fn missing_off_unplugged_or_enslaved() {
    let mut facts = healthy();
    let elsewhere = Node { interfaces: vec!["eth7".into()], ..node() };
    let missing = finding(&facts, &elsewhere, &INTERFACE);
    assert_eq!((missing.outcome, missing.found.as_str()), (Outcome::Wrong, "there is no interface `eth7` here"));
    assert_eq!(all(&elsewhere, &facts).len(), 1, "nothing else is said about what is not there");

    change(&mut facts, |one| one.master = Some(1));
    assert_eq!(finding(&facts, &node(), &INTERFACE).outcome, Outcome::Warning);
    change(&mut facts, |one| one.carrier = false);
    assert_eq!(finding(&facts, &node(), &INTERFACE).found, "no carrier");
    change(&mut facts, |one| one.up = false);
    assert_eq!(finding(&facts, &node(), &INTERFACE).mend.unwrap(), "ip link set eth0 up");
}

#[test]
fn whose_program_it_is() {
    let mut facts = healthy();
    assert_eq!(finding(&facts, &node(), &XDP).outcome, Outcome::Ok);
    change(&mut facts, |one| one.xdp = vec![(Attachment::Native, 4711)]);
    let foreign = finding(&facts, &node(), &XDP);
    assert_eq!(foreign.outcome, Outcome::Wrong);
    assert!(foreign.found.contains("4711") && foreign.mend.unwrap().ends_with("ip link set dev eth0 xdp off"));

    // The agent's word is enough where the pins cannot be read.
    let mut facts = healthy();
    facts.pins.links = Err(Unknown("not allowed".into()));
    assert_eq!(finding(&facts, &node(), &XDP).outcome, Outcome::Ok);
    facts.agent.running = Ok(None);
    assert_eq!(finding(&facts, &node(), &XDP).outcome, Outcome::Unchecked);
}

#[test]
fn how_it_is_attached() {
    let mut facts = healthy();
    change(&mut facts, |one| one.xdp[0].0 = Attachment::Generic);
    let generic = Node { xdp_mode: XdpMode::Generic, ..node() };
    assert_eq!(finding(&facts, &generic, &XDP).outcome, Outcome::Ok);
    let possible = finding(&facts, &node(), &XDP);
    assert!(possible.outcome == Outcome::Warning && possible.found.contains("can run it"), "{possible:?}");
    change(&mut facts, |one| one.driver.as_mut().unwrap().xdp = Ok(XdpFeatures { native: false, transmit: false }));
    let impossible = finding(&facts, &node(), &XDP);
    assert!(impossible.outcome == Outcome::Warning && impossible.found.contains("(veth) cannot"), "{impossible:?}");
}

#[test]
fn before_the_first_start_the_driver_is_asked() {
    let mut facts = fresh();
    assert_eq!(finding(&facts, &node(), &XDP).outcome, Outcome::Ok);
    assert_eq!(finding(&facts, &node(), &ADMIT).outcome, Outcome::NotApplicable);
    change(&mut facts, |one| one.driver.as_mut().unwrap().xdp = Ok(XdpFeatures { native: false, transmit: false }));
    for (mode, outcome) in
        [(XdpMode::Auto, Outcome::Warning), (XdpMode::Native, Outcome::Wrong), (XdpMode::Generic, Outcome::Ok)]
    {
        assert_eq!(finding(&facts, &Node { xdp_mode: mode, ..node() }, &XDP).outcome, outcome);
    }
}

#[test]
fn programs_that_are_gone() {
    let mut facts = healthy();
    change(&mut facts, |one| one.xdp.clear());
    assert_eq!(finding(&facts, &node(), &XDP).outcome, Outcome::Wrong);
    assert_eq!(finding(&facts, &node(), &ADMIT).outcome, Outcome::Ok);
    facts.pins.links.as_mut().unwrap().retain(|link| link.name.starts_with("steer"));
    assert_eq!(finding(&facts, &node(), &ADMIT).outcome, Outcome::Wrong);
}

#[test]
fn the_pin_of_an_interface_with_a_dot() {
    let mut facts = healthy();
    change(&mut facts, |one| one.name = "eth0.7".into());
    facts.pins.links.as_mut().unwrap()[1].name = "admit-eth0_7".into();
    let node = Node { interfaces: vec!["eth0.7".into()], ..node() };
    assert_eq!(finding(&facts, &node, &ADMIT).outcome, Outcome::Ok);
}

#[test]
fn drivers_that_drop_what_xdp_sends() {
    let mut facts = healthy();
    change(&mut facts, |one| one.driver.as_mut().unwrap().xdp_errors = vec![("tx_xdp_full".into(), 3)]);
    let dropped = finding(&facts, &node(), &XDP_TRANSMIT);
    assert!(dropped.outcome == Outcome::Warning && dropped.found.ends_with("tx_xdp_full 3"), "{dropped:?}");

    let no_transmit =
        |one: &mut Interface| one.driver.as_mut().unwrap().xdp = Ok(XdpFeatures { native: true, transmit: false });
    change(&mut facts, no_transmit);
    assert_eq!(finding(&facts, &node(), &XDP_TRANSMIT).outcome, Outcome::Wrong);
    // A card sends by XDP_TX what came in by itself.
    let mut facts = healthy();
    change(&mut facts, no_transmit);
    change(&mut facts, |one| one.driver.as_mut().unwrap().name = Ok("ena".into()));
    assert_eq!(finding(&facts, &node(), &XDP_TRANSMIT).outcome, Outcome::Ok);
    let two = Node { interfaces: vec!["eth0".into(), "eth1".into()], ..node() };
    assert_eq!(finding(&facts, &two, &XDP_TRANSMIT).outcome, Outcome::Wrong);
    let generic = Node { xdp_mode: XdpMode::Generic, ..two };
    assert_eq!(finding(&facts, &generic, &XDP_TRANSMIT).outcome, Outcome::Ok);
}

#[test]
fn offloads_and_sizes() {
    let mut facts = healthy();
    change(&mut facts, |one| one.driver.as_mut().unwrap().lro = Ok(true));
    assert_eq!(finding(&facts, &node(), &OFFLOADS).mend.unwrap(), "ethtool -K eth0 lro off");

    let mut outcome = |mtu, node: &Node| {
        change(&mut facts, |one| one.mtu = mtu);
        finding(&facts, node, &MTU).outcome
    };
    assert_eq!(outcome(623, &node()), Outcome::Wrong);
    assert_eq!(outcome(624, &node()), Outcome::Ok);
    let mut ipv6 = node();
    ipv6.services[0].address = "[2001:db8::1]:10001".parse().unwrap();
    assert_eq!(outcome(1279, &ipv6), Outcome::Wrong);
    assert_eq!(outcome(1280, &ipv6), Outcome::Ok);
    assert_eq!(outcome(9000, &node()), Outcome::Ok, "the driver runs it already");
    let mut facts = fresh();
    change(&mut facts, |one| one.mtu = 9000);
    assert_eq!(finding(&facts, &node(), &MTU).outcome, Outcome::Warning);
    let generic = Node { xdp_mode: XdpMode::Generic, ..node() };
    assert_eq!(finding(&facts, &generic, &MTU).outcome, Outcome::Ok);
    assert_eq!(one(&facts).mtu, 9000);
}
