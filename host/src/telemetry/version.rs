//! What the runs of one version came to, for whoever compares versions: recorded without a lock, kept with the version.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::by_reason::ByReason;
use super::histogram::{Histogram, SECONDS, quantile};

use crate::outcome::{ReasonCode, Usage};

/// Counts of one version's runs on this host, from its load on.
#[derive(Debug)]
pub struct VersionFigures {
    outcomes: ByReason<AtomicU64>,
    seconds: Histogram,
    micros: AtomicU64,
    fuel: AtomicU64,
}

/// The figures of a version at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionCounts {
    /// Runs.
    pub runs: u64,
    /// Runs by outcome code.
    pub outcomes: BTreeMap<String, u64>,
    /// How long a run took on average, in seconds; nothing before the first run.
    pub mean_seconds: Option<f64>,
    /// 99 of 100 runs took no longer, in seconds; interpolated.
    pub p99_seconds: Option<f64>,
    /// Fuel of a run on average.
    pub mean_fuel: Option<u64>,
}

/// The figures of a version, added up.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionSums {
    /// Runs by outcome code.
    pub outcomes: BTreeMap<String, u64>,
    /// Time of all runs, in seconds.
    pub seconds: f64,
    /// Fuel of all runs.
    pub fuel: u64,
}

impl Default for VersionFigures {
    fn default() -> Self {
        Self {
            outcomes: ByReason::new(),
            seconds: Histogram::new(SECONDS),
            micros: AtomicU64::new(0),
            fuel: AtomicU64::new(0),
        }
    }
}

impl VersionFigures {
    /// A run ended.
    pub fn ran(&self, outcome: ReasonCode, usage: &Usage) {
        if let Some(count) = self.outcomes.get(outcome, |_| AtomicU64::new(0)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.seconds.observe(usage.duration.as_secs_f64());
        self.micros.fetch_add(u64::try_from(usage.duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.fuel.fetch_add(usage.fuel, Ordering::Relaxed);
    }

    /// The figures now, added up.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "microseconds of some hundred years are exact")]
    pub fn sums(&self) -> VersionSums {
        let (micros, fuel) = (self.micros.load(Ordering::Relaxed), self.fuel.load(Ordering::Relaxed));
        VersionSums { outcomes: self.outcomes(), seconds: micros as f64 / 1e6, fuel }
    }

    fn outcomes(&self) -> BTreeMap<String, u64> {
        self.outcomes.iter().map(|(code, count)| (code.to_owned(), count.load(Ordering::Relaxed))).collect()
    }

    /// The figures now.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an average of so many runs loses nothing that a person would see")]
    pub fn counts(&self) -> VersionCounts {
        let outcomes = self.outcomes();
        let runs: u64 = outcomes.values().sum();
        let mut buckets = Vec::new();
        self.seconds.add_to(&mut buckets);
        let some = (runs > 0).then_some(runs);
        VersionCounts {
            runs,
            outcomes,
            mean_seconds: some.map(|runs| self.micros.load(Ordering::Relaxed) as f64 / 1e6 / runs as f64),
            p99_seconds: quantile(SECONDS, &buckets, 0.99),
            mean_fuel: some.map(|runs| self.fuel.load(Ordering::Relaxed) / runs),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_are_of_all_runs() {
        let figures = VersionFigures::default();
        assert_eq!(figures.counts(), VersionCounts::default());
        for (code, fuel, millis) in [("completed", 100, 10), ("completed", 200, 10), ("trap:unreachable", 300, 40)] {
            let usage = Usage { fuel, duration: Duration::from_millis(millis), ..Usage::default() };
            figures.ran(ReasonCode(code), &usage);
        }
        let counts = figures.counts();
        assert_eq!((counts.runs, counts.mean_fuel, counts.mean_seconds), (3, Some(200), Some(0.02)));
        assert_eq!(counts.outcomes.get("completed"), Some(&2));
        assert!(counts.p99_seconds.is_some_and(|p99| p99 > 0.025 && p99 <= 0.05), "{counts:?}");
    }
}
