//! What the stations of one subscription share.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::broker::{Broker, Directory, Source, SubscriptionSpec};
use crate::clock::Clock;
use crate::dispatch::circuit::{Circuit, CircuitPolicy, Told};
use crate::dispatch::crew::Crew;
use crate::dispatch::gate::Gate;
use crate::dispatch::hold::Hold;
use crate::dispatch::in_flight::{InFlight, Table};
use crate::dispatch::live::Live;
use crate::dispatch::pace::Pace;
use crate::dispatch::ramp::ramp;
use crate::dispatch::refused::Refused;
use crate::dispatch::slot::Slot;
use crate::dispatch::stall::StallWatch;
use crate::dispatch::turns::Seat;
use crate::outcome::ReasonCode;
use crate::settle::policy::RetryPolicy;
use crate::settle::verdict::Identity;
use crate::telemetry::trace::Tracer;
use crate::telemetry::{HeldUp, SubscriptionMetrics};

/// Everything that a subscription is started with.
#[derive(Clone)]
pub struct Setup {
    /// Who it is, for records.
    pub identity: Identity,
    /// What it asks of its broker.
    pub spec: SubscriptionSpec,
    /// How it retries.
    pub policy: RetryPolicy,
    /// When its circuit opens; `None`: never.
    pub circuit: Option<CircuitPolicy>,
    /// After how long without an end of any message it counts as stalled.
    pub stalled_after: Duration,
    /// How many handlers run at once.
    pub concurrency: NonZeroUsize,
    /// How many messages may be held at once, running or not.
    pub max_in_flight: NonZeroUsize,
    /// How many bytes may be held at once.
    pub max_in_flight_bytes: NonZeroUsize,
    /// How long one message may be held with its lease extended, beside the longest run of its version: the time to
    /// settle.
    pub settle_time: Duration,
    /// Tells the time of day.
    pub clock: Clock,
    /// Where chance comes from.
    pub seed: u64,
}

/// What can be changed of a subscription while it runs, without stopping anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// How many handlers run at once.
    pub concurrency: NonZeroUsize,
    /// How many bytes may be held at once.
    pub max_in_flight_bytes: NonZeroUsize,
    /// How it retries, from the next decision on.
    pub policy: RetryPolicy,
    /// When its circuit opens; `None`: never.
    pub circuit: Option<CircuitPolicy>,
    /// After how long without an end of any message it counts as stalled.
    pub stalled_after: Duration,
}

/// What the stations share.
pub(crate) struct Shared {
    pub(crate) setup: Setup,
    pub(crate) broker: Arc<dyn Broker>,
    /// The brokers that outputs may go to, by name.
    pub(crate) brokers: Arc<Directory>,
    /// The subscription's end of its broker; replaced when the broker lost it.
    source: RwLock<Arc<dyn Source>>,
    /// The versions that messages run on.
    pub(crate) slot: Arc<Slot>,
    /// How it retries now.
    policy: ArcSwap<RetryPolicy>,
    pub(crate) crew: Crew,
    pub(crate) table: Table,
    pub(crate) metrics: Arc<SubscriptionMetrics>,
    pub(crate) live: Arc<Live>,
    /// Traces its messages; `None`: traces are off.
    pub(crate) tracer: Option<Arc<Tracer>>,
    pub(crate) pace: Pace,
    pub(crate) gate: Gate,
    /// Whether an operator lets it take messages.
    pub(crate) hold: Arc<Hold>,
    /// Whether it is worth taking messages.
    pub(crate) circuit: Circuit,
    /// Whether it gets anywhere.
    pub(crate) stall: StallWatch,
    /// Dead letters of it that nobody takes.
    pub(crate) refused: Refused,
    pub(crate) seat: Seat,
    /// Messages that may kill the host run one at a time.
    pub(crate) quarantine: Semaphore,
    last_warning: Mutex<Option<Instant>>,
    /// Why it has no source that it could receive from: a person may have to act.
    lost: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn new(setup: Setup, links: Links, source: Arc<dyn Source>, table: Table, seat: Seat) -> Self {
        let policy = ArcSwap::from_pointee(setup.policy.clone());
        let name = Arc::clone(&setup.identity.subscription);
        let stall = StallWatch::new(setup.stalled_after);
        let circuit = Circuit::new(name, setup.circuit, Arc::clone(&links.metrics), links.told);
        Self {
            setup,
            broker: links.broker,
            brokers: links.brokers,
            source: RwLock::new(source),
            slot: links.slot,
            policy,
            crew: Crew::default(),
            table,
            metrics: links.metrics,
            live: links.live,
            tracer: links.tracer,
            pace: Pace::default(),
            gate: Gate::default(),
            hold: links.hold,
            circuit,
            stall,
            refused: Refused::default(),
            seat,
            quarantine: Semaphore::new(1),
            last_warning: Mutex::new(None),
            lost: Mutex::default(),
        }
    }

