//! OpenIM's `msg` interface, over real connections and a real storage: every method, as gateways and fronts call it.

mod support;

use std::time::Duration;

use ringsteer_openim_rpc::{
    Caller, RpcError,
    groups::{AddMembersRequest, GetMembersRequest, RemoveMembersRequest, SetMembersRequest},
    msg::{
        ConversationSeqs, GetConversationMaxSeqReq, GetConversationsHasReadAndMaxSeqReq, GetHasReadSeqsReq,
        GetLastMessageReq, GetMaxSeqsReq, GetSeqMessageReq, GetServerTimeReq, MarkConversationAsReadReq,
        MarkMsgsAsReadReq, SendMsgReq, SetConversationHasReadSeqReq, SetUserConversationMaxSeqReq,
        SetUserConversationMinSeqReq, SetUserConversationsMinSeqReq,
    },
    sdkws::{GetMaxSeqReq, MsgData, PullMessageBySeqsReq, PullOrder, SeqRange},
};
use tonic::Code;

use self::support::{Fixture, for_user, service, single, to_group};

fn seqs(messages: &[MsgData]) -> Vec<i64> {
    messages.iter().map(|message| message.seq).collect()
}

#[tokio::test]
async fn a_message_is_stored_numbered_and_pushed() {
    let mut fixture = Fixture::start().await;
    let sent = fixture.send(single("alice", "bob", "m1")).await;
    assert_eq!(sent.client_msg_id, "m1");
    assert!(!sent.server_msg_id.is_empty());
    let (message, mut users) = fixture.pushed().await;
    users.sort();
    assert_eq!(users, ["alice", "bob"]);
    assert_eq!((message.seq, &message.server_msg_id, message.send_time), (1, &sent.server_msg_id, sent.send_time));

    let newest = fixture.msg.get_max_seq(for_user("bob", GetMaxSeqReq { user_id: "bob".into() })).await.unwrap();
    assert_eq!(newest.into_inner().max_seqs, [("si_alice_bob".to_owned(), 1)].into());
    let range = SeqRange { conversation_id: "si_alice_bob".into(), begin: 1, end: 1, num: 1 };
    let asked = PullMessageBySeqsReq { user_id: "bob".into(), seq_ranges: vec![range], order: 0 };
    let pulled = fixture.msg.pull_message_by_seqs(for_user("bob", asked)).await.unwrap().into_inner();
    assert_eq!(pulled.msgs["si_alice_bob"].msgs, [message]);
    assert!(pulled.msgs["si_alice_bob"].is_end);
}

#[tokio::test]
async fn a_message_sent_again_is_answered_again_and_pushed_once() {
    let mut fixture = Fixture::start().await;
    let first = fixture.send(single("alice", "bob", "m1")).await;
    assert_eq!(fixture.send(single("alice", "bob", "m1")).await, first);
    fixture.send(single("alice", "bob", "m2")).await;
    assert_eq!(fixture.pushed().await.0.client_msg_id, "m1");
    assert_eq!(fixture.pushed().await.0.client_msg_id, "m2", "the second m1 is not pushed");
    fixture.stop().await;
}

