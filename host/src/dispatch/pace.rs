//! How long a run takes, typically: what the look-ahead goes by.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moving average of how long runs take.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    nanos: AtomicU64,
}

impl Pace {
    /// Takes a run in, at an eighth of its weight: a change is followed within some tens of runs. Of two updates at once
    /// one may be lost, which an average does not mind.
    pub(crate) fn record(&self, run: Duration) {
        let new = u64::try_from(run.as_nanos()).unwrap_or(u64::MAX / 8);
        let old = self.nanos.load(Ordering::Relaxed);
        let next = if old == 0 { new } else { old - old / 8 + new / 8 };
        self.nanos.store(next.max(1), Ordering::Relaxed);
    }

    /// The average. Before the first run, a cautious hundred milliseconds.
    pub(crate) fn typical(&self) -> Duration {
        match self.nanos.load(Ordering::Relaxed) {
            0 => Duration::from_millis(100),
            nanos => Duration::from_nanos(nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_a_change_within_some_tens_of_runs() {
        let pace = Pace::default();
        pace.record(Duration::from_millis(8));
        assert_eq!(pace.typical(), Duration::from_millis(8));
        for _ in 0..40 {
            pace.record(Duration::from_micros(10));
        }
        assert!(pace.typical() < Duration::from_micros(100), "{:?}", pace.typical());
    }
}
