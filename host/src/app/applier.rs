//! Carries out what a changed configuration asks for, on a host that runs.
//!
//! Invariants:
//! - Until the records of new versions are written nothing has changed, but that brokers which come are open; from there on
//!   nothing fails, but for a broker that goes away at that very moment: its subscription then waits for it, as it would have
//!   done a second later.
//! - One applies at a time, and who asked may go away: what was begun is brought to its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::wiring::{Stations, tuning};
use super::wording::{digest, ended, new_version, read_anew, renewed, told, waits_for_cluster};
use super::{Report, open};
use crate::admin::wire::PauseKind;
use crate::admin::{Audit, Begun, Material, Tls};
use crate::apply::report::{Applied, Changes};
use crate::apply::{ApplyError, Configuration, Plan, Work, plan};
use crate::broker::{Backlog, NamedBroker, Status};
use crate::config::{Config, ConfigError};
use crate::deploy::{Committed, Outlook, Renewed};

/// How long a broker that comes may take to be reached: a server across the world answers in a second.
const REACHED_WITHIN: Duration = Duration::from_secs(5);

/// The word in the audit log, for whoever applies one.
const APPLY: &str = "configuration.apply";

/// Applies configurations. Clones are the same.
#[derive(Clone)]
pub(super) struct Applier {
    inner: Arc<Inner>,
}

struct Inner {
    stations: Arc<Stations>,
    /// The listener's, whose files are read again.
    tls: Option<Arc<Tls>>,
    running: Mutex<Arc<Config>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Who has the turn, and since when.
    by: Mutex<(String, SystemTime)>,
    closed: AtomicBool,
}

/// What a look at the file found.
struct Looked {
    after: Arc<Config>,
    outlook: Outlook,
    plan: Plan,
    changes: Changes,
    /// What the files of the listener's TLS have now.
    material: Option<Material>,
    /// Secrets of handlers that have another value now.
    secrets: Renewed,
}

impl Applier {
    /// For a host that runs by a configuration.
    pub(super) fn new(config: Config, stations: Arc<Stations>, tls: Option<Arc<Tls>>) -> Self {
        let inner = Inner {
            stations,
            tls,
            running: Mutex::new(Arc::new(config)),
            turn: Arc::default(),
            by: Mutex::new((String::new(), SystemTime::UNIX_EPOCH)),
            closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The configuration that runs.
    pub(super) fn running(&self) -> Arc<Config> {
        self.inner.running()
    }

    /// Applies the file as a signal asks, whatever stands there.
    ///
    /// # Errors
    /// When it cannot be written down, or as for any other who applies it. Nothing has changed then.
    pub(super) async fn on_signal(&self, signal: &'static str, audit: &Arc<Audit>) -> Result<Applied, ApplyError> {
        let file = self.running().path().display().to_string();
        let begun = audit.begin_on_signal(signal, APPLY, &file).await.map_err(ApplyError::NotWritten)?;
        self.take_up(None, signal, Some(begun)).await
    }

    /// Applies the file in a task of its own: a caller who goes away in the middle leaves nothing half done. It holds the
    /// turn, which the end of the host waits for; `begun`: where the end is written down.
    async fn take_up(&self, shown: Option<&str>, by: &str, begun: Option<Begun>) -> Result<Applied, ApplyError> {
        let turn = match self.inner.take_turn(by) {
            Ok(turn) => turn,
            Err(error) => {
                if let Some(begun) = begun {
                    begun.applied(Some(&error)).await;
                }
                return Err(error);
            }
        };
        let (inner, shown, by) = (Arc::clone(&self.inner), shown.map(str::to_owned), by.to_owned());
        let applying = tokio::spawn(async move {
            let applied = inner.apply(shown.as_deref(), &by).await;
            if let Some(begun) = begun {
                begun.applied(applied.as_ref().err()).await;
            }
            drop(turn);
            applied
        });
        applying.await.map_err(|_| ApplyError::Broken)?
    }

    /// Applies nothing more; waits until what is under way has ended, until the deadline at most.
    pub(super) async fn close(&self, deadline: Instant) {
        self.inner.closed.store(true, Ordering::Release);
        if tokio::time::timeout_at(deadline, self.inner.turn.lock()).await.is_err() {
            tracing::warn!("the configuration was still being applied; the next start takes it up");
        }
    }
}

#[async_trait]
impl Configuration for Applier {
    async fn changes(&self) -> Result<Changes, ApplyError> {
        Ok(self.inner.look().await?.changes)
    }

    async fn apply(&self, shown: Option<&str>, by: &str) -> Result<Applied, ApplyError> {
        self.take_up(shown, by, None).await
    }
}

impl Inner {
    fn running(&self) -> Arc<Config> {
        Arc::clone(&self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_turn(&self, by: &str) -> Result<OwnedMutexGuard<()>, ApplyError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ApplyError::Draining);
        }
        let turn = Arc::clone(&self.turn).try_lock_owned();
        let mut holder = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(turn) = turn else {
            let since = humantime::format_rfc3339_millis(holder.1).to_string();
            return Err(ApplyError::Busy { by: holder.0.clone(), since });
        };
        *holder = (by.to_owned(), SystemTime::now());
        Ok(turn)
    }

    /// Reads the file, and finds out what it changes.
    async fn look(&self) -> Result<Looked, ApplyError> {
        let before = self.running();
        let runs = Arc::clone(&before);
        let read = tokio::task::spawn_blocking(move || {
            let config = Config::load(runs.path())?;
            config.check_files_since(&runs)?;
            Ok::<_, ConfigError>(config)
        });
        let after = Arc::new(read.await.map_err(|_| ApplyError::Broken)??);
        let differences = before.differences(&after);
        let plan = plan(&before, &after, &differences);
        let outlook = self.stations.deployments.outlook(&after.handlers).await?;
        let material = self.material().await?;
        let renewed = self.tls.as_ref().zip(material.as_ref()).and_then(|(tls, material)| renewed(tls, material));
        let secrets = self.stations.deployments.renewed_secrets(&after.handlers).await;
        let read_anew = secrets.names().map(|(handler, secret)| read_anew(handler, secret));
        let told = differences.iter().map(told).chain(outlook.differences.iter().cloned());
        let told = told.chain(renewed).chain(read_anew);
        let changes = Changes {
            file: after.path().display().to_string(),
            digest: digest(&before, &after, &outlook, material.as_ref()),
            changes: told.collect(),
            needs_restart: plan.needs_restart.clone(),
            unused: outlook.unused.clone(),
            steps: plan.steps().into_iter().chain(outlook.ends.iter().map(ended)).collect(),
        };
        Ok(Looked { after, outlook, plan, changes, material, secrets })
    }

    /// Reads the files of the listener's TLS.
    async fn material(&self) -> Result<Option<Material>, ApplyError> {
        let Some(tls) = self.tls.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || tls.read()).await;
        Ok(Some(read.map_err(|_| ApplyError::Broken)??))
    }

