//! When a server was away, or another one took its place, while the connection to it went on: in a cluster it may be another
//! server that has the stream, and a stream may be put back to an earlier copy on one that runs.
//!
//! What shows it: a pull without a sign of life or with a trouble, what is told of the consumer, a consumer that is gone, and
//! one that has handed out less than it had.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// What was noticed of one consumer.
#[derive(Debug, Default)]
pub(super) struct Upsets {
    last: Mutex<Option<Instant>>,
    /// How much it had handed out when it was last looked at, by its own count.
    handed_out: AtomicU64,
}

impl Upsets {
    /// Notes one.
    pub(super) fn note(&self, now: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When the last one was noticed.
    pub(super) fn last(&self) -> Option<Instant> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in how much the consumer has handed out now: less than before is an upset.
    pub(super) fn handed_out(&self, count: u64, now: Instant) {
        if self.handed_out.swap(count, Ordering::Relaxed) > count {
            self.note(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_that_has_handed_out_less_than_before_was_put_back() {
        let (upsets, now) = (Upsets::default(), Instant::now());
        for (count, expected) in [(0, None), (7, None), (7, None), (3, Some(now)), (9, Some(now))] {
            upsets.handed_out(count, now);
            assert_eq!(upsets.last(), expected, "{count}");
        }
    }
}
