//! The writer's part of a receive: hand out what is due again, then what was never handed out, in order.
//!
//! Invariants:
//! - What is handed out was committed as handed out before its receiver sees it.
//! - No more than was asked for, in messages or (but for a single one) in bytes.
//! - What a hand-out costs does not depend on the backlog: rows are read in the order of their key, from the cursor. Nor
//!   does it depend on what others want: whoever has caught up looks at nothing until something comes that it wants.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::params;
use tokio::time::Instant;

use super::codec;
use super::dead::damaged_row;
use super::error::Failure;
use super::inbox::{Handover, Waiter};
use super::row::{self, Found};
use super::state::Lease;
use super::writer::Writer;
use crate::broker::{Delivery, Demand, Receipt, Standing};
use crate::settle::progress::Progress;

/// The most messages for one caller at once: what a group should not be held up by (1,000 rows are read in 2 ms).
const MOST_AT_ONCE: usize = 1000;
/// The most rows that a subscription looks at in one group without finding one that it wants.
const LOOK_AT_MOST: usize = 4096;
/// How many first runs a restart may have to look at, at most, a subscription. Older ones get a row of their own.
const FIRST_RUN_SPAN: i64 = 100_000;

/// A row that will be handed out.
struct Candidate {
    found: Found,
    progress: Progress,
    has_row: bool,
}

/// A budget that is used up row by row.
struct Budget {
    messages: usize,
    bytes: usize,
    taken: usize,
}

impl Budget {
    fn of(demand: Demand) -> Self {
        Self { messages: demand.messages.clamp(1, MOST_AT_ONCE), bytes: demand.bytes, taken: 0 }
    }

    /// Takes a message's share, if it fits; the first one always does.
    fn take(&mut self, size: usize) -> bool {
        if self.taken > 0 && (self.taken >= self.messages || size > self.bytes) {
            return false;
        }
        self.taken += 1;
        self.bytes = self.bytes.saturating_sub(size);
        true
    }

    fn is_spent(&self) -> bool {
        self.taken >= self.messages
    }
}

/// How much earlier than ours the receiver's lease ends: a tenth, at most a second. A settlement that is sent just
/// within its lease then still finds it, when it has waited for its turn.
pub(super) fn margin(lease: Duration) -> Duration {
    (lease / 10).min(Duration::from_secs(1))
}

