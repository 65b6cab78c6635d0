//! The circuit breaker of a subscription: when most messages fail, it takes none for a while, then one to see how it goes.
//! What it decides is in [`machine`]; here it meets the clock, the log, the metrics, and those who wait for it.

mod machine;
mod policy;
mod window;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

pub use machine::Change;
pub(crate) use machine::Ended;
use machine::{Machine, Standing};
pub use policy::CircuitPolicy;
pub(crate) use policy::{Sign, sign};

use crate::dispatch::ramp::ramp;
use crate::dispatch::slot::Slot;
use crate::telemetry::SubscriptionMetrics;

/// Tells somebody of a circuit that opened or closed.
pub type Told = mpsc::Sender<CircuitTold>;

/// A circuit that opened or closed.
#[derive(Debug, Clone)]
pub struct CircuitTold {
    /// Of which subscription.
    pub subscription: Arc<str>,
    /// How.
    pub change: Change,
    /// In words.
    pub why: String,
}

/// A circuit that is not closed, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCircuit {
    /// Since when.
    pub since: SystemTime,
    /// Why, in words.
    pub why: String,
    /// When the next message is let in; `None`: one is let in now.
    pub until: Option<SystemTime>,
}

/// The circuit of a subscription.
pub(crate) struct Circuit {
    subscription: Arc<str>,
    machine: Mutex<Machine>,
    /// Asked for each message that is about to run.
    open: AtomicBool,
    /// Since when it is not closed, and why.
    story: Mutex<Option<(SystemTime, String)>>,
    changed: Notify,
    metrics: Arc<SubscriptionMetrics>,
    told: Option<Told>,
}

impl Circuit {
    pub(crate) fn new(
        subscription: Arc<str>,
        policy: Option<CircuitPolicy>,
        metrics: Arc<SubscriptionMetrics>,
        told: Option<Told>,
    ) -> Self {
        metrics.set_circuit_open(false);
        metrics.set_circuit_state(0);
        let (machine, open) = (Mutex::new(Machine::new(policy)), AtomicBool::new(false));
        Self { subscription, machine, open, story: Mutex::default(), changed: Notify::new(), metrics, told }
    }

    /// Whether no message is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// A run ended. `Some`: its failure does not count, and the message is to stand aside for so long at least.
    pub(crate) fn ran(&self, ended: Ended, last: &str, now: Instant, wall: SystemTime) -> Option<Duration> {
        let answer = {
            let mut machine = self.machine();
            let answer = machine.ran(ended, now);
            self.note_standing(&machine);
            answer
        };
        if let Some(change) = answer.change {
            self.tell(change, last, wall);
        }
        answer.spared
    }

    /// How long a message that failed stands aside at the most, where its backoff would be longer.
    pub(crate) fn aside(&self) -> Duration {
        self.machine().aside()
    }

    /// How many messages may be held where `limit` may run at once; `None`: as many as ever.
    pub(crate) fn cap(&self, limit: usize, now: Instant) -> Option<usize> {
        let machine = self.machine();
        match machine.standing() {
            Standing::Open { .. } | Standing::Probing => Some(1),
            Standing::Closed => machine.closed_at().and_then(|since| ramp(limit, now.saturating_duration_since(since))),
        }
    }

    /// Whether it is not closed: one message at a time is let in, or none.
    pub(crate) fn lets_one_in(&self) -> bool {
        match self.machine().standing() {
            Standing::Closed => false,
            Standing::Open { .. } | Standing::Probing => true,
        }
    }

