//! What is measured of one broker.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::{Counters, Families, Labels};
use super::names::Name;

/// The metrics of one broker.
#[derive(Debug)]
pub struct BrokerMetrics {
    connected: Gauge,
    reconnects: Counter,
    dead_letters: Gauge,
    labels: Labels,
    tallies: Vec<(&'static Name, Counters)>,
}

impl BrokerMetrics {
    pub(super) fn resolve(families: &Families, name: &str, system: &str) -> Self {
        let labels: Labels = vec![("broker", name.to_owned()), ("messaging_system", system.to_owned())];
        Self {
            connected: families.broker_connected.get_or_create_owned(&labels),
            reconnects: families.broker_reconnects.get_or_create_owned(&labels),
            dead_letters: families.dlq_depth.get_or_create_owned(&labels),
            tallies: families.tallies.clone(),
            labels,
        }
    }

    /// Whether it can be reached now.
    pub fn set_connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    /// How often it was connected to anew, since the host started.
    pub fn set_reconnects(&self, total: u64) {
        self.reconnects.inner().store(total, Ordering::Relaxed);
    }

    /// How many dead letters wait.
    pub fn set_dead_letters(&self, depth: u64) {
        self.dead_letters.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// What it counted by itself, as it stands; see [`crate::broker::Broker::tallies`]. A name that is not among
    /// [`super::names::TALLIES`] is left out.
    pub fn set_tallies(&self, tallies: &[(Name, u64)]) {
        for (name, total) in tallies {
            if let Some((_, family)) = self.tallies.iter().find(|(one, _)| *one == name) {
                family.get_or_create_owned(&self.labels).inner().store(*total, Ordering::Relaxed);
            }
        }
    }
}
