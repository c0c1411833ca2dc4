//! Steering end to end: kernel TCP clients through the virtual address. Keeps the promises *one ring*, *never promise
//! for somebody else*, and that a connection ends up at its owner or ends cleanly, whatever TCP does.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ringsteer::config::Mode;
use ringsteer_tests::{
    client::{Login, Shape},
    fleet::{Fleet, Options as FleetOptions},
    lab::{
        Family, Lab,
        rough::{RoughLink, Roughness},
    },
    on_each_family, on_each_family_and_in_each_mode,
    probe::{Options, Outcome, Probe, request},
    scrape::{GATEWAY, Scrape},
    seed, tempers,
};

on_each_family!(
    clients_of_every_temper_reach_their_owner_and_talk,
    a_reused_four_tuple_serves_the_new_user,
    an_idle_handshake_ends_cleanly,
);
on_each_family_and_in_each_mode!(
    a_request_split_at_any_byte_ends_at_its_owner,
    a_rough_link_only_delays,
    every_sdk_is_let_in_by_its_owner,
);

fn lab() -> Result<Lab> {
    Lab::builder().nodes(3).clients(1).build()
}

/// Users of this many names cover every node of a ring of three.
const USERS: usize = 24;

/// 101 comes from the owner alone: the gateway refuses everybody else's users, so being let in is being at the owner.
fn clients_of_every_temper_reach_their_owner_and_talk(family: Family) -> Result<()> {
    let lab = lab()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    let client = lab.client(0);
    tempers::all_talk(client, fleet.websocket(), USERS)?;
    // Every one of them went by its key, and some through the tunnel.
    let (mut by_key, mut by_tuple, mut tunnelled) = (0, 0, 0);
    for node in 0..3 {
        by_key += lab.router().block_on(fleet.counter(node, "bound_by_key"))?;
        by_tuple += lab.router().block_on(fleet.counter(node, "bound_by_tuple"))?;
        tunnelled += lab.router().block_on(fleet.counter(node, "tunnelled"))?;
    }
    ensure!(by_key as usize == tempers::COUNT * USERS && by_tuple == 0, "{by_key} by key, {by_tuple} by 4-tuple");
    ensure!(tunnelled > 0, "nothing went through the tunnel");
    Ok(())
}

/// The sum of a gateway's figure over all nodes.
fn of_all_gateways(lab: &Lab, name: &str) -> Result<f64> {
    (0..3).map(|node| Scrape::of(lab.node(node), GATEWAY)?.value(name)).sum()
}

/// A request cut into two segments anywhere. Where the kernel saw no key the 4-tuple decided, mostly for another node than
/// the owner; the connection goes to the owner before it is answered, with the request and a first message behind it.
fn a_request_split_at_any_byte_ends_at_its_owner(family: Family, mode: Mode) -> Result<()> {
    let lab = lab()?;
    let fleet = Fleet::start(&lab, &FleetOptions::in_mode(family, mode))?;
    fleet.wait_for_links()?;
    let address = fleet.websocket();
    let whole = request("split-user");
    // A text, masked with zeros.
    let message = [&b"\x81\x85\0\0\0\0"[..], b"hello"].concat();
    let cuts = 1..whole.len();
    lab.client(0).run(|| {
        for cut in cuts.clone() {
            let mut probe = Probe::connect(address, Options::default())?;
            let rest = [&whole[cut..], &message].concat();
            let outcome = probe.ask(&[&whole[..cut], &rest]).with_context(|| format!("cut at {cut}"))?;
            ensure!(outcome == Outcome::Upgraded, "cut at {cut}: {outcome:?}");
            let echo = probe.text().with_context(|| format!("cut at {cut}"))?;
            ensure!(echo == "hello", "cut at {cut}: {echo}");
            probe.echo(300).with_context(|| format!("cut at {cut}"))?;
        }
        anyhow::Ok(())
    })?;
    let owner = fleet.ring.owner(b"split-user").number;
    for (node, member) in fleet.ring.members().iter().enumerate() {
        let opened = Scrape::of(lab.node(node), GATEWAY)?.value("ringsteer_sessions_opened_total")?;
        let expected = if member.number == owner { cuts.len() } else { 0 };
        ensure!(opened == expected as f64, "{opened} sessions began on node {node}");
    }
    let [moved, taken, turned_away] = ["moved", "taken", "turned_away"]
        .map(|outcome| of_all_gateways(&lab, &format!("ringsteer_newcomers_total{{outcome=\"{outcome}\"}}")));
    let (moved, taken, turned_away) = (moved?, taken?, turned_away?);
    ensure!(moved > 0.0 && moved == taken && turned_away == 0.0, "{moved} moved, {taken} taken, {turned_away} not");
    Ok(())
}

