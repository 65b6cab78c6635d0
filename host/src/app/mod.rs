//! The host: wires every station together, runs until it is told to stop, and stops in order.

mod applier;
mod forgetting;
pub mod open;
mod pausing;
mod slots;
mod wiring;
mod wording;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Audit, Door, HostState, Listening, Tls, show_broker};
use crate::broker::{Directory, NamedBroker};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::deploy::Deployments;
use crate::dispatch::{Told, Turns};
use crate::pause::Pauses;
use crate::sandbox::{CompileIn, Sandbox, SandboxOptions};
use crate::tasks::{Here, Tasks};
use crate::telemetry::Metrics;
use crate::telemetry::otlp::Otlp;
use crate::telemetry::trace::Traces;

use applier::Applier;
use pausing::Desk;
pub use slots::Report;
use slots::Slots;
use wiring::Stations;

/// Subscriptions that are started at once: enough for their words to share a commit, and few questions to a server.
const STARTED_AT_ONCE: usize = 16;
/// Between two looks at backlogs, dead letters and connections. What they show changes slowly, and a look costs the
/// broker a request.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks whether subscriptions get anywhere: a few figures of each.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Circuits that opened or closed, and are not in the audit log yet: each subscription's, a few times over, while a disk is slow.
const CIRCUITS_TOLD: usize = 4096;
/// What is still to be exported when a host ends gets so long. A drain leaves five seconds of what Kubernetes gives, and the
/// listener takes two.
const EXPORT_LAST: Duration = Duration::from_secs(2);
/// The folder of tasks over dead letters, in the data directory.
pub(crate) const TASKS: &str = "dead-letter-tasks";
/// Who applies the configuration on a signal.
const HANG_UP: &str = "SIGHUP";

/// How a host ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// Everything was settled or given back.
    Drained(Vec<Report>),
    /// A second signal came before that. What was not settled stays with the brokers.
    Hurried,
}

/// Runs a host until SIGTERM or SIGINT, then drains it. A second signal ends it at once, with no false acknowledgement.
/// SIGHUP applies the configuration file as it is then; when anything in it cannot be applied, nothing is, and the log says
/// why.
///
/// A broker that fails for good (an fsync of the embedded queue that failed) ends it too, for only a new start reads what
/// is really stored.
///
/// # Errors
/// When something cannot be started and a person has to act: a broker's directory or settings, a module, the listener.
/// When a broker failed.
pub async fn run(config: Config, compile_in: CompileIn) -> anyhow::Result<Ended> {
    let mut stop = Signals::new()?;
    let mut host = Host::start(&config, compile_in).await?;
    tracing::info!(host = %config.host.name, http = %host.address, "the host runs");
    let mut hang_up = Signals::one(SignalKind::hangup())?;
    let failed = loop {
        tokio::select! {
            name = stop.next() => {
                tracing::info!(signal = name, "draining: no new messages, running ones finish");
                break None;
            }
            (broker, why) = host.failed() => {
                tracing::error!(broker, why, "the host ends: what it cannot settle stays with the brokers");
                break Some(format!("broker `{broker}` failed: {why}; look at its disk, then start the host again: it goes on with what is stored"));
            }
            _ = hang_up.recv() => host.apply_soon(),
        }
    };
    let timeout = host.applier.running().host.drain_timeout;
    let ended = tokio::select! {
        reports = host.drain(timeout) => Ended::Drained(reports),
        _again = stop.next() => Ended::Hurried,
    };
    failed.map_or(Ok(ended), |failed| Err(anyhow::anyhow!(failed)))
}

/// A host that runs.
pub struct Host {
    stations: Arc<Stations>,
    applier: Applier,
    audit: Arc<Audit>,
    over_dead_letters: Arc<Tasks>,
    address: std::net::SocketAddr,
    stop_serving: CancellationToken,
    serving: JoinSet<std::io::Result<()>>,
    tasks: JoinSet<()>,
    /// What follows pauses and ends them: as long as messages may begin.
    pausing: JoinSet<()>,
    /// Exports what is seen of it; `None`: nothing is.
    otlp: Option<Otlp>,
}

