//! What is measured of one broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::{Counters, Families, Gauges, Labels};
use super::names::Name;
use super::subscription::with;
use super::timed::{Timed, Timings};
use crate::broker::Level;

/// The metrics of one broker.
#[derive(Debug)]
pub struct BrokerMetrics {
    connected: Gauge,
    reconnects: Counter,
    dead_letters: Gauge,
    oldest_dead_letter: Gauge<f64, AtomicU64>,
    labels: Labels,
    advisories: Counters,
    tallies: Vec<(&'static Name, Counters)>,
    levels: Vec<(&'static Name, Gauges)>,
    commits: Arc<Timed>,
}

impl BrokerMetrics {
    pub(super) fn resolve(families: &Families, name: &str, system: &str) -> Self {
        let labels: Labels = vec![("broker", name.to_owned()), ("messaging_system", system.to_owned())];
        Self {
            connected: families.broker_connected.get_or_create_owned(&labels),
            reconnects: families.broker_reconnects.get_or_create_owned(&labels),
            dead_letters: families.dlq_depth.get_or_create_owned(&labels),
            oldest_dead_letter: families.dlq_oldest_age.get_or_create_owned(&labels),
            advisories: families.broker_advisories.clone(),
            tallies: families.tallies.clone(),
            levels: families.levels.clone(),
            commits: Arc::clone(&families.commits),
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

    /// Since when the oldest of them waits.
    pub fn set_oldest_dead_letter(&self, oldest: Option<SystemTime>, now: SystemTime) {
        let age = oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default();
        self.oldest_dead_letter.set(age.as_secs_f64());
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

    /// What stands at it now; see [`crate::broker::Broker::levels`]. A name that is not among [`super::names::LEVELS`] is
    /// left out.
    pub fn set_levels(&self, levels: &[Level]) {
        for Level { name, kind, value } in levels {
            let labels = kind.map_or_else(|| self.labels.clone(), |kind| with(&self.labels, "kind", kind));
            if let Some((_, family)) = self.levels.iter().find(|(one, _)| *one == name) {
                family.get_or_create_owned(&labels).set(i64::try_from(*value).unwrap_or(i64::MAX));
            }
        }
    }

    /// What its server told, by the kind of what it told, as it stands.
    pub fn set_advisories(&self, advisories: &[(&'static str, u64)]) {
        for (kind, total) in advisories {
            let labels = with(&self.labels, "type", kind);
            self.advisories.get_or_create_owned(&labels).inner().store(*total, Ordering::Relaxed);
        }
    }

    /// How long its commits took; see [`crate::broker::Broker::commits`].
    pub fn show_commits(&self, commits: &Timings) {
        self.commits.show(&self.labels, commits);
    }
}
