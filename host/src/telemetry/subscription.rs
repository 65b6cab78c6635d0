//! What is measured of one subscription: handles that are resolved once, so that a message costs a few atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::asked::{HeldUp, Operation};
use super::by_reason::ByReason;
use super::counts::{Latency, SubscriptionCounts};
use super::ending::Ending;
use super::histogram::{Histogram, SECONDS, quantile};
use super::history::Moment;
use super::metrics::{Families, Labels};
use crate::broker::{Backlog, Retries};
use crate::outcome::{ReasonCode, Usage};

/// The metrics of one subscription.
#[derive(Debug)]
pub struct SubscriptionMetrics {
    families: Families,
    labels: Labels,
    consumed: Counter,
    operations: [Histogram; Operation::ALL.len()],
    lease_remaining: Histogram,
    instantiated: Histogram,
    sent: Counter,
    outputs_deduplicated: Counter,
    dedupe_hits: Counter,
    runs: ByReason<Histogram>,
    settled: [ByReason<Counter>; Ending::ALL.len()],
    dlq_published: ByReason<Counter>,
    traps: ByReason<Counter>,
    dlq_failures: Counter,
    attempts: Histogram,
    time_in_queue: Histogram,
    end_to_end: Histogram,
    in_flight: Gauge,
    in_flight_bytes: Gauge,
    concurrency: Gauge,
    circuit_open: Gauge,
    circuit_state: Gauge,
    held_up: [Gauge; HeldUp::ALL.len()],
    stalled: Gauge,
    circuit_opened: Counter,
    probes_well: Counter,
    probes_failed: Counter,
    backlog_ready: Gauge,
    backlog_pending: Gauge,
    oldest_age: Gauge<f64, AtomicU64>,
    heartbeats_kept: Counter,
    heartbeats_missed: Counter,
    lease_lost: Counter,
    fuel: Counter,
    memory_peak: Gauge,
}

impl SubscriptionMetrics {
    pub(super) fn resolve(families: &Families, name: &str, system: &str) -> Self {
        let labels: Labels = vec![("subscription", name.to_owned()), ("messaging_system", system.to_owned())];
        let and = |key, value: &str| with(&labels, key, value);
        let paused = |kind: &str| {
            families.paused.get_or_create_owned(&vec![("subscription", name.to_owned()), ("kind", kind.to_owned())])
        };
        Self {
            consumed: families.consumed.get_or_create_owned(&labels),
            sent: families.sent.get_or_create_owned(&labels),
            outputs_deduplicated: families.outputs_deduplicated.get_or_create_owned(&labels),
            dedupe_hits: families.dedupe_hits.get_or_create_owned(&labels),
            runs: ByReason::new(),
            settled: std::array::from_fn(|_| ByReason::new()),
            dlq_published: ByReason::new(),
            traps: ByReason::new(),
            dlq_failures: families.dlq_failures.get_or_create_owned(&labels),
            attempts: families.attempts.get_or_create_owned(&labels),
            time_in_queue: families.time_in_queue.get_or_create_owned(&labels),
            end_to_end: families.end_to_end.get_or_create_owned(&labels),
            in_flight: families.in_flight.get_or_create_owned(&labels),
            in_flight_bytes: families.in_flight_bytes.get_or_create_owned(&labels),
            concurrency: families.concurrency_limit.get_or_create_owned(&labels),
            operations: Operation::ALL.map(|operation| {
                families.operation_duration.get_or_create_owned(&and("messaging_operation_name", operation.name()))
            }),
            lease_remaining: families.lease_remaining.get_or_create_owned(&labels),
            instantiated: families.instantiate_duration.get_or_create_owned(&labels),
            circuit_open: paused("circuit"),
            circuit_state: families.circuit_state.get_or_create_owned(&labels),
            held_up: HeldUp::ALL.map(|kind| paused(kind.name())),
            stalled: families.stalled.get_or_create_owned(&labels),
            circuit_opened: families.circuit_opened.get_or_create_owned(&labels),
            probes_well: families.circuit_probes.get_or_create_owned(&and("result", "well")),
            probes_failed: families.circuit_probes.get_or_create_owned(&and("result", "failed")),
            backlog_ready: families.backlog.get_or_create_owned(&and("state", "ready")),
            backlog_pending: families.backlog.get_or_create_owned(&and("state", "pending")),
            oldest_age: families.backlog_oldest_age.get_or_create_owned(&labels),
            heartbeats_kept: families.lease_heartbeats.get_or_create_owned(&and("result", "extended")),
            heartbeats_missed: families.lease_heartbeats.get_or_create_owned(&and("result", "unconfirmed")),
            lease_lost: families.lease_lost.get_or_create_owned(&labels),
            fuel: families.fuel.get_or_create_owned(&labels),
            memory_peak: families.memory_peak.get_or_create_owned(&labels),
            families: families.clone(),
            labels,
        }
    }