/// Segments lost, doubled and reordered on the way, in both directions, during the handshake and after it. The requests
/// span several segments, so that later ones overtake the first.
fn a_rough_link_only_delays(family: Family, mode: Mode) -> Result<()> {
    let seed = seed::from_environment();
    let lab = lab()?;
    let fleet = Fleet::start(&lab, &FleetOptions::in_mode(family, mode))?;
    let address = fleet.websocket();
    let client = lab.client(0);
    let link = RoughLink::between(&lab, client, Roughness::BAD, Roughness::BAD, seed)?;
    let failures: Vec<String> = thread::scope(|scope| {
        let one = |index: usize| {
            client.run(|| {
                let mut probe = Probe::connect(address, Options::default())?;
                let request = request(&format!("rough-{index}"));
                // Cookies of other services make requests long; these fill two segments more.
                let padding = format!("\r\nCookie: {}\r\n\r\n", "c".repeat(3000));
                let long = [request.strip_suffix(b"\r\n\r\n").unwrap_or(&request), padding.as_bytes()].concat();
                let outcome = probe.ask(&[&long])?;
                ensure!(outcome == Outcome::Upgraded, "{outcome:?}");
                probe.echo(30_000)
            })
        };
        let running: Vec<_> = (0..USERS).map(|index| scope.spawn(move || one(index))).collect();
        let ended = running.into_iter().filter_map(|one| one.join().expect("no panic").err());
        ended.map(|error| format!("{error:#}")).collect()
    });
    ensure!(failures.is_empty(), "{failures:#?}");
    ensure!(link.up().lost > 0 && link.up().held > 0, "the link was smooth: {:?}", link.up());
    Ok(())
}

/// The requests of the SDKs as they stand on the wire, each from a user whose id needs escaping.
fn every_sdk_is_let_in_by_its_owner(family: Family, mode: Mode) -> Result<()> {
    let lab = lab()?;
    let fleet = Fleet::start(&lab, &FleetOptions::in_mode(family, mode))?;
    let address = fleet.websocket();
    lab.client(0).run(|| {
        for shape in [Shape::Native, Shape::NativeNewest, Shape::Wasm, Shape::Js] {
            for index in 0..8 {
                let login = Login::new(format!("用户-{index}"));
                let mut probe = Probe::connect(address, Options::default())?;
                let outcome = probe.ask(&[&login.request(shape)])?;
                ensure!(outcome == Outcome::Upgraded, "{shape:?}, user {index}: {outcome:?}");
                probe.echo(100)?;
            }
        }
        Ok(())
    })
}

/// Two users whose owners differ, and two of one owner, by the published ring.
fn users_by_owner(fleet: &Fleet<'_>) -> ([String; 2], [String; 2]) {
    let owner = |user: &String| fleet.ring.owner(user.as_bytes()).number;
    let names: Vec<String> = (0..1000).map(|index| format!("again-{index}")).collect();
    let first = names[0].clone();
    let same = names[1..].iter().find(|user| owner(user) == owner(&first)).expect("some user").clone();
    let other = names[1..].iter().find(|user| owner(user) != owner(&first)).expect("some user").clone();
    ([first.clone(), same], [first, other])
}

/// A 4-tuple that is used again at once belongs to the new connection, however the old one ended, and whoever owns it.
fn a_reused_four_tuple_serves_the_new_user(family: Family) -> Result<()> {
    let lab = lab()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    let address = fleet.websocket();
    let (same, different) = users_by_owner(&fleet);
    type Ending = fn(Probe) -> Result<()>;
    let endings: [(&str, Ending); 3] = [
        ("reset by the client", Probe::reset),
        ("closed by the server", Probe::close_by_server),
        ("vanished in silence", Probe::vanish),
    ];
    lab.client(0).run(|| {
        let mut port = 20_000;
        for (name, end) in endings {
            for [first, second] in [&same, &different] {
                port += 1;
                let options = Options { source_port: Some(port), ..Options::default() };
                let mut probe = Probe::open(address, first, options)?;
                probe.echo(1000)?;
                end(probe)?;
                let again = || -> Result<()> {
                    let mut probe = Probe::open(address, second, options)?;
                    probe.echo(1000)
                };
                again().with_context(|| format!("after the first connection was {name}, {first} then {second}"))?;
            }
        }
        anyhow::Ok(())
    })?;
    // The test has met what it is about: flows taken over, and sockets that stood in the way on the same node.
    let mut counted = [0, 0];
    for node in 0..3 {
        for (total, name) in counted.iter_mut().zip(["rebound", "stale_socket_closed"]) {
            *total += lab.router().block_on(fleet.counter(node, name))?;
        }
    }
    ensure!(counted[0] >= 6 && counted[1] >= 2, "rebound {}, stale sockets closed {}", counted[0], counted[1]);
    Ok(())
}

/// A handshake that idles past the life of its cookie ends in a RST, not in a hang; one that speaks in time is served.
fn an_idle_handshake_ends_cleanly(family: Family) -> Result<()> {
    let lab = lab()?;
    // Slots of 2^30 ns, about a second: nothing else in this test depends on time.
    let fleet = Fleet::start(&lab, &FleetOptions { slot_shift: 30, ..FleetOptions::all(family) })?;
    let address = fleet.websocket();
    lab.client(0).run(|| {
        let mut idle = Probe::connect(address, Options::default())?;
        // Longer than three slots: no clock that the cookie could still be valid by.
        thread::sleep(Duration::from_millis(3500));
        let outcome = idle.ask(&[&request("idle")])?;
        ensure!(outcome == Outcome::Reset, "{outcome:?}");
        Probe::open(address, "idle", Options::default())?.echo(10)
    })
}
