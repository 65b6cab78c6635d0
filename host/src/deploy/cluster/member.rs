//! What a host of a cluster does by itself: watches what is to run, takes it, and says what runs here.
//!
//! Each loop ends with the host's deployments; none holds them while it waits.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::under_way::UnderWay;
use crate::cluster::record::Desired;
use crate::cluster::report::OnHost;
use crate::cluster::{COUNTS_EVERY, Cluster, SAYS_AT_MOST_EVERY, SAYS_EVERY, Word};
use crate::deploy::again::{AFTER_A_PANIC, Again};
use crate::deploy::entry::Entry;
use crate::deploy::verdict::{Verdict, verdict};
use crate::deploy::{DeployError, Deployments};
use crate::registry::Digest;

/// How long a start waits for the cluster. A server that is there answers in milliseconds, one across the world in a second.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// Handlers that are brought to what is to run at once: each waits for the compiler in turn, and holds its module meanwhile.
const AT_ONCE: usize = 8;
/// Between two watches of a bucket: a server that ends each at once is not asked without a pause.
const WATCH_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Handlers whose change waits to be looked at: more wait with the server.
const CHANGES: usize = 64;

impl Deployments {
    /// Takes what the cluster has, when it can be asked, and goes on doing so.
    pub(in crate::deploy) async fn join(self: &Arc<Self>, cluster: &Arc<Cluster>) -> Result<(), DeployError> {
        match cluster.ready(FIRST_LOOK).await {
            Ok(()) => {
                let entries: Vec<_> = self.handlers.load_full().values().cloned().collect();
                let looks =
                    entries.into_iter().map(|entry| async move { (self.reconcile(cluster, &entry).await, entry) });
                let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
                while let Some((looked, entry)) = looks.next().await {
                    match looked {
                        Ok(()) => {}
                        // What the configuration names and cannot run stops the start, as everywhere; a machine that has too
                        // much to do, and a grant that is not there yet, do not.
                        Err(error @ (DeployError::Configured { .. } | DeployError::Unreadable { .. }))
                            if !error.is_of_a_grant() && !verdict(&error).passes() =>
                        {
                            return Err(error);
                        }
                        Err(error) => self.tell(cluster, &entry.name, &error),
                    }
                }
            }
            Err(error) => {
                let error = DeployError::from(error).chain();
                tracing::warn!(
                    error,
                    "the cluster is away: what was active last runs, and the rest comes when it is back"
                );
                cluster.hosts().away(Some(error));
            }
        }
        let (changes, changed) = mpsc::channel(CHANGES);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.spawn(watch_desired(Arc::clone(cluster), changes));
        running.spawn(watch_hosts(Arc::clone(cluster)));
        running.spawn(follow(Arc::downgrade(self), Arc::clone(cluster), changed));
        running.spawn(speak(Arc::downgrade(self), Arc::clone(cluster)));
        Ok(())
    }

    /// Says that this host stops.
    pub(in crate::deploy) async fn leave(&self) {
        let Some(cluster) = &self.cluster else { return };
        let word = Word { stopped: true, ..self.word(cluster) };
        // A cluster that is away does not keep the host.
        if !matches!(tokio::time::timeout(Duration::from_secs(1), cluster.say(&word)).await, Ok(Ok(()))) {
            tracing::debug!("the cluster could not be told that this host stops");
        }
    }

    /// Notes why what is to run does not run here.
    pub(in crate::deploy) fn tell(&self, cluster: &Cluster, handler: &str, error: &DeployError) {
        self.tell_why(cluster, handler, error.chain());
    }

    fn tell_why(&self, cluster: &Cluster, handler: &str, why: String) {
        tracing::error!(handler, why, "what is to run in the cluster does not run here; what ran before goes on");
        if let Some(entry) = self.handlers.load().get(handler).filter(|entry| entry.active().is_none()) {
            entry.set_trouble(why.clone());
        }
        cluster.hosts().trouble(handler, Some(why));
        cluster.touch();
    }

    /// The handlers of which this host cannot take what is to run in its cluster, with since when and why.
    #[must_use]
    pub fn refused(&self) -> Vec<(String, String)> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let handlers = self.handlers.load_full();
        let refused =
            handlers.iter().filter_map(|(name, entry)| Some((name.clone(), stands(cluster, entry).refusal()?)));
        refused.collect()
    }

    fn word(&self, cluster: &Cluster) -> Word {
        let on = |entry: &Entry| -> OnHost {
            let on = stands(cluster, entry);
            self.metrics.cluster_behind(&entry.name, on.wants.is_some());
            on
        };
        let handlers = self.handlers.load();
        let handlers = handlers.iter().map(|(name, entry)| (name.clone(), on(entry))).collect();
        Word { paused: cluster.to_say_of_pauses(), ..Word::of(cluster.me(), handlers, self.counts()) }
    }
}

/// How a handler of this host stands to what is to run.
fn stands(cluster: &Cluster, entry: &Entry) -> OnHost {
    let runs = entry.active().and_then(|active| {
        let digest = active.deployed.handler.digest().parse::<Digest>().ok()?;
        Some((active.deployed.number, digest))
    });
    let tries = entry.on_trial().map(|on| on.record.number);
    cluster.hosts().standing(&entry.name, runs, tries)
}

