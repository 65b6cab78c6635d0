//! Pauses and resumes the subscriptions of a host, or of all hosts of its cluster, for whoever may; follows what other hosts
//! paused, and ends pauses whose time is over; writes down what circuits did by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::slots::Slots;
use super::wiring::Stations;
use crate::admin::wire::PauseKind;
use crate::admin::{Audit, Pausing, Subscriptions as _};
use crate::cluster::{AllPaused, Cluster, PausesError};
use crate::dispatch::{CircuitChange, CircuitTold};
use crate::pause::{Followed, Pause, PauseError, PauseRecord, Pauses, Reach};
use crate::telemetry::Metrics;

/// The words in the audit log for a pause that another host began or ended for all, and that ended because its time was over.
const PAUSED: &str = "subscription.pause";
const RESUMED: &str = "subscription.resume";
/// The words for a circuit that opened, and that closed.
const OPENED: &str = "circuit.open";
const CLOSED: &str = "circuit.close";

/// Between two watches of what is paused on all hosts: a server that ends each at once is not asked without a pause.
const WATCH_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Between two looks at what is in flight of what is paused on all hosts.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where subscriptions are paused.
pub(super) struct Desk {
    pauses: Arc<Pauses>,
    slots: Arc<Slots>,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    cluster: Option<Arc<Cluster>>,
    /// Where the last change of what is paused on all hosts stands that this host knows of. Held while one is asked for: what a
    /// watch shows late takes nothing back.
    seen: tokio::sync::Mutex<u64>,
}

impl Desk {
    pub(super) fn new(stations: &Stations, audit: Arc<Audit>, cluster: Option<Arc<Cluster>>) -> Arc<Self> {
        let (pauses, slots) = (Arc::clone(&stations.pauses), Arc::clone(&stations.slots));
        let metrics = Arc::clone(&stations.metrics);
        Arc::new(Self { pauses, slots, metrics, audit, cluster, seen: tokio::sync::Mutex::default() })
    }

    /// Looks what is paused on all hosts, before the first subscription takes a message. When the cluster cannot be asked, what
    /// this host saw last holds.
    pub(super) async fn join(&self) {
        if let Some(cluster) = &self.cluster
            && let Err(error) = self.look(cluster).await
        {
            told(&error);
        }
    }

    /// Goes by what the cluster pauses and resumes from now on.
    pub(super) async fn follow(self: Arc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        loop {
            if let Ok(mut watch) = cluster.watch_pauses().await {
                // A watch begins with what stands there, and says nothing where nothing does.
                let looked = self.look(cluster).await;
                let is_away = matches!(looked, Err(PausesError::Bucket(_)));
                looked.unwrap_or_else(|error| told(&error));
                while !is_away && let Some(changed) = watch.next().await {
                    self.shown(changed.value.as_deref(), changed.revision).await;
                }
            }
            tokio::time::sleep(WATCH_AGAIN_AFTER).await;
        }
    }

    /// Says to the other hosts what is paused here for all, and how much of it is still in flight.
    pub(super) async fn speak(self: Arc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        loop {
            let mut paused: BTreeMap<String, u64> = BTreeMap::new();
            // What the book has may be about to hold: said is what does.
            let holds = self.pauses.of_all_hosts().into_keys().filter(|name| self.pauses.hold(name).is_closed());
            paused.extend(holds.map(|name| (name, 0)));
            if !paused.is_empty() {
                let list = self.slots.list().into_iter();
                let held =
                    list.filter(|one| paused.contains_key(&one.name)).map(|one| (one.name, one.counts.in_flight));
                paused.extend(held.collect::<Vec<_>>());
            }
            cluster.paused_here(paused);
            self.pauses.changed(LOOK_EVERY).await;
        }
    }

