//! Against a model, by chance: users chat, resend, join and leave, read on; now and then what was not stored yet is lost,
//! as if the process had died.

use std::collections::{BTreeMap, BTreeSet};

use ringsteer_openim::message::{
    msg::ConversationSeqs,
    sdkws::{MsgData, PullOrder, SeqRange},
};

use super::{Memory, single, to_group};
use crate::book::{Change, Limits, Pending, Reader};

const USERS: [&str; 4] = ["ann", "ben", "cat", "dan"];
const GROUPS: [&str; 2] = ["one", "two"];

/// A small generator (xorshift64*): the same numbers from the same seed, everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Whether a user may see everything, everything up to some number, or nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sees {
    All,
    UpTo(u64),
}

/// The plainest account of it all.
#[derive(Clone, Debug, Default)]
struct Model {
    conversations: BTreeMap<String, Vec<MsgData>>,
    sees: BTreeMap<(String, String), Sees>,
    has_read: BTreeMap<(String, String), u64>,
    sent: BTreeMap<(String, String), (String, u64)>,
    members: BTreeMap<String, BTreeSet<String>>,
}

impl Model {
    /// The number that the message is to get.
    fn send(&mut self, message: &MsgData) -> Option<u64> {
        let name = message.conversation_id().unwrap();
        let key = (message.send_id.clone(), message.client_msg_id.clone());
        if let Some((conversation, seq)) = self.sent.get(&key) {
            return (*conversation == name).then_some(*seq);
        }
        if message.session_type == 3 {
            self.members.get(&message.group_id).filter(|members| members.contains(&message.send_id))?;
        } else {
            for user in [&message.send_id, &message.recv_id] {
                self.sees.entry((user.clone(), name.clone())).or_insert(Sees::All);
            }
        }
        let messages = self.conversations.entry(name.clone()).or_default();
        let seq = messages.len() as u64 + 1;
        messages.push(MsgData { seq: seq as i64, ..message.clone() });
        self.sent.insert(key, (name.clone(), seq));
        self.has_read.insert((message.send_id.clone(), name), seq);
        Some(seq)
    }

    fn set_members(&mut self, group: &str, after: BTreeSet<String>) {
        let name = format!("sg_{group}");
        let last = self.conversations.get(&name).map_or(0, Vec::len) as u64;
        let before = self.members.insert(group.to_owned(), after.clone()).unwrap_or_default();
        for user in before.difference(&after) {
            self.sees.insert((user.clone(), name.clone()), Sees::UpTo(last));
        }
        for user in after.difference(&before) {
            self.sees.insert((user.clone(), name.clone()), Sees::All);
        }
    }

    /// What a user may see of a conversation.
    fn seen(&self, user: &str, name: &str) -> &[MsgData] {
        let messages = self.conversations.get(name).map_or(&[][..], Vec::as_slice);
        match self.sees.get(&(user.to_owned(), name.to_owned())) {
            None => &[],
            Some(Sees::All) => messages,
            Some(Sees::UpTo(last)) => &messages[..messages.len().min(*last as usize)],
        }
    }
}

/// Messages without what only the service says about them.
fn said(messages: &[MsgData]) -> Vec<MsgData> {
    let plain = |message: &MsgData| MsgData { server_msg_id: String::new(), send_time: 0, ..message.clone() };
    messages.iter().map(plain).collect()
}

