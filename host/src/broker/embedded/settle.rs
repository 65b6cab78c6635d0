//! The writer's part of a settlement: acknowledge with outputs, return, or give up, each within the group's one
//! transaction.
//!
//! Invariants:
//! - A token that no longer holds its lease changes nothing.
//! - A settlement is checked whole before its first write: outputs that do not fit leave the message as it was.
//! - A message is removed only when no subscription that wants it has it unsettled.

use rusqlite::params;
use tokio::time::Instant;

use super::error::Failure;
use super::inbox::SettleGroup;
use super::prepare::{Action, DeadRow, Settling};
use super::publish::Audience;
use super::state::Lease;
use super::writer::Writer;
use crate::broker::SettleError;
use crate::settle::progress::Progress;

impl Writer<'_> {
    pub(super) fn settle_group(&mut self, group: &SettleGroup) -> Result<Vec<Result<(), SettleError>>, Failure> {
        let now = Instant::now();
        group.group.iter().map(|settling| self.settle(group.subscription, settling, now)).collect()
    }

    fn settle(
        &mut self,
        subscription: i64,
        settling: &Settling,
        now: Instant,
    ) -> Result<Result<(), SettleError>, Failure> {
        let held = self.state.held(subscription, settling.sequence, settling.token);
        let Some(lease) = held.filter(|_| now < settling.lease_ends_at).cloned() else {
            self.stats.leases_lost += 1;
            return Ok(Err(SettleError::LeaseLost));
        };
        match &settling.action {
            Action::Ack { outputs } => {
                // All of them or none: a message that is not acknowledged has published nothing.
                if let Some(refusal) = self.refusal_of_outputs(outputs, &lease)? {
                    return Ok(Err(SettleError::Output(refusal)));
                }
                for output in outputs {
                    if self.known(output).is_none() {
                        self.store(output, Audience::All)?;
                    } else if let Some(own) = self.state.subscriptions.get(&subscription) {
                        own.gauge.add_duplicate();
                    }
                }
                self.state.end_lease(settling.token);
                self.finish(&lease)?;
            }
            Action::Return { delay_us, progress } => {
                self.state.end_lease(settling.token);
                let due_us = self.now_us.saturating_add(*delay_us);
                self.wait_until(&lease, due_us, lease.deliveries, Some(progress))?;
            }
            Action::DeadLetter(row) => {
                if let Err(problem) = self.store_dead(&lease, row)? {
                    return Ok(Err(SettleError::DeadLetter(problem)));
                }
                self.state.end_lease(settling.token);
                self.finish(&lease)?;
            }
        }
        Ok(Ok(()))
    }

    /// Makes the message of a lease that has ended wait for its next delivery.
    fn wait_until(
        &mut self,
        lease: &Lease,
        due_us: i64,
        deliveries: u32,
        progress: Option<&str>,
    ) -> Result<(), Failure> {
        self.st.put_pending.execute(params![lease.subscription, lease.sequence, due_us, deliveries, progress])?;
        if let Some(subscription) = self.state.touch(lease.subscription) {
            subscription.note_due(due_us);
            if !lease.has_row {
                subscription.marks.pending += 1;
            }
        }
        Ok(())
    }

    /// Stores a dead letter for the message of a lease. `Err`: why it cannot be stored.
    fn store_dead(&mut self, lease: &Lease, row: &DeadRow) -> Result<Result<(), String>, Failure> {
        let Some(subscription) = self.state.subscriptions.get(&lease.subscription) else {
            return Ok(Err("its subscription was forgotten".to_owned()));
        };
        let name = subscription.name.clone();
        self.keep_dead(&name, lease.sequence, row)
    }

    /// Stores a dead letter for a row that cannot be handed out, and settles it for this subscription.
    pub(super) fn quarantine(&mut self, lease: &Lease, row: &DeadRow) -> Result<(), Failure> {
        if let Err(problem) = self.store_dead(lease, row)? {
            return Err(Failure::Fatal(format!("a damaged message could not be put aside: {problem}")));
        }
        self.state.totals.unreadable += 1;
        self.finish(lease)
    }

    /// Settles a message for the subscription of a lease that has ended, and removes it when it was the last one.
    fn finish(&mut self, lease: &Lease) -> Result<(), Failure> {
        if lease.has_row {
            self.st.delete_pending.execute([lease.subscription, lease.sequence])?;
            if let Some(subscription) = self.state.touch(lease.subscription) {
                subscription.marks.pending -= 1;
            }
        }
        if !self.wanted_by_others(lease)? {
            self.st.delete_message.execute([lease.sequence])?;
            self.state.totals.messages -= 1;
            self.state.totals.bytes -= lease.bytes;
            return Ok(());
        }
        if let Some(subscription) = self.state.touch(lease.subscription)
            && lease.sequence >= subscription.floor_now()
        {
            subscription.marks.has_settled = true;
            self.st.insert_settled.execute([lease.subscription, lease.sequence])?;
        }
        Ok(())
    }

    /// Whether a message stays when this subscription is done with it.
    pub(super) fn wanted_by_others(&mut self, lease: &Lease) -> Result<bool, Failure> {
        if lease.targeted || self.state.subscriptions.len() == 1 {
            return Ok(false);
        }
        let wanted_by = self.state.wanted_by(&lease.subject);
        for id in wanted_by.iter().filter(|id| **id != lease.subscription) {
            let Some(other) = self.state.subscriptions.get(id) else { continue };
            if unsettled(&mut self.st, other, lease.sequence)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives back what ran out: it is available again, and the delivery counts.
    pub(super) fn end_overdue_leases(&mut self, now: Instant) -> Result<(), Failure> {
        while let Some(token) = self.state.over(now) {
            let Some(lease) = self.state.end_lease(token) else { return Ok(()) };
            self.stats.leases_over += 1;
            tracing::debug!(sequence = lease.sequence, deliveries = lease.deliveries, "a lease ran out");
            if lease.has_row {
                self.make_due(&lease)?;
            } else {
                let progress = Progress::first(super::codec::time(lease.handed_us));
                let progress = serde_json::to_string(&progress).ok();
                self.wait_until(&lease, self.now_us, lease.deliveries, progress.as_deref())?;
            }
        }
        Ok(())
    }

    /// Takes back what never reached anyone: available again, and the delivery does not count.
    pub(super) fn take_back(&mut self, tokens: &[u64]) -> Result<(), Failure> {
        for token in tokens {
            let Some(lease) = self.state.end_lease(*token) else { continue };
            if lease.has_row {
                self.st.give_back.execute([lease.subscription, lease.sequence, self.now_us])?;
                if let Some(subscription) = self.state.touch(lease.subscription) {
                    subscription.note_due(self.now_us);
                }
            } else {
                self.wait_until(&lease, self.now_us, 0, None)?;
            }
        }
        Ok(())
    }

    fn make_due(&mut self, lease: &Lease) -> Result<(), Failure> {
        self.st.make_due.execute([lease.subscription, lease.sequence, self.now_us])?;
        if let Some(subscription) = self.state.touch(lease.subscription) {
            subscription.note_due(self.now_us);
        }
        Ok(())
    }
}

/// Whether a subscription has yet to settle a message that it wants.
pub(super) fn unsettled(
    st: &mut super::statements::Statements<'_>,
    subscription: &super::state::Subscription,
    sequence: i64,
) -> Result<bool, Failure> {
    let unseen = !subscription.marks.caught_up && sequence > subscription.marks.cursor;
    if unseen || subscription.is_first_run(sequence) {
        return Ok(true);
    }
    if subscription.marks.pending == 0 {
        return Ok(false);
    }
    Ok(st.is_pending.exists([subscription.id, sequence])?)
}
