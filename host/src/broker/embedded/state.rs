//! What the writer keeps in memory: leases, where each subscription stands, and the totals. A group that fails is
//! rolled back here as it is in the store.
//!
//! Invariant: a subscription to which nothing happens in a group is not looked at in it, neither to save nor to show it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::filters::Filters;
use super::inbox::Waiter;
pub(super) use super::marks::Marks;
use super::tokens::Tokens;
use super::wake::Agenda;
use super::wanted::Wanted;
use super::window::Window;
use super::{Gauge, WRITERS_OWN};

pub(super) struct State {
    pub(super) totals: Totals,
    pub(super) subscriptions: BTreeMap<i64, Subscription>,
    pub(super) window: Window,
    pub(super) agenda: Agenda,
    /// Those to which something happened in this group.
    touched: Vec<i64>,
    /// `None`: the filters have changed since it was made.
    wanted: Option<Wanted>,
    /// What was looked for last: publishers mostly send many of one subject.
    last_wanted: Option<(Box<str>, Arc<[i64]>)>,
    leases: HashMap<u64, Lease, Tokens>,
    ends: BTreeSet<(Instant, u64)>,
    last_token: u64,
    saved_totals: Totals,
    journal: Vec<Change>,
}

/// The one row of the table `totals`, but for the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) next_seq: i64,
    pub(super) messages: i64,
    pub(super) bytes: i64,
    pub(super) dead: i64,
    pub(super) expired: i64,
    pub(super) unreadable: i64,
}

pub(super) struct Subscription {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) filters: Filters,
    pub(super) marks: Marks,
    saved_marks: Marks,
    /// Something has happened to it in this group.
    is_touched: bool,
    /// Handed out for the first time and without a row in `pending`.
    first_runs: BTreeSet<i64>,
    pub(super) waiters: VecDeque<Waiter>,
    /// The last sequence that passed by while it had caught up and somebody waited: as good as looked at.
    pub(super) passed: i64,
    pub(super) gauge: Arc<Gauge>,
}

/// A delivery that was handed out.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) subscription: i64,
    pub(super) sequence: i64,
    pub(super) ends: Instant,
    pub(super) deliveries: u32,
    /// Whether it has a row in `pending`.
    pub(super) has_row: bool,
    /// Whether the message is for this subscription only.
    pub(super) targeted: bool,
    pub(super) subject: Arc<str>,
    pub(super) bytes: i64,
    pub(super) handed_us: i64,
}

/// How to undo what a group did in memory.
enum Change {
    LeaseAdded(u64),
    LeaseTaken(u64, Lease),
    FirstRunAdded(i64, i64),
    FirstRunEnded(i64, i64),
    SubscriptionAdded(i64),
    SubscriptionForgotten(Box<Subscription>),
}