fn compare(memory: &Memory, model: &Model, chance: &mut Chance) {
    let book = Reader::new(memory, Limits::default());
    for user in USERS {
        let newest = book.newest(user).unwrap().max_seqs;
        let expected = model
            .conversations
            .keys()
            .map(|name| (name.clone(), model.seen(user, name).len() as i64))
            .filter(|(_, seq)| *seq > 0)
            .collect();
        assert_eq!(newest, expected, "where {user}'s conversations end");
        for name in model.conversations.keys() {
            let seen = model.seen(user, name);
            let (begin, end) = (chance.below(12) as i64, chance.below(60) as i64);
            let range = SeqRange { conversation_id: name.clone(), begin, end, num: 1000 };
            let order = chance.of(&[PullOrder::Asc, PullOrder::Desc]);
            let pulled = book.pull(user, &[range], order).unwrap().msgs.remove(name).unwrap_or_default();
            let expected: Vec<_> =
                seen.iter().filter(|message| (begin..=end).contains(&message.seq)).cloned().collect();
            assert_eq!(said(&pulled.msgs), expected, "{user} pulls {begin} to {end} of {name}");
            let times: Vec<_> = pulled.msgs.iter().map(|message| message.send_time).collect();
            assert!(times.is_sorted(), "times of {name} go up");

            let seqs: Vec<i64> = (0..5).map(|_| chance.below(50) as i64).collect();
            let wanted = [ConversationSeqs { conversation_id: name.clone(), seqs: seqs.clone() }];
            let told = book.by_seqs(user, &wanted, order).unwrap().msgs.remove(name).unwrap_or_default();
            let expected: Vec<_> = seen.iter().filter(|message| seqs.contains(&message.seq)).cloned().collect();
            assert_eq!(said(&told.msgs), expected, "{user} asks for {seqs:?} of {name}");

            let last = book.last_messages(user, std::slice::from_ref(name)).unwrap().msgs.remove(name);
            assert_eq!(said(&last.into_iter().collect::<Vec<_>>()), said(&seen[seen.len().saturating_sub(1)..]));

            let has_read = book.has_read(user, std::slice::from_ref(name)).unwrap().get(name).map(|seq| *seq as u64);
            let key = (user.to_owned(), name.clone());
            let expected = model.sees.get(&key).map(|_| model.has_read.get(&key).copied().unwrap_or(0));
            assert_eq!(has_read, expected, "how far {user} has read {name}");
        }
    }
    for group in GROUPS {
        assert_eq!(book.members(group).unwrap(), model.members.get(group).cloned().unwrap_or_default());
    }
}

/// One life, from one seed.
fn live(seed: u64) {
    let mut chance = Chance(seed);
    let limits = Limits::default();
    let (mut memory, mut stored) = (Memory::default(), Model::default());
    let (mut now_ms, mut names) = (1_000_000, 0_u64);
    for _ in 0..100 {
        // A batch.
        let mut model = stored.clone();
        let mut book = Pending::over(&memory);
        for _ in 0..chance.below(8) {
            now_ms += chance.below(50) as i64 - 10;
            let user = chance.of(&USERS);
            match chance.below(10) {
                0 => {
                    let group = chance.of(&GROUPS);
                    let some: BTreeSet<String> =
                        USERS.iter().filter(|_| chance.below(3) > 0).map(|user| (*user).to_owned()).collect();
                    let before = model.members.get(group).cloned().unwrap_or_default();
                    let (change, after) = match chance.below(3) {
                        0 => (Change::Set(some.clone()), some),
                        1 => (Change::Add(some.clone()), &before | &some),
                        _ => (Change::Remove(some.clone()), &before - &some),
                    };
                    assert_eq!(book.change_members(group, change, &limits).unwrap(), after);
                    model.set_members(group, after);
                }
                1 | 2 => {
                    let Some(name) = model.conversations.keys().nth(chance.below(8) as usize).cloned() else {
                        continue;
                    };
                    let key = (user.to_owned(), name.clone());
                    let last = model.conversations[&name].len() as u64;
                    let seq = chance.below(last + 3);
                    let before = model.has_read.get(&key).copied().unwrap_or(0);
                    let may = model.sees.contains_key(&key) && seq <= last;
                    let after = before.max(seq);
                    assert_eq!(book.mark_read(user, &name, seq as i64).ok(), may.then_some(after));
                    if may {
                        model.has_read.insert(key, after);
                    }
                }
                kind => {
                    // Half of the names are used again, so that many messages are sent twice.
                    names += chance.below(2);
                    let name = format!("m{}", names.saturating_sub(chance.below(3)));
                    let message = if kind < 6 {
                        to_group(user, chance.of(&GROUPS), &name)
                    } else {
                        single(user, chance.of(&USERS), &name)
                    };
                    let expected = model.send(&message);
                    let taken = book.send(message, false, format!("s{names}"), now_ms, &limits);
                    assert_eq!(taken.ok().map(|taken| taken.seq), expected);
                }
            }
        }
        // Stored, or lost.
        if chance.below(5) > 0 {
            let writes: Vec<_> = book.into_writes().collect();
            memory.apply(writes.into_iter());
            stored = model;
        }
        compare(&memory, &stored, &mut chance);
    }
    let messages: usize = stored.conversations.values().map(Vec::len).sum();
    assert!(messages > 50, "a life with {messages} messages proves little");
}

#[test]
fn the_book_is_what_the_model_says() {
    let seeds = match std::env::var("RINGSTEER_SEED") {
        Ok(seed) => vec![seed.parse().expect("RINGSTEER_SEED is a number")],
        Err(_) => (1..=20).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        let lived = std::panic::catch_unwind(|| live(seed));
        if let Err(panic) = lived {
            eprintln!("RINGSTEER_SEED={seed} replays this");
            std::panic::resume_unwind(panic);
        }
    }
}
