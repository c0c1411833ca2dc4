//! OpenIM's own JS SDK, unmodified, through the virtual address: two users on different nodes, from the login to the
//! logout. Agents, gateways and the message service are the real ones; the SDK's REST calls are answered by a stub
//! (`tests/js-sdk/user.mjs`), for users, friends and groups are not ringsteer's.

use anyhow::{Context as _, Result, ensure};
use ringsteer_tests::{
    js_sdk::{JsUser, Received},
    lab::{Family, Lab},
    on_each_family,
    openim::Scene,
    rounds::Rounds,
};

on_each_family!(two_users_of_the_real_sdk_meet, two_users_of_the_real_sdk_notice_no_ring_change);

/// A browser, as the SDK is made for.
const WEB: u8 = 5;

/// Messages each way, besides the first.
const MESSAGES: usize = 20;

/// Both ways, each once and in order.
fn talk(a: (&str, &mut JsUser), b: (&str, &mut JsUser), tag: &str, seq: &mut u64) -> Result<()> {
    for index in 0..MESSAGES {
        for (from, to) in [(0, 1), (1, 0)] {
            let users = [(a.0, &mut *a.1), (b.0, &mut *b.1)];
            let [(first, one), (second, other)] = users;
            let (sender, sender_sdk, receiver, receiver_sdk) =
                if from < to { (first, one, second, other) } else { (second, other, first, one) };
            let text = format!("{tag} {index} from {sender} ☂");
            sender_sdk.send(receiver, &text)?;
            *seq += 1;
            let expected = Received { seq: *seq, from: sender.to_owned(), text };
            let came = receiver_sdk.next_message()?;
            ensure!(came == expected, "{receiver} got {came:?} instead of {expected:?}");
        }
    }
    Ok(())
}

/// Where these two talk.
fn conversation(a: &str, b: &str) -> String {
    let mut users = [a, b];
    users.sort_unstable();
    format!("si_{}_{}", users[0], users[1])
}

fn two_users_of_the_real_sdk_meet(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(2).stores(1).build()?;
    let scene = Scene::set(&lab, family)?;
    let (alice, bob) = (scene.user_of(1), scene.user_of(2));
    let gateway = scene.address;

    let mut a = JsUser::start(lab.client(0), "alice")?;
    let mut b = JsUser::start(lab.client(1), "bob")?;
    a.log_in(&alice, &scene.token(&alice, WEB, "1d")?, WEB, gateway)?;
    b.log_in(&bob, &scene.token(&bob, WEB, "1d")?, WEB, gateway)?;
    let mut seq = 0;
    talk((&alice, &mut a), (&bob, &mut b), "first", &mut seq)?;

    // The gateway of one is killed and comes back; its client dials again by itself, and hears what it has missed.
    scene.fleet.gateways[2].kill()?;
    a.send(&bob, "while you were away")?;
    seq += 1;
    scene.fleet.gateways[2].restart()?;
    b.wait_for_event("OnConnectSuccess").context("after the gateway came back")?;
    b.wait_for_event("OnSyncServerFinish")?;
    let missed = Received { seq, from: alice.clone(), text: "while you were away".into() };
    let came = b.next_message().context("what was missed")?;
    ensure!(came == missed, "{came:?} instead of {missed:?}");
    let history = b.history(&conversation(&alice, &bob))?;
    ensure!(history.contains(&missed), "{missed:?} is not in {history:?}");
    let seqs: Vec<u64> = history.iter().map(|message| message.seq).collect();
    ensure!(seqs.is_sorted_by(|before, after| before < after), "out of order: {seqs:?}");
    talk((&alice, &mut a), (&bob, &mut b), "again", &mut seq).context("after the gateway came back")?;

    // A second login on the same platform, with another token, ends the first.
    let mut second = JsUser::start(lab.client(0), "bob-again")?;
    second.log_in(&bob, &scene.token(&bob, WEB, "2d")?, WEB, gateway)?;
    b.wait_for_event("OnKickedOffline")?;
    scene.wait_for_sessions(2, 1)?;
    talk((&alice, &mut a), (&bob, &mut second), "anew", &mut seq).context("after the second login")?;

    second.log_out()?;
    scene.wait_for_sessions(2, 0)?;
    a.log_out()?;
    scene.wait_for_sessions(1, 0)
}

/// The nodes that own users, ring by ring; the others drain.
const RINGS: [&[usize]; 8] = [&[1], &[0, 2], &[2], &[0], &[0, 1, 2], &[1], &[0], &[0, 1, 2]];

fn two_users_of_the_real_sdk_notice_no_ring_change(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(2).stores(1).build()?;
    let scene = Scene::set(&lab, family)?;
    let users = [scene.user_of(1), scene.user_of(2)];
    let [alice, bob] = &users;
    let mut a = JsUser::start(lab.client(0), "alice")?;
    let mut b = JsUser::start(lab.client(1), "bob")?;
    a.log_in(alice, &scene.token(alice, WEB, "1d")?, WEB, scene.address)?;
    b.log_in(bob, &scene.token(bob, WEB, "1d")?, WEB, scene.address)?;
    let mut seq = 0;
    talk((alice, &mut a), (bob, &mut b), "before", &mut seq)?;
    let mut rounds = Rounds::of(&scene.fleet);
    for active in RINGS {
        rounds.next(active)?;
        let tag = format!("ring {}", rounds.current().epoch());
        // They go where they belong while these two talk; and once they are there, they talk on.
        talk((alice, &mut a), (bob, &mut b), &tag, &mut seq).with_context(|| format!("{tag} comes"))?;
        lab.router().block_on(rounds.settle(&users))?;
        talk((alice, &mut a), (bob, &mut b), &format!("{tag}, all there"), &mut seq)?;
    }
    for (user, sdk) in [(alice, &mut a), (bob, &mut b)] {
        sdk.assert_undisturbed()?;
        let more = sdk.unread_messages()?;
        ensure!(more.is_empty(), "{user} has got more than was sent: {more:?}");
    }
    a.log_out()?;
    b.log_out()?;
    lab.router().block_on(rounds.settle(&[]))
}
