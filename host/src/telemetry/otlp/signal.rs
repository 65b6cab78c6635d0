//! One of what is exported, traces or metrics: where it goes, and what the collector took of it.

use prometheus_client::metrics::counter::Counter;

use crate::telemetry::Metrics;

/// A signal.
#[derive(Debug)]
pub(super) struct Signal {
    name: &'static str,
    /// Put behind the collector's address.
    pub(super) path: &'static str,
    exported: Counter,
    dropped: Counter,
    /// Whether the log says that the collector does not take it.
    is_failing: bool,
}

impl Signal {
    pub(super) fn traces(metrics: &Metrics) -> Self {
        Self::new("traces", "/v1/traces", metrics)
    }

    pub(super) fn metrics(metrics: &Metrics) -> Self {
        Self::new("metrics", "/v1/metrics", metrics)
    }

    fn new(name: &'static str, path: &'static str, metrics: &Metrics) -> Self {
        let (exported, dropped) = (metrics.telemetry_exported(name), metrics.telemetry_dropped(name, "collector"));
        Self { name, path, exported, dropped, is_failing: false }
    }

    /// The collector took so many items, but for some.
    pub(super) fn taken(&mut self, items: u64, rejected: u64, collector: &str) {
        self.exported.inc_by(items.saturating_sub(rejected));
        self.dropped.inc_by(rejected);
        if self.is_failing {
            tracing::info!(collector, signal = self.name, "telemetry is taken again");
        }
        self.is_failing = false;
    }

    /// So many items are given up.
    pub(super) fn dropped(&self, items: u64) {
        self.dropped.inc_by(items);
    }

    /// The collector did not take a request. The log says so once, until it takes one again.
    pub(super) fn fails(&mut self, why: &str, collector: &str) {
        if !self.is_failing {
            let signal = self.name;
            tracing::warn!(
                collector,
                signal,
                why,
                "telemetry is not taken; what there is no room for is dropped and counted"
            );
        }
        self.is_failing = true;
    }
}