    pub(crate) fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace_source(&self, source: Arc<dyn Source>) {
        *self.source.write().unwrap_or_else(PoisonError::into_inner) = source;
    }

    /// Why it has no source that it could receive from.
    pub(crate) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_lost(&self, why: Option<String>) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// How it retries now.
    pub(crate) fn policy(&self) -> arc_swap::Guard<Arc<RetryPolicy>> {
        self.policy.load()
    }

    pub(crate) fn set_policy(&self, policy: RetryPolicy) {
        self.policy.store(Arc::new(policy));
    }

    /// How many messages are worth holding: what runs, and as much again as can be run in a quarter of a lease.
    pub(crate) fn look_ahead(&self) -> usize {
        let concurrency = self.crew.size();
        let run = self.pace.typical().max(Duration::from_micros(1));
        let quarter = self.source().lease_duration() / 4;
        let per_slot = quarter.as_micros() / run.as_micros().max(1);
        let per_slot = usize::try_from(per_slot).unwrap_or(usize::MAX);
        concurrency.saturating_add(concurrency.saturating_mul(per_slot)).min(self.setup.max_in_flight.get())
    }

    /// How many messages may be held now: what is worth holding, or less while a ramp is on.
    pub(crate) fn may_hold(&self) -> usize {
        let ahead = self.look_ahead();
        self.ramp(Instant::now()).map_or(ahead, |most| most.min(ahead))
    }

    /// How many messages may be held while one is let in as a probe, or after a pause; `None`: as many as ever.
    pub(crate) fn ramp(&self, now: Instant) -> Option<usize> {
        let resumed = self.hold.resumed_for(now).and_then(|since| ramp(self.crew.size(), since));
        [resumed, self.circuit.cap(self.crew.size(), now)].into_iter().flatten().min()
    }

    /// Whether a ramp is on: what may be held grows by itself.
    pub(crate) fn is_ramping(&self, now: Instant) -> bool {
        !self.circuit.lets_one_in() && self.ramp(now).is_some()
    }

    /// What keeps it from taking messages, though nobody paused it and its circuit is closed.
    pub(crate) fn held_up(&self, now: Instant) -> Option<HeldUp> {
        if self.lost().is_some() {
            return Some(HeldUp::Source);
        }
        if self.slot.active().is_none() {
            return Some(HeldUp::NoHandler);
        }
        let reason = self.gate.closed(now)?.reason;
        Some(if reason == ReasonCode::DLQ_UNAVAILABLE { HeldUp::DeadLetters } else { HeldUp::Outputs })
    }

    /// Whether no message is to begin: somebody paused it, or its circuit is open.
    pub(crate) fn rests(&self) -> bool {
        self.hold.is_closed() || self.circuit.is_open()
    }

    /// Waits until no message is to begin.
    pub(crate) async fn until_it_rests(&self) {
        tokio::select! {
            () = self.hold.until(true) => {}
            () = self.circuit.until_open() => {}
        }
    }

    /// Waits until messages may begin again. While somebody has paused it, nothing is let in as a probe.
    pub(crate) async fn until_it_wakes(&self) {
        while self.rests() {
            self.hold.until(false).await;
            tokio::select! {
                biased;
                () = self.hold.until(true) => {}
                () = self.circuit.until_let_in(&self.slot) => {}
            }
        }
    }

    /// Whether it is time to warn of a trouble in settling again: every ten seconds at the most.
    pub(crate) fn may_warn(&self, now: Instant) -> bool {
        let mut last = self.last_warning.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(10));
        if due {
            *last = Some(now);
        }
        due
    }

    /// Whether a message has been held for as long as it may be: by the version that it runs on, or would run on.
    pub(crate) fn held_too_long(&self, entry: &InFlight, now: Instant) -> bool {
        let max_run = match entry.runs_on() {
            Some(pick) => pick.version.max_run,
            None => self.slot.active().map_or(Duration::ZERO, |version| version.max_run),
        };
        now.saturating_duration_since(entry.received_at) > max_run.saturating_add(self.setup.settle_time)
    }
}

/// What a subscription is connected to.
#[derive(Clone)]
pub struct Links {
    /// The broker that it receives from.
    pub broker: Arc<dyn Broker>,
    /// The brokers that outputs may go to, by name; its own among them.
    pub brokers: Arc<Directory>,
    /// The versions that messages run on; shared by all subscriptions of the handler.
    pub slot: Arc<Slot>,
    /// Where what happens is counted.
    pub metrics: Arc<SubscriptionMetrics>,
    /// Where what happens is seen.
    pub live: Arc<Live>,
    /// Traces the messages; `None`: traces are off.
    pub tracer: Option<Arc<Tracer>>,
    /// Whether an operator lets it take messages.
    pub hold: Arc<Hold>,
    /// Who is told of a circuit that opens or closes, beside the log; `None`: nobody.
    pub told: Option<Told>,
}
