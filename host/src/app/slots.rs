//! The subscriptions of a host, each running or waiting for its broker.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::time::Instant;

use crate::admin::{SubscriptionStatus, Subscriptions};
use crate::dispatch::{Drained, Slot as VersionSlot, Subscription};
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
#[derive(Default)]
pub(super) struct Slots {
    slots: RwLock<Vec<Arc<Slot>>>,
    draining: std::sync::atomic::AtomicBool,
}

/// One subscription.
pub(super) struct Slot {
    identity: Identity,
    versions: Arc<VersionSlot>,
    state: Mutex<State>,
}

enum State {
    /// The broker is away, or refused; the text is for a person.
    Waits(String),
    Runs(Arc<Subscription>),
    Drained(SubscriptionCounts),
}

impl Slots {
    /// A place for one more subscription.
    pub(super) fn add(&self, identity: &Identity, versions: &Arc<VersionSlot>) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            identity: identity.clone(),
            versions: Arc::clone(versions),
            state: Mutex::new(State::Waits("not started yet".into())),
        });
        self.slots.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&slot));
        slot
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
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
        let drains = self.all().into_iter().map(|slot| async move {
            let subscription = slot.running()?;
            let drained = subscription.drain(deadline).await;
            slot.set(State::Drained(drained.counts.clone()));
            Some(Report { subscription: slot.identity.subscription.to_string(), drained })
        });
        futures_util::future::join_all(drains).await.into_iter().flatten().collect()
    }
}

impl Slot {
    /// It runs now.
    pub(super) fn runs(&self, subscription: Subscription) {
        self.set(State::Runs(Arc::new(subscription)));
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

    fn status(&self) -> SubscriptionStatus {
        let version = self.versions.active();
        let (trouble, counts) = match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Waits(why) => (Some(why.clone()), SubscriptionCounts::default()),
            State::Runs(subscription) if version.is_none() => {
                let handler = &self.identity.handler;
                let why =
                    format!("no-handler: handler `{handler}` has no version yet; deploy one with `tidegate deploy`");
                (Some(why), subscription.counts())
            }
            State::Runs(subscription) => {
                let pause = subscription.paused().map(|pause| format!("takes nothing new for now: {}", pause.reason));
                (pause, subscription.counts())
            }
            State::Drained(counts) => (Some("drained".into()), counts.clone()),
        };
        SubscriptionStatus {
            name: self.identity.subscription.to_string(),
            broker: self.identity.broker.to_string(),
            handler: self.identity.handler.to_string(),
            digest: version.map(|version| version.handler.digest().to_owned()),
            trouble,
            counts,
        }
    }
}

impl Subscriptions for Slots {
    fn list(&self) -> Vec<SubscriptionStatus> {
        self.all().iter().map(|slot| slot.status()).collect()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(std::sync::atomic::Ordering::Acquire)
    }
}
