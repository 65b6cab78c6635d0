//! How a subscription is wired to the stations of the host, started, and kept trying while its broker is away.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::slots::{Slot, Slots};
use crate::admin::wire::PauseKind;
use crate::apply::share;
use crate::broker::{Access, Broker, Directory, Status, SubscribeError, SubscriptionSpec};
use crate::clock::Clock;
use crate::config::{Config, HandlerConfig, SubscriptionConfig};
use crate::deploy::Deployments;
use crate::dispatch::{Links, Live, Setup, Subscription, Told, Tuning, Turns};
use crate::pause::Pauses;
use crate::settle::verdict::Identity;
use crate::telemetry::Metrics;
use crate::telemetry::trace::Traces;

/// What settling may take beyond the longest run, with leases kept: outputs half a minute, a dead letter a minute.
const SETTLE_TIME: Duration = Duration::from_secs(120);

/// How long a start, or an apply, waits for buckets to be made and looked at: what one request may take. What is not ready then is
/// seen to at its first use.
const BUCKETS_READY_WITHIN: Duration = Duration::from_secs(5);

/// What subscriptions are wired to.
pub(super) struct Stations {
    pub(super) brokers: Arc<Directory>,
    pub(super) deployments: Arc<Deployments>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) live: Arc<Live>,
    /// What traces are made by; `None`: they are off.
    pub(super) traces: Option<Traces>,
    pub(super) turns: Arc<Turns>,
    pub(super) slots: Arc<Slots>,
    pub(super) pauses: Arc<Pauses>,
    /// Who is told of circuits that open and close.
    pub(super) told: Told,
    /// Those that go on trying.
    pub(super) tasks: Mutex<JoinSet<()>>,
}

impl Stations {
    /// Starts a subscription now, or goes on trying in the background while its broker is away. Gives back why it does
    /// not run yet.
    ///
    /// # Errors
    /// When it names what is not there, or the broker refuses it; it then does not run.
    pub(super) async fn start(
        &self,
        config: &Config,
        name: &str,
        subscription: &SubscriptionConfig,
    ) -> anyhow::Result<Option<String>> {
        let (setup, links) = self.wire(config, name, subscription)?;
        let slot = self.slots.put(&setup.identity, &subscription.spec.subjects, &links.slot);
        match Subscription::start(setup.clone(), links.clone(), &self.turns).await {
            Ok(subscription) => {
                slot.runs(subscription);
                Ok(None)
            }
            Err(error @ SubscribeError::Refused { .. }) => {
                slot.waits(&error.to_string());
                Err(error.into())
            }
            Err(error @ SubscribeError::Away { .. }) => {
                slot.waits(&error.to_string());
                tracing::warn!(%error, "the host runs without this subscription and goes on trying");
                let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                while tasks.try_join_next().is_some() {}
                let places = self.places(config, subscription);
                tasks.spawn(keep_trying(slot, setup, links, Arc::clone(&self.turns), places));
                Ok(Some(error.to_string()))
            }
        }
    }

    /// Sees to it that what the handlers of these subscriptions send has a place where it is stored. After all of them are
    /// set up: one may make the stream that takes in what another one sends. What cannot be done keeps nobody from running:
    /// messages without outputs end all the same, and the others come again until there is a place.
    pub(super) async fn take_outputs(&self, config: &Config, names: impl Iterator<Item = &str>) {
        for name in names {
            if let Some(subscription) = config.subscriptions.get(name) {
                self.places(config, subscription).take().await;
            }
        }
    }

