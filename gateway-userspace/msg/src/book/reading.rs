//! How far users have read, and what they may see.

use super::{Pending, Refusal, Seat, Table, View, key, pending};

// === impl Pending ===

impl<V: View> Pending<V> {
    /// The user has read a conversation up to `seq`. Says up to where it is read now: nobody unreads by this.
    ///
    /// # Errors
    /// If there is no such message, or it is no conversation of the user's.
    pub fn mark_read(&mut self, user: &str, conversation: &str, seq: i64) -> Result<u64, Refusal> {
        let (seat, seq) = self.readable(user, conversation, seq)?;
        let has_read = seat.has_read.max(seq);
        if has_read != seat.has_read {
            self.put(Table::Seats, key::pair(user, conversation), &Seat { has_read, ..seat });
        }
        Ok(has_read)
    }

    /// Sets how far the user has read a conversation, also backwards.
    ///
    /// # Errors
    /// If there is no such message, or it is no conversation of the user's.
    pub fn set_read(&mut self, user: &str, conversation: &str, seq: i64) -> Result<(), Refusal> {
        let (seat, has_read) = self.readable(user, conversation, seq)?;
        self.put(Table::Seats, key::pair(user, conversation), &Seat { has_read, ..seat });
        Ok(())
    }

    /// Sets the first message of a conversation that the user may see; 0 takes the limit away.
    ///
    /// # Errors
    /// If that is no number of a message, or it is no conversation of the user's.
    pub fn set_first(&mut self, user: &str, conversation: &str, seq: i64) -> Result<(), Refusal> {
        let seat = self.seat(user, conversation)?;
        let min_seq = number(seq)?;
        self.put(Table::Seats, key::pair(user, conversation), &Seat { min_seq, ..seat });
        Ok(())
    }

    /// Sets the last message of a conversation that the user may see; 0 takes the limit away.
    ///
    /// # Errors
    /// If that is no number of a message, or it is no conversation of the user's.
    pub fn set_last(&mut self, user: &str, conversation: &str, seq: i64) -> Result<(), Refusal> {
        let seat = self.seat(user, conversation)?;
        let max_seq = number(seq)?;
        self.put(Table::Seats, key::pair(user, conversation), &Seat { max_seq, blind: false, ..seat });
        Ok(())
    }

    fn readable(&self, user: &str, conversation: &str, seq: i64) -> Result<(Seat, u64), Refusal> {
        let seat = self.seat(user, conversation)?;
        let seq = number(seq)?;
        let last = pending::conversation(self, conversation)?.map_or(0, |known| known.max_seq);
        if seq > last {
            return Err(Refusal::Arguments(format!("{conversation:?} ends at {last}, and {seq} lies behind that")));
        }
        Ok((seat, seq))
    }

    fn seat(&self, user: &str, conversation: &str) -> Result<Seat, Refusal> {
        key::check("userID", user)?;
        key::check("conversationID", conversation)?;
        pending::seat(self, user, conversation)?
            .ok_or_else(|| Refusal::Arguments(format!("{user:?} has no conversation {conversation:?}")))
    }
}

fn number(seq: i64) -> Result<u64, Refusal> {
    seq.try_into().map_err(|_| Refusal::Arguments(format!("{seq} is no number of a message")))
}
