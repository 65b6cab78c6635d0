//! When metrics are due, and what they are then.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Resource;
use super::metrics::{Counted, Request, requests};
use super::signal::Signal;
use crate::config::MetricsConfig;
use crate::telemetry::Metrics;

/// The metrics of a host, as they are exported.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) signal: Signal,
    metrics: Arc<Metrics>,
    every: Duration,
    next: Instant,
    since: SystemTime,
}

impl Measured {
    /// Those of a host that starts now.
    pub(super) fn new(config: MetricsConfig, metrics: &Arc<Metrics>) -> Self {
        Self {
            signal: Signal::metrics(metrics),
            metrics: Arc::clone(metrics),
            every: config.interval,
            next: Instant::now() + config.interval,
            since: SystemTime::now(),
        }
    }

    /// When they are to be exported next.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Whether they are to be exported now; once a moment. A moment that was missed is not made up for: what is counted
    /// stands in the next request as well.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next += self.every;
            if self.next <= now {
                self.next = now + self.every;
            }
        }
        is_due
    }

    /// What is counted by now.
    pub(super) fn requests(&self, resource: &Resource) -> Vec<Request> {
        let counted = Counted { since: self.since, until: SystemTime::now() };
        requests(resource, &self.metrics.render(), counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_due_once_an_interval_and_missed_ones_are_not_made_up_for() {
        let every = Duration::from_secs(60);
        let mut measured = Measured::new(MetricsConfig { interval: every }, &Arc::new(Metrics::new()));
        let first = measured.next();
        assert!(!measured.is_due(first - Duration::from_secs(1)));
        assert!(measured.is_due(first));
        assert!(!measured.is_due(first));
        let late = first + 10 * every;
        assert!(measured.is_due(late));
        assert_eq!(measured.next(), late + every);
    }
}
