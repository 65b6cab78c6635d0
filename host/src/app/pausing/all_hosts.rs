//! What is paused on all hosts of a cluster: followed, changed from here, and told to the others as it is held here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Desk, PAUSED, RESUMED};
use crate::admin::Subscriptions as _;
use crate::cluster::report::HeldThere;
use crate::cluster::{AllPaused, Cluster, PausesError};
use crate::pause::{Followed, OfAllHosts, PauseError, PauseRecord};

/// Between two watches over a new connection: a server that ends each at once is not asked without a pause.
const WATCH_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// As many of these are between two watches over the same connection.
const WAITS: u32 = 20;
/// Between two looks at what is in flight, and at whether messages wait for the cluster.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// So many of these messages wait for what is paused to be known, once there is a connection, which is ten seconds: a leader of the
/// bucket is chosen within a few, and a cluster that cannot be asked is not to stop the work.
const LOOKS_AT_MOST: u32 = 50;
/// What was over for so long is removed from the bucket: no clock of a host is that wrong.
const KEPT_WHEN_OVER: Duration = Duration::from_secs(24 * 3600);

impl Desk {
    /// Looks what is paused on all hosts. When the cluster cannot be asked, what this host saw last holds, and subscriptions of the
    /// cluster's broker receive nothing until it was.
    pub(super) async fn join(&self) {
        let Some(cluster) = &self.cluster else { return };
        match self.look(cluster).await {
            Ok(()) => self.pauses.ask_first(false),
            Err(error) => told(&error),
        }
    }

