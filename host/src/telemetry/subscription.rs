//! What is measured of one subscription: handles that are resolved once, so that a message costs a few atomic additions.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::counts::{Latency, SubscriptionCounts};
use super::histogram::{Histogram, SECONDS, quantile};
use super::history::Moment;
use super::metrics::{Families, Labels};
use crate::broker::Backlog;
use crate::outcome::{ReasonCode, Usage};

/// What became of a delivery, as the label `outcome` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Handled and acknowledged.
    Completed,
    /// Acknowledged as worthless, by the handler's word.
    Skipped,
    /// Acknowledged without a run: the message was settled before, and its broker gave it back.
    AlreadyDone,
    /// Returned after a run that counts.
    Retried,
    /// Returned without costing an attempt.
    Returned,
    /// In the dead-letter queue.
    DeadLettered,
    /// The lease was over: nothing was settled, and the broker hands it over again.
    Abandoned,
}

impl Ending {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 7] = [
        Self::Completed,
        Self::Skipped,
        Self::AlreadyDone,
        Self::Retried,
        Self::Returned,
        Self::DeadLettered,
        Self::Abandoned,
    ];

    /// The name in metric labels and in the API.
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

    /// Whether this ended the message, rather than that it comes again or had ended before.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Skipped | Self::DeadLettered => true,
            Self::AlreadyDone | Self::Retried | Self::Returned | Self::Abandoned => false,
        }
    }
}

/// Series by reason code, each made when it is first needed, so that what never happens is not shown as zero.
#[derive(Debug)]
pub(super) struct ByReason<M> {
    series: Vec<OnceLock<M>>,
}

impl<M> ByReason<M> {
    pub(super) fn new() -> Self {
        // One more for a code that is not in the list: the number of series is bounded whatever comes.
        let places = ReasonCode::ALL.len() + 1;
        Self { series: std::iter::repeat_with(OnceLock::new).take(places).collect() }
    }

    pub(super) fn get(&self, reason: ReasonCode, make: impl FnOnce(&'static str) -> M) -> Option<&M> {
        let known = ReasonCode::ALL.iter().position(|code| *code == reason);
        let name = known.map_or("other", |_| reason.0);
        let place = self.series.get(known.unwrap_or(ReasonCode::ALL.len()))?;
        Some(place.get_or_init(|| make(name)))
    }

    /// What there is so far, with its code.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &M)> {
        let codes = ReasonCode::ALL.iter().map(|code| code.0).chain(["other"]);
        codes.zip(&self.series).filter_map(|(code, place)| Some((code, place.get()?)))
    }
}

/// The metrics of one subscription.
#[derive(Debug)]
pub struct SubscriptionMetrics {
    families: Families,
    labels: Labels,
    consumed: Counter,
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
    stalled: Gauge,
    circuit_opened: Counter,
    probes_well: Counter,
    probes_failed: Counter,
    backlog_ready: Gauge,
    backlog_pending: Gauge,
    oldest_age: Gauge<f64, std::sync::atomic::AtomicU64>,
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
            circuit_open: families
                .paused
                .get_or_create_owned(&vec![("subscription", name.to_owned()), ("kind", "circuit".to_owned())]),
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
    pub fn outputs(&self, sent: usize, duplicates: usize) {
        self.sent.inc_by(wide(sent));
        self.outputs_deduplicated.inc_by(wide(duplicates));
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

fn with(labels: &Labels, key: &'static str, value: &str) -> Labels {
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
