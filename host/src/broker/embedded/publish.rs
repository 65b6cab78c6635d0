//! The writer's part of a publish: de-duplicate, check for room, store.

use rusqlite::params;

use super::error::Failure;
use super::prepare::Prepared;
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
            Audience::All => None,
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
        let wanted_by = target.map_or_else(|| self.state.wanted_by(&message.subject), |id| vec![id]);
        for id in wanted_by {
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
        let totals = &self.state.totals;
        let count = u64::try_from(totals.messages).unwrap_or(0).saturating_add(messages.len() as u64);
        let bytes = messages.iter().fold(totals.bytes, |sum, message| sum.saturating_add(message.stored_bytes()));
        let bytes = u64::try_from(bytes).unwrap_or(0);
        let limits = &self.options;
        let problem = if count > limits.max_messages {
            format!("it would keep {count} messages, and its limit is {}", limits.max_messages)
        } else if bytes > limits.max_bytes {
            format!("it would keep {bytes} bytes, and its limit is {}", limits.max_bytes)
        } else {
            self.room.problem()?
        };
        self.stats.refused += 1;
        Some(PublishError::Full(problem))
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