impl State {
    pub(super) fn new(totals: Totals, window: Window) -> Self {
        Self {
            totals,
            subscriptions: BTreeMap::new(),
            window,
            agenda: Agenda::default(),
            touched: Vec::new(),
            wanted: None,
            last_wanted: None,
            leases: HashMap::default(),
            ends: BTreeSet::new(),
            last_token: 0,
            saved_totals: totals,
            journal: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self) {
        self.saved_totals = self.totals;
    }

    pub(super) fn commit(&mut self) {
        self.journal.clear();
        self.window.commit();
        for id in self.touched.drain(..) {
            if let Some(subscription) = self.subscriptions.get_mut(&id) {
                subscription.is_touched = false;
            }
        }
    }

    /// A subscription to which something happens: what it is before can be restored, and it is saved, shown and looked at.
    pub(super) fn touch(&mut self, id: i64) -> Option<&mut Subscription> {
        let subscription = self.subscriptions.get_mut(&id)?;
        if !subscription.is_touched {
            subscription.is_touched = true;
            self.agenda.tell(id);
            subscription.saved_marks = subscription.marks;
            self.touched.push(id);
        }
        Some(subscription)
    }

    /// Those to which something happened in this group.
    pub(super) fn touched(&self) -> impl Iterator<Item = &Subscription> {
        self.touched.iter().filter_map(|id| self.subscriptions.get(id))
    }

    /// The ids of those to which something happened in this group.
    pub(super) fn touched_ids(&self) -> Vec<i64> {
        self.touched.clone()
    }

    /// The last sequence there is.
    pub(super) const fn last(&self) -> i64 {
        self.totals.next_seq - 1
    }

    /// The ids of those that get a message: the only one that it is for, or all that want its subject.
    pub(super) fn audience(&mut self, subject: &str, target: Option<i64>) -> Arc<[i64]> {
        target.map_or_else(|| self.wanted_by(subject), |id| Arc::from([id]))
    }

    /// The ids of the subscriptions that want a subject.
    pub(super) fn wanted_by(&mut self, subject: &str) -> Arc<[i64]> {
        if let Some((last, by)) = &self.last_wanted
            && **last == *subject
        {
            return Arc::clone(by);
        }
        let wanted = self.wanted.get_or_insert_with(|| {
            let mut wanted = Wanted::default();
            self.subscriptions.values().for_each(|own| wanted.add(own.id, &own.filters));
            wanted
        });
        let by: Arc<[i64]> = wanted.by(subject).into();
        self.last_wanted = Some((subject.into(), Arc::clone(&by)));
        by
    }

    /// The filters of a subscription have changed, or it has come or gone.
    pub(super) fn filters_changed(&mut self) {
        self.wanted = None;
        self.last_wanted = None;
    }

    pub(super) fn rollback(&mut self) {
        self.window.rollback();
        self.totals = self.saved_totals;
        while let Some(change) = self.journal.pop() {
            match change {
                Change::LeaseAdded(token) => {
                    if let Some(lease) = self.leases.remove(&token) {
                        self.ends.remove(&(lease.ends, token));
                    }
                }
                Change::LeaseTaken(token, lease) => {
                    self.ends.insert((lease.ends, token));
                    self.leases.insert(token, lease);
                }
                Change::FirstRunAdded(id, sequence) => {
                    if let Some(subscription) = self.subscriptions.get_mut(&id) {
                        subscription.first_runs.remove(&sequence);
                    }
                }
                Change::FirstRunEnded(id, sequence) => {
                    if let Some(subscription) = self.subscriptions.get_mut(&id) {
                        subscription.first_runs.insert(sequence);
                    }
                }
                Change::SubscriptionAdded(id) => {
                    self.subscriptions.remove(&id);
                }
                Change::SubscriptionForgotten(subscription) => {
                    self.subscriptions.insert(subscription.id, *subscription);
                }
            }
        }
        for id in self.touched.drain(..) {
            if let Some(subscription) = self.subscriptions.get_mut(&id) {
                subscription.marks = subscription.saved_marks;
                subscription.is_touched = false;
            }
        }
        self.filters_changed();
    }

    pub(super) fn totals_changed(&self) -> bool {
        self.totals != self.saved_totals
    }

    pub(super) fn add_subscription(&mut self, subscription: Subscription) {
        self.journal.push(Change::SubscriptionAdded(subscription.id));
        self.subscriptions.insert(subscription.id, subscription);
        self.filters_changed();
    }

    pub(super) fn forget_subscription(&mut self, id: i64) {
        if let Some(subscription) = self.subscriptions.remove(&id) {
            self.journal.push(Change::SubscriptionForgotten(Box::new(subscription)));
            self.filters_changed();
        }
    }

    /// Puts a delivery under a lease; gives its fencing token, which is never given again.
    pub(super) fn lease(&mut self, lease: Lease) -> u64 {
        self.last_token += 1;
        let token = self.last_token;
        if !lease.has_row
            && let Some(subscription) = self.touch(lease.subscription)
        {
            subscription.first_runs.insert(lease.sequence);
            self.journal.push(Change::FirstRunAdded(lease.subscription, lease.sequence));
        }
        self.ends.insert((lease.ends, token));
        self.leases.insert(token, lease);
        self.journal.push(Change::LeaseAdded(token));
        token
    }

    /// The lease of a token, if it is still held by it.
    pub(super) fn held(&self, subscription: i64, sequence: i64, token: u64) -> Option<&Lease> {
        self.leases.get(&token).filter(|lease| lease.subscription == subscription && lease.sequence == sequence)
    }

    /// Ends a lease, for whatever reason.
    pub(super) fn end_lease(&mut self, token: u64) -> Option<Lease> {
        let lease = self.leases.remove(&token)?;
        self.ends.remove(&(lease.ends, token));
        self.journal.push(Change::LeaseTaken(token, lease.clone()));
        if !lease.has_row
            && let Some(subscription) = self.touch(lease.subscription)
        {
            subscription.first_runs.remove(&lease.sequence);
            self.journal.push(Change::FirstRunEnded(lease.subscription, lease.sequence));
        }
        Some(lease)
    }

    /// Moves the end of a lease further out; says whether it is still held.
    ///
    /// Not undone with a group that fails: a lease that is longer than its holder knows does no harm.
    pub(super) fn extend(&mut self, subscription: i64, sequence: i64, token: u64, ends: Instant) -> bool {
        let Some(lease) = self.leases.get_mut(&token) else { return false };
        if lease.subscription != subscription || lease.sequence != sequence {
            return false;
        }
        if lease.ends < ends {
            self.ends.remove(&(lease.ends, token));
            lease.ends = ends;
            self.ends.insert((ends, token));
        }
        true
    }

    /// A lease that is over.
    pub(super) fn over(&self, now: Instant) -> Option<u64> {
        self.ends.first().filter(|(ends, _)| *ends <= now).map(|(_, token)| *token)
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    /// The token under which a first run is held, for the few that are given a row while they run.
    pub(super) fn give_row(&mut self, subscription: i64, sequence: i64) -> Option<Lease> {
        let token = self
            .leases
            .iter()
            .find(|(_, lease)| lease.subscription == subscription && lease.sequence == sequence)
            .map(|(token, _)| *token)?;
        let lease = self.end_lease(token)?;
        let with_row = Lease { has_row: true, ..lease.clone() };
        self.ends.insert((lease.ends, token));
        self.leases.insert(token, with_row);
        self.journal.push(Change::LeaseAdded(token));
        Some(lease)
    }

    /// Whether the lease table has one of this subscription.
    pub(super) fn has_leases(&self, subscription: i64) -> bool {
        self.leases.values().any(|lease| lease.subscription == subscription)
    }
}

impl Subscription {
    /// Whether somebody has its source: it has the gauge too.
    pub(super) fn is_bound(&self) -> bool {
        Arc::strong_count(&self.gauge) > WRITERS_OWN
    }

    pub(super) fn new(id: i64, name: String, filters: Filters, marks: Marks) -> Self {
        let gauge = Arc::new(Gauge::default());
        let subscription = Self {
            id,
            name,
            filters,
            marks,
            saved_marks: marks,
            is_touched: false,
            first_runs: BTreeSet::new(),
            waiters: VecDeque::new(),
            passed: 0,
            gauge,
        };
        subscription.publish_gauge();
        subscription
    }

    /// Whether what is stored of its marks must be stored anew.
    pub(super) fn is_dirty(&self) -> bool {
        let stored = |marks: &Marks| (marks.cursor, marks.floor, marks.stored_ready());
        stored(&self.marks) != stored(&self.saved_marks)
    }

    /// Whether its floor rose in this group.
    pub(super) fn floor_rose(&self) -> bool {
        self.marks.floor > self.saved_marks.floor
    }

    /// The lowest sequence that is not known to be settled or to have a row.
    pub(super) fn floor_now(&self) -> i64 {
        self.first_runs.first().copied().unwrap_or(self.marks.cursor.saturating_add(1))
    }

    /// Whether anything of it is handed out or waits for another delivery.
    pub(super) fn holds_some(&self) -> bool {
        self.marks.pending > 0 || !self.first_runs.is_empty()
    }

    pub(super) fn is_first_run(&self, sequence: i64) -> bool {
        self.first_runs.contains(&sequence)
    }

    /// The oldest first run, when the cursor is so far ahead of it that a restart would have too much to look at.
    pub(super) fn straggler(&self, span: i64) -> Option<i64> {
        self.first_runs.first().copied().filter(|oldest| self.marks.cursor.saturating_sub(*oldest) > span)
    }

    /// Notes that something is due at a time.
    pub(super) fn note_due(&mut self, due_us: i64) {
        self.marks.next_due_us = Some(self.marks.next_due_us.map_or(due_us, |next| next.min(due_us)));
    }

    /// A message that it wants is stored under this sequence.
    pub(super) fn note_wanted(&mut self, sequence: i64) {
        if std::mem::take(&mut self.marks.caught_up) {
            // What came while nobody waited was not looked at, and filters that change may want it.
            let passed = if self.waiters.is_empty() { self.passed.min(sequence - 1) } else { sequence - 1 };
            self.marks.cursor = self.marks.cursor.max(passed);
        }
        self.marks.one_more();
    }

    /// Whether there may be something for it that was never handed out; `last` is the last sequence there is.
    pub(super) const fn has_unseen(&self, last: i64) -> bool {
        !self.marks.caught_up && self.marks.cursor < last
    }

    /// Shows the counts to whoever asks.
    pub(super) fn publish_gauge(&self) {
        let first_runs = i64::try_from(self.first_runs.len()).unwrap_or(i64::MAX);
        // Whoever looks for what is unsettled from there on looks at nothing when there is nothing.
        let is_done = self.marks.caught_up && self.first_runs.is_empty();
        let floor = if is_done { i64::MAX } else { self.floor_now() };
        self.gauge.set(self.marks.ready, self.marks.pending.saturating_add(first_runs), floor);
    }
}