impl Host {
    /// Opens brokers and modules, starts the subscriptions, answers over HTTP. Modules are compiled as `compile_in` says.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn start(config: &Config, compile_in: CompileIn) -> anyhow::Result<Self> {
        let door = Door::new(&config.http.tokens);
        if door.is_open() {
            tracing::info!("no tokens are configured: whoever is on this machine may do everything (`local`)");
        }
        let tls = config.http.tls.as_ref().map(Tls::open).transpose().context("could not set TLS up")?;
        let mut listening = admin::listen(config.http.listen, door).await?;
        if let Some(tls) = &tls {
            listening = listening.with_tls(Arc::clone(tls));
        }
        let address = listening.address();
        let metrics = Arc::new(Metrics::new());
        let otlp = config.telemetry.as_ref().map(|to| Otlp::start(to, &config.host.name, &metrics)).transpose()?;
        let traces = otlp.as_ref().and_then(Otlp::traces).cloned();
        let (told, circuits) = mpsc::channel(CIRCUITS_TOLD);
        let audit = Arc::new(Audit::new(config.host.data_dir.clone()));
        let on_record = Arc::clone(&audit);
        let (stations, cluster) = open_stations(config, compile_in, metrics, address, told, traces, on_record).await?;
        let stations = Arc::new(stations);
        let desk = Desk::new(&stations, Arc::clone(&audit), cluster);
        let pausing = desk.begin().await;
        // Several at a time: what a broker writes down of each is written down together.
        let starts = config.subscriptions.iter().map(|(name, subscription)| stations.start(config, name, subscription));
        let starts: Vec<_> = starts.collect();
        // Before the first message that may want one.
        stations.ready_buckets(config).await;
        let mut starts = futures_util::stream::iter(starts).buffer_unordered(STARTED_AT_ONCE);
        while let Some(started) = starts.next().await {
            started?;
        }
        drop(starts);
        stations.take_outputs(config, config.subscriptions.keys().map(String::as_str)).await;
        let here = Here { live: Arc::clone(&stations.live), versions: Arc::clone(&stations.deployments) as _ };
        let (brokers, folder) = (Arc::clone(&stations.brokers), config.host.data_dir.join(TASKS));
        let ends = Arc::clone(&audit);
        let over_dead_letters = Tasks::open(folder, brokers, Some(here), Arc::clone(&stations.metrics), ends).await;
        let over_dead_letters = over_dead_letters.context("could not read the tasks over dead letters")?;
        over_dead_letters.go_on();
        let mut tasks = JoinSet::new();
        tasks.spawn(look(Arc::clone(&stations)));
        tasks.spawn(watch(Arc::clone(&stations)));
        tasks.spawn(Arc::clone(&desk).keep_books(circuits));
        let applier = Applier::new(config.clone(), Arc::clone(&stations), tls);
        tasks.spawn(forgetting::forget(applier.clone(), Arc::clone(&stations.brokers)));
        let asked = Arc::clone(&audit);
        let state = HostState::new(
            config.host.name.clone(),
            Arc::clone(&stations.brokers),
            Arc::clone(&stations.slots) as _,
            Arc::clone(&stations.metrics),
            config.http.max_publish_bytes,
            audit,
        );
        let state = state.with_deployments(Arc::clone(&stations.deployments)).with_live(Arc::clone(&stations.live));
        let state = state.with_pausing(desk);
        let state = state.with_tasks(Arc::clone(&over_dead_letters));
        let (stop_serving, serving) = serve(listening, state.with_configuration(Arc::new(applier.clone())));
        Ok(Self {
            stations,
            applier,
            audit: asked,
            over_dead_letters,
            address,
            stop_serving,
            serving,
            tasks,
            pausing,
            otlp,
        })
    }

    /// Applies the configuration file in the background.
    fn apply_soon(&mut self) {
        let (applier, audit) = (self.applier.clone(), Arc::clone(&self.audit));
        while self.tasks.try_join_next().is_some() {}
        // When this is dropped in a drain, what was begun goes on until the applier is closed.
        self.tasks.spawn(async move {
            match applier.on_signal(HANG_UP, &audit).await {
                Ok(applied) if applied.changes.is_empty() => tracing::info!("the configuration has not changed"),
                Ok(applied) => applied.troubles.iter().for_each(|trouble| tracing::warn!(trouble, "does not run yet")),
                Err(error) => {
                    let why = error.chain();
                    tracing::error!(why, code = error.code(), "the configuration was not applied; what runs goes on");
                }
            }
        });
    }

    /// Where it answers.
    #[must_use]
    pub const fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Waits until a broker fails for good; which, and how.
    async fn failed(&self) -> (String, String) {
        loop {
            let changed = self.stations.brokers.changed();
            let all = self.stations.brokers.all();
            let failures = all.iter().map(|(name, named)| async { (name.clone(), named.broker.failed().await) });
            // One that never ends, for a host without brokers.
            let never = Box::pin(std::future::pending()) as futures_util::future::BoxFuture<'_, _>;
            let failures = failures.map(|failure| Box::pin(failure) as _).chain(std::iter::once(never));
            tokio::select! {
                (failed, _, _) = futures_util::future::select_all(failures) => return failed,
                () = changed => {}
            }
        }
    }

    /// Stops taking messages, lets running handlers finish, gives the rest back, closes the brokers.
    pub async fn drain(mut self, timeout: Duration) -> Vec<Report> {
        let deadline = Instant::now() + timeout;
        self.tasks.shutdown().await;
        self.applier.close(deadline).await;
        // They go on at the next start.
        self.over_dead_letters.close().await;
        self.stations.give_up().await;
        self.stations.deployments.close().await;
        let reports = self.stations.slots.drain(deadline).await;
        self.pausing.shutdown().await;
        // Whoever looks on has seen the last of it; their requests end.
        self.stations.live.close();
        self.stop_serving.cancel();
        // Requests that are being answered are finished; one that hangs does not keep the host.
        let finished = async { while self.serving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), finished).await;
        for named in self.stations.brokers.all().values() {
            named.broker.close().await;
        }
        // Last: nothing that matters waits behind a collector that does not answer.
        if let Some(otlp) = self.otlp {
            otlp.close(EXPORT_LAST).await;
        }
        reports
    }
}

