//! Looks after the rollouts of a host: ends those that something speaks against, and those that have shown enough.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::abort::AGAIN_AFTER;
use super::judge::{Looks, Next, Situation, decide};
use super::waits::{Others, Waits, waits};
use super::{HOST, OnTrial, Sums, shadow, tried};
use crate::cluster::{ClusterError, Part};
use crate::deploy::cluster::End;
use crate::deploy::entry::{Entry, Loaded};
use crate::deploy::{DeployError, Deployments};
use crate::registry::{RolloutPlan, RolloutRecord};

/// Between two looks. A version that fails is noticed within this, and a look at which there is nothing new to see costs
/// a microsecond.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is to be done about a rollout now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Promote,
    Abort,
    End,
}

/// What was seen of a rollout by now, on this host.
#[derive(Debug)]
pub(super) struct Watched {
    since: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    looks: Looks,
    /// What holds it up, as the log was told last.
    told: Option<std::mem::Discriminant<Waits>>,
    /// Not before this is it looked at again.
    rests_until: Option<Instant>,
}

impl Watched {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in steps that cannot panic: it is whole even if a holder died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks until the host's deployments are gone; while no version is tried, waits for one that is.
pub(in crate::deploy) async fn watch(deployments: Weak<Deployments>, begun: Arc<Notify>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(deployments) = deployments.upgrade() else { return };
        let any = deployments.look_after_rollouts().await;
        drop(deployments);
        if !any {
            begun.notified().await;
        }
    }
}

impl Deployments {
    /// Whether it is a shadow that is over, by the clock that all hosts of a cluster go by.
    pub(in crate::deploy) fn has_had_its_time(&self, record: &RolloutRecord) -> bool {
        let now = self.cluster.as_ref().map_or_else(SystemTime::now, |cluster| cluster.now());
        shadow::left(record.ends_at(), now).is_some_and(|left| left.is_zero())
    }

    /// Whether a version is tried at all, or cannot go on yet, or was tried and that is not recorded.
    async fn look_after_rollouts(self: &Arc<Self>) -> bool {
        let mut any = false;
        for entry in self.handlers.load_full().values() {
            if let Some(over) = entry.unrecorded() {
                any = true;
                self.record_when_due(entry, &over).await;
                continue;
            }
            if let Some(held) = entry.held() {
                any = true;
                self.go_on_when_due(entry, &held);
                continue;
            }
            let Ok((on, active)) = tried(entry) else { continue };
            any = true;
            if let Err(error) = self.look(entry, &on, &active).await {
                let (handler, again, error) = (&entry.name, AGAIN_AFTER, error.chain());
                tracing::error!(handler, error, ?again, "the end of a rollout could not be recorded");
                on.watched.lock().rests_until = Some(Instant::now() + AGAIN_AFTER);
            }
        }
        any
    }

    async fn look(&self, entry: &Arc<Entry>, on: &OnTrial, active: &Loaded) -> Result<(), DeployError> {
        let now = Instant::now();
        if on.watched.lock().rests_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        let due = match on.record.plan {
            RolloutPlan::Canary { promote_after, .. } => {
                let (sums, part) = (self.sums(entry, on, active), self.part(entry, on));
                on.judged(&entry.name, active, promote_after, now, (&sums, part.as_ref()))
            }
            RolloutPlan::Shadow { .. } => {
                self.has_had_its_time(&on.record).then(|| (Due::End, on.timed(active, &self.sums(entry, on, active))))
            }
        };
        let Some((due, why)) = due else { return Ok(()) };
        if due == Due::End {
            // Whether or not that can be recorded now.
            on.see_no_more();
        }
        // Somebody who ends it by hand has it; what was seen now is seen the next time too.
        let Ok(_busy) = entry.busy(HOST) else { return Ok(()) };
        let end = match due {
            Due::Abort => {
                // What is not recorded is told, and looked after from here on.
                let _unrecorded = self.abort_now(entry, on, HOST, &why).await;
                return Ok(());
            }
            Due::Promote if self.cluster.is_none() => return self.promote_now(entry, on, HOST, &why).await,
            Due::End if self.cluster.is_none() => return self.end_now(entry, on, HOST, &why).await,
            Due::Promote => End::Promote,
            Due::End => End::Over,
        };
        let Some(cluster) = &self.cluster else { return Ok(()) };
        match self.end_in_cluster(cluster, entry, end, Some(on.record.number), HOST, Some(&why)).await {
            // Another host saw it first.
            Ok(_) | Err(DeployError::Cluster(ClusterError::Conflict(_))) => Ok(()),
            Err(error) if error.is_not_tried() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a promotion waits for of a cluster; a host by itself waits for no other.
fn others(part: Option<&Part>) -> Others<'_> {
    match part {
        Some(Part { is_seen: false, .. }) => Others::Unseen,
        Some(Part { not_yet, .. }) if !not_yet.is_empty() => Others::NotYet(not_yet),
        Some(_) | None => Others::Begun,
    }
}

impl OnTrial {
    /// What is due for a canary and why, by what both versions came to, and on which hosts.
    fn judged(
        &self,
        handler: &str,
        active: &Loaded,
        promote_after: Option<Duration>,
        now: Instant,
        (sums, part): (&Sums, Option<&Part>),
    ) -> Option<(Due, String)> {
        let (next, looks) = decide(&Situation {
            stable: &sums.stable,
            candidate: &sums.candidate,
            judges: sums.hosts,
            elapsed: now.saturating_duration_since(self.watched.since),
            promote_after,
            others: others(part),
            looks: self.watched.lock().looks,
        });
        match next {
            Next::Wait(waits) => {
                self.wait(handler, waits, looks);
                None
            }
            Next::Abort(objection) => Some((Due::Abort, objection.to_string())),
            Next::Promote => Some((Due::Promote, format!("nothing spoke against it: {}", self.told(active, sums)))),
        }
    }

    /// Why a shadow ends that has had its time.
    fn timed(&self, active: &Loaded, sums: &Sums) -> String {
        format!("it had its time: {}", self.told(active, sums))
    }

    /// A shadow takes no copies any more, while its end is not recorded yet.
    pub(super) fn see_no_more(&self) {
        self.trial.end();
    }

    fn wait(&self, handler: &str, waits: Waits, looks: Looks) {
        let mut state = self.watched.lock();
        state.looks = looks;
        let kind = std::mem::discriminant(&waits);
        if waits.is_overdue() && state.told.replace(kind) != Some(kind) {
            tracing::warn!(handler, version = self.record.number, "the canary {waits}");
        }
    }

    /// What it waits for, in words; `part`: who takes part of a cluster.
    pub(in crate::deploy) fn note(&self, sums: &Sums, part: Option<&Part>, now: SystemTime) -> String {
        if let Some(counts) = &sums.shadow {
            return shadow::note(counts, sums.hosts, shadow::left(self.record.ends_at(), now));
        }
        let (elapsed, after) = (self.watched.since.elapsed(), self.record.plan.after());
        let waits = waits(&sums.stable, &sums.candidate, elapsed, after, others(part));
        waits.map_or_else(|| "is about to be promoted".to_owned(), |waits| waits.to_string())
    }
}