    /// Sees to it that the buckets which handlers may use are there, each once and all at the same time, for some seconds at the
    /// most. What cannot be done keeps nobody from running, for a handler is told by each call; gives back what a person has to
    /// mend.
    pub(super) async fn ready_buckets(&self, config: &Config) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + BUCKETS_READY_WITHIN;
        let asked = buckets(config).into_iter().map(|((broker, name, access), handlers)| async move {
            let is_there = self.brokers.get(&broker)?.broker.status() == Status::Connected;
            // Else it is seen to when a handler first uses it.
            let bucket = is_there.then(|| self.brokers.bucket(&broker, &name, access))?;
            let why = match tokio::time::timeout_at(deadline, bucket.ready()).await {
                Ok(ready) => ready.err()?.to_string(),
                Err(_elapsed) => format!("the broker did not answer within {BUCKETS_READY_WITHIN:?}"),
            };
            let handlers = handlers.join(", ");
            tracing::warn!(handlers, broker, bucket = name, why, "a bucket cannot be used");
            Some(format!("bucket `{name}` of broker `{broker}`, for {handlers}, cannot be used: {why}"))
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Where the handler of a subscription sends.
    fn places(&self, config: &Config, subscription: &SubscriptionConfig) -> Places {
        let handler = config.handlers.get(&subscription.handler);
        let subjects = handler.map(outputs).unwrap_or_default();
        let with = |(broker, subjects)| Some((self.brokers.get(broker)?.broker, subjects));
        Places { spec: subscription.spec.clone(), of: subjects.into_iter().filter_map(with).collect() }
    }

    /// Stops those that go on trying.
    pub(super) async fn give_up(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }

    /// What a subscription is started with.
    fn wire(&self, config: &Config, name: &str, subscription: &SubscriptionConfig) -> anyhow::Result<(Setup, Links)> {
        let missing = |what, of: &str| format!("subscription `{name}` names {what} `{of}`, which is not configured");
        let broker = &subscription.broker;
        let broker = self.brokers.get(broker).with_context(|| missing("broker", broker))?;
        let handler = &subscription.handler;
        let slot = self.deployments.slot(handler).with_context(|| missing("handler", handler))?;
        let Tuning { concurrency, max_in_flight_bytes, policy, circuit, stalled_after } = tuning(config, subscription);
        let setup = Setup {
            identity: Identity {
                subscription: name.into(),
                broker: subscription.broker.as_str().into(),
                stream: subscription.spec.stream.as_deref().map(Into::into),
                handler: handler.as_str().into(),
                host: config.host.name.as_str().into(),
            },
            spec: subscription.spec.clone(),
            policy,
            circuit,
            stalled_after,
            concurrency,
            max_in_flight: NonZeroUsize::new(subscription.spec.max_in_flight).unwrap_or(concurrency),
            max_in_flight_bytes,
            settle_time: SETTLE_TIME,
            clock: Clock::system(),
            seed: fastrand::u64(..),
        };
        let in_cluster = config.cluster.as_ref().is_some_and(|cluster| cluster.broker == subscription.broker);
        let metrics = &self.metrics;
        let tracer = self.traces.as_ref();
        let tracer = tracer.map(|traces| traces.tracer(&setup.identity, &setup.spec, broker.kind, metrics));
        let links = Links {
            broker: broker.broker,
            brokers: Arc::clone(&self.brokers),
            slot,
            metrics: self.metrics.subscription(name, broker.kind),
            live: Arc::clone(&self.live),
            tracer: tracer.map(Arc::new),
            hold: self.pauses.hold_of_started(name, in_cluster),
            told: Some(self.told.clone()),
        };
        self.metrics.paused(name, PauseKind::Operator.name(), links.hold.is_closed());
        Ok((setup, links))
    }
}

/// Where the outputs of one subscription's handler are stored.
struct Places {
    spec: SubscriptionSpec,
    of: Vec<(Arc<dyn Broker>, Vec<String>)>,
}

impl Places {
    /// Makes them or sees that they are there, on the brokers that can be reached.
    async fn take(&self) {
        for (broker, subjects) in self.of.iter().filter(|(broker, _)| broker.status() == Status::Connected) {
            if let Err(error) = broker.take_outputs(&self.spec.name, subjects, self.spec.create).await {
                tracing::warn!(%error, "outputs have no place where they are stored");
            }
        }
    }
}

/// The buckets that handlers may use, each with the handlers that may.
fn buckets(config: &Config) -> BTreeMap<(String, String, Access), Vec<String>> {
    let mut all: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (handler, of) in &config.handlers {
        for to in of.buckets.values() {
            let handlers = all.entry((to.broker.clone(), to.bucket.clone(), to.access)).or_default();
            if !handlers.contains(handler) {
                handlers.push(handler.clone());
            }
        }
    }
    all
}

/// The subjects to which a handler may send, by the brokers' names.
fn outputs(handler: &HandlerConfig) -> BTreeMap<&str, Vec<String>> {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for output in handler.outputs.values() {
        let subjects = all.entry(output.broker.as_str()).or_default();
        if !subjects.contains(&output.subject) {
            subjects.push(output.subject.clone());
        }
    }
    all
}

/// What of a subscription can change while it runs.
pub(super) fn tuning(config: &Config, subscription: &SubscriptionConfig) -> Tuning {
    Tuning {
        concurrency: subscription.concurrency,
        max_in_flight_bytes: NonZeroUsize::new(share(config, subscription)).unwrap_or(NonZeroUsize::MIN),
        policy: subscription.retry.clone(),
        circuit: subscription.circuit,
        stalled_after: subscription.stalled_after,
    }
}

/// Ends when the subscription runs, is refused, or is stopped.
async fn keep_trying(slot: Arc<Slot>, setup: Setup, links: Links, turns: Arc<Turns>, places: Places) {
    let mut wait = Duration::from_millis(250);
    loop {
        let tried = async {
            tokio::time::sleep(wait).await;
            Subscription::start(setup.clone(), links.clone(), &turns).await
        };
        let tried = tokio::select! {
            biased;
            () = slot.stopped() => return,
            tried = tried => tried,
        };
        wait = (wait * 2).min(Duration::from_secs(10));
        match tried {
            Ok(subscription) => {
                tracing::info!(subscription = %setup.identity.subscription, "the broker is there; the subscription runs");
                slot.runs(subscription);
                return places.take().await;
            }
            Err(error @ SubscribeError::Away { .. }) => slot.waits(&error.to_string()),
            Err(error @ SubscribeError::Refused { .. }) => {
                tracing::error!(%error, "this subscription does not run until it is configured otherwise, or the host is started again");
                return slot.waits(&error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_bucket_of_several_handlers_is_seen_to_once() {
        let text = "[brokers.a]\ntype = \"embedded\"\n\
            [handlers.one]\nbuckets.seen = { broker = \"a\" }\nbuckets.again = { broker = \"a\", bucket = \"seen\" }\n\
            [handlers.two]\nbuckets.seen = { broker = \"a\" }\nbuckets.shown = { broker = \"a\", access = \"read\" }\n";
        let config = Config::from_text(std::path::Path::new("/c/tidegate.toml"), text.to_owned(), &[]).unwrap();
        let all: Vec<_> = buckets(&config).into_iter().map(|((_, bucket, access), of)| (bucket, access, of)).collect();
        let both = vec!["one".to_owned(), "two".to_owned()];
        let expected =
            [("seen".to_owned(), Access::ReadWrite, both), ("shown".to_owned(), Access::Read, vec!["two".to_owned()])];
        assert_eq!(all, expected);
    }
}
