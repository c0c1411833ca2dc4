//! The ring changes under clients that are not ours, which talk without a pause: their sessions go to and fro, and they
//! notice nothing. Keeps promise 3, with the websocket libraries that people use.

use anyhow::{Context as _, Result, ensure};
use ringsteer_tests::{
    echoing::{Echoing, Library},
    fleet::{Fleet, Options},
    lab::{Family, Lab},
    on_each_family,
    rounds::Rounds,
    scrape::{GATEWAY, Scrape},
    seed,
};

on_each_family!(pythons_client_is_moved_a_hundred_times);

/// How often each session moves.
const MOVES: usize = 100;

const NODES: usize = 3;

/// Larger messages than OpenIM's are let in.
const LARGE_MESSAGES: &str = "[gateway]\nmax_message_bytes = 2097152\n";

/// Two clients, one of which compresses, are moved from node to node.
fn clients_are_moved_a_hundred_times(family: Family, library: Library) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed::from_environment());
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let options = Options { ring_file: true, extra: LARGE_MESSAGES.into(), ..Options::all(family) };
    let fleet = Fleet::start(&lab, &options)?;
    let mut rounds = Rounds::of(&fleet);
    let mut node = 0;
    rounds.send_to(&[node], &[])?;
    let mut clients = Vec::new();
    for (user, deflate) in [("plain", false), ("deflate", true)] {
        // Numbers that JavaScript reads, too.
        let seed = random.u32(..).into();
        clients.push(Echoing::start(lab.client(0), library, user, fleet.websocket(), seed, deflate)?);
    }
    let users = ["plain".to_owned(), "deflate".to_owned()];
    for made in 0..MOVES {
        // Each time to another node, with whatever is under way just then.
        node = (node + random.usize(1..NODES)) % NODES;
        rounds.send_to(&[node], &users).with_context(|| format!("move {made}"))?;
        // Now and then everybody has to have got on, wherever they are; in between moves follow as fast as can be.
        if made % 5 == 4 {
            for (user, client) in users.iter().zip(&mut clients) {
                client.wait_for_echo().with_context(|| format!("{user} after move {made}"))?;
            }
        }
    }
    for (user, client) in users.iter().zip(clients) {
        let messages = client.end().with_context(|| format!("{user} at the end"))?;
        println!("{user}: {messages} messages");
        ensure!(messages >= 50, "{user} has had {messages} messages back only");
    }
    for node in lab.nodes() {
        let failed = Scrape::of(node, GATEWAY)?.value("ringsteer_moves_total{outcome=\"failed\"}")?;
        println!("{}: {failed} moves had to be tried again", node.name());
    }
    Ok(())
}

fn pythons_client_is_moved_a_hundred_times(family: Family) -> Result<()> {
    clients_are_moved_a_hundred_times(family, Library::Python)
}

#[test]
fn nodes_client_is_moved_a_hundred_times() -> Result<()> {
    clients_are_moved_a_hundred_times(Family::V4, Library::Node)
}