    /// Waits until it opens.
    pub(crate) async fn until_open(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_open() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until a message is let in again: when the pause is over, or at once when another version comes into the slot, which
    /// may be the cure.
    pub(crate) async fn until_let_in(&self, slot: &Slot) {
        loop {
            let (changed, swapped) = (self.changed.notified(), slot.swapped());
            let standing = self.machine().standing();
            let Standing::Open { until } = standing else { return };
            let at_once = tokio::select! {
                biased;
                () = changed => continue,
                () = swapped => true,
                () = tokio::time::sleep_until(until) => false,
            };
            let mut machine = self.machine();
            if machine.probe(at_once, Instant::now()) {
                self.note_standing(&machine);
                tracing::info!(subscription = %self.subscription, at_once, "circuit: one message is let in to see how it goes");
            }
        }
    }

    /// Closes it by hand. False when it was closed.
    pub(crate) fn close_by_hand(&self, now: Instant, wall: SystemTime) -> bool {
        self.change(wall, |machine| machine.close_by_hand(now))
    }

    /// Goes by another policy from now on; `None`: it never opens.
    pub(crate) fn set_policy(&self, policy: Option<CircuitPolicy>, now: Instant, wall: SystemTime) {
        self.change(wall, |machine| machine.set_policy(policy, now));
    }

    /// What there is to see, when it is not closed.
    pub(crate) fn shown(&self, now: Instant, wall: SystemTime) -> Option<OpenCircuit> {
        let until = match self.machine().standing() {
            Standing::Closed => return None,
            Standing::Open { until } => Some(wall + until.saturating_duration_since(now)),
            Standing::Probing => None,
        };
        let story = self.story.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (since, why) = story.unwrap_or((wall, String::new()));
        Some(OpenCircuit { since, why, until })
    }

    fn change(&self, wall: SystemTime, change: impl FnOnce(&mut Machine) -> Option<Change>) -> bool {
        let changed = {
            let mut machine = self.machine();
            let changed = change(&mut machine);
            self.note_standing(&machine);
            changed
        };
        if let Some(change) = changed {
            self.tell(change, "", wall);
        }
        changed.is_some()
    }

    /// Called under the lock of the machine, so that the two never differ for long.
    fn note_standing(&self, machine: &Machine) {
        let state = match machine.standing() {
            Standing::Closed => 0,
            Standing::Open { .. } => 1,
            Standing::Probing => 2,
        };
        self.metrics.set_circuit_state(state);
        let is_open = state == 1;
        if self.open.swap(is_open, Ordering::AcqRel) != is_open {
            self.changed.notify_waiters();
        }
    }

    fn tell(&self, change: Change, last: &str, wall: SystemTime) {
        let subscription = &self.subscription;
        let why = told(change, last);
        match change {
            Change::Opened { .. } => {
                self.metrics.circuit_opened();
                self.metrics.set_circuit_open(true);
                *self.story.lock().unwrap_or_else(PoisonError::into_inner) = Some((wall, why.clone()));
                tracing::warn!(%subscription, why, "circuit: open, no messages are taken");
            }
            Change::ProbeFailed { .. } => {
                self.metrics.circuit_probed(false);
                tracing::warn!(%subscription, why, "circuit: still open");
                return;
            }
            Change::ProbeWentWell | Change::ClosedByHand => {
                if change == Change::ProbeWentWell {
                    self.metrics.circuit_probed(true);
                }
                self.metrics.set_circuit_open(false);
                *self.story.lock().unwrap_or_else(PoisonError::into_inner) = None;
                tracing::info!(%subscription, why, "circuit: closed, messages are taken again");
            }
        }
        let told = CircuitTold { subscription: Arc::clone(subscription), change, why };
        if let Some(Err(_)) = self.told.as_ref().map(|to| to.try_send(told)) {
            tracing::warn!(%subscription, "nobody could be told of the change of the circuit but this log");
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change in words.
fn told(change: Change, last: &str) -> String {
    let time = |pause: Duration| humantime::format_duration(pause).to_string();
    match change {
        Change::Opened { good, bad, pause } => {
            format!("{bad} of {} messages failed, the last as {last}; the first probe in {}", good + bad, time(pause))
        }
        Change::ProbeFailed { pause } => format!("the probe failed as {last}; the next one in {}", time(pause)),
        Change::ProbeWentWell => "a probe went well".to_owned(),
        Change::ClosedByHand => "somebody closed it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests say what went wrong by failing")]

    use super::*;
    use crate::telemetry::Metrics;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    fn opened(told: Option<Told>) -> Circuit {
        let metrics = Metrics::new().subscription("s", "embedded");
        let circuit = Circuit::new("s".into(), Some(CircuitPolicy::standard()), metrics, told);
        for message in 0..20 {
            assert_eq!(run(&circuit, message, Sign::Bad), None, "it was closed while that one ran");
        }
        circuit
    }

    fn run(circuit: &Circuit, message: u64, sign: Sign) -> Option<Duration> {
        circuit.ran(Ended { message, sign, is_proven_bad: false }, "timeout", Instant::now(), WALL)
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_let_in_when_its_time_has_come() {
        let (to, mut told) = mpsc::channel(4);
        let circuit = opened(Some(to));
        let (slot, began) = (Slot::empty(), Instant::now());
        circuit.until_open().await;
        let seen = circuit.shown(Instant::now(), WALL).unwrap();
        assert_eq!((seen.since, seen.until), (WALL, Some(WALL + Duration::from_secs(5))));
        assert_eq!(seen.why, "20 of 20 messages failed, the last as timeout; the first probe in 5s");
        assert_eq!(circuit.cap(16, Instant::now()), Some(1));
        circuit.until_let_in(&slot).await;
        assert_eq!((began.elapsed(), circuit.is_open()), (Duration::from_secs(5), false));
        assert_eq!(run(&circuit, 1, Sign::Bad), Some(Duration::from_secs(10)));
        circuit.until_let_in(&slot).await;
        assert_eq!(began.elapsed(), Duration::from_secs(15));
        assert!(circuit.shown(Instant::now(), WALL).is_some_and(|seen| seen.until.is_none()));
        assert_eq!(run(&circuit, 1, Sign::Good), None);
        assert_eq!((circuit.shown(Instant::now(), WALL), circuit.cap(16, Instant::now())), (None, Some(1)));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(circuit.cap(16, Instant::now()), None, "its ramp is over");
        let changes = [told.recv().await.unwrap(), told.recv().await.unwrap()].map(|one| one.change);
        assert!(matches!(changes, [Change::Opened { bad: 20, .. }, Change::ProbeWentWell]), "{changes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_version_is_tried_at_once() {
        let circuit = opened(None);
        let (slot, began) = (Slot::empty(), Instant::now());
        let mut let_in = std::pin::pin!(circuit.until_let_in(&slot));
        assert!(futures_util::poll!(let_in.as_mut()).is_pending());
        slot.swap(crate::dispatch::slot::tests::version(2).1);
        let_in.await;
        assert_eq!((began.elapsed(), circuit.is_open()), (Duration::ZERO, false));
        // Somebody who says that it is over is believed.
        assert!(circuit.close_by_hand(Instant::now(), WALL) && !circuit.close_by_hand(Instant::now(), WALL));
        circuit.until_let_in(&slot).await;
    }
}