impl Writer<'_> {
    /// Answers those who wait, as far as there is something for them. Each gets its answer after the commit.
    pub(super) fn serve(&mut self, now: Instant) -> Result<(), Failure> {
        for id in self.state.agenda.due(now.into_std()) {
            while let Some(waiter) = self.next_waiter(id) {
                let mut deliveries = Vec::new();
                let mut tokens = Vec::new();
                let answered = self.hand_out(id, &waiter, now, &mut deliveries, &mut tokens);
                let found_none = deliveries.is_empty();
                if answered.is_ok() && found_none && waiter.until > now {
                    if let Some(subscription) = self.state.subscriptions.get_mut(&id) {
                        subscription.waiters.push_front(waiter);
                    }
                    break;
                }
                // On an error too: whoever handles it answers all of these.
                let handover = Handover::new(Arc::clone(&self.inbox), deliveries, tokens);
                self.served.push((waiter.reply, handover));
                answered?;
            }
        }
        Ok(())
    }

    /// The first waiter of a subscription that is still there.
    fn next_waiter(&mut self, id: i64) -> Option<Waiter> {
        let (now_us, last) = (self.now_us, self.state.last());
        let subscription = self.state.subscriptions.get_mut(&id)?;
        subscription.waiters.retain(|waiter| !waiter.reply.is_closed());
        if subscription.marks.caught_up && !subscription.waiters.is_empty() {
            subscription.passed = last;
        }
        let overdue = subscription.waiters.front().is_some_and(|waiter| waiter.until <= Instant::now());
        let is_due = subscription.marks.next_due_us.is_some_and(|due| due <= now_us);
        let has_some = subscription.has_unseen(last) || is_due;
        if overdue || has_some { subscription.waiters.pop_front() } else { None }
    }

    fn hand_out(
        &mut self,
        id: i64,
        waiter: &Waiter,
        now: Instant,
        deliveries: &mut Vec<Delivery>,
        tokens: &mut Vec<u64>,
    ) -> Result<(), Failure> {
        let mut budget = Budget::of(waiter.demand);
        let mut candidates = self.due_rows(id, &mut budget)?;
        self.fresh_rows(id, &mut budget, &mut candidates)?;
        let mut subject: Arc<str> = Arc::default();
        for candidate in candidates {
            // Mostly the one of the message before.
            if *subject != *candidate.found.message.subject {
                subject = candidate.found.message.subject.as_str().into();
            }
            let lease = Lease {
                subscription: id,
                sequence: candidate.found.sequence,
                ends: now + waiter.lease,
                deliveries: candidate.progress.deliveries,
                has_row: candidate.has_row,
                targeted: candidate.found.target.is_some(),
                subject: Arc::clone(&subject),
                bytes: candidate.found.bytes,
                handed_us: self.now_us,
            };
            if let Some(damage) = &candidate.found.damage {
                tracing::error!(
                    sequence = candidate.found.sequence,
                    problem = damage.problem,
                    "a message is damaged; it goes to the dead-letter queue"
                );
                let row = damaged_row(&self.subscription_name(id), &candidate.found, damage, &candidate.progress);
                let row = row.map_err(Failure::Fatal)?;
                self.quarantine(&lease, &row)?;
                continue;
            }
            let token = self.state.lease(lease);
            tokens.push(token);
            deliveries.push(Delivery {
                receipt: Receipt { sequence: candidate.found.sequence.cast_unsigned(), token: self.epoch.token(token) },
                message: candidate.found.message,
                progress: candidate.progress,
                lease_ends_at: now + waiter.lease.saturating_sub(margin(waiter.lease)),
                standing: Standing::Due,
            });
        }
        Ok(())
    }

    /// What waits for another delivery and is due, oldest due time first.
    fn due_rows(&mut self, id: i64, budget: &mut Budget) -> Result<Vec<Candidate>, Failure> {
        let mut candidates = Vec::new();
        let mut orphans = Vec::new();
        let due = self.state.subscriptions.get(&id).and_then(|subscription| subscription.marks.next_due_us);
        if due.is_none_or(|due| due > self.now_us) {
            return Ok(candidates);
        }
        let most = i64::try_from(budget.messages).unwrap_or(i64::MAX);
        let mut rows = self.st.scan_due.query(params![id, self.now_us, most])?;
        while let Some(row) = rows.next()? {
            let sequence: i64 = row.get(0)?;
            if row.get::<_, Option<i64>>(3)?.is_none() {
                orphans.push(sequence);
                continue;
            }
            let found = row::read(row, 3, &self.queue, &mut self.st.large_body)?;
            if !budget.take(found.message.size()) {
                break;
            }
            let deliveries = row.get::<_, u32>(1)?.saturating_add(1);
            let progress = row.get_ref(2)?.as_str_or_null().ok().flatten();
            candidates.push(Candidate { progress: progress_of(progress, deliveries), found, has_row: true });
        }
        drop(rows);
        for sequence in orphans {
            tracing::error!(sequence, "a message that waits for a retry is not in the store any more");
            self.st.delete_pending.execute([id, sequence])?;
        }
        for candidate in &candidates {
            let deliveries = candidate.progress.deliveries;
            self.st.hand_out_again.execute(params![id, candidate.found.sequence, deliveries])?;
        }
        let next_due_us = self.st.next_due.query_row([id], |row| row.get(0))?;
        if let Some(subscription) = self.state.touch(id) {
            subscription.marks.next_due_us = next_due_us;
        }
        Ok(candidates)
    }

    /// What was never handed out, from the cursor on. Moves the cursor.
    fn fresh_rows(&mut self, id: i64, budget: &mut Budget, candidates: &mut Vec<Candidate>) -> Result<(), Failure> {
        let last = self.state.last();
        let Some(subscription) = self.state.touch(id) else { return Ok(()) };
        if !subscription.has_unseen(last) {
            subscription.marks.catch_up();
            return Ok(());
        }
        if budget.is_spent() {
            return Ok(());
        }
        let now = codec::time(self.now_us);
        let mut cursor = subscription.marks.cursor;
        let mut looked_at = 0;
        let mut wanted = 0;
        let mut rows = self.st.scan.query([cursor])?;
        let mut most = subscription.marks.at_most;
        let caught_up = loop {
            // Where all that is wanted has been found, what others want is not looked at.
            if most.is_some_and(|most| wanted >= most) {
                break true;
            }
            if budget.is_spent() || looked_at >= LOOK_AT_MOST {
                break false;
            }
            let Some(row) = rows.next()? else {
                cursor = last;
                break true;
            };
            looked_at += 1;
            let sequence: i64 = row.get(0)?;
            // A subject that cannot be read may be one that we want: looked at closer, and found damaged.
            let wants = match row::address(row, 0)? {
                (_, Some(target)) => target == id,
                (Some(subject), None) => subscription.filters.want(subject),
                (None, None) => true,
            };
            if wants {
                let found = row::read(row, 0, &self.queue, &mut self.st.large_body)?;
                if !budget.take(found.message.size()) {
                    break false;
                }
                if found.damage.is_some() || found.target.is_some() {
                    // It may be one that somebody else wanted, and was not counted: the checksum does not cover the target.
                    most = None;
                }
                wanted += 1;
                candidates.push(Candidate { found, progress: Progress::first(now), has_row: false });
            }
            cursor = sequence;
        };
        drop(rows);
        subscription.marks.cursor = cursor;
        if caught_up || cursor >= last {
            subscription.marks.catch_up();
        } else {
            // May be off by what came and went while it was first counted.
            subscription.marks.ready = (subscription.marks.ready - wanted).max(0);
            subscription.marks.at_most = most.map(|most| most - wanted);
        }
        Ok(())
    }

    /// Gives a row to a first run that the cursor has left far behind, so that a restart finds it without a long scan.
    pub(super) fn give_rows_to_stragglers(&mut self) -> Result<(), Failure> {
        for id in self.state.touched_ids() {
            while let Some(oldest) = self.state.subscriptions.get(&id).and_then(|own| own.straggler(FIRST_RUN_SPAN)) {
                let Some(lease) = self.state.give_row(id, oldest) else { break };
                let unset: (Option<i64>, Option<String>) = (None, None);
                self.st.put_pending.execute(params![id, oldest, unset.0, lease.deliveries, unset.1])?;
                if let Some(subscription) = self.state.touch(id) {
                    subscription.marks.pending += 1;
                }
            }
        }
        Ok(())
    }

    fn subscription_name(&self, id: i64) -> String {
        self.state.subscriptions.get(&id).map(|subscription| subscription.name.clone()).unwrap_or_default()
    }
}

/// What is known of a message that was handed out before. The count of deliveries is the store's.
fn progress_of(text: Option<&str>, deliveries: u32) -> Progress {
    let mut progress = match text.map(serde_json::from_str::<Progress>) {
        Some(Ok(progress)) => progress,
        None => Progress::first(SystemTime::now()),
        Some(Err(error)) => {
            // The message itself is whole: only its history is lost, and attempts are counted too high, never too low.
            tracing::error!(%error, "the progress of a message cannot be read");
            Progress::first(SystemTime::now())
        }
    };
    progress.deliveries = deliveries;
    progress
}