    /// Messages were handed over.
    pub fn received(&self, messages: usize) {
        self.consumed.inc_by(wide(messages));
    }

    /// A message was handed over for the first time, so long after it was published.
    pub fn waited(&self, time_in_queue: Duration) {
        self.time_in_queue.observe(time_in_queue.as_secs_f64());
    }

    /// A handler ran.
    pub fn ran(&self, outcome: ReasonCode, usage: &Usage) {
        let runs = self.runs.get(outcome, |code| {
            // By OpenTelemetry's rule a run that succeeded carries no error type at all.
            let labels = if code == "completed" { self.labels.clone() } else { self.and("error_type", code) };
            self.families.process_duration.get_or_create_owned(&labels)
        });
        if let Some(runs) = runs {
            runs.observe(usage.duration.as_secs_f64());
        }
        if let Some(start) = usage.start {
            self.instantiated.observe(start.as_secs_f64());
        }
        self.fuel.inc_by(usage.fuel);
        let peak = i64::try_from(usage.memory_peak).unwrap_or(i64::MAX);
        self.memory_peak.inner().fetch_max(peak, Ordering::Relaxed);
        if let Some(code) = outcome.0.strip_prefix("trap:") {
            let traps = self.traps.get(outcome, |_| self.families.traps.get_or_create_owned(&self.and("code", code)));
            if let Some(traps) = traps {
                traps.inc();
            }
        }
    }

    /// The broker confirmed what became of a message: after which attempt, and so long after it was published.
    pub fn settled(&self, ending: Ending, reason: ReasonCode, attempt: u32, age: Duration) {
        let settled = self.settled.get(ending as usize).and_then(|series| {
            series.get(reason, |code| {
                let labels = with(&self.and("outcome", ending.name()), "reason", code);
                self.families.settled.get_or_create_owned(&labels)
            })
        });
        if let Some(settled) = settled {
            settled.inc();
        }
        if ending.is_final() {
            self.attempts.observe(f64::from(attempt));
            self.end_to_end.observe(age.as_secs_f64());
        }
        if ending == Ending::AlreadyDone {
            self.dedupe_hits.inc();
        }
        if ending == Ending::DeadLettered {
            let published = self
                .dlq_published
                .get(reason, |code| self.families.dlq_published.get_or_create_owned(&self.and("reason", code)));
            if let Some(published) = published {
                published.inc();
            }
        }
    }

    /// The dead-letter queue did not take a record.
    pub fn dead_letter_refused(&self) {
        self.dlq_failures.inc();
    }

    /// Messages of so many bytes are held from now on.
    pub fn hold(&self, messages: usize, bytes: usize) {
        self.in_flight.inc_by(signed(messages));
        self.in_flight_bytes.inc_by(signed(bytes));
    }

    /// Messages of so many bytes are no longer held.
    pub fn release(&self, messages: usize, bytes: usize) {
        self.in_flight.dec_by(signed(messages));
        self.in_flight_bytes.dec_by(signed(bytes));
    }

    /// How many messages may be handled at once.
    pub fn set_concurrency(&self, limit: usize) {
        self.concurrency.set(signed(limit));
    }

    /// Whether the circuit is not closed.
    pub fn set_circuit_open(&self, is_open: bool) {
        self.circuit_open.set(i64::from(is_open));
    }

    /// How the circuit stands: 0: closed; 1: open; 2: messages are let in one at a time.
    pub fn set_circuit_state(&self, state: i64) {
        self.circuit_state.set(state);
    }

    /// Why nothing new is taken, though nobody paused it; `None`: it is taken.
    pub fn set_held_up(&self, by: Option<HeldUp>) {
        for (kind, gauge) in HeldUp::ALL.into_iter().zip(&self.held_up) {
            gauge.set(i64::from(by == Some(kind)));
        }
    }

    /// Whether it gets nowhere.
    pub fn set_stalled(&self, is_stalled: bool) {
        self.stalled.set(i64::from(is_stalled));
    }

    /// The circuit opened.
    pub fn circuit_opened(&self) {
        self.circuit_opened.inc();
    }

    /// A message that was let in to see how it goes went well, or failed.
    pub fn circuit_probed(&self, went_well: bool) {
        if went_well {
            self.probes_well.inc();
        } else {
            self.probes_failed.inc();
        }
    }

