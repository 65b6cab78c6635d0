//! The subscriptions of a host, each running or waiting for its broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{SubscriptionStatus, Subscriptions};
use crate::broker::{PastError, PastPage, PastQuery};
use crate::deploy::Deployments;
use crate::dispatch::{Drained, Slot as VersionSlot, Subscription, Tuning};
use crate::pause::Pauses;
use crate::settle::verdict::Identity;
use crate::telemetry::SubscriptionCounts;

/// What a subscription came to at the end of a drain.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its name.
    pub subscription: String,
    /// What was counted and given back.
    pub drained: Drained,
}

/// All subscriptions of a host.
pub(super) struct Slots {
    slots: RwLock<BTreeMap<String, Arc<Slot>>>,
    pauses: Arc<Pauses>,
    /// They know why a handler has no version that runs.
    deployments: Arc<Deployments>,
    draining: std::sync::atomic::AtomicBool,
}

/// One subscription.
pub(super) struct Slot {
    identity: Identity,
    subjects: Vec<String>,
    versions: Arc<VersionSlot>,
    state: Mutex<State>,
    /// Whoever goes on trying to start it is to stop.
    stop: CancellationToken,
}

enum State {
    /// The broker is away, or refused; the text is for a person.
    Waits(String),
    Runs(Arc<Subscription>),
    Drained(SubscriptionCounts),
}

impl Slots {
    /// None yet.
    pub(super) fn new(pauses: Arc<Pauses>, deployments: Arc<Deployments>) -> Arc<Self> {
        let (slots, draining) = Default::default();
        Arc::new(Self { slots, pauses, deployments, draining })
    }

    /// A place for one more subscription, or in the place of the one of its name.
    pub(super) fn put(&self, identity: &Identity, subjects: &[String], versions: &Arc<VersionSlot>) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            identity: identity.clone(),
            subjects: subjects.to_vec(),
            versions: Arc::clone(versions),
            state: Mutex::new(State::Waits("not started yet".into())),
            stop: CancellationToken::new(),
        });
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.insert(identity.subscription.to_string(), Arc::clone(&slot));
        drop(slots);
        slot
    }

    /// The subscription of a name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Takes a subscription out; whoever asks for the subscriptions does not see it any more.
    pub(super) fn take(&self, name: &str) -> Option<Arc<Slot>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Closes the circuit of a subscription. False when it was closed, or the subscription does not run.
    pub(super) fn close_circuit(&self, name: &str) -> bool {
        let subscription = self.get(name).and_then(|slot| slot.running());
        subscription.is_some_and(|subscription| subscription.close_circuit())
    }

    /// Looks whether each gets anywhere.
    pub(super) fn watch(&self) {
        self.all().iter().filter_map(|slot| slot.running()).for_each(|subscription| subscription.watch());
    }

    /// Asks for every backlog; the answers show in the metrics.
    pub(super) async fn look(&self) {
        for slot in self.all() {
            if let Some(subscription) = slot.running()
                && let Err(error) = subscription.backlog().await
            {
                tracing::debug!(subscription = subscription.name(), %error, "the backlog is not known");
            }
        }
    }

    /// Drains all of them at once.
    pub(super) async fn drain(&self, deadline: Instant) -> Vec<Report> {
        self.draining.store(true, std::sync::atomic::Ordering::Release);
        let drains = self.all().into_iter().map(|slot| async move { slot.drain(deadline).await });
        futures_util::future::join_all(drains).await.into_iter().flatten().collect()
    }
}

impl Slot {
    /// It runs now; one that was stopped meanwhile does not.
    pub(super) fn runs(&self, subscription: Subscription) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.stop.is_cancelled() {
            *state = State::Runs(Arc::new(subscription));
        }
    }

    /// Ends when it is stopped.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Stops it for good: what runs is finished, until the deadline, and the rest is given back.
    pub(super) async fn drain(&self, deadline: Instant) -> Option<Report> {
        self.stop.cancel();
        let subscription = self.running()?;
        let drained = subscription.drain(deadline).await;
        self.set(State::Drained(drained.counts.clone()));
        Some(Report { subscription: self.identity.subscription.to_string(), drained })
    }

    /// Changes what can be changed while it runs; false when it does not run.
    pub(super) fn tune(&self, tuning: Tuning) -> bool {
        self.running().is_some_and(|subscription| {
            subscription.tune(tuning);
            true
        })
    }

    /// It does not run, for this reason.
    pub(super) fn waits(&self, why: &str) {
        self.set(State::Waits(why.to_owned()));
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn running(&self) -> Option<Arc<Subscription>> {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Runs(subscription) => Some(Arc::clone(subscription)),
            State::Waits(_) | State::Drained(_) => None,
        }
    }

    fn status(&self, pauses: &Pauses, deployments: &Deployments) -> SubscriptionStatus {
        let version = self.versions.active();
        let (trouble, counts) = match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Waits(why) => (Some(why.clone()), SubscriptionCounts::default()),
            State::Runs(subscription) if version.is_none() => {
                let handler = &self.identity.handler;
                (Some(no_handler(handler, deployments.trouble(handler))), subscription.counts())
            }
            State::Runs(subscription) => {
                let pause = subscription.paused().map(|pause| format!("takes nothing new for now: {}", pause.reason));
                (subscription.lost().or_else(|| subscription.refused()).or(pause), subscription.counts())
            }
            State::Drained(counts) => (Some("drained".into()), counts.clone()),
        };
        SubscriptionStatus {
            name: self.identity.subscription.to_string(),
            broker: self.identity.broker.to_string(),
            handler: self.identity.handler.to_string(),
            subjects: self.subjects.clone(),
            digest: version.map(|version| version.handler.digest().to_owned()),
            trouble,
            pause: pauses.get(&self.identity.subscription),
            circuit: self.running().and_then(|subscription| subscription.open_circuit()),
            stall: self.running().and_then(|subscription| subscription.stall()),
            counts,
        }
    }
}

/// Why messages wait for a handler; `trouble`: what keeps the version that it has from running.
fn no_handler(handler: &str, trouble: Option<String>) -> String {
    match trouble {
        Some(trouble) => format!("no-handler: handler `{handler}` has no version that runs; {trouble}"),
        None => format!("no-handler: handler `{handler}` has no version yet; deploy one with `tidegate deploy`"),
    }
}

#[async_trait::async_trait]
impl Subscriptions for Slots {
    fn list(&self) -> Vec<SubscriptionStatus> {
        self.all().iter().map(|slot| slot.status(&self.pauses, &self.deployments)).collect()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(std::sync::atomic::Ordering::Acquire)
    }

    async fn past(&self, subscription: &str, query: &PastQuery) -> Option<Result<PastPage, PastError>> {
        let running = self.all().into_iter().find(|slot| &*slot.identity.subscription == subscription)?.running()?;
        Some(running.past(query).await)
    }
}

#[cfg(test)]
mod tests {
    use super::no_handler;

    /// A damaged module was told as one that was never deployed.
    #[test]
    fn what_waits_for_a_version_says_whether_there_was_one() {
        assert!(no_handler("h", None).contains("has no version yet; deploy one"));
        let told = no_handler("h", Some("the module is damaged".to_owned()));
        assert_eq!(told, "no-handler: handler `h` has no version that runs; the module is damaged");
    }
}
