//! The writer's part of a publish: de-duplicate, check for room, store.

use rusqlite::params;

use super::error::Failure;
use super::prepare::Prepared;
use super::state::Lease;
use super::window::{Oldest, Window};
use super::writer::Writer;
use crate::broker::{PublishError, Published};

/// For whom a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// All subscriptions that want its subject; a message whose id is known is not stored again.
    All,
    /// One subscription, which gave it up before; its id being known is no reason not to store it.
    Redriven(i64),
    /// All subscriptions that want its subject, to which it did not go before; its id being known is no reason either.
    Redirected,
}

/// Who keeps to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Publishers keep to the limit itself.
    ByPublishes,
    /// Outputs of messages that are done with may go an eighth beyond it.
    ByOutputs,
}

impl Kept {
    const fn of(self, limit: u64) -> u64 {
        match self {
            Self::ByPublishes => limit,
            Self::ByOutputs => limit.saturating_add(limit.div_ceil(8)),
        }
    }
}

/// By how much an operation makes the queue larger; below zero: smaller.
#[derive(Debug, Clone, Copy)]
struct Growth {
    messages: i64,
    bytes: i64,
}

impl Growth {
    fn of(messages: &[Prepared]) -> Self {
        let bytes = messages.iter().fold(0_i64, |sum, message| sum.saturating_add(message.stored_bytes()));
        Self { messages: i64::try_from(messages.len()).unwrap_or(i64::MAX), bytes }
    }
}

impl Writer<'_> {
    pub(super) fn publish(&mut self, message: &Prepared) -> Result<Result<Published, PublishError>, Failure> {
        if let Some(known) = self.known(message) {
            return Ok(Ok(known));
        }
        if let Some(refusal) = self.refusal(std::slice::from_ref(message)) {
            return Ok(Err(refusal));
        }
        self.store(message, Audience::All).map(Ok)
    }

    /// The message that was published with the same id before, if it is known.
    pub(super) fn known(&mut self, message: &Prepared) -> Option<Published> {
        let sequence = self.state.window.get(message.digest.as_ref()?)?;
        self.stats.duplicates += 1;
        Some(Published { sequence: sequence.cast_unsigned(), duplicate: true })
    }

    /// Stores a message that there is room for.
    pub(super) fn store(&mut self, message: &Prepared, audience: Audience) -> Result<Published, Failure> {
        let target = match audience {
            Audience::All | Audience::Redirected => None,
            Audience::Redriven(subscription) => Some(subscription),
        };
        let sequence = self.state.totals.next_seq;
        self.st.insert_message.execute(params![
            sequence,
            message.subject,
            target,
            message.id,
            self.wall_us,
            message.checksum,
            message.headers,
            message.body.as_ref(),
        ])?;
        self.state.totals.next_seq += 1;
        self.state.totals.messages += 1;
        self.state.totals.bytes += message.stored_bytes();
        self.room.written(message.stored_bytes());
        for &id in &*self.state.audience(&message.subject, target) {
            if let Some(subscription) = self.state.touch(id) {
                subscription.note_wanted(sequence);
            }
        }
        if let Some(id) = message.digest {
            self.state.window.add(id, sequence);
        }
        Ok(Published { sequence: sequence.cast_unsigned(), duplicate: false })
    }

    /// Why there is no room for these messages together, if there is none.
    pub(super) fn refusal(&mut self, messages: &[Prepared]) -> Option<PublishError> {
        if messages.is_empty() {
            return None;
        }
        let problem = self.problem(Growth::of(messages), Kept::ByPublishes)?;
        self.stats.refused += 1;
        Some(PublishError::Full(problem))
    }

    /// The same for the outputs of a message that goes by storing them. A full queue has to empty itself: what leaves no
    /// more in it than before is always taken, and what leaves more may go a little beyond the limits, which publishes keep
    /// to. So a queue that is full of messages with several outputs each comes to those outputs, and one whose handlers make
    /// more of each message than others settle is held all the same.
    pub(super) fn refusal_of_outputs(
        &mut self,
        outputs: &[Prepared],
        lease: &Lease,
    ) -> Result<Option<PublishError>, Failure> {
        let mut growth = Growth::of(outputs);
        // Nearly always; then nobody needs to know who else wants the message.
        if outputs.is_empty() || self.problem(growth, Kept::ByPublishes).is_none() {
            return Ok(None);
        }
        if !self.wanted_by_others(lease)? {
            growth.messages -= 1;
            growth.bytes -= lease.bytes;
        }
        if growth.messages <= 0 && growth.bytes <= 0 {
            return Ok(None);
        }
        let problem = self.problem(growth, Kept::ByOutputs);
        self.stats.refused += u64::from(problem.is_some());
        Ok(problem.map(PublishError::Full))
    }

    /// Which limit an operation would go beyond.
    fn problem(&self, growth: Growth, kept: Kept) -> Option<String> {
        let after = |now: i64, more: i64| u64::try_from(now.saturating_add(more)).unwrap_or(0);
        let count = after(self.state.totals.messages, growth.messages);
        let bytes = after(self.state.totals.bytes, growth.bytes);
        let (most, most_bytes) = (kept.of(self.options.max_messages), kept.of(self.options.max_bytes));
        if count > most {
            Some(format!("it would keep {count} messages, and its limit is {most}"))
        } else if bytes > most_bytes {
            Some(format!("it would keep {bytes} bytes, and its limit is {most_bytes}"))
        } else {
            self.room.problem(kept)
        }
    }

    /// Stores the ids of this group, and forgets those that are too old or too many.
    pub(super) fn save_ids(&mut self) -> Result<(), Failure> {
        if let Some((key, ids)) = self.state.window.fresh_row() {
            self.st.insert_seen.execute(params![key, self.now_us, ids])?;
        }
        let oldest_kept = self.now_us.saturating_sub(super::codec::duration_micros(self.options.dedupe_window));
        loop {
            let Some(oldest) = self.oldest_seen()? else { return Ok(()) };
            let too_old = oldest.at_us < oldest_kept;
            let too_many = self.state.window.len() > self.options.dedupe_max.min(Window::MOST);
            if !too_old && !too_many {
                return Ok(());
            }
            let window = &mut self.state.window;
            let forgotten = self
                .st
                .seen_ids
                .query_row([oldest.key], |row| Ok(window.forget_row(row.get_ref(0)?.as_blob().unwrap_or_default())))?;
            self.st.delete_seen.execute([oldest.key])?;
            window.oldest = None;
            if !too_old {
                self.stats.ids_forgotten_early += forgotten;
            }
        }
    }

    fn oldest_seen(&mut self) -> Result<Option<Oldest>, Failure> {
        if self.state.window.oldest.is_none() {
            let mut rows = self.st.oldest_seen.query([])?;
            if let Some(row) = rows.next()? {
                self.state.window.oldest = Some(Oldest { key: row.get(0)?, at_us: row.get(1)? });
            }
        }
        Ok(self.state.window.oldest)
    }
}
