//! Pauses and resumes the subscriptions of a host, or of all hosts of its cluster, for whoever may; follows what other hosts
//! paused (`all_hosts`), and ends pauses whose time is over; writes down what circuits did by themselves.

mod all_hosts;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::slots::Slots;
use super::wiring::Stations;
use crate::admin::wire::PauseKind;
use crate::admin::{Audit, Pausing};
use crate::cluster::Cluster;
use crate::dispatch::{CircuitChange, CircuitTold};
use crate::pause::{Pause, PauseError, PauseRecord, Pauses, Reach};
use crate::telemetry::Metrics;

/// The words in the audit log for a pause that another host began or ended for all, and that ended because its time was over.
const PAUSED: &str = "subscription.pause";
const RESUMED: &str = "subscription.resume";
/// The words for a circuit that opened, and that closed.
const OPENED: &str = "circuit.open";
const CLOSED: &str = "circuit.close";

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

    /// Looks what is paused on all hosts, before the first subscription takes a message, and goes on to follow that and the time.
    pub(super) async fn begin(self: &Arc<Self>) -> JoinSet<()> {
        self.join().await;
        let mut running = JoinSet::new();
        running.spawn(Arc::clone(self).keep_time());
        running.spawn(Arc::clone(self).follow());
        running.spawn(Arc::clone(self).lose_patience());
        running.spawn(Arc::clone(self).speak());
        running
    }

    /// Ends pauses whose time is over. Dropped at any point, it leaves a pause that the next start finds to be over.
    async fn keep_time(self: Arc<Self>) {
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

    /// Shows in the metrics whether somebody pauses a subscription, if it is one of this host.
    fn show(&self, subscription: &str) {
        if self.slots.get(subscription).is_none() {
            return;
        }
        self.metrics.paused(subscription, PauseKind::Operator.name(), self.pauses.get(subscription).is_some());
    }
}

const fn on(hosts: Reach) -> &'static str {
    match hosts {
        Reach::This => "on this host",
        Reach::All => "on all hosts",
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
        if hosts == Reach::All {
            return self.resume_all(subscriptions, by).await;
        }
        let ended: Vec<String> = self.pauses.resume(subscriptions).await?.into_keys().collect();
        for subscription in &ended {
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
