//! The slot of a handler: the version that its messages run on, shared by all of its subscriptions.
//!
//! Invariants:
//! - A run picks its version once, at its start, and keeps it to its end: what it may send to, what is recorded of it
//!   and how long it may take are all of that version.
//! - A swap is one store: what was picked before runs on the old version, what is picked after on the new one. So is
//!   the start of a trial, and its end.
//! - While a trial is on, the same message gets the same version each time that it comes.
//! - A version that has left the slot lives for as long as something runs on it, or somebody else keeps it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::dispatch::trial::{Pick, Trial};
use crate::handler::Handler;
use crate::message::Message;
use crate::settle::outputs::Grants;
use crate::telemetry::{HandlerMetrics, VersionFigures};

/// A version of a handler that messages can run on.
pub struct Deployed {
    /// Its number among the versions of its handler; 0: it has none, as in a simulation.
    pub number: u64,
    /// What runs.
    pub handler: Arc<dyn Handler>,
    /// Where its outputs may go.
    pub grants: Grants,
    /// The longest run that its limits allow.
    pub max_run: Duration,
    /// Where its own measurements go.
    pub measurements: HandlerMetrics,
    /// What its runs came to.
    pub figures: VersionFigures,
}

impl std::fmt::Debug for Deployed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deployed")
            .field("number", &self.number)
            .field("digest", &self.handler.digest())
            .finish_non_exhaustive()
    }
}

/// Where the versions of one handler come and go.
#[derive(Debug, Default)]
pub struct Slot {
    lineup: ArcSwap<Lineup>,
    filled: Notify,
}

/// What messages may run on at one moment.
#[derive(Debug, Default)]
struct Lineup {
    active: Option<Arc<Deployed>>,
    trial: Option<Arc<Trial>>,
}

impl Slot {
    /// A slot without a version: subscriptions of its handler take nothing until there is one.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// A slot with a version.
    #[must_use]
    pub fn holding(version: Arc<Deployed>) -> Arc<Self> {
        let slot = Self::empty();
        slot.swap(version);
        slot
    }

    /// What a message runs on: the active version, or a canary when the message is in its share; `None` when there is none
    /// yet. Takes no lock.
    #[must_use]
    pub fn pick(&self, message: &Message) -> Option<Pick> {
        let lineup = self.lineup.load();
        let active = lineup.active.as_ref()?;
        Some(Pick::choose(active, lineup.trial.as_ref(), &message.id))
    }

    /// The version that new messages run on, but for those of a trial.
    #[must_use]
    pub fn active(&self) -> Option<Arc<Deployed>> {
        self.lineup.load().active.clone()
    }

    /// The trial that is on.
    #[must_use]
    pub fn trial(&self) -> Option<Arc<Trial>> {
        self.lineup.load().trial.clone()
    }

    /// Puts a version in the place of the one before, which is given back. What runs finishes on the old one; what the
    /// old one kept for its next message is dropped. A trial that was on is over: its candidate may be the one that
    /// comes into the place. So may what runs already, under another number.
    pub fn swap(&self, version: Arc<Deployed>) -> Option<Arc<Deployed>> {
        version.handler.serve();
        let before = self.lineup.swap(Arc::new(Lineup { active: Some(Arc::clone(&version)), trial: None }));
        self.filled.notify_waiters();
        if let Some(over) = &before.trial {
            over.end();
        }
        let candidate = before.trial.as_ref().map(|trial| &trial.candidate);
        for gone in before.active.iter().chain(candidate) {
            if !Arc::ptr_eq(&gone.handler, &version.handler) {
                gone.handler.rest();
            }
        }
        before.active.clone()
    }

    /// Begins a trial beside the active version; one that was on is over. Whoever begins and ends trials does so one
    /// after the other.
    pub fn begin(&self, trial: Arc<Trial>) {
        trial.candidate.handler.serve();
        self.replace_trial(Some(trial));
    }

    /// Ends the trial that is on: all messages that come run on the active version. What runs on the candidate finishes
    /// there.
    pub fn end_trial(&self) {
        self.replace_trial(None);
    }

    fn replace_trial(&self, trial: Option<Arc<Trial>>) {
        let before = self.lineup.rcu(|lineup| Lineup { active: lineup.active.clone(), trial: trial.clone() });
        if let Some(over) = &before.trial {
            over.end();
            over.candidate.handler.rest();
        }
    }

