//! What became of a subscription's messages, in numbers. Everything that happens is counted here once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::outcome::{ReasonCode, Usage};

/// The counters of one subscription since it was started.
#[derive(Debug)]
pub struct Tally {
    received: AtomicU64,
    runs: AtomicU64,
    fuel: AtomicU64,
    run_micros: AtomicU64,
    memory_peak: AtomicU64,
    /// A moving average of how long a run takes, in nanoseconds.
    typical_run_nanos: AtomicU64,
    settled: [AtomicU64; SettledAs::ALL.len()],
    /// By reason, in the order of [`ReasonCode::ALL`]: confirmed settlements.
    reasons: Vec<AtomicU64>,
    unconfirmed: AtomicU64,
}

/// What a message was settled as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettledAs {
    /// Acknowledged after the handler was done.
    Completed,
    /// Acknowledged because the handler wants none of it.
    Skipped,
    /// Acknowledged without a run, because it was settled before.
    AlreadyDone,
    /// Returned, and the run counted.
    Retried,
    /// Returned without counting.
    Returned,
    /// Given up on.
    DeadLettered,
    /// Nothing was sent; the broker hands it over again.
    Abandoned,
}

impl SettledAs {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::Completed,
        Self::Skipped,
        Self::AlreadyDone,
        Self::Retried,
        Self::Returned,
        Self::DeadLettered,
        Self::Abandoned,
    ];

    /// The name in labels and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Skipped => "skipped",
            Self::AlreadyDone => "already-done",
            Self::Retried => "retried",
            Self::Returned => "returned",
            Self::DeadLettered => "dead-lettered",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Deliveries that came.
    pub received: u64,
    /// Runs of the handler, whichever way they ended.
    pub runs: u64,
    /// Fuel of all runs.
    pub fuel: u64,
    /// Wall clock of all runs.
    pub run_time: Duration,
    /// The most memory that one run held, in bytes.
    pub memory_peak: u64,
    /// Settlements by what they were, in the order of [`SettledAs::ALL`].
    pub settled: [u64; SettledAs::ALL.len()],
    /// Confirmed settlements by reason, those at zero left out.
    pub reasons: Vec<(ReasonCode, u64)>,
    /// Settlements that were tried again because the broker did not confirm them.
    pub unconfirmed: u64,
}

impl Totals {
    /// How many were settled in one way.
    #[must_use]
    pub fn settled_as(&self, kind: SettledAs) -> u64 {
        SettledAs::ALL.iter().zip(self.settled).find(|(one, _)| **one == kind).map_or(0, |(_, count)| count)
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            received: AtomicU64::default(),
            runs: AtomicU64::default(),
            fuel: AtomicU64::default(),
            run_micros: AtomicU64::default(),
            memory_peak: AtomicU64::default(),
            typical_run_nanos: AtomicU64::default(),
            settled: Default::default(),
            reasons: ReasonCode::ALL.iter().map(|_| AtomicU64::default()).collect(),
            unconfirmed: AtomicU64::default(),
        }
    }
}

impl Tally {
    pub(crate) fn count_received(&self, messages: usize) {
        add(&self.received, messages as u64);
    }

    pub(crate) fn count_run(&self, usage: &Usage) {
        add(&self.runs, 1);
        add(&self.fuel, usage.fuel);
        add(&self.run_micros, u64::try_from(usage.duration.as_micros()).unwrap_or(u64::MAX));
        self.memory_peak.fetch_max(usage.memory_peak, Ordering::Relaxed);
        // An eighth of the new value: a change is followed within some tens of runs. Two writers at once may lose one
        // of two updates, which an average does not mind.
        let nanos = u64::try_from(usage.duration.as_nanos()).unwrap_or(u64::MAX / 8);
        let old = self.typical_run_nanos.load(Ordering::Relaxed);
        let new = if old == 0 { nanos } else { old - old / 8 + nanos / 8 };
        self.typical_run_nanos.store(new.max(1), Ordering::Relaxed);
    }

    pub(crate) fn count_settled(&self, kind: SettledAs, reason: ReasonCode) {
        if let Some((_, counter)) = SettledAs::ALL.iter().zip(&self.settled).find(|(one, _)| **one == kind) {
            add(counter, 1);
        }
        if let Some((_, counter)) = ReasonCode::ALL.iter().zip(&self.reasons).find(|(one, _)| **one == reason) {
            add(counter, 1);
        }
    }

    pub(crate) fn count_unconfirmed(&self) {
        add(&self.unconfirmed, 1);
    }

    /// How long a run takes, typically. Before the first run, a cautious hundred milliseconds.
    pub(crate) fn typical_run(&self) -> Duration {
        match self.typical_run_nanos.load(Ordering::Relaxed) {
            0 => Duration::from_millis(100),
            nanos => Duration::from_nanos(nanos),
        }
    }

    /// The counters now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut settled = [0; SettledAs::ALL.len()];
        for (total, counter) in settled.iter_mut().zip(&self.settled) {
            *total = read(counter);
        }
        let reasons = ReasonCode::ALL.iter().zip(&self.reasons).map(|(reason, counter)| (*reason, read(counter)));
        Totals {
            received: read(&self.received),
            runs: read(&self.runs),
            fuel: read(&self.fuel),
            run_time: Duration::from_micros(read(&self.run_micros)),
            memory_peak: read(&self.memory_peak),
            settled,
            reasons: reasons.filter(|(_, count)| *count > 0).collect(),
            unconfirmed: read(&self.unconfirmed),
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