    /// How much waits with the broker.
    pub fn set_backlog(&self, backlog: &Backlog, now: SystemTime) {
        self.backlog_ready.set(i64::try_from(backlog.ready).unwrap_or(i64::MAX));
        self.backlog_pending.set(i64::try_from(backlog.pending).unwrap_or(i64::MAX));
        let age = backlog.oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default();
        self.oldest_age.set(age.as_secs_f64());
        match backlog.limit {
            Some(limit) => {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                self.families.ack_pending_limit.get_or_create_owned(&self.labels).set(limit);
            }
            // None was shown, or somebody took it away from the consumer.
            None => drop(self.families.ack_pending_limit.remove(&self.labels)),
        }
        if let Some(Retries { next_due }) = backlog.retries {
            // What is pending is held here, or waits: this host alone receives.
            let waiting = self.backlog_pending.get().saturating_sub(self.in_flight.get()).max(0);
            self.families.retry_in_place.get_or_create_owned(&self.labels).set(waiting);
            let left = next_due.and_then(|due| due.duration_since(now).ok()).unwrap_or_default();
            self.families.retry_next_due.get_or_create_owned(&self.labels).set(left.as_secs_f64());
        } else {
            // What was shown is looked at no more.
            if let Some(waiting) = self.families.retry_in_place.get(&self.labels) {
                waiting.set(0);
            }
            if let Some(left) = self.families.retry_next_due.get(&self.labels) {
                left.set(0.0);
            }
        }
    }

    /// The broker did something that took so long.
    pub fn operation(&self, operation: Operation, took: Duration) {
        if let Some(histogram) = self.operations.get(operation as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// So much was left of a lease when its message was settled.
    pub fn lease_left(&self, left: Duration) {
        self.lease_remaining.observe(left.as_secs_f64());
    }

    /// A lease was to be extended: whether the broker confirmed it.
    pub fn heartbeat(&self, confirmed: bool) {
        if confirmed {
            self.heartbeats_kept.inc()
        } else {
            self.heartbeats_missed.inc()
        };
    }

    /// A lease ended while its message was being handled.
    pub fn lease_lost(&self) {
        self.lease_lost.inc();
    }

    /// Outputs were published; so many of them were there already.
    pub fn outputs(&self, sent: usize, duplicates: u64) {
        self.sent.inc_by(wide(sent));
        self.outputs_deduplicated.inc_by(duplicates);
    }

    /// The counts of this moment, for people and for `/v1/status`.
    #[must_use]
    pub fn counts(&self) -> SubscriptionCounts {
        let ended = |ending: Ending| self.ended(ending);
        let mut reasons = std::collections::BTreeMap::new();
        for (code, counter) in self.settled.iter().flat_map(ByReason::iter) {
            *reasons.entry(code.to_owned()).or_insert(0) += counter.get();
        }
        SubscriptionCounts {
            consumed: self.consumed.get(),
            completed: ended(Ending::Completed),
            skipped: ended(Ending::Skipped),
            retried: ended(Ending::Retried),
            returned: ended(Ending::Returned),
            dead_lettered: ended(Ending::DeadLettered),
            abandoned: ended(Ending::Abandoned),
            reasons,
            runs: self.runs.iter().map(|(_, runs)| runs.count()).sum(),
            run_seconds: self.latency(),
            fuel: self.fuel.get(),
            memory_peak_bytes: unsigned(self.memory_peak.get()),
            outputs: self.sent.get(),
            duplicates: self.dedupe_hits.get(),
            in_flight: unsigned(self.in_flight.get()),
            in_flight_bytes: unsigned(self.in_flight_bytes.get()),
            concurrency: unsigned(self.concurrency.get()),
            ready: unsigned(self.backlog_ready.get()),
            pending: unsigned(self.backlog_pending.get()),
            oldest_age_seconds: self.oldest_age.get(),
        }
    }

    /// Messages that are done with until now, those among them that were done before.
    #[must_use]
    pub fn done_with(&self) -> u64 {
        let ends = [Ending::Completed, Ending::Skipped, Ending::AlreadyDone, Ending::DeadLettered];
        ends.into_iter().map(|ending| self.ended(ending)).sum()
    }

    /// What was counted until now, for the history.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            ended: Ending::ALL.map(|ending| self.ended(ending)),
            runs: self.runs_by_time(),
            fuel: self.fuel.get(),
            in_flight: unsigned(self.in_flight.get()),
            concurrency: unsigned(self.concurrency.get()),
            ready: unsigned(self.backlog_ready.get()),
            oldest_age: self.oldest_age.get(),
        }
    }

    /// Settlements that ended so.
    fn ended(&self, ending: Ending) -> u64 {
        self.settled.get(ending as usize).map_or(0, |series| series.iter().map(|(_, counter)| counter.get()).sum())
    }

    /// Runs by how long they took, one a bound of [`SECONDS`] and one above; nothing before the first.
    fn runs_by_time(&self) -> Vec<u64> {
        let mut counts = Vec::new();
        self.runs.iter().for_each(|(_, runs)| runs.add_to(&mut counts));
        counts
    }

    fn latency(&self) -> Option<Latency> {
        let counts = self.runs_by_time();
        let at = |share| quantile(SECONDS, &counts, share);
        Some(Latency { p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)? })
    }

    fn and(&self, key: &'static str, value: &str) -> Labels {
        with(&self.labels, key, value)
    }
}

pub(super) fn with(labels: &Labels, key: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((key, value.to_owned()));
    labels
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
