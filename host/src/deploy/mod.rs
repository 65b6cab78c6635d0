//! Deploying: how a version comes onto a running host, and how one of before comes back.
//!
//! ```text
//! upload -> signature -> validate -> compile -> imports -> init -> golden -> switch | canary | shadow
//!              (nothing has changed until here)                                the records: one transaction, then the slot
//! ```
//!
//! Between `golden` and the switch a version is made ready for its first messages, which decides nothing.
//!
//! Invariants:
//! - A module that fails any step changes nothing: no version is recorded, and what runs goes on.
//! - The records change before the slot: whatever the host dies of, the next start runs the old or the new version whole.
//! - One deploy of a handler at a time, and a rollback waits for none; compilations are bounded by the sandbox, over all handlers.
//! - The replaced versions that stay in memory are bounded a handler; the others come from the code cache.

mod again;
mod change;
mod cluster;
mod compare;
mod entry;
mod error;
mod golden;
mod granting;
mod kept;
mod own;
mod pipeline;
mod plan;
mod previous;
pub(crate) mod replay;
pub mod report;
mod rollout;
mod running;
mod say;
mod signed;
mod turn;
mod upload;
mod verdict;
mod view;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::broker::Directory;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::dispatch::{Slot, Turns};
use crate::registry::{Digest, Event, Kept, Registry, Settings};
use crate::sandbox::Sandbox;
use crate::signature::Policy;
use crate::telemetry::Metrics;

pub use change::{Change, Committed, Deployed, EndedTrial, Outlook};
use entry::{Entry, Terms};
pub use error::DeployError;
pub use golden::check as check_golden;
pub use granting::{Renewed, beside_host, lacking, without_host};
pub use own::{OnRecord, Own, OwnAct};
pub use replay::{Replay, ReplayError};
use report::{HandlerSummary, HandlerView, OnAllHosts, RolledBack};
pub use upload::Upload;
pub use witness::Witness;

/// The handlers of a host, their versions, and the ways from one to another.
pub struct Deployments {
    registry: Registry,
    sandbox: Arc<Sandbox>,
    /// Where the buckets of handlers are.
    brokers: Arc<Directory>,
    metrics: Arc<Metrics>,
    policy: Arc<Policy>,
    keep_versions: AtomicUsize,
    /// Those of the configuration that was applied last.
    handlers: ArcSwap<BTreeMap<String, Arc<Entry>>>,
    /// The hosts that run the same versions; `None`: this one runs by itself.
    cluster: Option<Arc<Cluster>>,
    /// Who writes down what the host does by itself; `None`: nobody.
    on_record: Option<Arc<dyn OnRecord>>,
    running: Mutex<JoinSet<()>>,
    /// A version is tried, and has to be looked after.
    trial_begun: Arc<Notify>,
    /// Those of the host: shadows get what messages leave of them.
    turns: Arc<Turns>,
    /// Dead letters that are run once more.
    replays: replay::Replays,
    /// Versions that are handed secrets when those are read anew.
    holders: granting::Holders,
}

/// What is said of an upload.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// Who deploys.
    pub by: String,
    /// Where the module came from, for people.
    pub source: String,
}

impl Deployments {
    /// Opens the registry and brings every handler of the configuration to its version.
    ///
    /// A handler whose module is gone or damaged is left without a version, and says why: a deploy mends it. So is one whose
    /// secret cannot be read, until it can and the configuration is applied.
    ///
    /// # Errors
    /// When the registry cannot be used, or a module that the configuration names cannot run.
    pub async fn open(config: &Config, sandbox: Arc<Sandbox>, metrics: Arc<Metrics>) -> Result<Arc<Self>, DeployError> {
        let brokers = Directory::new(BTreeMap::new());
        Self::open_in(config, sandbox, brokers, metrics, None, Turns::of_this_machine(), None).await
    }

    /// The same for a host with brokers, where the buckets of handlers are, and for one of a cluster: what is to run there goes
    /// before what the registry has. `turns` are those that
    /// messages run in, for shadows to give way to them. `on_record` writes down what the host does by itself.
    ///
    /// While NATS is away, the versions that were active last run, and what the cluster has comes when it is back.
    ///
    /// # Errors
    /// As [`Deployments::open`].
    pub async fn open_in(
        config: &Config,
        sandbox: Arc<Sandbox>,
        brokers: Arc<Directory>,
        metrics: Arc<Metrics>,
        cluster: Option<Arc<Cluster>>,
        turns: Arc<Turns>,
        on_record: Option<Arc<dyn OnRecord>>,
    ) -> Result<Arc<Self>, DeployError> {
        let registry = Registry::open(config.registry.dir.clone()).await?;
        let keep_versions = AtomicUsize::new(config.registry.keep_versions);
        let (handlers, running, trial_begun) = (ArcSwap::default(), Mutex::default(), Arc::default());
        let policy = Arc::new(config.signatures.clone());
        let joins = cluster.clone();
        let replays = replay::Replays::new(&turns);
        let this = Arc::new(Self {
            registry,
            sandbox,
            brokers,
            metrics,
            policy,
            keep_versions,
            handlers,
            cluster,
            on_record,
            running,
            trial_begun,
            turns,
            replays,
            holders: granting::Holders::default(),
        });
        let change = this.prepare(&config.handlers, "start").await?;
        this.commit(change).await?;
        if let Some(cluster) = joins {
            this.join(&cluster).await?;
        }
        this.collect().await?;
        let watch = rollout::watch(Arc::downgrade(&this), Arc::clone(&this.trial_begun));
        let mut running = this.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.spawn(watch);
        running.spawn(previous::load_all(Arc::downgrade(&this)));
        drop(running);
        Ok(this)
    }