    async fn apply(&self, shown: Option<&str>, by: &str) -> Result<Applied, ApplyError> {
        let begun = Instant::now();
        let looked = self.look().await?;
        if shown.is_some_and(|shown| shown != looked.changes.digest) {
            return Err(ApplyError::Changed);
        }
        if !looked.plan.needs_restart.is_empty() {
            return Err(ApplyError::NeedsRestart { keys: looked.plan.needs_restart });
        }
        let opened = self.open(&looked).await?;
        // Before new versions are made ready, which may have buckets there: from their first message on.
        self.stations.brokers.add(&opened);
        let Committed { deployed, waits } = match self.commit(&looked, &opened, by).await {
            Ok(committed) => committed,
            Err(error) => {
                for name in opened.keys() {
                    let _closed_below = self.stations.brokers.remove(name);
                }
                close(opened).await;
                return Err(error);
            }
        };
        let mut troubles: Vec<String> = waits.iter().map(|(handler, why)| waits_for_cluster(handler, why)).collect();
        troubles.extend(self.carry_out(&looked).await);
        let deployed = deployed.into_iter().map(new_version).collect();
        let Changes { changes, steps, .. } = looked.changes;
        tracing::info!(by, changes = changes.len(), took = ?begun.elapsed(), "the configuration was applied");
        Ok(Applied { changes, steps, deployed, troubles, ms: begun.elapsed().as_secs_f64() * 1e3 })
    }

    /// Opens the brokers that come.
    async fn open(&self, looked: &Looked) -> Result<BTreeMap<String, NamedBroker>, ApplyError> {
        let mut opened = BTreeMap::new();
        for name in &looked.plan.opened {
            let Some(config) = looked.after.brokers.get(name) else { continue };
            let tried = open::broker(name, config, &looked.after.host.data_dir).await;
            let why = match tried {
                Ok(broker) => {
                    let named = NamedBroker { kind: config.kind(), broker };
                    let away = reached(&named).await;
                    opened.insert(name.clone(), named);
                    away
                }
                Err(error) => Some(format!("{error:#}")),
            };
            if let Some(why) = why {
                close(opened).await;
                return Err(ApplyError::Broker { broker: name.clone(), why });
            }
        }
        Ok(opened)
    }

