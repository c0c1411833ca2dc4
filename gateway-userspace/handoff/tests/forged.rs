//! What was said once does not work a second time, and works for nobody else: after a move, and in the middle of one, every
//! message that there ever was is said again, by everybody to everybody, in the name of every life. Nothing may change but
//! a number.

mod world;

use std::collections::BTreeSet;

use ringsteer_handoff::{
    Limits, Refusals,
    message::Message,
    name::{Epoch, Gateway, Incarnation, NodeId, SessionId},
};
use world::{Network, Packet, SocketState, World};

const NODES: usize = 3;

/// Three nodes, a session at the first, and a second ring that gives it to the second node. Nothing is forgotten: time
/// stands still.
fn world() -> (World, SessionId) {
    let rings = vec![vec![NodeId(1)], vec![NodeId(2)], vec![NodeId(1)]];
    let mut world = World::new(NODES, rings, Limits { moves_per_s: None, ..Limits::default() }, true);
    world.connect(0, 0, None);
    let session = *world.clients.keys().next().expect("it has connected");
    (world, session)
}

/// All that is under way now, out of the network.
fn taken(world: &mut World) -> BTreeSet<Packet> {
    let Network::Wild(packets) = &mut world.network else { panic!("a network of that kind") };
    std::mem::take(packets)
}

/// One round: whatever is under way arrives, once.
fn round(world: &mut World) -> BTreeSet<Packet> {
    let packets = taken(world);
    packets.iter().for_each(|packet| world.arrive(packet));
    packets
}

/// Lets everything happen until nobody has anything to say; gives all that was said.
fn quiet(world: &mut World) -> BTreeSet<Packet> {
    let mut said = BTreeSet::new();
    for _ in 0..100 {
        for index in 0..NODES {
            while !world.nodes[index].requests.is_empty() {
                world.agent(index);
            }
            for id in world.nodes[index].restoring.keys().copied().collect::<Vec<_>>() {
                world.restore(index, id, true);
            }
        }
        let packets = round(world);
        if packets.is_empty() {
            return said;
        }
        said.extend(packets);
    }
    panic!("they never stop talking");
}

fn refusals(world: &World, index: usize) -> Refusals {
    world.nodes[index].handoff.as_ref().expect("it runs").progress().refused
}

fn sum(refusals: Refusals) -> u64 {
    let Refusals { foreign, stale, ring, not_mine, broken } = refusals;
    foreign + stale + ring + not_mine + broken
}

/// Says something, and wants nothing to change by it but a number, which is given.
fn refused(world: &World, packet: &Packet) -> Refusals {
    let index = world.index(packet.to.node);
    let before = refusals(world, index);
    let mut after = world.clone();
    after.arrive(packet);
    // Answers are given, and mean nothing to those who hear them either.
    for answer in taken(&mut after) {
        assert!(
            !matches!(answer.message, Message::Go { .. } | Message::Offer(_)),
            "{packet:?} brings about {answer:?}"
        );
        assert!(!matches!(answer.message, Message::Ready { .. }), "{packet:?} is taken for an offer");
    }
    let mut unchanged = world.clone();
    taken(&mut unchanged);
    assert!(after == unchanged, "{packet:?} changes something");
    let now = refusals(&after, index);
    assert_eq!(sum(now), sum(before) + 1, "{packet:?} is not counted, or twice");
    now
}

/// Every message about moves that was ever said, from and to everybody there is or was.
fn echoes(said: &BTreeSet<Packet>, world: &World) -> Vec<Packet> {
    let lives: Vec<Gateway> = world.nodes.iter().map(|node| node.me).collect();
    let messages = said.iter().map(|packet| &packet.message).filter(|message| !matches!(message, Message::State(_)));
    let mut echoes = Vec::new();
    for message in messages.collect::<BTreeSet<_>>() {
        for &from in &lives {
            for &to in lives.iter().filter(|to| to.node != from.node) {
                echoes.push(Packet { from, to, message: message.clone() });
            }
        }
    }
    echoes
}

