//! The registry: all families of metrics, and the handles on them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use super::broker::BrokerMetrics;
use super::guest::{GuestSeries, HandlerMetrics};
use super::histogram::{AGES, ATTEMPTS, Histogram, SECONDS};
use super::history::History;
use super::names::{self, Name};
use super::rollouts::{RolloutSide, Rollouts, ShownRollout};
use super::shadow::ShadowFigures;
use super::subscription::SubscriptionMetrics;
use super::timed::Timed;

/// Labels of one series. Made when a handle is resolved, never on the way of a message.
pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Counters = Family<Labels, Counter>;
pub(super) type Gauges = Family<Labels, Gauge>;
/// Gauges that hold a fraction.
pub(super) type Amounts = Family<Labels, Gauge<f64, AtomicU64>>;
pub(super) type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// All metrics of a host.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    guests: Arc<GuestSeries>,
    rollouts: Arc<Rollouts>,
    subscriptions: Mutex<BTreeMap<String, Arc<SubscriptionMetrics>>>,
    brokers: Mutex<BTreeMap<String, Arc<BrokerMetrics>>>,
    history: Mutex<History>,
}

/// One family a name of [`names`].
#[derive(Debug, Clone)]
pub(super) struct Families {
    pub(super) consumed: Counters,
    pub(super) sent: Counters,
    pub(super) process_duration: Histograms,
    pub(super) operation_duration: Histograms,
    pub(super) settled: Counters,
    pub(super) attempts: Histograms,
    pub(super) time_in_queue: Histograms,
    pub(super) end_to_end: Histograms,
    pub(super) in_flight: Gauges,
    pub(super) in_flight_bytes: Gauges,
    pub(super) concurrency_limit: Gauges,
    pub(super) paused: Gauges,
    pub(super) stalled: Gauges,
    pub(super) circuit_opened: Counters,
    pub(super) circuit_probes: Counters,
    pub(super) circuit_state: Gauges,
    pub(super) backlog: Gauges,
    pub(super) backlog_oldest_age: Amounts,
    pub(super) ack_pending_limit: Gauges,
    pub(super) retry_in_place: Gauges,
    pub(super) retry_next_due: Amounts,
    pub(super) dlq_published: Counters,
    pub(super) dlq_failures: Counters,
    pub(super) dlq_depth: Gauges,
    pub(super) dlq_oldest_age: Amounts,
    dlq_actions: Counters,
    dlq_tasks: Gauges,
    pub(super) lease_heartbeats: Counters,
    pub(super) lease_lost: Counters,
    pub(super) lease_remaining: Histograms,
    pub(super) dedupe_hits: Counters,
    pub(super) outputs_deduplicated: Counters,
    pub(super) fuel: Counters,
    pub(super) memory_peak: Gauges,
    pub(super) instantiate_duration: Histograms,
    pub(super) traps: Counters,
    pub(super) broker_connected: Gauges,
    pub(super) broker_reconnects: Counters,
    pub(super) broker_advisories: Counters,
    pub(super) commits: Arc<Timed>,
    pub(super) measurements_dropped: Counters,
    rollouts_ended: Counters,
    cluster_behind: Gauges,
    telemetry_exported: Counters,
    telemetry_dropped: Counters,
    traces_malformed: Counters,
    /// One a name of [`names::TALLIES`].
    pub(super) tallies: Vec<(&'static Name, Counters)>,
    /// One a name of [`names::LEVELS`].
    pub(super) levels: Vec<(&'static Name, Gauges)>,
}

fn registered<M: Metric + Clone>(registry: &mut Registry, name: &Name, metric: M) -> M {
    registry.register(name.prometheus(), name.sentence, metric.clone());
    metric
}

/// Registers what writes its series out by itself.
fn collected<C: Collector + 'static>(registry: &mut Registry, collector: C) -> Arc<C>
where
    Arc<C>: Collector,
{
    let collector = Arc::new(collector);
    registry.register_collector(Box::new(Arc::clone(&collector)));
    collector
}

impl Families {
    fn register(registry: &mut Registry) -> Self {
        let counters = |registry: &mut Registry, name| registered(registry, name, Counters::default());
        let gauges = |registry: &mut Registry, name| registered(registry, name, Gauges::default());
        let amounts = |registry: &mut Registry, name| registered(registry, name, Amounts::default());
        let histograms = |registry: &mut Registry, name, new: fn() -> Histogram| {
            registered(registry, name, Histograms::new_with_constructor(new))
        };
        Self {
            consumed: counters(registry, &names::CONSUMED),
            sent: counters(registry, &names::SENT),
            process_duration: histograms(registry, &names::PROCESS_DURATION, || Histogram::new(SECONDS)),
            operation_duration: histograms(registry, &names::OPERATION_DURATION, || Histogram::new(SECONDS)),
            settled: counters(registry, &names::SETTLED),
            attempts: histograms(registry, &names::ATTEMPTS, || Histogram::new(ATTEMPTS)),
            time_in_queue: histograms(registry, &names::TIME_IN_QUEUE, || Histogram::new(AGES)),
            end_to_end: histograms(registry, &names::END_TO_END, || Histogram::new(AGES)),
            in_flight: gauges(registry, &names::IN_FLIGHT),
            in_flight_bytes: gauges(registry, &names::IN_FLIGHT_BYTES),
            concurrency_limit: gauges(registry, &names::CONCURRENCY_LIMIT),
            paused: gauges(registry, &names::PAUSED),
            stalled: gauges(registry, &names::STALLED),
            circuit_opened: counters(registry, &names::CIRCUIT_OPENED),
            circuit_probes: counters(registry, &names::CIRCUIT_PROBES),
            circuit_state: gauges(registry, &names::CIRCUIT_STATE),
            backlog: gauges(registry, &names::BACKLOG),
            backlog_oldest_age: amounts(registry, &names::BACKLOG_OLDEST_AGE),
            ack_pending_limit: gauges(registry, &names::ACK_PENDING_LIMIT),
            retry_in_place: gauges(registry, &names::RETRY_IN_PLACE),
            retry_next_due: amounts(registry, &names::RETRY_NEXT_DUE),
            dlq_published: counters(registry, &names::DLQ_PUBLISHED),
            dlq_failures: counters(registry, &names::DLQ_FAILURES),
            dlq_depth: gauges(registry, &names::DLQ_DEPTH),
            dlq_oldest_age: amounts(registry, &names::DLQ_OLDEST_AGE),
            dlq_actions: counters(registry, &names::DLQ_ACTIONS),
            dlq_tasks: gauges(registry, &names::DLQ_TASKS),
            lease_heartbeats: counters(registry, &names::LEASE_HEARTBEATS),
            lease_lost: counters(registry, &names::LEASE_LOST),
            lease_remaining: histograms(registry, &names::LEASE_REMAINING, || Histogram::new(SECONDS)),
            dedupe_hits: counters(registry, &names::DEDUPE_HITS),
            outputs_deduplicated: counters(registry, &names::OUTPUTS_DEDUPLICATED),
            fuel: counters(registry, &names::FUEL),
            memory_peak: gauges(registry, &names::MEMORY_PEAK),
            instantiate_duration: histograms(registry, &names::INSTANTIATE_DURATION, || Histogram::new(SECONDS)),
            traps: counters(registry, &names::TRAPS),
            broker_connected: gauges(registry, &names::BROKER_CONNECTED),
            broker_reconnects: counters(registry, &names::BROKER_RECONNECTS),
            broker_advisories: counters(registry, &names::BROKER_ADVISORIES),
            commits: collected(registry, Timed::new(names::COMMIT_DURATION)),
            measurements_dropped: counters(registry, &names::MEASUREMENTS_DROPPED),
            rollouts_ended: counters(registry, &names::ROLLOUTS_ENDED),
            cluster_behind: gauges(registry, &names::CLUSTER_BEHIND),
            telemetry_exported: counters(registry, &names::TELEMETRY_EXPORTED),
            telemetry_dropped: counters(registry, &names::TELEMETRY_DROPPED),
            traces_malformed: counters(registry, &names::TRACES_MALFORMED),
            levels: names::LEVELS.iter().map(|name| (name, gauges(registry, name))).collect(),
            tallies: names::TALLIES.iter().map(|name| (name, counters(registry, name))).collect(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The media type of [`Metrics::render`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// A registry in which every family stands and nothing is counted yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let families = Families::register(&mut registry);
        let guests = collected(&mut registry, GuestSeries::default());
        let rollouts = collected(&mut registry, Rollouts::default());
        let (subscriptions, brokers, history) = Default::default();
        Self { registry, families, guests, rollouts, subscriptions, brokers, history }
    }

    /// The handle of a subscription, the same one for the same name. `system` is the kind of its broker.
    pub fn subscription(&self, name: &str, system: &str) -> Arc<SubscriptionMetrics> {
        let mut handles = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = handles.entry(name.to_owned());
        Arc::clone(handle.or_insert_with(|| Arc::new(SubscriptionMetrics::resolve(&self.families, name, system))))
    }

    /// The handle of a broker, the same one for the same name. `system` is its kind.
    pub fn broker(&self, name: &str, system: &str) -> Arc<BrokerMetrics> {
        let mut handles = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = handles.entry(name.to_owned());
        Arc::clone(handle.or_insert_with(|| Arc::new(BrokerMetrics::resolve(&self.families, name, system))))
    }

    /// The handle for a handler's own measurements, which keeps at most so many series; what it has already stays.
    pub fn handler(&self, name: &str, max_series: u32) -> HandlerMetrics {
        let labels = vec![("handler", name.to_owned())];
        let dropped = self.families.measurements_dropped.get_or_create_owned(&labels);
        HandlerMetrics::new(Arc::clone(&self.guests), name, max_series, dropped)
    }

    /// Shows the two versions of a rollout for as long as what is given back is held.
    pub fn rollout(&self, handler: &str, stable: RolloutSide, candidate: RolloutSide) -> ShownRollout {
        ShownRollout::new(&self.rollouts, handler, stable, candidate, None)
    }

    /// The same of a shadow, with what became of its copies.
    pub fn shadow(
        &self,
        handler: &str,
        stable: RolloutSide,
        candidate: RolloutSide,
        copies: Arc<ShadowFigures>,
    ) -> ShownRollout {
        ShownRollout::new(&self.rollouts, handler, stable, candidate, Some(copies))
    }

    /// A rollout of a handler ended: `promoted`, `aborted` or `ended`, by the `host` or a `person`.
    pub fn rollout_ended(&self, handler: &str, result: &'static str, by: &'static str) {
        let labels = vec![("handler", handler.to_owned()), ("result", result.to_owned()), ("by", by.to_owned())];
        self.families.rollouts_ended.get_or_create_owned(&labels).inc();
    }

    /// Dead letters of a broker were asked to be sent back (`redrive`) or removed (`discard`): `done`, `gone` before,
    /// `held-back` as they came back too often, `same-version` as they failed in one that still runs, or `failed`.
    pub fn dead_letters_acted(&self, broker: &str, action: &'static str, result: &'static str, count: u64) {
        if count > 0 {
            let labels =
                vec![("broker", broker.to_owned()), ("action", action.to_owned()), ("result", result.to_owned())];
            self.families.dlq_actions.get_or_create_owned(&labels).inc_by(count);
        }
    }

    /// How many tasks over dead letters go on.
    pub fn set_dead_letter_tasks(&self, count: usize) {
        self.families.dlq_tasks.get_or_create_owned(&Vec::new()).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether this host runs another version of a handler than is to run in its cluster.
    pub fn cluster_behind(&self, handler: &str, is_behind: bool) {
        let labels = vec![("handler", handler.to_owned())];
        self.families.cluster_behind.get_or_create_owned(&labels).set(i64::from(is_behind));
    }

    /// What the collector took of a signal.
    pub(super) fn telemetry_exported(&self, signal: &'static str) -> Counter {
        self.families.telemetry_exported.get_or_create_owned(&vec![("signal", signal.to_owned())])
    }

    /// What of a signal was dropped, and why.
    pub(super) fn telemetry_dropped(&self, signal: &'static str, reason: &'static str) -> Counter {
        let labels = vec![("signal", signal.to_owned()), ("reason", reason.to_owned())];
        self.families.telemetry_dropped.get_or_create_owned(&labels)
    }

    /// Messages of a subscription whose trace context cannot be read.
    pub(super) fn malformed_traces(&self, subscription: &str) -> Counter {
        self.families.traces_malformed.get_or_create_owned(&vec![("subscription", subscription.to_owned())])
    }

    /// Whether a subscription is paused, and by what kind of pause.
    pub fn paused(&self, subscription: &str, kind: &'static str, is_paused: bool) {
        let labels = vec![("subscription", subscription.to_owned()), ("kind", kind.to_owned())];
        self.families.paused.get_or_create_owned(&labels).set(i64::from(is_paused));
    }

    /// All subscriptions that have a handle, by name.
    #[must_use]
    pub fn subscriptions(&self) -> BTreeMap<String, Arc<SubscriptionMetrics>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was done in the last hour. It is a lock: whoever has it holds the next point up.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything in the OpenMetrics text format, for Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail, and every metric here encodes.
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            tracing::error!("could not write the metrics out");
        }
        text
    }
}

#[cfg(test)]
mod tests;