    /// Where the versions of a handler come and go; `None`: there is no such handler.
    #[must_use]
    pub fn slot(&self, handler: &str) -> Option<Arc<Slot>> {
        self.handlers.load().get(handler).map(|entry| Arc::clone(&entry.slot))
    }

    /// What keeps a handler without a version that runs; `None`: one runs, or none was deployed yet.
    #[must_use]
    pub fn trouble(&self, handler: &str) -> Option<String> {
        self.handlers.load().get(handler)?.trouble()
    }

    /// From now on so many versions of each handler are kept, beside the active one.
    pub fn keep_versions(&self, count: usize) {
        self.keep_versions.store(count, Ordering::Relaxed);
    }

    /// Removes what is not to be kept any more: versions, their modules, and the compiled code of those.
    ///
    /// # Errors
    /// When the records cannot be written.
    pub async fn collect(&self) -> Result<(), DeployError> {
        // In a cluster whoever deploys says which are kept, for all hosts.
        let keep = if self.cluster.is_some() { usize::MAX } else { self.keep_versions.load(Ordering::Relaxed) };
        let collected = self.registry.collect(keep).await?;
        let hex = |digests: BTreeSet<Digest>| digests.into_iter().map(String::from).collect();
        let (sandbox, named, removed) = (Arc::clone(&self.sandbox), hex(collected.named), hex(collected.removed));
        // Nobody waits for it: code of years may lie there.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move { sandbox.clean_cache(named, removed).await });
        Ok(())
    }

    /// Begins an upload of at most as many bytes as the handler's `limits.module_size` says; `announced`, when the
    /// sender says how many come.
    ///
    /// # Errors
    /// When there is no such handler, somebody deploys to it already or a version of it is tried, more is announced than a
    /// module may have, or the cluster cannot be asked.
    pub async fn upload(
        self: &Arc<Self>,
        handler: &str,
        by: &str,
        announced: Option<u64>,
    ) -> Result<Upload, DeployError> {
        let entry = self.entry(handler)?;
        let arriving = entry.arriving(by).await?;
        if self.cluster.is_none() {
            rollout::check_none(&entry)?;
        }
        let limit = u64::try_from(entry.terms().settings.limits.module_size).unwrap_or(u64::MAX);
        if announced.is_some_and(|size| size > limit) {
            return Err(crate::registry::RegistryError::TooLarge { limit }.into());
        }
        let basis = match &self.cluster {
            Some(cluster) => Some(Box::pin(self.basis(cluster, handler)).await?),
            None => None,
        };
        if let Some(basis) = &basis {
            cluster::check_none_in(handler, basis)?;
        }
        let incoming = self.registry.receive(limit).await?;
        let (begun, deployments) = (Instant::now(), Arc::clone(self));
        Ok(Upload { incoming, begun, arriving, signature: None, plan: None, witness: None, basis, deployments })
    }

    /// Makes a version of before the active one again: the one before the active one, or the one that is named. A deploy
    /// that has recorded nothing yet ends for it.
    ///
    /// # Errors
    /// When there is no such version, it runs already, it is granted what the configuration does not grant any more,
    /// its module cannot be loaded, or the handler is changed otherwise just now or a version of it is tried.
    pub async fn rollback(&self, handler: &str, to: Option<u64>, by: &str) -> Result<RolledBack, DeployError> {
        let begun = Instant::now();
        let entry = self.entry(handler)?;
        let _busy = entry.overtake(by).await?;
        if let Some(cluster) = &self.cluster {
            return self.roll_back_in(cluster, &entry, to, by).await;
        }
        rollout::check_none(&entry)?;
        let record = self.registry.handler(handler).await?;
        let found = match to {
            Some(number) => record.version(number),
            None => record.previous(),
        };
        let no_version = || DeployError::NoVersion { handler: handler.to_owned(), number: to };
        let target = found.ok_or_else(no_version)?;
        if record.active == Some(target.number) && entry.active().is_some() {
            return Err(DeployError::AlreadyActive { handler: handler.to_owned(), number: target.number });
        }
        check_granted(&entry, target.number, &target.settings)?;
        let kept = entry.take_loaded(target.number);
        let was_loaded = kept.is_some();
        let loaded = match kept {
            Some(loaded) => loaded,
            None => self.load(handler, target).await?,
        };
        if loaded.deployed.figures.counts().runs == 0 {
            let active = entry.active();
            self.sandbox.warm(&loaded.version, active.as_ref().map(|active| active.version.as_ref())).await;
        }
        if let Err(error) = self.registry.activate(handler, target.number, by, Event::RolledBack).await {
            entry.keep_loaded(loaded);
            return Err(error.into());
        }
        crate::failpoint::reached("recorded");
        entry.switch(loaded);
        tracing::info!(handler, from = ?record.active, to = target.number, by, "rolled back");
        Ok(RolledBack {
            handler: handler.to_owned(),
            from: record.active,
            to: target.number,
            digest: target.digest.clone(),
            was_loaded,
            ms: begun.elapsed().as_secs_f64() * 1e3,
        })
    }