async fn open_stations(
    config: &Config,
    compile_in: CompileIn,
    metrics: Arc<Metrics>,
    address: std::net::SocketAddr,
    told: Told,
    traces: Option<Traces>,
    on_record: Arc<Audit>,
) -> anyhow::Result<(Stations, Option<Arc<Cluster>>)> {
    let in_cluster = config.cluster.as_ref().map(|cluster| cluster.name.as_str());
    let pauses = Pauses::open(&config.host.data_dir, std::time::SystemTime::now(), in_cluster)?;
    let mut brokers = BTreeMap::new();
    for (name, broker) in &config.brokers {
        let opened = open::broker(name, broker, &config.host.data_dir).await?;
        brokers.insert(name.clone(), NamedBroker { kind: broker.kind(), broker: opened });
    }
    let (cache_dir, compile_memory) = (Some(config.host.cache_dir.clone()), config.host.compile_memory);
    let sandbox = Sandbox::new(SandboxOptions { cache_dir, compile_in, compile_memory, ..SandboxOptions::default() })?;
    let cluster =
        config.cluster.as_ref().map(|cluster| open::cluster(config, cluster, &brokers, address)).transpose()?;
    let (brokers, turns) = (Directory::new(brokers), Turns::of_this_machine());
    let (reached, shown, shared) = (Arc::clone(&brokers), Arc::clone(&metrics), Arc::clone(&turns));
    let joined = cluster.clone();
    let deployments = Deployments::open_in(config, sandbox, reached, shown, joined, shared, Some(on_record)).await?;
    let stations = Stations {
        brokers,
        slots: Slots::new(Arc::clone(&pauses), Arc::clone(&deployments)),
        deployments,
        metrics,
        live: Arc::default(),
        traces,
        turns,
        pauses,
        told,
        tasks: Mutex::default(),
    };
    Ok((stations, cluster))
}

/// Looks at brokers and backlogs, for the metrics and `/ready`.
async fn look(stations: Arc<Stations>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (name, named) in stations.brokers.all().iter() {
            show_broker(&stations.metrics, name, named).await;
        }
        stations.slots.look().await;
        stations.metrics.remember(std::time::SystemTime::now());
    }
}

/// Looks whether subscriptions get anywhere. Apart from the brokers: one that does not answer may be why they do not.
async fn watch(stations: Arc<Stations>) {
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        stations.slots.watch();
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
        Ok(Self { terminate: Self::one(SignalKind::terminate())?, interrupt: Self::one(SignalKind::interrupt())? })
    }

    fn one(kind: SignalKind) -> anyhow::Result<tokio::signal::unix::Signal> {
        signal(kind).context("could not listen for signals")
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
