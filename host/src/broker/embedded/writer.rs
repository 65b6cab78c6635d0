//! The one thread that writes: takes what is in the inbox, does it in one transaction, commits, and only then answers.
//!
//! Invariants:
//! - No answer before the commit; with [`Durability::Fsync`], no answer to a publish, a settlement or a dead-letter
//!   operation before the fsync.
//! - A group that only hands out deliveries is written without fsync. A loss of power may then take back the note of a
//!   hand-out, and the message is handed out again; never the other way.
//! - A failed commit, or a log that could not be put back, closes the queue. Nothing is confirmed after it, and no fsync is
//!   tried again on the same file.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::codec;
use super::error::Failure;
use super::inbox::{Gather, Handover, Inbox, Op};
use super::log::{self, Log};
use super::options::{Durability, Options};
use super::retain::{Room, Sweep};
use super::shared::{Epoch, Shared, Stats};
use super::state::State;
use super::statements::Statements;
use super::wake::Look;
use crate::broker::ReceiveError;

/// How many operations share a commit. Measured: beyond some hundreds the fsync is a small part of the cost, and every
/// further one only waits longer.
const GROUP: usize = 512;
/// How long a group waits, at most, for those who were answered together and will be back together: a quarter of what
/// the last commit took, and never more than this. Without it the first of them to come back has a commit of its own, and
/// all others wait for that. One who is alone never waits.
const GATHER_AT_MOST: Duration = Duration::from_millis(1);
/// How long the writer sleeps when nothing is to be done at a time.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Writer<'c> {
    pub(super) connection: &'c Connection,
    pub(super) st: Statements<'c>,
    pub(super) state: State,
    pub(super) options: Options,
    pub(super) inbox: Arc<Inbox>,
    pub(super) queue: String,
    pub(super) epoch: Epoch,
    pub(super) room: Room,
    pub(super) sweep: Sweep,
    pub(super) stats: Stats,
    pub(super) opened_at: Instant,
    pub(super) unbound_warned: bool,
    /// The queue's clock at the start of this group: for due times.
    pub(super) now_us: i64,
    /// The wall clock at the start of this group: for what people read.
    pub(super) wall_us: i64,
    /// Answers to receivers, given after the commit.
    pub(super) served: Vec<(oneshot::Sender<Result<Handover, ReceiveError>>, Handover)>,
    clock: Clock,
    log: Log,
    shared: Arc<Shared>,
    synced: Option<bool>,
    gather: Gather,
}