#[tokio::test]
async fn two_senders_at_once_get_numbers_without_gaps() {
    const EACH: usize = 300;
    let fixture = Fixture::start().await;
    let send = |from: &'static str, to: &'static str| {
        let msg = fixture.msg.clone();
        async move {
            for n in 0..EACH {
                let message = single(from, to, &format!("{from}-{to}-{n}"));
                msg.clone().send_msg(for_user(from, SendMsgReq { msg_data: Some(message) })).await.unwrap();
            }
        }
    };
    tokio::join!(send("alice", "bob"), send("bob", "alice"), send("alice", "carol"));
    let mut msg = fixture.msg.clone();
    let mut all = Vec::new();
    // Page by page, as a client that was away does it.
    for begin in (1..=2 * EACH as i64).step_by(100) {
        let range = SeqRange { conversation_id: "si_alice_bob".into(), begin, end: begin + 99, num: 100 };
        let asked = PullMessageBySeqsReq { user_id: "bob".into(), seq_ranges: vec![range], order: 0 };
        let mut pulled = msg.pull_message_by_seqs(for_user("bob", asked)).await.unwrap().into_inner();
        all.extend(pulled.msgs.remove("si_alice_bob").unwrap().msgs);
    }
    assert_eq!(seqs(&all), (1..=2 * EACH as i64).collect::<Vec<_>>());
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        let of = all.iter().filter(|message| message.send_id == from).map(|message| message.client_msg_id.clone());
        let expected: Vec<_> = (0..EACH).map(|n| format!("{from}-{to}-{n}")).collect();
        assert_eq!(of.collect::<Vec<_>>(), expected, "each sender's messages keep their order");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn pushes_of_a_conversation_come_in_order_also_when_some_have_to_be_tried_again() {
    let mut fixture = Fixture::start().await;
    fixture.pusher.fail_next(3, true);
    for n in 1..=20 {
        fixture.send(single("alice", "bob", &format!("m{n}"))).await;
    }
    for n in 1..=20 {
        assert_eq!(fixture.pushed().await.0.seq, n);
    }
    assert!(fixture.counters.push_retries.get() >= 3);
    assert_eq!(fixture.counters.push_failed.get(), 0);
    fixture.stop().await;
}

#[tokio::test]
async fn a_push_that_fails_loses_nothing() {
    let mut fixture = Fixture::start().await;
    fixture.pusher.fail_next(1, false);
    fixture.send(single("alice", "bob", "m1")).await;
    fixture.send(single("alice", "bob", "m2")).await;
    assert_eq!(fixture.pushed().await.0.seq, 2);
    assert_eq!(fixture.counters.push_failed.get(), 1);
    assert_eq!(fixture.newest("bob").await["si_alice_bob"], 2);
    fixture.stop().await;
}

#[tokio::test]
async fn reading_is_kept_and_told() {
    let mut fixture = Fixture::start().await;
    for n in 1..=5 {
        fixture.send(single("alice", "bob", &format!("m{n}"))).await;
        fixture.pushed().await;
    }
    let name = "si_alice_bob".to_owned();
    let mark = MarkConversationAsReadReq {
        conversation_id: name.clone(),
        user_id: "bob".into(),
        has_read_seq: 3,
        seqs: vec![1, 2, 3],
    };
    fixture.msg.mark_conversation_as_read(for_user("bob", mark.clone())).await.unwrap();
    let (receipt, mut users) = fixture.pushed().await;
    users.sort();
    assert_eq!(users, ["alice", "bob"]);
    assert_eq!((receipt.content_type, receipt.seq), (2200, 0));
    let content: serde_json::Value = serde_json::from_slice(&receipt.content).unwrap();
    let detail: serde_json::Value = serde_json::from_str(content["detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail["hasReadSeq"], 3);
    assert_eq!(detail["markAsReadUserID"], "bob");
    assert_eq!(detail["conversationID"], "si_alice_bob");

    let asked =
        GetConversationsHasReadAndMaxSeqReq { user_id: "bob".into(), conversation_i_ds: vec![], return_pinned: true };
    let answer = fixture.msg.get_conversations_has_read_and_max_seq(for_user("bob", asked)).await.unwrap();
    let seqs = &answer.into_inner().seqs[&name];
    assert_eq!((seqs.max_seq, seqs.has_read_seq), (5, 3));

    let mark = MarkMsgsAsReadReq { conversation_id: name.clone(), seqs: vec![5, 4], user_id: "bob".into() };
    fixture.msg.mark_msgs_as_read(for_user("bob", mark)).await.unwrap();
    fixture.pushed().await;
    let has_read = |answer: tonic::Response<ringsteer_openim_rpc::msg::SeqsInfoResp>| answer.into_inner().max_seqs;
    let asked = GetHasReadSeqsReq { user_id: "bob".into(), conversation_i_ds: vec![name.clone()] };
    let answer = fixture.msg.get_has_read_seqs(for_user("bob", asked.clone())).await.unwrap();
    assert_eq!(has_read(answer)[&name], 5);
    let set = SetConversationHasReadSeqReq {
        conversation_id: name.clone(),
        user_id: "bob".into(),
        has_read_seq: 2,
        no_notification: false,
    };
    fixture.msg.set_conversation_has_read_seq(for_user("bob", set)).await.unwrap();
    assert_eq!(fixture.pushed().await.1, ["bob"], "only one's own devices hear of that");
    let answer = fixture.msg.get_has_read_seqs(for_user("bob", asked)).await.unwrap();
    assert_eq!(has_read(answer)[&name], 2);

    let beyond = MarkConversationAsReadReq { has_read_seq: 6, seqs: vec![], ..mark_of(&name) };
    let status = fixture.msg.mark_conversation_as_read(for_user("bob", beyond)).await.unwrap_err();
    assert_eq!(RpcError::of(&status).code, RpcError::ARGUMENTS);
    fixture.stop().await;
}

fn mark_of(name: &str) -> MarkConversationAsReadReq {
    MarkConversationAsReadReq { conversation_id: name.into(), user_id: "bob".into(), has_read_seq: 0, seqs: vec![] }
}

#[tokio::test]
async fn messages_by_number_last_messages_and_limits_of_sight() {
    let mut fixture = Fixture::start().await;
    for n in 1..=6 {
        fixture.send(single("alice", "bob", &format!("m{n}"))).await;
    }
    let name = "si_alice_bob".to_owned();
    let wanted = vec![ConversationSeqs { conversation_id: name.clone(), seqs: vec![2, 5, 9] }];
    let asked = GetSeqMessageReq { user_id: "bob".into(), conversations: wanted, order: PullOrder::Asc.into() };
    let told = fixture.msg.get_seq_message(for_user("bob", asked)).await.unwrap().into_inner();
    assert_eq!(seqs(&told.msgs[&name].msgs), [2, 5]);
    assert_eq!((told.msgs[&name].is_end, told.msgs[&name].end_seq), (true, 6));

    let asked = GetLastMessageReq { user_id: "bob".into(), conversation_i_ds: vec![name.clone(), "si_x_y".into()] };
    let told = fixture.msg.get_last_message(for_user("bob", asked)).await.unwrap().into_inner();
    assert_eq!(told.msgs.keys().collect::<Vec<_>>(), [&name]);
    assert_eq!(told.msgs[&name].client_msg_id, "m6");

    let asked = GetMaxSeqsReq { conversation_i_ds: vec![name.clone(), "si_x_y".into()] };
    let told = fixture.msg.get_max_seqs(service(asked)).await.unwrap().into_inner();
    assert_eq!(told.max_seqs, [(name.clone(), 6), ("si_x_y".into(), 0)].into());
    let asked = GetConversationMaxSeqReq { conversation_id: name.clone() };
    assert_eq!(fixture.msg.get_conversation_max_seq(service(asked)).await.unwrap().into_inner().max_seq, 6);

    let set = SetUserConversationsMinSeqReq { user_i_ds: vec!["bob".into()], conversation_id: name.clone(), seq: 2 };
    fixture.msg.set_user_conversations_min_seq(service(set)).await.unwrap();
    let owner_user_id = vec!["bob".to_owned()];
    let set = SetUserConversationMaxSeqReq { conversation_id: name.clone(), owner_user_id, max_seq: 4 };
    fixture.msg.set_user_conversation_max_seq(service(set)).await.unwrap();
    assert_eq!(fixture.newest("bob").await[&name], 4);
    assert_eq!(fixture.newest("alice").await[&name], 6);
    let owner_user_id = vec!["bob".to_owned()];
    let set = SetUserConversationMinSeqReq { conversation_id: name.clone(), owner_user_id, min_seq: 3 };
    fixture.msg.set_user_conversation_min_seq(service(set)).await.unwrap();
    let asked = GetMaxSeqReq { user_id: "bob".into() };
    let told = fixture.msg.get_max_seq(for_user("bob", asked)).await.unwrap().into_inner();
    assert_eq!(told.min_seqs[&name], 3);

    let time = fixture.msg.get_server_time(service(GetServerTimeReq {})).await.unwrap().into_inner().server_time;
    assert!(time > 1_700_000_000_000, "{time}");
    fixture.stop().await;
}

#[tokio::test]
async fn groups_are_told_who_is_in_them() {
    let mut fixture = Fixture::start().await;
    let status =
        fixture.msg.send_msg(for_user("a", SendMsgReq { msg_data: Some(to_group("a", "g", "0")) })).await.unwrap_err();
    assert_eq!(RpcError::of(&status).code, RpcError::NO_GROUP);

    let user_ids = ["a", "b", "c"].map(String::from).to_vec();
    let set = SetMembersRequest { group_id: "g".into(), user_ids };
    assert_eq!(fixture.groups.set_members(set).await.unwrap().into_inner().user_ids, ["a", "b", "c"]);
    fixture.send(to_group("a", "g", "1")).await;
    let (message, users) = fixture.pushed().await;
    assert_eq!((message.seq, users), (1, ["a", "b", "c"].map(String::from).to_vec()));

    let remove = RemoveMembersRequest { group_id: "g".into(), user_ids: vec!["b".into()] };
    assert_eq!(fixture.groups.remove_members(remove).await.unwrap().into_inner().user_ids, ["a", "c"]);
    let add = AddMembersRequest { group_id: "g".into(), user_ids: vec!["d".into()] };
    assert_eq!(fixture.groups.add_members(add).await.unwrap().into_inner().user_ids, ["a", "c", "d"]);
    fixture.send(to_group("c", "g", "2")).await;
    assert_eq!(fixture.pushed().await.1, ["a", "c", "d"]);
    let status =
        fixture.msg.send_msg(for_user("b", SendMsgReq { msg_data: Some(to_group("b", "g", "3")) })).await.unwrap_err();
    assert_eq!(RpcError::of(&status).code, RpcError::NOT_IN_GROUP);
    assert_eq!(fixture.newest("b").await["sg_g"], 1);
    assert_eq!(fixture.newest("d").await["sg_g"], 2);
    let get = GetMembersRequest { group_id: "g".into() };
    assert_eq!(fixture.groups.get_members(get).await.unwrap().into_inner().user_ids, ["a", "c", "d"]);
    fixture.stop().await;
}

#[tokio::test]
async fn a_session_acts_for_its_own_user_only() {
    let mut fixture = Fixture::start().await;
    fixture.send(single("alice", "bob", "m1")).await;
    let code = |status: tonic::Status| RpcError::of(&status).code;
    let forged = SendMsgReq { msg_data: Some(single("alice", "bob", "m2")) };
    assert_eq!(code(fixture.msg.send_msg(for_user("mallory", forged)).await.unwrap_err()), RpcError::NO_PERMISSION);
    let asked = GetMaxSeqReq { user_id: "bob".into() };
    assert_eq!(code(fixture.msg.get_max_seq(for_user("mallory", asked)).await.unwrap_err()), RpcError::NO_PERMISSION);
    let asked = GetMaxSeqsReq { conversation_i_ds: vec!["si_alice_bob".into()] };
    assert_eq!(code(fixture.msg.get_max_seqs(for_user("mallory", asked)).await.unwrap_err()), RpcError::NO_PERMISSION);
    // Without an operation nobody is heard.
    let bare = tonic::Request::new(GetMaxSeqReq { user_id: "bob".into() });
    assert_eq!(fixture.msg.get_max_seq(bare).await.unwrap_err().code(), Code::InvalidArgument);
    // Nor does an empty request do harm.
    let empty = fixture.msg.send_msg(service(SendMsgReq { msg_data: None })).await.unwrap_err();
    assert_eq!(code(empty), RpcError::ARGUMENTS);
    fixture.stop().await;
}

#[tokio::test]
async fn the_former_name_is_answered_too() {
    let fixture = Fixture::start().await;
    let channel = fixture.channel.clone();
    let mut former = ringsteer_openim_rpc::msg::msg_client::MsgClient::new(ringsteer_openim_rpc::FormerClient(channel));
    let message = SendMsgReq { msg_data: Some(single("alice", "bob", "m1")) };
    let sent = former.send_msg(Caller::service("op").request(message)).await.unwrap().into_inner();
    assert_eq!(sent.client_msg_id, "m1");
    fixture.stop().await;
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let mut fixture = Fixture::start().await;
    let first = fixture.send(single("alice", "bob", "m1")).await;
    let mut fixture = fixture.restart().await;
    assert_eq!(fixture.newest("bob").await["si_alice_bob"], 1);
    assert_eq!(fixture.send(single("alice", "bob", "m1")).await, first);
    fixture.send(single("bob", "alice", "m1")).await;
    assert_eq!(fixture.newest("alice").await["si_alice_bob"], 2);
    fixture.stop().await;
}

#[tokio::test]
async fn with_a_token_only_those_who_show_it_are_heard() {
    let fixture = Fixture::start_with(Some("s3cret"), Duration::ZERO).await;
    let asked = || GetMaxSeqReq { user_id: "bob".into() };
    let mut msg = fixture.msg.clone();
    assert_eq!(msg.get_max_seq(service(asked())).await.unwrap_err().code(), Code::Unauthenticated);
    let mut wrong = service(asked());
    wrong.metadata_mut().insert("authorization", "Bearer s3creT".parse().unwrap());
    assert_eq!(msg.get_max_seq(wrong).await.unwrap_err().code(), Code::Unauthenticated);
    let mut right = service(asked());
    right.metadata_mut().insert("authorization", "Bearer s3cret".parse().unwrap());
    assert!(msg.get_max_seq(right).await.is_ok());
    let members = fixture.groups.clone().get_members(GetMembersRequest { group_id: "g".into() }).await;
    assert_eq!(members.unwrap_err().code(), Code::Unauthenticated);
    fixture.stop().await;
}

#[tokio::test]
async fn the_disk_is_told_now_and_then_if_so_configured() {
    let mut fixture = Fixture::start_with(None, Duration::from_millis(20)).await;
    let counters = fixture.counters.clone();
    let mut sent = 0;
    tokio::time::timeout(Duration::from_secs(60), async {
        while counters.syncs.get() < 2 {
            sent += 1;
            fixture.send(single("alice", "bob", &format!("m{sent}"))).await;
        }
    })
    .await
    .expect("the disk is never told");
    assert!(counters.syncs.get() < counters.batches.get(), "not for every batch");
    let mut fixture = fixture.restart().await;
    assert_eq!(fixture.newest("bob").await["si_alice_bob"], sent);
    fixture.stop().await;
}

#[tokio::test]
async fn one_storage_is_one_process_s() {
    let fixture = Fixture::start().await;
    let again = ringsteer_msg::store::Store::open(fixture.path());
    let error = again.err().expect("it is in use").to_string();
    assert!(error.contains("in use by another process"), "{error}");
    fixture.stop().await;
}