    /// Goes by what the cluster pauses and resumes from now on. Whenever it was away it is asked before anything more is received
    /// from its broker.
    pub(super) async fn follow(self: Arc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        let mut connection = None;
        loop {
            if cluster.connection() != connection {
                connection = cluster.connection();
                self.pauses.ask_first(true);
            }
            // Large as a future, and begun anew seldom.
            let was_known = match Box::pin(self.watch(cluster)).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(%error, "what is paused on all hosts is not known");
                    false
                }
            };
            if was_known || cluster.connection() != connection {
                self.pauses.ask_first(true);
            }
            // Not at once: what cannot be asked may be what a person has to permit. But at once over a new connection.
            let mut waits = 0;
            while waits < WAITS && (waits == 0 || cluster.connection() == connection) {
                waits += 1;
                tokio::time::sleep(WATCH_AGAIN_AFTER).await;
            }
        }
    }

    /// Sees to it that messages do not wait for ever for a cluster that is there and does not say what is paused.
    pub(super) async fn lose_patience(self: Arc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        let (mut connection, mut looks) = (None, 0);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // While there is no connection nothing is received, and that does not count; nor does what this host stood still.
            let now = cluster.connection();
            if !self.pauses.asks_first() || now.is_none() || now != connection {
                (connection, looks) = (now, 0);
                continue;
            }
            looks += 1;
            if looks >= LOOKS_AT_MOST {
                self.pauses.ask_first(false);
                tracing::warn!(
                    "the cluster is there and does not say what is paused on all hosts: what this host saw last holds; look whether \
                     the credentials permit its bucket of pauses"
                );
            }
        }
    }

    /// Watches until that ends; an error when it did not begin.
    async fn watch(&self, cluster: &Cluster) -> Result<(), PausesError> {
        let mut watch = cluster.watch_pauses().await.map_err(PausesError::Bucket)?;
        // A watch begins with what stands there, and says nothing where nothing does.
        self.look_or_tell(cluster).await?;
        self.pauses.ask_first(false);
        while let Some(changed) = watch.next().await {
            let is_new = Cluster::is_of_pauses(&changed) && changed.revision != *self.seen.lock().await;
            if is_new && self.look_or_tell(cluster).await.is_err() {
                // Something changed, and it is not known what.
                break;
            }
        }
        Ok(())
    }

    /// Looks; what cannot be read is told, and may be mended: that is a change.
    async fn look_or_tell(&self, cluster: &Cluster) -> Result<(), PausesError> {
        match self.look(cluster).await {
            Err(error @ PausesError::Unreadable { .. }) => {
                told(&error);
                Ok(())
            }
            looked => looked,
        }
    }

    /// Says to the other hosts what is paused here for all, and how much of it is still in flight.
    pub(super) async fn speak(self: Arc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        loop {
            cluster.paused_here(self.held());
            self.pauses.changed(LOOK_EVERY).await;
        }
    }

    fn held(&self) -> BTreeMap<String, HeldThere> {
        let paused = self.pauses.of_all_hosts().subscriptions.into_iter();
        // What the book has may be about to hold: said is what does.
        let paused = paused.filter(|(name, _)| self.pauses.hold(name).is_closed());
        let since = |pause: &PauseRecord| humantime::format_rfc3339_millis(pause.since).to_string();
        let mut held: BTreeMap<String, HeldThere> =
            paused.map(|(name, pause)| (name, HeldThere { since: since(&pause), in_flight: 0 })).collect();
        if !held.is_empty() {
            for one in self.slots.list() {
                if let Some(held) = held.get_mut(&one.name) {
                    held.in_flight = one.counts.in_flight;
                }
            }
        }
        held
    }

    async fn look(&self, cluster: &Cluster) -> Result<(), PausesError> {
        let mut seen = self.seen.lock().await;
        let all = cluster.pauses().await?;
        let mut known = self.pauses.of_all_hosts();
        if all.revision < *seen {
            // The server lost its newest writes, with the power it may be: it is another bucket than this host has seen.
            known.bucket.clear();
        }
        *seen = all.revision;
        if !all.lacks(&known) {
            self.go_by(cluster, all, &[]).await;
            return Ok(());
        }
        // Nobody resumed what this host knows of: the bucket was lost.
        match cluster.change_pauses(&cluster.me().host, &known, |_| ()).await {
            Ok((_, all)) => {
                *seen = all.revision;
                self.go_by(cluster, all, &[]).await;
                Ok(())
            }
            Err(error) => {
                // What both have holds here, and is still of the lost one: it is tried again.
                self.go_by(cluster, AllPaused { bucket: known.bucket.clone(), ..all.with(&known) }, &[]).await;
                Err(error)
            }
        }
    }

    /// Goes by what stands in the cluster. What others changed stands in the audit log; what was asked for here does already.
    async fn go_by(&self, cluster: &Cluster, all: AllPaused, asked_here: &[String]) {
        let AllPaused { bucket, subscriptions, by: resumed_by, revision: _ } = all;
        let all = OfAllHosts { cluster: cluster.me().cluster.clone(), bucket, subscriptions };
        let Followed { begun, ended } = self.pauses.follow(all, SystemTime::now()).await;
        for (subscription, PauseRecord { by, why, since: _, until }) in &begun {
            self.show(subscription);
            let until = until.map(|until| humantime::format_rfc3339_millis(until).to_string());
            tracing::info!(subscription, by, why, until, "the subscription is paused on all hosts");
            if !asked_here.contains(subscription) {
                self.audit.by_host(PAUSED, &format!("{subscription}: on all hosts, by {by}")).await;
            }
        }
        for subscription in ended.keys() {
            self.show(subscription);
            tracing::info!(subscription, by = resumed_by, "the subscription is not paused on all hosts any more");
            if !asked_here.contains(subscription) {
                self.audit.by_host(RESUMED, &format!("{subscription}: on all hosts, by {resumed_by}")).await;
            }
        }
    }

    pub(super) async fn pause_all(
        &self,
        subscriptions: &[String],
        record: &PauseRecord,
    ) -> Result<PauseRecord, PauseError> {
        let cluster = self.cluster.as_ref().ok_or(PauseError::NoCluster)?;
        let by = format!("{} on {}", record.by, cluster.me().host);
        // By the clock of the server, which is the same for all.
        let since = in_millis(cluster.now_for_sure().unwrap_or(record.since));
        let until = record.until.map(|until| since + until.duration_since(record.since).unwrap_or_default());
        let record = PauseRecord { by, since, until: until.map(in_millis), ..record.clone() };
        let mut seen = self.seen.lock().await;
        let add = |pauses: &mut BTreeMap<String, PauseRecord>| {
            forget_old(pauses, since);
            pauses.extend(subscriptions.iter().map(|name| (name.clone(), record.clone())));
        };
        let known = self.pauses.of_all_hosts();
        let (_, after) = cluster.change_pauses(&record.by, &known, add).await.map_err(PauseError::Cluster)?;
        *seen = after.revision;
        crate::failpoint::reached("paused-in-cluster");
        self.go_by(cluster, after, subscriptions).await;
        Ok(record)
    }

    pub(super) async fn resume_all(&self, subscriptions: &[String], by: &str) -> Result<Vec<String>, PauseError> {
        let cluster = self.cluster.as_ref().ok_or(PauseError::NoCluster)?;
        let by = format!("{by} on {}", cluster.me().host);
        let now = cluster.now();
        let mut seen = self.seen.lock().await;
        let remove = |pauses: &mut BTreeMap<String, PauseRecord>| {
            forget_old(pauses, now);
            pauses.retain(|name, _| !subscriptions.contains(name));
        };
        let known = self.pauses.of_all_hosts();
        let (before, after) = cluster.change_pauses(&by, &known, remove).await.map_err(PauseError::Cluster)?;
        *seen = after.revision;
        self.go_by(cluster, after, subscriptions).await;
        let were = before.subscriptions.into_iter().filter(|(_, pause)| !pause.is_over(now)).map(|(name, _)| name);
        Ok(were.filter(|name| subscriptions.contains(name)).collect())
    }
}

/// A pause whose time is over stays in the bucket for a while: it is over on each host by its own clock, and no host ends it for
/// another.
fn forget_old(pauses: &mut BTreeMap<String, PauseRecord>, now: SystemTime) {
    pauses.retain(|_, pause| !pause.is_over(now.checked_sub(KEPT_WHEN_OVER).unwrap_or(SystemTime::UNIX_EPOCH)));
}

/// As it is written down.
fn in_millis(moment: SystemTime) -> SystemTime {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn told(error: &PausesError) {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    tracing::warn!("what is paused on all hosts is not known, and what this host saw last holds: {error}{cause}");
}