#[test]
fn what_was_said_once_is_refused_a_second_time_whoever_says_it() {
    let (mut world, session) = world();
    (0..NODES).for_each(|index| world.ring(index, 2));
    let mut said = quiet(&mut world);
    assert!(world.seen.moved && world.nodes[1].sockets.contains_key(&session));
    // There, and back again, so that there are two generations to be mistaken for each other.
    (0..NODES).for_each(|index| world.ring(index, 3));
    said.extend(quiet(&mut world));
    assert_eq!(world.nodes[0].sockets[&session].state, SocketState::Active);
    let echoes = echoes(&said, &world);
    assert!(echoes.len() >= 2 * 4 * 6, "a move there and one back have four words each");
    for packet in &echoes {
        refused(&world, packet);
    }
    assert_eq!(world.violation, None);
}

#[test]
fn in_the_middle_of_a_move_nobody_else_is_heard() {
    let (mut world, session) = world();
    (0..NODES).for_each(|index| world.ring(index, 2));
    // Up to where the copy is whole, and its word has not arrived.
    let ready = (0..100).find_map(|_| {
        for index in 0..NODES {
            while !world.nodes[index].requests.is_empty() {
                world.agent(index);
            }
            for id in world.nodes[index].restoring.keys().copied().collect::<Vec<_>>() {
                world.restore(index, id, true);
            }
        }
        let Network::Wild(packets) = &world.network else { panic!("a network of that kind") };
        let ready = packets.iter().find(|packet| matches!(packet.message, Message::Ready { .. })).cloned();
        if ready.is_none() {
            round(&mut world);
        }
        ready
    });
    let Packet { from: new, to: old, message: Message::Ready { id } } = ready.expect("the copy is made") else {
        unreachable!("it was looked for")
    };
    taken(&mut world);
    let third = world.nodes[2].me;
    assert!(matches!(world.nodes[0].sockets[&session].state, SocketState::Suspended(_)));
    assert!(matches!(world.nodes[1].sockets[&session].state, SocketState::Copy(_)));

    // The third node has no part in this. It can end nothing, and gain nothing.
    let because = ringsteer_handoff::message::RefusedBecause::Busy;
    for (to, message) in [
        (old, Message::Ready { id }),
        (old, Message::Refused { id, because }),
        (old, Message::Done { id, alive: true }),
        (old, Message::Done { id, alive: false }),
        (new, Message::Go { id }),
        (new, Message::Abort { id }),
    ] {
        let packet = Packet { from: third, to, message };
        assert!(refused(&world, &packet).foreign > 0, "{packet:?}");
    }
    // Nor can an earlier life of one of the two.
    for (from, to, message) in [(old, new, Message::Go { id }), (new, old, Message::Ready { id })] {
        let before = Gateway { incarnation: Incarnation(4711), ..from };
        let packet = Packet { from: before, to, message };
        assert!(refused(&world, &packet).foreign > 0, "{packet:?}");
    }
    // Nor can an attempt of another number.
    for generation in [id.generation - 1, id.generation + 1] {
        let id = ringsteer_handoff::name::MoveId { generation, ..id };
        refused(&world, &Packet { from: old, to: new, message: Message::Go { id } });
        refused(&world, &Packet { from: old, to: new, message: Message::Abort { id } });
        refused(&world, &Packet { from: new, to: old, message: Message::Ready { id } });
        refused(&world, &Packet { from: new, to: old, message: Message::Refused { id, because } });
    }
    // And then it goes on as if nothing had been said.
    world.arrive(&Packet { from: new, to: old, message: Message::Ready { id } });
    quiet(&mut world);
    assert_eq!(world.nodes[1].sockets[&session].state, SocketState::Active);
    assert_eq!(world.violation, None);
}

