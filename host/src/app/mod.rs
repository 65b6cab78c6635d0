//! The host: wires every station together, runs until it is told to stop, and stops in order.

pub mod open;
mod slots;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Audit, Door, HostState, Listening, NamedBroker};
use crate::broker::SubscribeError;
use crate::clock::Clock;
use crate::config::{Config, SubscriptionConfig};
use crate::deploy::Deployments;
use crate::dispatch::{Links, Setup, Subscription, Turns};
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::settle::verdict::Identity;
use crate::telemetry::Metrics;

pub use slots::Report;
use slots::{Slot, Slots};

/// Between two looks at backlogs, dead letters and connections. What they show changes slowly, and a look costs the
/// broker a request.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What settling may take beyond the longest run, with leases kept: outputs half a minute, a dead letter a minute.
const SETTLE_TIME: Duration = Duration::from_secs(120);

/// How a host ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// Everything was settled or given back.
    Drained(Vec<Report>),
    /// A second signal came before that. What was not settled stays with the brokers.
    Hurried,
}

/// Runs a host until SIGTERM or SIGINT, then drains it. A second signal ends it at once, with no false acknowledgement.
///
/// A broker that fails for good (an fsync of the embedded queue that failed) ends it too, for only a new start reads what
/// is really stored.
///
/// # Errors
/// When something cannot be started and a person has to act: a broker's directory or settings, a module, the listener.
/// When a broker failed.
pub async fn run(config: Config) -> anyhow::Result<Ended> {
    let mut stop = Signals::new()?;
    let host = Host::start(&config).await?;
    tracing::info!(host = %config.host.name, http = %host.address, "the host runs");
    let timeout = config.host.drain_timeout;
    let failed = tokio::select! {
        name = stop.next() => {
            tracing::info!(signal = name, ?timeout, "draining: no new messages, running ones finish");
            None
        }
        (broker, why) = host.failed() => {
            tracing::error!(broker, why, ?timeout, "the host ends: what it cannot settle stays with the brokers");
            Some(format!("broker `{broker}` failed: {why}; look at its disk, then start the host again: it goes on with what is stored"))
        }
    };
    let ended = tokio::select! {
        reports = host.drain(timeout) => Ended::Drained(reports),
        _again = stop.next() => Ended::Hurried,
    };
    failed.map_or(Ok(ended), |failed| Err(anyhow::anyhow!(failed)))
}

/// A host that runs.
pub struct Host {
    slots: Arc<Slots>,
    deployments: Arc<Deployments>,
    brokers: BTreeMap<String, NamedBroker>,
    address: std::net::SocketAddr,
    stop_serving: CancellationToken,
    serving: JoinSet<std::io::Result<()>>,
    tasks: JoinSet<()>,
}

/// What subscriptions are wired to.
struct Stations {
    brokers: BTreeMap<String, NamedBroker>,
    deployments: Arc<Deployments>,
    metrics: Arc<Metrics>,
    turns: Arc<Turns>,
}

impl Host {
    /// Opens brokers and modules, starts the subscriptions, answers over HTTP.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let door = Door::new(&config.http.tokens);
        if door.is_open() {
            tracing::info!("no tokens are configured: whoever is on this machine may do everything (`local`)");
        }
        let listening = admin::listen(config.http.listen, door).await?;
        let address = listening.address();
        let metrics = Arc::new(Metrics::new());
        let stations = open_stations(config, Arc::clone(&metrics)).await?;
        let slots = Arc::new(Slots::default());
        let mut tasks = JoinSet::new();
        for (name, subscription) in &config.subscriptions {
            let (setup, links) = wire(config, name, subscription, &stations)?;
            start_subscription(&slots, setup, links, &stations.turns, &mut tasks).await?;
        }
        tasks.spawn(look(Arc::clone(&slots), stations.brokers.clone(), Arc::clone(&metrics)));
        let state = HostState::new(
            config.host.name.clone(),
            stations.brokers.clone(),
            Arc::clone(&slots) as _,
            metrics,
            config.http.max_publish_bytes,
            Audit::new(config.host.data_dir.clone()),
        );
        let deployments = stations.deployments;
        let (stop_serving, serving) = serve(listening, state.with_deployments(Arc::clone(&deployments)));
        Ok(Self { slots, deployments, brokers: stations.brokers, address, stop_serving, serving, tasks })
    }

    /// Where it answers.
    #[must_use]
    pub const fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Waits until a broker fails for good; which, and how.
    async fn failed(&self) -> (String, String) {
        if self.brokers.is_empty() {
            return std::future::pending().await;
        }
        let failures = self.brokers.iter().map(|(name, named)| async { (name.clone(), named.broker.failed().await) });
        futures_util::future::select_all(failures.map(Box::pin)).await.0
    }

    /// Stops taking messages, lets running handlers finish, gives the rest back, closes the brokers.
    pub async fn drain(mut self, timeout: Duration) -> Vec<Report> {
        self.tasks.shutdown().await;
        self.deployments.close().await;
        let reports = self.slots.drain(Instant::now() + timeout).await;
        self.stop_serving.cancel();
        // Requests that are being answered are finished; one that hangs does not keep the host.
        let finished = async { while self.serving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), finished).await;
        for named in self.brokers.values() {
            named.broker.close().await;
        }
        reports
    }
}

