//! Pauses and resumes the subscriptions of a host, for whoever may, and ends pauses whose time is over; writes down what circuits
//! did by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::slots::Slots;
use super::wiring::Stations;
use crate::admin::wire::PauseKind;
use crate::admin::{Audit, Pausing};
use crate::dispatch::{CircuitChange, CircuitTold};
use crate::pause::{PauseError, PauseRecord, Pauses};
use crate::telemetry::Metrics;

/// The word in the audit log for a pause that the host ended because its time was over.
const OVER: &str = "subscription.resume";
/// The words for a circuit that opened, and that closed.
const OPENED: &str = "circuit.open";
const CLOSED: &str = "circuit.close";

/// Where subscriptions are paused.
pub(super) struct Desk {
    pauses: Arc<Pauses>,
    slots: Arc<Slots>,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
}

impl Desk {
    pub(super) fn new(stations: &Stations, audit: Arc<Audit>) -> Arc<Self> {
        let (pauses, slots) = (Arc::clone(&stations.pauses), Arc::clone(&stations.slots));
        Arc::new(Self { pauses, slots, metrics: Arc::clone(&stations.metrics), audit })
    }

    /// Ends pauses whose time is over. Dropped at any point, it leaves a pause that the next start finds to be over.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let ended = self.pauses.next_over().await;
            for (subscription, pause) in &ended {
                self.resumed(subscription, "its time is over");
                let until = pause.until.map(|until| humantime::format_rfc3339_millis(until).to_string());
                let target = format!("{subscription}: paused by {} until {}", pause.by, until.unwrap_or_default());
                self.audit.by_host(OVER, &target).await;
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

    fn resumed(&self, subscription: &str, why: &str) {
        self.metrics.paused(subscription, PauseKind::Operator.name(), false);
        tracing::info!(subscription, why, "the subscription is resumed");
    }
}

#[async_trait]
impl Pausing for Desk {
    async fn pause(&self, subscriptions: &[String], record: &PauseRecord) -> Result<(), PauseError> {
        self.pauses.pause(subscriptions, record).await?;
        let PauseRecord { by, why, since: _, until } = record;
        let until = until.map(|until| humantime::format_rfc3339_millis(until).to_string());
        for subscription in subscriptions {
            self.metrics.paused(subscription, PauseKind::Operator.name(), true);
            tracing::info!(subscription, by, why, until, "the subscription is paused");
        }
        Ok(())
    }

    async fn resume(&self, subscriptions: &[String]) -> Result<Vec<String>, PauseError> {
        let ended: BTreeMap<String, PauseRecord> = self.pauses.resume(subscriptions).await?;
        ended.keys().for_each(|subscription| self.resumed(subscription, "somebody resumed it"));
        let closed = subscriptions.iter().filter(|name| self.slots.close_circuit(name));
        let closed: Vec<String> = closed.filter(|name| !ended.contains_key(*name)).cloned().collect();
        Ok(ended.into_keys().chain(closed).collect())
    }
}
