//! Rule by rule.

use ringsteer_openim::message::{
    msg::ConversationSeqs,
    sdkws::{MsgData, PullOrder, SeqRange},
};

use super::{Memory, single, to_group, users};
use crate::book::{Audience, Change, Limits, Pending, Reader, Refusal, View as _};

fn seqs(messages: &[MsgData]) -> Vec<i64> {
    messages.iter().map(|message| message.seq).collect()
}

fn range(conversation: &str, begin: i64, end: i64, num: i64) -> SeqRange {
    SeqRange { conversation_id: conversation.into(), begin, end, num }
}

/// `count` messages of alice to bob.
fn chat(count: i64) -> Memory {
    let mut memory = Memory::default();
    for n in 1..=count {
        memory.send(single("alice", "bob", &format!("m{n}")), 1000 + n).unwrap();
    }
    memory
}

#[test]
fn messages_are_numbered_from_one_in_each_conversation() {
    let mut memory = Memory::default();
    let mut seq = |message| memory.send(message, 1).unwrap().seq;
    assert_eq!(seq(single("alice", "bob", "a")), 1);
    assert_eq!(seq(single("bob", "alice", "b")), 2);
    assert_eq!(seq(single("alice", "carol", "c")), 1);
    let book = Reader::new(&memory, Limits::default());
    let newest = book.newest("alice").unwrap();
    assert_eq!(newest.max_seqs, [("si_alice_bob".into(), 2), ("si_alice_carol".into(), 1)].into());
    assert!(newest.min_seqs.is_empty());
}

#[test]
fn a_message_sent_again_is_the_same_message() {
    let mut memory = Memory::default();
    let first = memory.send(single("alice", "bob", "a"), 1000).unwrap();
    let again = memory.send(single("alice", "bob", "a"), 2000).unwrap();
    assert_eq!((again.seq, again.send_time_ms, &again.server_msg_id), (1, 1000, &first.server_msg_id));
    assert!(first.push.is_some());
    assert_eq!(again.push, None);
    // The name is the sender's own.
    assert_eq!(memory.send(single("bob", "alice", "a"), 3000).unwrap().seq, 2);
    // But not for another conversation.
    let refusal = memory.send(single("alice", "carol", "a"), 4000).unwrap_err();
    assert!(matches!(&refusal, Refusal::Arguments(why) if why.contains("another conversation")), "{refusal}");
}

#[test]
fn within_a_batch_the_later_see_the_earlier() {
    let memory = Memory::default();
    let mut book = Pending::over(&memory);
    let mut send = |message| book.send(message, false, "s".into(), 1, &Limits::default()).unwrap().seq;
    assert_eq!(send(single("alice", "bob", "a")), 1);
    assert_eq!(send(single("alice", "bob", "b")), 2);
    assert_eq!(send(single("alice", "bob", "a")), 1);
    // And nobody else sees anything yet.
    assert_eq!((&memory).get(crate::book::Table::Conversations, b"si_alice_bob").unwrap(), None);
}

#[test]
fn times_of_a_conversation_do_not_go_back() {
    let mut memory = Memory::default();
    assert_eq!(memory.send(single("alice", "bob", "a"), 2000).unwrap().send_time_ms, 2000);
    assert_eq!(memory.send(single("alice", "bob", "b"), 1000).unwrap().send_time_ms, 2000);
}

#[test]
fn what_is_not_to_be_kept_is_handed_on_only() {
    let mut memory = chat(1);
    let typing = MsgData { options: [("history".into(), false)].into(), ..single("alice", "bob", "typing") };
    let taken = memory.send(typing, 5000).unwrap();
    assert_eq!(taken.seq, 0);
    assert_eq!(taken.push.unwrap().message.seq, 0);
    assert_eq!(memory.send(single("bob", "alice", "next"), 6000).unwrap().seq, 2);
}

#[test]
fn names_that_look_alike_are_kept_apart() {
    let mut memory = Memory::default();
    memory.send(single("a", "b_c", "1"), 1).unwrap();
    let refusal = memory.send(single("a_b", "c", "1"), 1).unwrap_err();
    assert!(refusal.to_string().contains("underscores"), "{refusal}");
}

