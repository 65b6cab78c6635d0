//! What the writer shows to everyone else: counts, gauges and whether it still works.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::error::Failure;
use super::state::Totals;
use crate::broker::Status;
use crate::telemetry::Timings;

/// How many messages wait for a subscription, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    ready: AtomicI64,
    pending: AtomicI64,
    floor: AtomicI64,
    /// Outputs that were there already, until somebody asks.
    duplicates: AtomicU64,
}

impl Gauge {
    pub(super) fn set(&self, ready: i64, pending: i64, floor: i64) {
        self.ready.store(ready, Ordering::Relaxed);
        self.pending.store(pending, Ordering::Relaxed);
        self.floor.store(floor, Ordering::Relaxed);
    }

    /// An output of an acknowledged message was there already.
    pub(super) fn add_duplicate(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    /// How many of them there were since this was asked last.
    pub(super) fn take_duplicates(&self) -> u64 {
        self.duplicates.swap(0, Ordering::Relaxed)
    }

    /// Ready, pending, and the sequence below which only rows in `pending` are unsettled.
    pub(super) fn get(&self) -> (u64, u64, i64) {
        let count = |value: &AtomicI64| u64::try_from(value.load(Ordering::Relaxed)).unwrap_or(0);
        (count(&self.ready), count(&self.pending), self.floor.load(Ordering::Relaxed))
    }
}

/// What is in the queue, and what became of what came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that are kept.
    pub messages: u64,
    /// Their bytes: subject, id, headers and body.
    pub bytes: u64,
    /// Dead letters that were not redriven.
    pub dead_letters: u64,
    /// Messages that no subscription wanted and that age removed, since the queue was made.
    pub expired: u64,
    /// Messages whose rows were damaged and that became dead letters, since the queue was made.
    pub unreadable: u64,
    /// Publishes whose message id was known, since the start.
    pub duplicates: u64,
    /// Publishes that were refused because the queue or the disk was full, since the start.
    pub refused: u64,
    /// Message ids that were forgotten before their time because there were too many, since the start.
    pub ids_forgotten_early: u64,
    /// Message ids that are remembered; one that was published again counts twice until the first is forgotten.
    pub known_ids: u64,
    /// Transactions that were committed, since the start.
    pub commits: u64,
    /// Leases that ran out, since the start.
    pub leases_over: u64,
    /// Settlements that came after their lease, since the start.
    pub leases_lost: u64,
}

/// Tells the leases of one opening of the queue from those of every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl Epoch {
    pub(super) fn new() -> Self {
        Self(fastrand::u64(..))
    }

    pub(super) fn token(self, lease: u64) -> Bytes {
        let mut token = Vec::with_capacity(16);
        token.extend_from_slice(&self.0.to_le_bytes());
        token.extend_from_slice(&lease.to_le_bytes());
        Bytes::from(token)
    }

    /// The lease in a token of this opening; 0, which is no lease, for any other.
    pub(super) fn lease(self, token: &[u8]) -> u64 {
        let halves = token.split_first_chunk::<8>();
        let lease = halves.filter(|(epoch, _)| u64::from_le_bytes(**epoch) == self.0);
        lease.and_then(|(_, lease)| lease.try_into().ok()).map_or(0, u64::from_le_bytes)
    }
}

pub(super) struct Shared {
    pub(super) epoch: Epoch,
    stats: Mutex<Stats>,
    failed: watch::Sender<Option<String>>,
    /// How long commits took that waited for the disk.
    pub(super) commits: Timings,
}

impl Shared {
    pub(super) fn new() -> Self {
        let (stats, commits) = Default::default();
        Self { epoch: Epoch::new(), stats, failed: watch::Sender::new(None), commits }
    }

    pub(super) fn show(&self, totals: &Totals, stats: &Stats) {
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        *lock(&self.stats) = Stats {
            messages: count(totals.messages),
            bytes: count(totals.bytes),
            dead_letters: count(totals.dead),
            expired: count(totals.expired),
            unreadable: count(totals.unreadable),
            ..*stats
        };
    }

    pub(super) fn stats(&self) -> Stats {
        *lock(&self.stats)
    }

    pub(super) fn fail(&self, failure: &Failure) {
        self.failed.send_replace(Some(failure.to_string()));
    }

    pub(super) fn status(&self) -> Status {
        self.failed.borrow().clone().map_or(Status::Connected, Status::Failed)
    }

    /// Waits until the store fails; says how.
    pub(super) async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        let failure = failed.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        // The sender lives as long as this does, so there is a failure.
        failure.unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The value is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
