//! The questions that clients ask.
//!
//! Nobody learns of a conversation without a seat in it: questions about others are left out of the answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use bytes::Bytes;
use ringsteer_openim::message::{
    is_notification,
    msg::{ConversationSeqs, GetConversationsHasReadAndMaxSeqResp, GetLastMessageResp, GetSeqMessageResp, Seqs},
    sdkws::{GetMaxSeqResp, MsgData, PullMessageBySeqsResp, PullMsgs, PullOrder, SeqRange},
};

use super::{Conversation, Limits, Refusal, Seat, StorageError, Table, View, key, members, pending, record};

/// Answers from the tables as they are at one moment.
#[derive(Debug)]
pub struct Reader<V> {
    view: V,
    limits: Limits,
}

/// How much an answer still has room for.
struct Room {
    bytes: usize,
}

// === impl Reader ===

impl<V: View> Reader<V> {
    /// Answers from `view`.
    pub fn new(view: V, limits: Limits) -> Self {
        Self { view, limits }
    }

    /// Where each of the user's conversations ends, and where it begins if not at 1.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub fn newest(&self, user: &str) -> Result<GetMaxSeqResp, Refusal> {
        let mut answer = GetMaxSeqResp::default();
        for (name, seat) in self.seats(user)? {
            let Some(conversation) = pending::conversation(&self.view, &name)? else { continue };
            let (first, last) = seat.sees(&conversation);
            if last == 0 {
                continue;
            }
            if first > 1 {
                answer.min_seqs.insert(name.clone(), number(first));
            }
            answer.max_seqs.insert(name, number(last));
        }
        Ok(answer)
    }

    /// Messages in ranges. A range that asks for more than `num` gets its newest.
    ///
    /// # Errors
    /// If too much is asked for, or the storage cannot be read.
    pub fn pull(&self, user: &str, ranges: &[SeqRange], order: PullOrder) -> Result<PullMessageBySeqsResp, Refusal> {
        self.not_too_many(ranges.len())?;
        let mut answer = PullMessageBySeqsResp::default();
        let mut room = Room { bytes: self.limits.page_bytes };
        for range in ranges {
            let Some((first, last)) = self.sees(user, &range.conversation_id)? else { continue };
            let begin = at_least_zero(range.begin).max(first);
            let end = at_least_zero(range.end).min(last);
            if begin > end {
                continue;
            }
            let asked = if range.num > 0 { range.num as u64 } else { u64::MAX };
            let asked = asked.min(end - begin + 1);
            let count = asked.min(self.limits.page_messages as u64);
            let (messages, whole) = self.messages(&range.conversation_id, end - count + 1, end, order, &mut room)?;
            if messages.is_empty() {
                continue;
            }
            let is_end = match order {
                PullOrder::Asc => last <= at_least_zero(range.end),
                PullOrder::Desc => at_least_zero(range.begin) <= first,
            };
            // Two ranges of one conversation are two parts of one answer.
            let all = by_kind(&mut answer.msgs, &mut answer.notification_msgs, &range.conversation_id);
            all.is_end |= is_end && whole && count == asked;
            all.msgs.extend(messages);
        }
        Ok(answer)
    }

    /// Messages by their numbers.
    ///
    /// # Errors
    /// If too much is asked for, or the storage cannot be read.
    pub fn by_seqs(
        &self,
        user: &str,
        wanted: &[ConversationSeqs],
        order: PullOrder,
    ) -> Result<GetSeqMessageResp, Refusal> {
        self.not_too_many(wanted.len())?;
        let mut answer = GetSeqMessageResp::default();
        let mut room = Room { bytes: self.limits.page_bytes };
        for ConversationSeqs { conversation_id, seqs } in wanted {
            if seqs.len() > self.limits.page_messages {
                return Err(Refusal::Arguments(format!(
                    "{} messages of one conversation are asked for, and {} are the most",
                    seqs.len(),
                    self.limits.page_messages
                )));
            }
            let Some((first, last)) = self.sees(user, conversation_id)? else { continue };
            let all = by_kind(&mut answer.msgs, &mut answer.notification_msgs, conversation_id);
            // The order of the numbers is the client's affair, but not how often each is told.
            let seqs: BTreeSet<u64> = seqs.iter().filter_map(|seq| u64::try_from(*seq).ok()).collect();
            let beyond = match order {
                PullOrder::Asc => seqs.iter().any(|seq| *seq > last).then_some(last),
                PullOrder::Desc => seqs.iter().any(|seq| (1..first).contains(seq)).then_some(first),
            };
            if let Some(end) = beyond {
                (all.is_end, all.end_seq) = (true, number(end));
            }
            for seq in seqs.into_iter().filter(|seq| (first..=last).contains(seq)) {
                match self.view.get(Table::Messages, &key::message(conversation_id, seq))? {
                    Some(message) if room.takes(message.len()) => all.msgs.push(record::decode(message)?),
                    _ => {}
                }
            }
        }
        Ok(answer)
    }

    /// How far the user's conversations go and are read: of those named or, if none is, of all but notifications.
    ///
    /// # Errors
    /// If too much is asked for, or the storage cannot be read.
    pub fn has_read_and_newest(
        &self,
        user: &str,
        names: &[String],
    ) -> Result<GetConversationsHasReadAndMaxSeqResp, Refusal> {
        let mut answer = GetConversationsHasReadAndMaxSeqResp::default();
        for (name, seat) in self.some_seats(user, names)? {
            let Some(conversation) = pending::conversation(&self.view, &name)? else { continue };
            let (_, last) = seat.sees(&conversation);
            let seqs = Seqs {
                max_seq: number(last),
                has_read_seq: number(seat.has_read),
                max_seq_time: self.time(&name, &conversation, last)?,
            };
            answer.seqs.insert(name, seqs);
        }
        Ok(answer)
    }

    /// How far the user has read some conversations.
    ///
    /// # Errors
    /// If too much is asked for, or the storage cannot be read.
    pub fn has_read(&self, user: &str, names: &[String]) -> Result<BTreeMap<String, i64>, Refusal> {
        let seats = self.some_seats(user, names)?;
        Ok(seats.into_iter().map(|(name, seat)| (name, number(seat.has_read))).collect())
    }

    /// Where some conversations end, whosesoever they are.
    ///
    /// # Errors
    /// If too much is asked for, or the storage cannot be read.
    pub fn newest_of(&self, names: &[String]) -> Result<BTreeMap<String, i64>, Refusal> {
        self.not_too_many(names.len())?;
        names
            .iter()
            .map(|name| {
                let last = pending::conversation(&self.view, name)?.map_or(0, |known| known.max_seq);
                Ok((name.clone(), number(last)))
            })
            .collect()
    }

    /// The last message of each conversation that the user may see.
    ///
    /// # Errors
    /// If too much is asked for, or the storage cannot be read.
    pub fn last_messages(&self, user: &str, names: &[String]) -> Result<GetLastMessageResp, Refusal> {
        self.not_too_many(names.len())?;
        let mut answer = GetLastMessageResp::default();
        let mut room = Room { bytes: self.limits.page_bytes };
        for name in names {
            let Some((first, last)) = self.sees(user, name)? else { continue };
            if last < first {
                continue;
            }
            match self.view.get(Table::Messages, &key::message(name, last))? {
                Some(message) if room.takes(message.len()) => {
                    answer.msgs.insert(name.clone(), record::decode(message)?);
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Who is in a group.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub fn members(&self, group: &str) -> Result<BTreeSet<String>, Refusal> {
        Ok(members::members(&self.view, group)?)
    }

    /// The two users of a conversation, or the group alone; nothing if nothing was said in it.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub fn whose(&self, name: &str) -> Result<Option<(String, String)>, Refusal> {
        Ok(pending::conversation(&self.view, name)?.map(|known| (known.first, known.second)))
    }

    /// The first and last message that the user may see; nothing without a seat.
    fn sees(&self, user: &str, name: &str) -> Result<Option<(u64, u64)>, StorageError> {
        let Some(seat) = pending::seat(&self.view, user, name)? else { return Ok(None) };
        let conversation = pending::conversation(&self.view, name)?.unwrap_or_default();
        Ok(Some(seat.sees(&conversation)))
    }

    /// The messages `first` to `last`, as many as there is room for in that order, and whether that was all.
    fn messages(
        &self,
        name: &str,
        first: u64,
        last: u64,
        order: PullOrder,
        room: &mut Room,
    ) -> Result<(Vec<MsgData>, bool), StorageError> {
        let mut messages = Vec::new();
        let mut whole = Ok(true);
        let backwards = order == PullOrder::Desc;
        self.view.scan(
            Table::Messages,
            key::messages(name, first, last),
            backwards,
            &mut |key: &[u8], value: Bytes| {
                if !room.takes(value.len()) {
                    whole = Ok(false);
                    return ControlFlow::Break(());
                }
                match record::decode::<MsgData>(value) {
                    Ok(message) => {
                        debug_assert_eq!(key::seq(key), message.seq as u64, "a message stands under its number");
                        messages.push(message);
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        whole = Err(error);
                        ControlFlow::Break(())
                    }
                }
            },
        )?;
        // In which order messages are asked for says where to begin; within an answer they go up.
        if backwards {
            messages.reverse();
        }
        whole.map(|whole| (messages, whole))
    }

    /// When the last message that somebody may see was taken.
    fn time(&self, name: &str, conversation: &Conversation, last: u64) -> Result<i64, StorageError> {
        if last == conversation.max_seq {
            return Ok(conversation.max_time_ms);
        }
        let message = pending::record::<MsgData>(&self.view, Table::Messages, &key::message(name, last))?;
        Ok(message.map_or(0, |message| message.send_time))
    }

    /// The user's seats in those conversations or, if none is named, in all but notifications.
    fn some_seats(&self, user: &str, names: &[String]) -> Result<Vec<(String, Seat)>, Refusal> {
        if names.is_empty() {
            let mut seats = self.seats(user)?;
            seats.retain(|(name, _)| !is_notification(name));
            return Ok(seats);
        }
        self.not_too_many(names.len())?;
        let mut seats = Vec::with_capacity(names.len());
        for name in names {
            seats.extend(pending::seat(&self.view, user, name)?.map(|seat| (name.clone(), seat)));
        }
        Ok(seats)
    }

    /// All of the user's seats, up to the limit.
    fn seats(&self, user: &str) -> Result<Vec<(String, Seat)>, StorageError> {
        let mut seats = Vec::new();
        let mut broken = Ok(());
        self.view.scan(Table::Seats, key::all_of(user), false, &mut |key: &[u8], value: Bytes| {
            match (key::second(key), record::decode(value)) {
                (Some(name), Ok(seat)) => seats.push((name.to_owned(), seat)),
                (_, Err(error)) => broken = Err(error),
                (None, Ok(_)) => {}
            }
            if seats.len() < self.limits.conversations { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        broken.map(|()| seats)
    }

    fn not_too_many(&self, asked: usize) -> Result<(), Refusal> {
        if asked > self.limits.conversations {
            return Err(Refusal::Arguments(format!(
                "{asked} conversations are asked about, and {} are the most",
                self.limits.conversations
            )));
        }
        Ok(())
    }
}

// === impl Room ===

impl Room {
    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(0);
        left.is_some()
    }
}

/// Where messages of a conversation belong in an answer.
fn by_kind<'answer>(
    messages: &'answer mut BTreeMap<String, PullMsgs>,
    notifications: &'answer mut BTreeMap<String, PullMsgs>,
    name: &str,
) -> &'answer mut PullMsgs {
    let map = if is_notification(name) { notifications } else { messages };
    map.entry(name.to_owned()).or_default()
}

fn at_least_zero(seq: i64) -> u64 {
    seq.try_into().unwrap_or(0)
}

/// As OpenIM counts. Numbers begin at 1 and never get that far.
fn number(seq: u64) -> i64 {
    seq.try_into().unwrap_or(i64::MAX)
}