    /// Ends when another version comes into the place of the active one. To be made before anything is looked at.
    pub(crate) fn swapped(&self) -> Notified<'_> {
        self.filled.notified()
    }

    /// Waits until there is a version.
    pub async fn filled(&self) {
        loop {
            let filled = self.filled.notified();
            if self.lineup.load().active.is_some() {
                return;
            }
            filled.await;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests say what went wrong by failing")]

    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::SystemTime;

    use async_trait::async_trait;

    use super::*;
    use crate::handler::{Call, Run};
    use crate::message::Headers;
    use crate::outcome::Outcome;
    use crate::telemetry::Metrics;

    #[derive(Default)]
    pub(crate) struct Quiet {
        resting: AtomicBool,
    }

    #[async_trait]
    impl Handler for Quiet {
        async fn handle(&self, _: Call<'_>) -> Run {
            Run::without_usage(Outcome::Completed(Vec::new()))
        }

        fn digest(&self) -> &'static str {
            "00"
        }

        fn serve(&self) {
            self.resting.store(false, Ordering::Release);
        }

        fn rest(&self) {
            self.resting.store(true, Ordering::Release);
        }
    }

    pub(crate) fn version(number: u64) -> (Arc<Quiet>, Arc<Deployed>) {
        let quiet = Arc::new(Quiet::default());
        let deployed = Deployed {
            number,
            handler: Arc::clone(&quiet) as _,
            grants: Grants::new(),
            max_run: Duration::ZERO,
            measurements: Metrics::new().handler("quiet", 1),
            figures: VersionFigures::default(),
        };
        (quiet, Arc::new(deployed))
    }

    fn message(id: &str) -> Message {
        Message {
            id: id.into(),
            subject: "a".into(),
            headers: Headers::default(),
            body: bytes::Bytes::new(),
            sequence: 1,
            published_at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_run_keeps_its_version_and_the_old_one_goes_with_its_last_run() {
        let ((one, first), (two, second)) = (version(1), version(2));
        let slot = Slot::holding(first);
        let running = slot.pick(&message("1")).unwrap();
        let old = slot.swap(second).unwrap();
        assert_eq!(slot.pick(&message("1")).unwrap().version.number, 2);
        assert_eq!((running.version.number, old.number), (1, 1));
        assert!(one.resting.load(Ordering::Acquire) && !two.resting.load(Ordering::Acquire));
        let gone = Arc::downgrade(&old);
        drop(old);
        assert!(gone.upgrade().is_some(), "something still runs on it");
        drop(running);
        assert!(gone.upgrade().is_none(), "nothing runs on it any more");
    }

    #[test]
    fn what_runs_already_goes_on_to_serve_under_another_number() {
        let (quiet, first) = version(1);
        let again = Deployed { number: 2, handler: Arc::clone(&quiet) as _, ..Arc::into_inner(version(2).1).unwrap() };
        let slot = Slot::holding(first);
        slot.swap(Arc::new(again));
        assert_eq!(slot.active().unwrap().number, 2);
        assert!(!quiet.resting.load(Ordering::Acquire), "its instances are kept for the next message");
    }

    #[tokio::test]
    async fn an_empty_slot_is_waited_for() {
        let slot = Slot::empty();
        assert!(slot.pick(&message("1")).is_none());
        let mut waiting = std::pin::pin!(slot.filled());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        slot.swap(version(1).1);
        waiting.await;
        slot.filled().await;
    }

    #[test]
    fn the_same_message_gets_the_same_version_while_a_trial_is_on() {
        let ((one, first), (two, second)) = (version(1), version(2));
        let slot = Slot::holding(Arc::clone(&first));
        let on = |id: usize| slot.pick(&message(&format!("m-{id}"))).unwrap().version.number;
        slot.begin(Trial::canary(Arc::clone(&second), "10%".parse().unwrap()));
        let chosen: Vec<usize> = (0..100).filter(|id| on(*id) == 2).collect();
        assert_eq!(chosen, [8, 20, 31, 39, 68, 74, 94]);
        assert!((0..1000).all(|id| (on(id) == 2) == (on(id) == 2)));
        let resting = |quiet: &Quiet| quiet.resting.load(Ordering::Acquire);
        assert_eq!((resting(&one), resting(&two)), (false, false));

        let late = slot.pick(&message("m-8")).unwrap();
        slot.end_trial();
        assert!((0..1000).all(|id| on(id) == 1) && slot.trial().is_none());
        assert_eq!((late.version.number, resting(&one), resting(&two)), (2, false, true), "what runs on it finishes");

        // The candidate takes the place of the other: it was serving, and goes on to.
        slot.begin(Trial::canary(Arc::clone(&second), "10%".parse().unwrap()));
        slot.swap(second);
        assert!((0..1000).all(|id| on(id) == 2) && slot.trial().is_none());
        assert_eq!((resting(&one), resting(&two)), (true, false));
    }
}