/// Passes on which handlers changed; all of them whenever the connection was made anew.
async fn watch_desired(cluster: Arc<Cluster>, changes: mpsc::Sender<String>) {
    loop {
        match cluster.watch_desired().await {
            Ok(mut watch) => {
                cluster.hosts().shown_anew();
                if cluster.hosts().away(None) {
                    tracing::info!(cluster = cluster.me().cluster, "the cluster is there");
                }
                // A handler that nobody in the cluster has shows no change: this one says that all are to be looked at.
                if changes.send(String::new()).await.is_err() {
                    return;
                }
                while let Some(changed) = watch.next().await {
                    // Known at once, though somebody may be deploying here: what cannot be read is told when it is taken.
                    let desired = changed.value.map(|value| Desired::read(&changed.key, &value)).transpose();
                    if let Ok(desired) = desired {
                        cluster.hosts().shown(&changed.key, desired.as_ref(), changed.revision);
                        cluster.touch();
                    }
                    if changes.send(changed.key).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                if cluster.hosts().away(Some(error.to_string())) {
                    tracing::warn!(%error, "the cluster is away; what runs here goes on");
                }
            }
        }
        tokio::time::sleep(WATCH_AGAIN_AFTER).await;
    }
}

async fn watch_hosts(cluster: Arc<Cluster>) {
    loop {
        if let Ok(mut watch) = cluster.watch_hosts().await {
            while let Some(changed) = watch.next().await {
                cluster.hosts().heard(cluster.me(), &changed);
            }
        }
        tokio::time::sleep(WATCH_AGAIN_AFTER).await;
    }
}

/// Says what runs here, whenever that changes and every few seconds; while a version is tried, what both came to too.
async fn speak(deployments: Weak<Deployments>, cluster: Arc<Cluster>) {
    loop {
        let Some(word) = deployments.upgrade().map(|deployments| deployments.word(&cluster)) else { return };
        let pause = if word.counts.is_empty() { SAYS_EVERY } else { COUNTS_EVERY };
        if let Err(error) = cluster.say(&word).await {
            tracing::debug!(%error, "the cluster could not be told what runs here");
        }
        tokio::time::sleep(SAYS_AT_MOST_EVERY).await;
        let _ = tokio::time::timeout(pause, cluster.touched()).await;
    }
}

/// What happens next to one who follows.
enum Turn {
    /// A handler changed; all of them, when it has no name.
    Changed(String),
    /// A handler was brought to what is to run, or not.
    Ended(String, Result<(), DeployError>),
    /// The host panicked on the way.
    Broke(String, JoinError),
    /// It is time to try something again.
    Due,
    /// The host ends.
    Over,
}

/// Brings handlers to what is to run: each by itself, one change of it after the other.
async fn follow(deployments: Weak<Deployments>, cluster: Arc<Cluster>, mut changed: mpsc::Receiver<String>) {
    let mut under_way = UnderWay::nothing();
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    let mut again = Again::default();
    loop {
        let has_room = under_way.count() < AT_ONCE;
        let first = due.iter().filter(|(name, _)| has_room && !under_way.has(name)).map(|(_, at)| *at).min();
        let wait = async move {
            match first {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let turn = tokio::select! {
            name = changed.recv() => name.map_or(Turn::Over, Turn::Changed),
            () = cluster.to_look_again() => Turn::Changed(String::new()),
            Some((name, ended)) = under_way.ended() => match ended {
                Ok(ended) => Turn::Ended(name, ended),
                Err(broke) => Turn::Broke(name, broke),
            },
            () = wait => Turn::Due,
        };
        let Some(deployments) = deployments.upgrade() else { return };
        let now = Instant::now();
        match turn {
            Turn::Over => return,
            Turn::Changed(name) if name.is_empty() => {
                again.forget(&name);
                due.extend(deployments.handlers.load().keys().map(|name| (name.clone(), now)));
            }
            Turn::Changed(name) => {
                again.forget(&name);
                due.insert(name, now);
            }
            Turn::Ended(name, ended) => {
                if let Some(after) = again_after(&deployments, &cluster, &mut again, &name, ended) {
                    due.entry(name).or_insert(now + after);
                }
                cluster.touch();
            }
            Turn::Broke(name, broke) => {
                let why =
                    format!("following the cluster stopped; this is a bug of the host, and is tried again: {broke}");
                deployments.tell_why(&cluster, &name, why);
                due.entry(name).or_insert(now + AFTER_A_PANIC);
            }
            Turn::Due => {}
        }
        let ready = due.iter().filter(|(name, at)| **at <= now && !under_way.has(name));
        let ready: Vec<String> =
            ready.map(|(name, _)| name.clone()).take(AT_ONCE.saturating_sub(under_way.count())).collect();
        for name in ready {
            due.remove(&name);
            // One that this host does not have is none of its business.
            let Ok(entry) = deployments.entry(&name) else { continue };
            let (deployments, cluster) = (Arc::clone(&deployments), Arc::clone(&cluster));
            under_way.begin(&name, async move { deployments.reconcile(&cluster, &entry).await });
        }
    }
}

/// Tells how a handler was brought to what is to run. When it is looked at again; `None`: when that changes.
fn again_after(
    deployments: &Deployments,
    cluster: &Cluster,
    again: &mut Again,
    handler: &str,
    ended: Result<(), DeployError>,
) -> Option<Duration> {
    match ended {
        Ok(()) => {
            cluster.hosts().trouble(handler, None);
            again.forget(handler);
            None
        }
        Err(error) => {
            if is_told(&error) {
                deployments.tell(cluster, handler, &error);
            }
            let after = again.after(handler, &error);
            cluster.hosts().tries_again(handler, after);
            after
        }
    }
}

/// Whether people are told of it: not of somebody's deploy, and that the cluster is away is told for all handlers at once.
fn is_told(error: &DeployError) -> bool {
    match error {
        DeployError::Cluster(error) => !error.is_away(),
        error => verdict(error) != Verdict::Taken,
    }
}