impl<'c> Writer<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        options: Options,
        ((queue, state), log): ((String, State), Log),
        inbox: Arc<Inbox>,
        shared: Arc<Shared>,
    ) -> Result<Self, Failure> {
        let writer = Self {
            st: Statements::prepare(connection)?,
            connection,
            state,
            inbox,
            queue,
            epoch: shared.epoch,
            room: Room::new(options.path.clone(), options.reserve_bytes),
            sweep: Sweep::new(),
            stats: Stats::default(),
            opened_at: Instant::now(),
            unbound_warned: false,
            now_us: 0,
            wall_us: 0,
            served: Vec::new(),
            clock: Clock::start(),
            log,
            options,
            shared,
            synced: None,
            gather: Gather::default(),
        };
        writer.show();
        Ok(writer)
    }

    /// Works until the inbox is shut and empty, or the store fails.
    pub(super) fn run(mut self) {
        let failure = loop {
            let wake = self.next_wake();
            let Some(ops) = self.inbox.take(GROUP, wake, self.gather) else { break Failure::Closed };
            if let Err(failure) = self.turn(ops).and_then(|()| self.log.put_back(self.connection)) {
                tracing::error!(%failure, "the embedded queue is closed");
                self.shared.fail(&failure);
                break failure;
            }
        };
        self.inbox.shut(failure.clone());
        self.inbox.fail_rest(&failure);
        for subscription in self.state.subscriptions.values_mut() {
            for waiter in subscription.waiters.drain(..) {
                let _gone = waiter.reply.send(Err(failure.receive()));
            }
        }
        if matches!(failure, Failure::Closed)
            && let Err(failure) = log::put_away(self.connection)
        {
            tracing::warn!(%failure, "the log could not be put into the store's file; the next start will do it");
        }
    }

    /// One round: at most one commit, or one for each operation when the disk is full.
    fn turn(&mut self, ops: Vec<Op>) -> Result<(), Failure> {
        let mut group = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Receive(waiter) => self.enqueue(waiter),
                op @ (Op::Publish(_)
                | Op::Settle(_)
                | Op::Extend(_)
                | Op::Bind(_)
                | Op::Redrive(_)
                | Op::Discard(_)
                | Op::Restore(_)
                | Op::ForgetRedriven(_)
                | Op::Forget(_)
                | Op::GiveBack(_)) => group.push(op),
            }
        }
        self.warn_of_unbound();
        self.room.look(self.connection);
        let started = Instant::now();
        let done = self.commit(&mut group, true);
        self.gather = Gather { operations: group.len() / 2, at_most: (started.elapsed() / 4).min(GATHER_AT_MOST) };
        match done {
            Ok(()) => group.into_iter().for_each(Op::answer),
            Err(failure @ Failure::Fatal(_)) => {
                group.into_iter().for_each(|op| op.fail(&failure));
                return Err(failure);
            }
            Err(Failure::DiskFull) if group.len() > 1 => return self.one_by_one(group),
            Err(failure) => {
                tracing::warn!(%failure, "a group was not stored");
                group.into_iter().for_each(|op| op.fail(&failure));
            }
        }
        Ok(())
    }

    /// The disk is full in spite of the reserve (somebody else filled it): what is small may still fit.
    fn one_by_one(&mut self, group: Vec<Op>) -> Result<(), Failure> {
        let mut fatal = None;
        for op in group {
            let mut single = vec![op];
            let done = match &fatal {
                Some(failure) => Err(Failure::clone(failure)),
                None => self.commit(&mut single, false),
            };
            match done {
                Ok(()) => single.into_iter().for_each(Op::answer),
                Err(failure) => {
                    single.into_iter().for_each(|op| op.fail(&failure));
                    if matches!(failure, Failure::Fatal(_)) {
                        fatal = Some(failure);
                    }
                }
            }
        }
        fatal.map_or(Ok(()), Err)
    }

    /// Does a group in one transaction, and answers the receivers. On an error nothing of it was stored, and nothing is
    /// remembered of it.
    fn commit(&mut self, group: &mut [Op], serve: bool) -> Result<(), Failure> {
        let done = self.transact(group, serve);
        if let Err(failure @ Failure::Fatal(_)) = &done {
            // Before anyone is answered: who learns of the failure finds it in the status too.
            self.shared.fail(failure);
        }
        for (reply, handover) in self.served.drain(..) {
            let answer = match &done {
                // A receiver that has gone drops its deliveries, and they come back.
                Ok(()) => Ok(handover),
                Err(failure) => {
                    // These were rolled back: there is nothing to come back.
                    drop(handover.accept());
                    Err(failure.receive())
                }
            };
            let _gone = reply.send(answer);
        }
        done
    }

    fn transact(&mut self, group: &mut [Op], serve: bool) -> Result<(), Failure> {
        self.now_us = self.clock.now_us();
        self.wall_us = codec::micros(SystemTime::now());
        self.synchronous(group)?;
        self.state.begin();
        self.st.begin.execute([])?;
        let done = self.work(group, serve).and_then(|()| self.end());
        if done.is_ok() {
            self.stats.commits += 1;
            self.show();
            self.state.commit();
        } else {
            self.state.rollback();
            // SQLite rolls back by itself on some errors; then there is nothing left to roll back.
            if !self.connection.is_autocommit() {
                self.st.rollback.execute([])?;
            }
        }
        done
    }

    /// Ends the transaction; measured when it waits for the disk.
    fn end(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        self.st.commit.execute([])?;
        if self.synced == Some(true) {
            self.shared.commits.record(began.elapsed());
        }
        Ok(())
    }

    fn work(&mut self, group: &mut [Op], serve: bool) -> Result<(), Failure> {
        let now = tokio::time::Instant::now();
        self.end_overdue_leases(now)?;
        for op in group {
            self.apply(op)?;
        }
        if serve {
            self.serve(now)?;
        }
        self.give_rows_to_stragglers()?;
        self.sweep()?;
        self.save_ids()?;
        self.save_subscriptions()?;
        if self.state.totals_changed() {
            let totals = self.state.totals;
            self.st.save_totals.execute([
                totals.next_seq,
                totals.messages,
                totals.bytes,
                totals.dead,
                totals.expired,
                totals.unreadable,
            ])?;
        }
        Ok(())
    }

    fn apply(&mut self, op: &mut Op) -> Result<(), Failure> {
        match op {
            Op::Publish(request) => {
                let answer: Result<Vec<_>, Failure> =
                    request.input.iter().map(|message| self.publish(message)).collect();
                request.answer = Some(answer?);
            }
            Op::Settle(request) => request.answer = Some(self.settle_group(&request.input)?),
            Op::Extend(request) => {
                let ends = request.input.ends;
                let subscription = request.input.subscription;
                let leases = request.input.leases.iter();
                request.answer = Some(
                    leases.map(|(sequence, token)| self.state.extend(subscription, *sequence, *token, ends)).collect(),
                );
            }
            Op::Bind(request) => request.answer = Some(Ok(self.bind(&request.input)?)),
            Op::Redrive(request) => request.answer = Some(self.redrive(&request.input)?),
            Op::Discard(request) => request.answer = Some(self.discard(&request.input)?),
            Op::Restore(request) => request.answer = Some(self.restore(&request.input)?),
            Op::ForgetRedriven(request) => request.answer = Some(Ok(self.forget_redriven(&request.input)?)),
            Op::Forget(request) => request.answer = Some(self.forget(&request.input)?),
            Op::GiveBack(tokens) => self.take_back(tokens)?,
            // Waits with its subscription, and is served from there.
            Op::Receive(_) => {}
        }
        Ok(())
    }

    fn save_subscriptions(&mut self) -> Result<(), Failure> {
        for id in self.state.touched_ids() {
            let Some(subscription) = self.state.subscriptions.get_mut(&id) else { continue };
            subscription.marks.floor = subscription.floor_now();
            if subscription.floor_rose() && subscription.marks.has_settled {
                self.st.trim_settled.execute([subscription.id, subscription.marks.floor])?;
            }
            if subscription.is_dirty() {
                let marks = &subscription.marks;
                self.st.save_subscription.execute([
                    subscription.id,
                    marks.cursor,
                    marks.floor,
                    marks.stored_ready(),
                    self.wall_us,
                ])?;
            }
        }
        Ok(())
    }

    /// Sets whether this group's commit waits for the disk.
    fn synchronous(&mut self, group: &[Op]) -> Result<(), Failure> {
        let confirms = group.iter().any(|op| match op {
            Op::Publish(_)
            | Op::Settle(_)
            | Op::Bind(_)
            | Op::Redrive(_)
            | Op::Discard(_)
            | Op::Restore(_)
            | Op::ForgetRedriven(_)
            | Op::Forget(_) => true,
            Op::Extend(_) | Op::Receive(_) | Op::GiveBack(_) => false,
        });
        let sync = match self.options.durability {
            Durability::Fsync => confirms,
            Durability::Relaxed => false,
        };
        if self.synced != Some(sync) {
            let pragma = if sync { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.connection.execute_batch(pragma)?;
            self.synced = Some(sync);
        }
        Ok(())
    }

    fn enqueue(&mut self, waiter: super::inbox::Waiter) {
        match self.state.subscriptions.get_mut(&waiter.subscription) {
            Some(subscription) => {
                self.state.agenda.tell(subscription.id);
                subscription.waiters.push_back(waiter);
            }
            None => {
                let gone = ReceiveError::Gone("the subscription was forgotten".to_owned());
                let _gone = waiter.reply.send(Err(gone));
            }
        }
    }

    /// When there is something to do without being asked.
    fn next_wake(&mut self) -> Instant {
        let now = Instant::now();
        let now_us = self.clock.now_us();
        for id in self.state.agenda.take_told() {
            let look = self.next_look(id, now, now_us);
            self.state.agenda.plan(id, look);
        }
        let mut wake = now + IDLE;
        if let Some(look) = self.state.agenda.next(now) {
            wake = wake.min(look);
            // A lease that ends is something for one who waits.
            wake = self.state.next_end().map_or(wake, |end| wake.min(end.into_std()));
        }
        if self.state.totals.messages > 0 {
            wake = wake.min(self.sweep.next);
        }
        self.unbound_due().map_or(wake, |due| wake.min(due))
    }

    /// When a subscription is to be looked at next, when nothing happens to it.
    fn next_look(&self, id: i64, now: Instant, now_us: i64) -> Look {
        let Some(subscription) = self.state.subscriptions.get(&id) else { return Look::WhenTold };
        let Some(until) = subscription.waiters.iter().map(|waiter| waiter.until.into_std()).min() else {
            return Look::WhenTold;
        };
        if subscription.has_unseen(self.state.last()) {
            return Look::Again;
        }
        let due = subscription.marks.next_due_us.map(|due_us| {
            let wait = u64::try_from(due_us.saturating_sub(now_us)).unwrap_or(0);
            // Not later than this: the clock by which it is due may jump forward.
            now + Duration::from_micros(wait).min(IDLE)
        });
        Look::At(due.map_or(until, |due| until.min(due)))
    }

    /// Shows the counts to whoever looks.
    fn show(&self) {
        for subscription in self.state.touched() {
            subscription.publish_gauge();
        }
        let known_ids = self.state.window.len() as u64;
        self.shared.show(&self.state.totals, &Stats { known_ids, ..self.stats });
    }
}