    /// All handlers, by name.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn list(&self) -> Result<Vec<HandlerSummary>, DeployError> {
        let records = self.records().await?;
        let mut shown = Vec::new();
        for entry in self.handlers.load_full().values() {
            let record = records.get(&entry.name);
            let signers = self.signers(record.and_then(|record| view::running(entry, record))).await?;
            let mut summary = view::summary(entry, record, &signers);
            if let Some(rollout) = &mut summary.rollout {
                self.shown_on_all_hosts(entry, rollout);
                rollout.cluster.iter_mut().for_each(OnAllHosts::in_short);
            }
            shown.push(summary);
        }
        Ok(shown)
    }

    /// One handler, with all its versions and what happened to it. What a shadow did otherwise is shown with payloads: see
    /// [`HandlerView::withhold_payload`].
    ///
    /// # Errors
    /// When there is no such handler, or the records cannot be read.
    pub async fn show(&self, handler: &str) -> Result<HandlerView, DeployError> {
        const HISTORY: u32 = 50;
        let entry = self.entry(handler)?;
        let record = self.registry.handler(handler).await?;
        let history = self.registry.history(handler, HISTORY).await?;
        let signers = self.signers(&record.versions).await?;
        let mut cluster = self.cluster_view();
        if let Some(cluster) = &mut cluster {
            cluster.retain(|name| name == handler);
        }
        let mut view = view::whole(&entry, &record, &signers, history);
        let shadow = view.rollout.as_mut().and_then(|rollout| rollout.shadow.as_mut());
        if let (Some(shadow), Some(on)) = (shadow, entry.on_trial()) {
            shadow.differences = on.differences();
        }
        if let Some(rollout) = &mut view.rollout {
            self.shown_on_all_hosts(&entry, rollout);
        }
        let to_run = self.cluster.as_ref().and_then(|cluster| cluster.hosts().to_run(handler));
        Ok(HandlerView { to_run, cluster, ..view })
    }

    /// The bytes of the module of a version that is kept.
    ///
    /// # Errors
    /// When there is no such handler, no version of it that is kept has this module, or the registry cannot be read.
    pub async fn module(&self, handler: &str, digest: &Digest) -> Result<Vec<u8>, DeployError> {
        let entry = self.entry(handler)?;
        let record = self.registry.handler(&entry.name).await?;
        if !record.versions.iter().any(|version| version.digest == *digest) {
            return Err(DeployError::NotKept { handler: handler.to_owned(), digest: digest.clone() });
        }
        Ok(self.registry.read(digest).await?)
    }

    /// Stops what is being deployed, and the shadows. A switch that has been recorded is carried out at the next start.
    pub async fn close(&self) {
        let mut running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        running.shutdown().await;
        // Last, so that nothing of this host says after it that it is there.
        self.leave().await;
    }

    fn entry(&self, handler: &str) -> Result<Arc<Entry>, DeployError> {
        let handlers = self.handlers.load();
        handlers.get(handler).cloned().ok_or_else(|| DeployError::NoHandler {
            handler: handler.chars().take(100).collect(),
            known: handlers.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

/// Refuses a version that may reach what the configuration does not grant, or grants otherwise.
fn check_granted(entry: &Entry, number: u64, settings: &Settings) -> Result<(), DeployError> {
    check_granted_by(&entry.terms(), &entry.name, number, settings)
}

/// The same by what a configuration says that is not taken up yet.
fn check_granted_by(terms: &Terms, handler: &str, number: u64, settings: &Settings) -> Result<(), DeployError> {
    none_beyond(handler, number, &settings.grants_beyond(&terms.settings))
}

/// Refuses a version with grants that the configuration does not give.
fn none_beyond(handler: &str, number: u64, beyond: &[String]) -> Result<(), DeployError> {
    if beyond.is_empty() {
        return Ok(());
    }
    Err(DeployError::NotGranted { handler: handler.to_owned(), number, grants: beyond.join(", ") })
}

/// A time as people and programs read it.
fn spelled(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// Keeps bytes that are here already as a module.
async fn keep(registry: &Registry, bytes: &[u8]) -> Result<Kept, DeployError> {
    let mut incoming = registry.receive(bytes.len() as u64).await?;
    incoming.write(bytes).await?;
    Ok(incoming.keep(None).await?)
}
