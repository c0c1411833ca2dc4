//! A ring brings users to a node while somebody does not know yet that it is followed there: a push that came to that one
//! would not be looked for here, and so they are not let in.

use ringsteer_handoff::{
    message::{Message as Said, State},
    name::Epoch as Number,
};

use super::{
    third::{Envelope, Third},
    *,
};

/// Keeps the addresses of this test apart from those of others.
const BASE: u8 = 45;

#[tokio::test]
async fn who_is_brought_by_a_ring_is_let_in_when_all_know_that_it_is_followed() {
    let wait = |limits: &mut Limits| limits.brought_timeout = 10 * PATIENCE;
    let fleet = Fleet::start_with(BASE, 2, &[1, 2, 3], wait).await;
    let node = fleet.node(1);
    let third = Third::start(&fleet, "000102030405060708090a0b0c0d0e0f", member(BASE, 3).address);
    for number in [1, 2] {
        let known = async {
            third.linked(fleet.node(number)).await;
            while fleet.node(number).figure("ringsteer_gateway_links ") < 2.0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(known).await;
    }
    // The second node drains.
    let mut members = fleet.ring.members().to_vec();
    members.iter_mut().filter(|member| member.number.get() == 2).for_each(|one| one.state = MemberState::Draining);
    let new = Ring::new(Epoch(2), Algorithm::OpenIm, members).unwrap();
    for number in [1, 2] {
        fleet.publish(BASE, number, &new, Some(&fleet.ring)).await;
    }

    let brought = user_where(|user| owned(&fleet.ring, 2)(user) && owned(&new, 1)(user));
    let request = format!("ws://{}/?sendID={brought}", node.clients);
    let waits = tokio::spawn(connect_async(request));
    // Who was here before is let in all the while.
    let mut client = node.connect(&user_where(|user| owned(&fleet.ring, 1)(user) && owned(&new, 1)(user))).await;
    for number in 0..50 {
        client.send(Message::text(format!("{number}"))).await.unwrap();
        assert_eq!(next(&mut client).await, format!("{number}"));
    }
    assert!(!waits.is_finished(), "the third node does not know of it");

    let state = State { epoch: Number(2), in_force: true, settled: true, heard: Number(2), number: 1 };
    third.say(node, Envelope::sealed(third.incarnation(node), Said::State(state)), false).await;
    within(waits).await.unwrap().unwrap();
}