    /// Ends pauses whose time is over. Dropped at any point, it leaves a pause that the next start finds to be over.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let ended = self.pauses.next_over().await;
            for (subscription, Pause { hosts, record }) in &ended {
                self.show(subscription);
                tracing::info!(subscription, why = "its time is over", "the subscription is resumed");
                let until = record.until.map(|until| humantime::format_rfc3339_millis(until).to_string());
                let until = until.unwrap_or_default();
                let target = format!("{subscription}: paused {} by {} until {until}", on(*hosts), record.by);
                self.audit.by_host(RESUMED, &target).await;
            }
        }
    }

    /// Writes down each circuit that opens or closes.
    pub(super) async fn keep_books(self: Arc<Self>, mut circuits: mpsc::Receiver<CircuitTold>) {
        while let Some(CircuitTold { subscription, change, why }) = circuits.recv().await {
            let action = match change {
                CircuitChange::Opened { .. } => OPENED,
                CircuitChange::ProbeWentWell | CircuitChange::ClosedByHand => CLOSED,
                CircuitChange::ProbeFailed { .. } => continue,
            };
            self.audit.by_host(action, &format!("{subscription}: {why}")).await;
        }
    }

    async fn look(&self, cluster: &Cluster) -> Result<(), PausesError> {
        let mut seen = self.seen.lock().await;
        let mut all = cluster.pauses().await?;
        let known = self.pauses.of_all_hosts();
        if all.revision == 0 && !known.is_empty() {
            // The bucket was lost, and nobody resumed anything.
            let add = |pauses: &mut BTreeMap<String, PauseRecord>| {
                for (name, pause) in &known {
                    pauses.entry(name.clone()).or_insert_with(|| pause.clone());
                }
            };
            all = cluster.change_pauses(&cluster.me().host, add).await?.1;
        }
        *seen = all.revision;
        self.go_by(all).await;
        Ok(())
    }

    /// What a watch showed; it may lag behind what this host changed itself.
    async fn shown(&self, value: Option<&[u8]>, revision: u64) {
        let mut seen = self.seen.lock().await;
        if revision <= *seen {
            return;
        }
        *seen = revision;
        match AllPaused::read(value, revision) {
            Ok(all) => self.go_by(all).await,
            Err(error) => told(&error),
        }
    }

    /// Goes by what another host changed, or did while this one was away.
    async fn go_by(&self, all: AllPaused) {
        let by = all.by.clone();
        let Followed { begun, ended } = self.take(all).await;
        for (subscription, pause) in &begun {
            self.audit.by_host(PAUSED, &format!("{subscription}: on all hosts, by {}", pause.by)).await;
        }
        for subscription in ended.keys() {
            self.audit.by_host(RESUMED, &format!("{subscription}: on all hosts, by {by}")).await;
        }
    }

    async fn take(&self, all: AllPaused) -> Followed {
        let AllPaused { subscriptions, by: resumed_by, revision: _ } = all;
        let followed = self.pauses.follow(subscriptions, SystemTime::now()).await;
        for (subscription, PauseRecord { by, why, since: _, until }) in &followed.begun {
            self.show(subscription);
            let until = until.map(|until| humantime::format_rfc3339_millis(until).to_string());
            tracing::info!(subscription, by, why, until, "the subscription is paused on all hosts");
        }
        for subscription in followed.ended.keys() {
            self.show(subscription);
            tracing::info!(subscription, by = resumed_by, "the subscription is not paused on all hosts any more");
        }
        followed
    }

    async fn pause_all(&self, subscriptions: &[String], record: &PauseRecord) -> Result<PauseRecord, PauseError> {
        let cluster = self.cluster.as_ref().ok_or(PauseError::NoCluster)?;
        let record = PauseRecord { by: format!("{} on {}", record.by, cluster.me().host), ..record.clone() };
        let mut seen = self.seen.lock().await;
        let add = |pauses: &mut BTreeMap<String, PauseRecord>| {
            pauses.retain(|_, pause| !pause.is_over(record.since));
            pauses.extend(subscriptions.iter().map(|name| (name.clone(), record.clone())));
        };
        let (_, after) = cluster.change_pauses(&record.by, add).await.map_err(PauseError::Cluster)?;
        *seen = after.revision;
        self.take(after).await;
        Ok(record)
    }

    async fn resume_all(&self, subscriptions: &[String], by: &str) -> Result<Vec<String>, PauseError> {
        let cluster = self.cluster.as_ref().ok_or(PauseError::NoCluster)?;
        let by = format!("{by} on {}", cluster.me().host);
        let now = SystemTime::now();
        let mut seen = self.seen.lock().await;
        let remove = |pauses: &mut BTreeMap<String, PauseRecord>| {
            pauses.retain(|name, pause| !subscriptions.contains(name) && !pause.is_over(now));
        };
        let (before, after) = cluster.change_pauses(&by, remove).await.map_err(PauseError::Cluster)?;
        *seen = after.revision;
        self.take(after).await;
        let ended = before
            .subscriptions
            .into_iter()
            .filter(|(name, pause)| subscriptions.contains(name) && !pause.is_over(now));
        Ok(ended.map(|(name, _)| name).collect())
    }

    /// Shows in the metrics whether somebody pauses a subscription.
    fn show(&self, subscription: &str) {
        self.metrics.paused(subscription, PauseKind::Operator.name(), self.pauses.get(subscription).is_some());
    }
}

const fn on(hosts: Reach) -> &'static str {
    match hosts {
        Reach::This => "on this host",
        Reach::All => "on all hosts",
    }
}

fn told(error: &PausesError) {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    match error {
        // Why the cluster is away is told where its handlers are followed.
        PausesError::Bucket(_) => tracing::debug!("{error}{cause}"),
        PausesError::Unreadable { .. } | PausesError::Unconfirmed { .. } | PausesError::Contended => {
            tracing::error!("{error}{cause}");
        }
    }
}

#[async_trait]
impl Pausing for Desk {
    async fn pause(
        &self,
        hosts: Reach,
        subscriptions: &[String],
        record: &PauseRecord,
    ) -> Result<PauseRecord, PauseError> {
        if hosts == Reach::All {
            return self.pause_all(subscriptions, record).await;
        }
        self.pauses.pause(subscriptions, record).await?;
        let PauseRecord { by, why, since: _, until } = record;
        let until = until.map(|until| humantime::format_rfc3339_millis(until).to_string());
        for subscription in subscriptions {
            self.show(subscription);
            tracing::info!(subscription, by, why, until, "the subscription is paused");
        }
        Ok(record.clone())
    }

    async fn resume(&self, hosts: Reach, subscriptions: &[String], by: &str) -> Result<Vec<String>, PauseError> {
        let ended: Vec<String> = match hosts {
            Reach::All => self.resume_all(subscriptions, by).await?,
            Reach::This => self.pauses.resume(subscriptions).await?.into_keys().collect(),
        };
        for subscription in ended.iter().filter(|_| hosts == Reach::This) {
            self.show(subscription);
            tracing::info!(subscription, by, "the subscription is resumed");
        }
        let closed = subscriptions.iter().filter(|name| self.slots.close_circuit(name));
        let closed: Vec<String> = closed.filter(|name| !ended.contains(*name)).cloned().collect();
        Ok(ended.into_iter().chain(closed).collect())
    }

    fn holds(&self, subscription: &str) -> Option<Pause> {
        self.pauses.get(subscription)
    }
}