async fn open_stations(config: &Config, metrics: Arc<Metrics>) -> anyhow::Result<Stations> {
    let mut brokers = BTreeMap::new();
    for (name, broker) in &config.brokers {
        let opened = open::broker(name, broker, &config.host.data_dir).await?;
        brokers.insert(name.clone(), NamedBroker { kind: broker.kind(), broker: opened });
    }
    let sandbox =
        Sandbox::new(SandboxOptions { cache_dir: Some(config.host.cache_dir.clone()), ..SandboxOptions::default() })?;
    let deployments = Deployments::open(config, sandbox, Arc::clone(&metrics)).await?;
    let turns = Turns::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get));
    Ok(Stations { brokers, deployments, metrics, turns })
}

/// What a subscription is started with.
fn wire(
    config: &Config,
    name: &str,
    subscription: &SubscriptionConfig,
    stations: &Stations,
) -> anyhow::Result<(Setup, Links)> {
    let missing = |what, of: &str| format!("subscription `{name}` names {what} `{of}`, which is not configured");
    let broker = stations.brokers.get(&subscription.broker).with_context(|| missing("broker", &subscription.broker))?;
    let handler = &subscription.handler;
    let slot = stations.deployments.slot(handler).with_context(|| missing("handler", handler))?;
    // The host's bytes are split evenly, so that together they hold whatever the neighbours do.
    let share = config.host.max_in_flight_bytes / config.subscriptions.len().max(1);
    let setup = Setup {
        identity: Identity {
            subscription: name.into(),
            broker: subscription.broker.as_str().into(),
            stream: subscription.spec.stream.as_deref().map(Into::into),
            handler: handler.as_str().into(),
            host: config.host.name.as_str().into(),
        },
        spec: subscription.spec.clone(),
        policy: subscription.retry.clone(),
        concurrency: subscription.concurrency,
        max_in_flight: NonZeroUsize::new(subscription.spec.max_in_flight).unwrap_or(subscription.concurrency),
        max_in_flight_bytes: NonZeroUsize::new(subscription.max_in_flight_bytes.min(share))
            .unwrap_or(NonZeroUsize::MIN),
        settle_time: SETTLE_TIME,
        clock: Clock::system(),
        seed: fastrand::u64(..),
    };
    let links = Links {
        broker: Arc::clone(&broker.broker),
        brokers: stations.brokers.iter().map(|(name, one)| (name.as_str().into(), Arc::clone(&one.broker))).collect(),
        slot,
        metrics: stations.metrics.subscription(name, broker.kind),
    };
    Ok((setup, links))
}

/// Starts a subscription now, or goes on trying in the background while its broker is away.
async fn start_subscription(
    slots: &Arc<Slots>,
    setup: Setup,
    links: Links,
    turns: &Arc<Turns>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let slot = slots.add(&setup.identity, &links.slot);
    match Subscription::start(setup.clone(), links.clone(), turns).await {
        Ok(subscription) => slot.runs(subscription),
        Err(error @ SubscribeError::Refused { .. }) => return Err(error.into()),
        Err(error @ SubscribeError::Away { .. }) => {
            slot.waits(&error.to_string());
            tracing::warn!(%error, "the host runs without this subscription and goes on trying");
            tasks.spawn(keep_trying(slot, setup, links, Arc::clone(turns)));
        }
    }
    Ok(())
}

async fn keep_trying(slot: Arc<Slot>, setup: Setup, links: Links, turns: Arc<Turns>) {
    let mut wait = Duration::from_millis(250);
    loop {
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(10));
        match Subscription::start(setup.clone(), links.clone(), &turns).await {
            Ok(subscription) => {
                tracing::info!(subscription = %setup.identity.subscription, "the broker is there; the subscription runs");
                return slot.runs(subscription);
            }
            Err(error @ SubscribeError::Away { .. }) => slot.waits(&error.to_string()),
            Err(error @ SubscribeError::Refused { .. }) => {
                tracing::error!(%error, "this subscription does not run until the host is started again");
                return slot.waits(&error.to_string());
            }
        }
    }
}

/// Looks at brokers and backlogs, for the metrics and `/ready`.
async fn look(slots: Arc<Slots>, brokers: BTreeMap<String, NamedBroker>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (name, named) in &brokers {
            let shown = metrics.broker(name, named.kind);
            shown.set_connected(named.broker.status() == crate::broker::Status::Connected);
            shown.set_reconnects(named.broker.reconnects());
            shown.set_tallies(&named.broker.tallies());
            if let Ok(depth) = named.broker.dead_letters().depth().await {
                shown.set_dead_letters(depth);
            }
        }
        slots.look().await;
    }
}

fn serve(listening: Listening, state: HostState) -> (CancellationToken, JoinSet<std::io::Result<()>>) {
    let stop = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(listening.serve(Arc::new(state), stop.clone().cancelled_owned()));
    (stop, serving)
}

/// The signals that end a host.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("could not listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