    /// The last of what can fail, and the records.
    async fn commit(
        &self,
        looked: &Looked,
        opened: &BTreeMap<String, NamedBroker>,
        by: &str,
    ) -> Result<Committed, ApplyError> {
        let Looked { after, plan, outlook, .. } = looked;
        for name in plan.with(&[Work::Start, Work::Restart]) {
            let Some(subscription) = after.subscriptions.get(name) else { continue };
            let broker = opened.get(&subscription.broker).cloned();
            let broker = broker.or_else(|| self.stations.brokers.get(&subscription.broker));
            let Some(named) = broker else { continue };
            let checked = named.broker.check(&subscription.spec).await;
            checked.map_err(|error| ApplyError::Subscription { why: error.to_string() })?;
        }
        let deployments = &self.stations.deployments;
        let change = deployments.prepare(&after.handlers, by).await?;
        // A version that was deployed or began to be tried just now would end without anybody having been shown that.
        if !change.is_as_shown(outlook) {
            return Err(ApplyError::Changed);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(ApplyError::Draining);
        }
        crate::failpoint::reached("apply-checked");
        let committed = deployments.commit(change).await?;
        crate::failpoint::reached("apply-recorded");
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(after);
        deployments.renew_secrets(&looked.secrets).await;
        Ok(committed)
    }

    /// Brings brokers and subscriptions to what the configuration says. Gives back what does not run yet.
    async fn carry_out(&self, looked: &Looked) -> Vec<String> {
        let Looked { after, plan, .. } = looked;
        let stations = &self.stations;
        if let (Some(tls), Some(material)) = (&self.tls, &looked.material) {
            tls.renew(material.clone());
        }
        stations.deployments.keep_versions(after.registry.keep_versions);
        // Those that stay make room before others take it. One that still waits for its broker starts anew.
        let tuned = |name: &str| {
            let (slot, subscription) = (stations.slots.get(name), after.subscriptions.get(name));
            slot.zip(subscription).is_some_and(|(slot, subscription)| slot.tune(tuning(after, subscription)))
        };
        let waiting: Vec<&str> = plan.with(&[Work::Tune]).filter(|name| !tuned(name)).collect();
        let going: Vec<&str> = plan.with(&[Work::Stop, Work::Restart]).chain(waiting.iter().copied()).collect();
        self.stop(&going, Instant::now() + after.host.drain_timeout).await;
        for name in plan.with(&[Work::Stop]) {
            // The pause itself stays: should the subscription come back, nobody has resumed it.
            stations.metrics.paused(name, PauseKind::Operator.name(), false);
            if let Some(metrics) = stations.metrics.subscriptions().get(name) {
                metrics.set_concurrency(0);
                metrics.set_backlog(&Backlog::default(), SystemTime::now());
            }
        }
        crate::failpoint::reached("apply-stopped");
        let down = |name: &String| Some(format!("handler `{name}`: {}", stations.deployments.trouble(name)?));
        let mut troubles: Vec<String> = after.handlers.keys().filter_map(down).collect();
        troubles.extend(stations.ready_buckets(after).await);
        for name in plan.with(&[Work::Start, Work::Restart]).chain(waiting) {
            let Some(subscription) = after.subscriptions.get(name) else { continue };
            match stations.start(after, name, subscription).await {
                Ok(trouble) => troubles.extend(trouble),
                Err(error) => {
                    tracing::error!(subscription = name, error = format!("{error:#}"), "the subscription does not run");
                    troubles.push(format!("{error:#}"));
                }
            }
        }
        // Also of those that go on: their handlers may send elsewhere now.
        stations.take_outputs(after, after.subscriptions.keys().map(String::as_str)).await;
        for name in &plan.closed {
            if let Some(named) = stations.brokers.remove(name) {
                named.broker.close().await;
                stations.metrics.broker(name, named.kind).set_connected(false);
                tracing::info!(broker = name, "the broker is not configured any more, and was closed");
            }
        }
        if let Err(error) = stations.deployments.collect().await {
            tracing::warn!(%error, "old versions could not be removed; the next deploy tries again");
        }
        troubles
    }

    /// Drains subscriptions, all at once.
    async fn stop(&self, names: &[&str], deadline: Instant) {
        let stops = names.iter().map(|name| async move { self.stations.slots.take(name)?.drain(deadline).await });
        let reports: Vec<Report> = futures_util::future::join_all(stops).await.into_iter().flatten().collect();
        for Report { subscription, drained } in reports {
            let (returned, left) = (drained.returned, drained.left);
            tracing::info!(subscription, returned, left, "the subscription was stopped by the configuration");
        }
    }
}

/// Waits until a broker can be reached; why it cannot, when that takes too long.
async fn reached(named: &NamedBroker) -> Option<String> {
    let deadline = Instant::now() + REACHED_WITHIN;
    loop {
        match named.broker.status() {
            Status::Connected => return None,
            Status::Failed(why) => return Some(why),
            Status::Away(why) if Instant::now() >= deadline => return Some(why),
            Status::Away(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn close(brokers: BTreeMap<String, NamedBroker>) {
    for named in brokers.values() {
        named.broker.close().await;
    }
}