#[test]
fn an_offer_by_another_ring_or_of_anothers_user_or_to_another_life_is_refused() {
    let (mut world, session) = world();
    (0..NODES).for_each(|index| world.ring(index, 2));
    let said = quiet(&mut world);
    let Some(Packet { from, to, message: Message::Offer(offer) }) =
        said.iter().find(|packet| matches!(packet.message, Message::Offer(_))).cloned()
    else {
        panic!("it was offered")
    };
    let other = SessionId { number: session.number + 1, ..session };
    let id = ringsteer_handoff::name::MoveId { session: other, generation: 1 };
    let offering = |to: Gateway, epoch: u64| {
        let mut offer = offer.clone();
        offer.id = id;
        offer.epoch = Epoch(epoch);
        Packet { from, to, message: Message::Offer(offer) }
    };
    assert_eq!(refused(&world, &offering(to, 1)).ring, 1, "a ring that was");
    assert_eq!(refused(&world, &offering(to, 3)).ring, 1, "a ring that will be");
    assert_eq!(refused(&world, &offering(world.nodes[2].me, 2)).not_mine, 1);

    // To a life that is over: the one that has its place says so itself.
    let index = world.index(to.node);
    let mut after = world.clone();
    let event = ringsteer_handoff::Event::Said { from, to: Incarnation(4711), message: offering(to, 2).message };
    after.happen(index, event);
    assert!(taken(&mut after).is_empty() && after == world);
    assert_eq!(refusals(&after, index).stale, refusals(&world, index).stale + 1);

    // What cannot be made leaves nothing behind but the memory that it was there.
    let mut after = world.clone();
    after.arrive(&offering(to, 2));
    let before = refusals(&after, index).broken;
    after.restore(index, id, false);
    assert!(after.nodes[index].restoring.is_empty() && !after.nodes[index].sockets.contains_key(&other));
    assert_eq!(refusals(&after, index).broken, before + 1);
    refused(&after, &offering(to, 2));
}

#[test]
fn an_old_state_does_not_replace_a_newer_one() {
    let (mut world, _) = world();
    (0..NODES).for_each(|index| world.ring(index, 2));
    let said = quiet(&mut world);
    let states = said.iter().filter(|packet| matches!(packet.message, Message::State(_)));
    let mut old = 0;
    for packet in states {
        let newest =
            said.iter().filter(|other| (other.from, other.to) == (packet.from, packet.to)).filter_map(|other| {
                match &other.message {
                    Message::State(state) => Some(state.number),
                    _ => None,
                }
            });
        let Message::State(state) = &packet.message else { unreachable!("it was looked for") };
        if Some(state.number) < newest.max() {
            assert!(refused(&world, packet).stale > 0);
            old += 1;
        }
    }
    assert!(old > 0, "nobody said anything twice");
}

#[test]
fn a_question_of_a_life_that_has_ended_reaches_nobody() {
    let (mut world, _) = world();
    world.push(1, 0);
    let said = quiet(&mut world);
    let is_ask = |packet: &&Packet| matches!(packet.message, Message::Ask(_));
    let asked = said.iter().find(is_ask).expect("the second node has to ask the first").clone();
    assert_eq!(asked.to, world.nodes[0].me);
    // A later push reaches a client that came after the first one, and then the question is heard once more.
    world.connect(0, 0, None);
    world.push(1, 0);
    quiet(&mut world);
    refused_or_answered_again(&world, &asked);
    world.crash(1);
    world.notice(0, asked.from);
    quiet(&mut world);
    assert!(refused(&world, &asked).stale > 0);
    assert_eq!(world.violation, None);
}

/// A question that is heard again while whoever put it lives: nothing but its answer comes of that.
fn refused_or_answered_again(world: &World, asked: &Packet) {
    let mut after = world.clone();
    after.arrive(asked);
    assert!(taken(&mut after).iter().all(|answer| matches!(answer.message, Message::Told(_))));
    let mut unchanged = world.clone();
    taken(&mut unchanged);
    assert!(after == unchanged, "{asked:?} changes something");
}
