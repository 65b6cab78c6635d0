//! A distribution that many threads record into without a lock. The client library's own takes a mutex a value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Bounds for durations in seconds: OpenTelemetry's advice for messaging (5 ms to 10 s), below it what a sandboxed
/// handler takes, above it what long handlers may take.
pub(super) const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,
    2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0,
];
/// Bounds for the age of messages in seconds: up to a minute as a queue is when all is well, then hours and days.
pub(super) const AGES: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0,
    86_400.0, 604_800.0,
];
/// Bounds for counts of attempts: the presets end at 5, 10 and 20.
pub(super) const ATTEMPTS: &[f64] = &[1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 50.0];
/// Bounds for what handlers measure, whose unit is unknown: three a decade, from a thousandth to a million.
pub(super) const ANY: &[f64] =
    &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6];

/// Counts of values up to each of some bounds. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: &'static [f64],
    /// One a bound, and one for what is above the last.
    counts: Vec<AtomicU64>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self(Arc::new(Inner { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }))
    }

    pub(super) fn observe(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let index = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure never gives `None`, so this cannot fail.
        let _ = self.0.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Adds this one's counts to `totals`, one a bound and one above; both must have the same bounds.
    pub(super) fn add_to(&self, totals: &mut Vec<u64>) {
        totals.resize(self.0.counts.len(), 0);
        for (total, count) in totals.iter_mut().zip(&self.0.counts) {
            *total += count.load(Ordering::Relaxed);
        }
    }
}

/// The value below which a share of all values lies, interpolated within its bucket; `None` when there are no values.
pub(super) fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = as_float(total) * share;
    let mut below = 0.0;
    let mut lower = 0.0;
    for (index, count) in counts.iter().enumerate() {
        let inside = as_float(*count);
        let Some(&upper) = bounds.get(index) else { break };
        if below + inside >= wanted && inside > 0.0 {
            return Some(lower + (upper - lower) * ((wanted - below) / inside));
        }
        below += inside;
        lower = upper;
    }
    // Above the last bound all that is known is that it is above.
    bounds.last().copied()
}

/// Counts as floats: exact up to 2^53, and a quantile needs no more.
#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 loses nothing that a quantile needs")]
fn as_float(count: u64) -> f64 {
    count as f64
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let total = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(self.0.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let bounds = &[1.0, 2.0, 4.0];
        assert_eq!(quantile(bounds, &[0, 0, 0, 0], 0.5), None);
        assert_eq!(quantile(bounds, &[10, 0, 0, 0], 0.5), Some(0.5));
        assert_eq!(quantile(bounds, &[5, 5, 0, 0], 0.75), Some(1.5));
        assert_eq!(quantile(bounds, &[0, 0, 0, 3], 0.5), Some(4.0), "above the last bound");
    }

    #[test]
    fn many_threads_lose_no_value() {
        let histogram = Histogram::new(SECONDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| histogram.observe(0.5)));
            }
        });
        assert_eq!(histogram.count(), 40_000);
        assert!((f64::from_bits(histogram.0.sum.load(Ordering::Relaxed)) - 20_000.0).abs() < 1e-6);
    }
}
