//! What is remembered of a message between deliveries: counts and the last failures.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How many failures are kept with a message; older ones are dropped.
pub const HISTORY_LENGTH: usize = 10;

/// What is known of earlier deliveries of a message.
///
/// Deliveries and attempts are two counts: a delivery is a hand-over by the broker, an attempt is a run that counts
/// against `max_attempts`. Returns that were nobody's fault (a drain, a deferral) are deliveries and not attempts. A
/// delivery that left no word (the host was killed) counts as an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Hand-overs by the broker, this one included: 1 the first time.
    pub deliveries: u32,
    /// Deliveries that were returned without counting as attempts.
    pub uncounted: u32,
    /// Of those, the ones that the handler asked for.
    pub defers: u32,
    /// Counted runs that ended at the wall clock.
    pub timeouts: u32,
    /// When this message was first handed to a host of ours.
    pub first_seen: SystemTime,
    /// Counted runs whose failure was recorded. `attempt() - 1 - failures` runs ended without a word.
    pub failures: u32,
    /// The last failures, oldest first; at most [`HISTORY_LENGTH`].
    pub history: Vec<AttemptRecord>,
}

/// One counted run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Which attempt it was.
    pub attempt: u32,
    /// When it ended.
    pub at: SystemTime,
    /// How long it ran, in milliseconds.
    pub run_ms: u64,
    /// The reason code.
    pub reason: String,
    /// What was said, cut to 80 characters.
    pub error: String,
    /// The fault's fingerprint, when it was a fault.
    pub fingerprint: Option<u64>,
    /// The digest of the module that ran, shortened to 12 hex digits.
    pub digest: String,
}

impl Progress {
    /// A message that is handed over for the first time.
    #[must_use]
    pub const fn first(now: SystemTime) -> Self {
        Self { deliveries: 1, uncounted: 0, defers: 0, timeouts: 0, first_seen: now, failures: 0, history: Vec::new() }
    }

    /// The counted run that this delivery is: 1 the first time.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.deliveries.saturating_sub(self.uncounted).max(1)
    }

    /// Earlier deliveries that ended without a word: the host was killed while it held the message, or the broker
    /// gave it back by itself.
    #[must_use]
    pub fn unexplained(&self) -> u32 {
        self.attempt().saturating_sub(1).saturating_sub(self.failures)
    }

    /// The reason and detail of the run before, as a handler may ask for it.
    #[must_use]
    pub fn previous_failure(&self) -> Option<String> {
        self.history.last().map(|last| format!("{}: {}", last.reason, last.error))
    }

    /// What to remember when this delivery is returned: a counted run with its failure, or an uncounted return. Of a run that
    /// failed and does not count, the failure stands in the history: the same fault twice is proven all the same.
    #[must_use]
    pub fn returned(&self, counted: bool, failure: Option<AttemptRecord>) -> Self {
        let mut next = self.clone();
        if counted {
            if let Some(failure) = failure {
                next.record(failure);
            }
        } else {
            next.uncounted = next.uncounted.saturating_add(1);
            if let Some(failure) = failure {
                next.remember(failure);
            }
        }
        next
    }

    /// Puts a failure behind the others, and drops the oldest past [`HISTORY_LENGTH`].
    pub fn record(&mut self, failure: AttemptRecord) {
        self.failures = self.failures.saturating_add(1);
        self.remember(failure);
    }

    fn remember(&mut self, failure: AttemptRecord) {
        self.history.push(failure);
        if self.history.len() > HISTORY_LENGTH {
            self.history.remove(0);
        }
    }
}