#[test]
fn what_cannot_be_a_message_is_refused() {
    let mut memory = Memory::default();
    let long = "x".repeat(300);
    let large = MsgData { content: vec![0; 200 << 10].into(), ..single("a", "b", "1") };
    for (message, why) in [
        (single("", "b", "1"), "sendID is empty"),
        (single("a", "", "1"), "recvID is empty"),
        (single("a", "b", ""), "clientMsgID is empty"),
        (single("a", "b\0c", "1"), "control character"),
        (single(&long, "b", "1"), "longer than 256"),
        (large, "131072 are taken"),
        (MsgData { session_type: 9, ..single("a", "b", "1") }, "sessionType 9"),
    ] {
        let refusal = memory.send(message, 1).unwrap_err();
        assert!(matches!(&refusal, Refusal::Arguments(said) if said.contains(why)), "{refusal}, not {why}");
    }
    assert!(memory.0.is_empty(), "a refused message leaves nothing behind");
}

#[test]
fn a_message_goes_to_the_other_and_to_ones_own_devices() {
    let mut memory = Memory::default();
    let audience = |taken: crate::book::Accepted| taken.push.unwrap().audience;
    let to = |names: &[&str]| Audience::Users(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(audience(memory.send(single("a", "b", "1"), 1).unwrap()), to(&["b", "a"]));
    assert_eq!(audience(memory.send(single("a", "a", "2"), 1).unwrap()), to(&["a"]));
    let quiet = MsgData { options: [("senderSync".into(), false)].into(), ..single("a", "b", "3") };
    assert_eq!(audience(memory.send(quiet, 1).unwrap()), to(&["b"]));
}

#[test]
fn a_range_is_cut_to_what_there_is() {
    let memory = chat(10);
    let book = Reader::new(&memory, Limits::default());
    let pull = |range: SeqRange, order| book.pull("bob", &[range], order).unwrap().msgs.remove("si_alice_bob");
    let all = pull(range("si_alice_bob", 1, 10, 10), PullOrder::Asc).unwrap();
    assert_eq!((seqs(&all.msgs), all.is_end), ((1..=10).collect(), true));
    // Beyond both ends.
    assert_eq!(pull(range("si_alice_bob", -5, 99, 99), PullOrder::Asc).unwrap(), all);
    // More than wanted: the newest.
    let some = pull(range("si_alice_bob", 1, 8, 3), PullOrder::Desc).unwrap();
    assert_eq!((seqs(&some.msgs), some.is_end), (vec![6, 7, 8], true));
    let middle = pull(range("si_alice_bob", 4, 6, 10), PullOrder::Asc).unwrap();
    assert_eq!((seqs(&middle.msgs), middle.is_end), (vec![4, 5, 6], false));
    // Nothing there.
    assert_eq!(pull(range("si_alice_bob", 11, 20, 10), PullOrder::Asc), None);
    assert_eq!(pull(range("si_alice_bob", 8, 3, 10), PullOrder::Asc), None);
}

#[test]
fn an_answer_has_limits() {
    let memory = chat(10);
    let three = Limits { page_messages: 3, ..Limits::default() };
    let pull = |limits, order| {
        let ranges = [range("si_alice_bob", 1, 10, 10)];
        Reader::new(&memory, limits).pull("bob", &ranges, order).unwrap().msgs.remove("si_alice_bob").unwrap()
    };
    let some = pull(three, PullOrder::Asc);
    assert_eq!((seqs(&some.msgs), some.is_end), (vec![8, 9, 10], false));
    // By size, from the side where the client begins.
    let bytes = prost::Message::encoded_len(&some.msgs[0]);
    let small = Limits { page_bytes: 2 * bytes + 20, ..Limits::default() };
    assert_eq!(seqs(&pull(small, PullOrder::Asc).msgs), [1, 2]);
    assert_eq!(seqs(&pull(small, PullOrder::Desc).msgs), [9, 10]);
    assert!(!pull(small, PullOrder::Asc).is_end);
    // And so has a question.
    let two = Limits { conversations: 2, page_messages: 3, ..Limits::default() };
    let book = Reader::new(&memory, two);
    let many = vec![range("si_alice_bob", 1, 1, 1); 3];
    assert!(matches!(book.pull("bob", &many, PullOrder::Asc), Err(Refusal::Arguments(_))));
    let long = [ConversationSeqs { conversation_id: "si_alice_bob".into(), seqs: vec![1; 4] }];
    assert!(matches!(book.by_seqs("bob", &long, PullOrder::Asc), Err(Refusal::Arguments(_))));
}

#[test]
fn messages_come_by_their_numbers() {
    let memory = chat(5);
    let book = Reader::new(&memory, Limits::default());
    let ask = |seqs: &[i64], order| {
        let wanted = [ConversationSeqs { conversation_id: "si_alice_bob".into(), seqs: seqs.to_vec() }];
        book.by_seqs("bob", &wanted, order).unwrap().msgs.remove("si_alice_bob").unwrap()
    };
    let some = ask(&[5, 2, 2, 0, -1], PullOrder::Asc);
    assert_eq!((seqs(&some.msgs), some.is_end, some.end_seq), (vec![2, 5], false, 0));
    let beyond = ask(&[4, 6], PullOrder::Asc);
    assert_eq!((seqs(&beyond.msgs), beyond.is_end, beyond.end_seq), (vec![4], true, 5));
}

#[test]
fn strangers_learn_nothing() {
    let memory = chat(3);
    let book = Reader::new(&memory, Limits::default());
    let name = "si_alice_bob".to_owned();
    assert!(book.newest("mallory").unwrap().max_seqs.is_empty());
    assert!(book.pull("mallory", &[range(&name, 1, 3, 3)], PullOrder::Asc).unwrap().msgs.is_empty());
    let wanted = [ConversationSeqs { conversation_id: name.clone(), seqs: vec![1] }];
    assert!(book.by_seqs("mallory", &wanted, PullOrder::Asc).unwrap().msgs.is_empty());
    assert!(book.last_messages("mallory", std::slice::from_ref(&name)).unwrap().msgs.is_empty());
    assert!(book.has_read_and_newest("mallory", std::slice::from_ref(&name)).unwrap().seqs.is_empty());
    let mut pending = Pending::over(&memory);
    assert!(matches!(pending.mark_read("mallory", &name, 1), Err(Refusal::Arguments(_))));
}

#[test]
fn reading_goes_forward_and_not_beyond_the_end() {
    let mut memory = chat(5);
    let name = "si_alice_bob";
    let has_read = |memory: &Memory, user| {
        Reader::new(memory, Limits::default()).has_read(user, &[name.to_owned()]).unwrap()[name]
    };
    assert_eq!((has_read(&memory, "alice"), has_read(&memory, "bob")), (5, 0));
    assert_eq!(memory.with(|book| book.mark_read("bob", name, 3)).unwrap(), 3);
    assert_eq!(memory.with(|book| book.mark_read("bob", name, 2)).unwrap(), 3);
    assert!(memory.with(|book| book.mark_read("bob", name, 6)).is_err());
    assert_eq!(has_read(&memory, "bob"), 3);
    memory.with(|book| book.set_read("bob", name, 1)).unwrap();
    assert_eq!(has_read(&memory, "bob"), 1);
    let book = Reader::new(&memory, Limits::default());
    let seqs = book.has_read_and_newest("bob", &[]).unwrap().seqs.remove(name).unwrap();
    assert_eq!((seqs.max_seq, seqs.has_read_seq, seqs.max_seq_time), (5, 1, 1005));
}

#[test]
fn members_speak_and_hear() {
    let mut memory = Memory::default();
    let change =
        |memory: &mut Memory, change| memory.with(|book| book.change_members("g", change, &Limits::default())).unwrap();
    assert!(matches!(memory.send(to_group("a", "g", "0"), 1), Err(Refusal::NoGroup(_))));
    change(&mut memory, Change::Set(users(&["a", "b", "c"])));
    assert!(matches!(memory.send(to_group("m", "g", "0"), 1), Err(Refusal::NotInGroup { .. })));
    assert_eq!(memory.send(to_group("a", "g", "1"), 1).unwrap().seq, 1);
    assert_eq!(change(&mut memory, Change::Remove(users(&["c"]))), users(&["a", "b"]));
    assert_eq!(memory.send(to_group("b", "g", "2"), 1).unwrap().seq, 2);
    assert!(matches!(memory.send(to_group("c", "g", "3"), 1), Err(Refusal::NotInGroup { .. })));
    let newest = |memory: &Memory, user: &str| {
        Reader::new(memory, Limits::default()).newest(user).unwrap().max_seqs.get("sg_g").copied()
    };
    // Whoever has gone sees what was said until then.
    assert_eq!((newest(&memory, "b"), newest(&memory, "c")), (Some(2), Some(1)));
    let ranges = [range("sg_g", 1, 2, 10)];
    let seen = Reader::new(&memory, Limits::default()).pull("c", &ranges, PullOrder::Asc).unwrap();
    assert_eq!(seqs(&seen.msgs["sg_g"].msgs), [1]);
    // Whoever comes, or comes back, sees it all.
    change(&mut memory, Change::Add(users(&["c", "d"])));
    assert_eq!((newest(&memory, "c"), newest(&memory, "d")), (Some(2), Some(2)));
    // Whoever has gone before anybody spoke sees nothing.
    memory.with(|book| book.change_members("h", Change::Set(users(&["a", "b"])), &Limits::default())).unwrap();
    memory.with(|book| book.change_members("h", Change::Set(users(&["a"])), &Limits::default())).unwrap();
    memory.send(to_group("a", "h", "x"), 1).unwrap();
    assert!(!Reader::new(&memory, Limits::default()).newest("b").unwrap().max_seqs.contains_key("sg_h"));
}

#[test]
fn a_service_speaks_where_no_member_would() {
    let mut memory = Memory::default();
    let notice = MsgData { options: [("isNotNotification".into(), false)].into(), ..to_group("system", "g", "1") };
    memory.with(|book| book.change_members("g", Change::Set(users(&["a"])), &Limits::default())).unwrap();
    let taken = memory.with(|book| book.send(notice, true, "s".into(), 1, &Limits::default())).unwrap();
    assert_eq!(taken.push.unwrap().conversation, "n_g");
    let book = Reader::new(&memory, Limits::default());
    let answer = book.pull("a", &[range("n_g", 1, 1, 1)], PullOrder::Asc).unwrap();
    assert_eq!((answer.msgs.len(), seqs(&answer.notification_msgs["n_g"].msgs)), (0, vec![1]));
}

#[test]
fn what_users_may_see_can_be_set() {
    let mut memory = chat(9);
    let name = "si_alice_bob";
    memory.with(|book| book.set_first("bob", name, 4)).unwrap();
    memory.with(|book| book.set_last("bob", name, 7)).unwrap();
    let book = Reader::new(&memory, Limits::default());
    let newest = book.newest("bob").unwrap();
    assert_eq!((newest.min_seqs[name], newest.max_seqs[name]), (4, 7));
    let pulled = book.pull("bob", &[range(name, 1, 9, 99)], PullOrder::Desc).unwrap();
    assert_eq!(seqs(&pulled.msgs[name].msgs), [4, 5, 6, 7]);
    assert_eq!(book.last_messages("bob", &[name.into()]).unwrap().msgs[name].seq, 7);
    let wanted = [ConversationSeqs { conversation_id: name.into(), seqs: vec![2, 4] }];
    let answer = book.by_seqs("bob", &wanted, PullOrder::Desc).unwrap();
    assert_eq!((seqs(&answer.msgs[name].msgs), answer.msgs[name].end_seq), (vec![4], 4));
    assert_eq!(book.has_read_and_newest("bob", &[]).unwrap().seqs[name].max_seq_time, 1007);
}
