//! A version that is tried on every host: begun, followed and ended through what is to run, judged by the counts of all.
//!
//! Invariants:
//! - It begins and ends by compare-and-set: of two who end it at once, and of two who begin one, one is told of the other.
//! - A shadow that has had its time by the server's clock sees nothing more on any host, whoever ends it and whenever.
//! - No host counts as one that tries it but those on which it has passed every step. A host on which it fails one ends it
//!   for all, and says which host that is and why; one that had too much to do tries it again.

use std::sync::Arc;

use super::Ready;
use crate::cluster::record::{Changed, Desired, What};
use crate::cluster::{Basis, Cluster, ClusterError};
use crate::deploy::entry::Entry;
use crate::deploy::own::Own;
use crate::deploy::rollout::{HOST, OnTrial, check_number};
use crate::deploy::verdict::{Verdict, verdict};
use crate::deploy::{DeployError, Deployments, check_granted};
use crate::registry::Digest;

/// How a rollout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::deploy) enum End {
    /// What was tried becomes the active version.
    Promote,
    /// The active version stays.
    Abort,
    /// The same, because a shadow has had its time.
    Over,
}

impl End {
    /// What it is when the host does it.
    const fn own(self) -> Own {
        match self {
            Self::Promote => Own::Promoted,
            Self::Abort => Own::Aborted,
            Self::Over => Own::Ended,
        }
    }
}

/// Refuses what would change the versions of a handler while one is tried in the cluster.
pub(in crate::deploy) fn check_none_in(handler: &str, basis: &Basis) -> Result<(), DeployError> {
    match basis.desired.as_ref().and_then(|desired| desired.rollout.as_ref()) {
        None => Ok(()),
        Some(rollout) => {
            let (handler, number, kind) = (handler.to_owned(), rollout.version, rollout.kind.name());
            Err(DeployError::RolloutOn { handler, number, kind })
        }
    }
}

/// Refuses to begin a rollout beside another version than the one that is to run.
pub(in crate::deploy) fn check_tried_in(entry: &Entry, basis: &Basis) -> Result<(), DeployError> {
    let runs = entry.active().map(|active| active.deployed.number);
    match basis.desired.as_ref().map(|desired| desired.active) {
        Some(number) if runs != Some(number) => {
            Err(ClusterError::NotCurrent { handler: entry.name.clone(), number }.into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Ends a trial here that is not what is tried in the cluster any more; unless it became the active version, which is a
/// switch of its own.
pub(super) fn end_what_is_over(entry: &Entry, desired: &Desired) {
    let Some(on) = entry.on_trial() else { return };
    if !is_tried(&on, desired) && on.record.number != desired.active {
        entry.end_trial();
        let (handler, version) = (&entry.name, on.record.number);
        let Changed { what, by, host, why, .. } = &desired.change;
        match what {
            What::Ended => tracing::info!(handler, version, by, host, why, "the shadow in the cluster had its time"),
            What::Deployed
            | What::RolledBack
            | What::Brought
            | What::CanaryStarted
            | What::ShadowStarted
            | What::Promoted
            | What::Aborted => {
                tracing::warn!(handler, version, by, host, why, "what was tried in the cluster is not tried any more");
            }
        }
    }
}

fn is_tried(on: &OnTrial, desired: &Desired) -> bool {
    let tried = desired.tried_version();
    tried.is_some_and(|tried| tried.number == on.record.number && tried.digest == on.digest)
}

impl Deployments {
    /// Takes what is tried in the cluster through every step of a deploy, and tries it here too. When it fails one, it is
    /// not tried anywhere any more.
    pub(super) async fn try_what_is_tried(
        &self,
        cluster: &Cluster,
        entry: &Arc<Entry>,
        basis: &Basis,
        desired: &Desired,
    ) -> Result<(), DeployError> {
        let (Some(rollout), Some(version)) = (&desired.rollout, desired.tried_version()) else { return Ok(()) };
        if entry.on_trial().is_some_and(|on| is_tried(&on, desired)) {
            return Ok(());
        }
        // It is over for this host, and will be for all as soon as the cluster can be told.
        if entry.unrecorded().is_some_and(|over| over.number == version.number) {
            return Ok(());
        }
        if self.has_had_its_time(&rollout.record()) {
            // No host that was there could end it.
            let (number, why) = (Some(version.number), "it had its time");
            return match Box::pin(self.end_in_cluster(cluster, entry, End::Over, number, HOST, Some(why))).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_not_tried() => Ok(()),
                Err(error) => Err(error),
            };
        }
        // Beside another version it would be compared with something else than elsewhere.
        if entry.active().is_none_or(|active| active.deployed.number != desired.active) {
            return Ok(());
        }
        let ready = match check_granted(entry, version.number, &version.settings) {
            Ok(()) => self.ready(cluster, entry, version).await,
            Err(error) => Err(error),
        };
        let loaded = match ready {
            Ok(Ready { loaded, .. }) => loaded,
            Err(error) if verdict(&error) == Verdict::Against => {
                let (host, why) = (&cluster.me().host, error.chain());
                let why = format!("host `{host}` cannot run version {}: {why}", version.number);
                let change = Changed::now(What::Aborted, HOST, host).because(&why);
                let Some(after) = desired.ended(change) else { return Ok(()) };
                cluster.change(&entry.name, basis, &after).await?;
                tracing::error!(handler = entry.name, why, "what was tried in the cluster is aborted");
                // It is over for all, whether or not this host can record that.
                self.tell_end(entry, (Own::Aborted, version.number), HOST, &why).await;
                return self.take_over(&entry.name, &after, false, None).await;
            }
            Err(error) => return Err(error),
        };
        crate::failpoint::reached("follower-checked");
        self.take_over(&entry.name, desired, true, None).await?;
        crate::failpoint::reached("follower-recorded");
        let (handler, number, host) = (&entry.name, version.number, &desired.change.host);
        tracing::info!(handler, version = number, host, "what is tried in the cluster is tried here");
        self.begin_trial(entry, loaded, version.digest.clone(), rollout.record());
        cluster.touch();
        Ok(())
    }

    /// Ends what is tried, on every host; for whoever holds the handler. `number`: only when that version is tried.
    /// `why`: nothing: what both versions came to. Gives back the version that was active, the one that was tried, and its
    /// module.
    pub(in crate::deploy) async fn end_in_cluster(
        &self,
        cluster: &Cluster,
        entry: &Arc<Entry>,
        end: End,
        number: Option<u64>,
        by: &str,
        why: Option<&str>,
    ) -> Result<(u64, u64, Digest), DeployError> {
        let handler = &entry.name;
        let no_rollout = || DeployError::NoRollout { handler: handler.clone() };
        let basis = cluster.basis(handler).await?;
        let desired = basis.desired.as_ref().ok_or_else(no_rollout)?;
        let version = desired.tried_version().ok_or_else(no_rollout)?;
        check_number(handler, number, version.number)?;
        let on = entry.on_trial().filter(|on| is_tried(on, desired)).zip(entry.active());
        let told = on.map(|(on, active)| on.told(&active, &self.sums(entry, &on, &active)));
        let why = why.map(str::to_owned).or(told).unwrap_or_default();
        let change = |what| Changed::now(what, by, &cluster.me().host).because(&why);
        // What cannot run here is not promoted from here.
        let (after, loaded) = match end {
            End::Promote => {
                check_granted(entry, version.number, &version.settings)?;
                let Ready { loaded, .. } = self.ready(cluster, entry, version).await?;
                (desired.promoted(change(What::Promoted)), Some(loaded))
            }
            End::Abort => (desired.ended(change(What::Aborted)), None),
            End::Over => (desired.ended(change(What::Ended)), None),
        };
        let after = after.ok_or_else(no_rollout)?;
        cluster.change(handler, &basis, &after).await?;
        crate::failpoint::reached("proposed");
        let recorded = self.take_over(handler, &after, false, None).await;
        let tried = version.number;
        if recorded.is_ok() {
            crate::failpoint::reached(end.own().name());
        }
        // From here on it is over for all hosts, whether or not this one can record that: it follows as the others do.
        match (loaded, &recorded) {
            (Some(loaded), Ok(())) => entry.switch(loaded),
            // The records change before the slot.
            (Some(loaded), Err(_)) => entry.keep_loaded(loaded),
            (None, _) => entry.end_trial(),
        }
        match end {
            End::Promote => tracing::info!(handler, version = tried, by, why, "promoted on every host"),
            End::Abort => tracing::warn!(handler, version = tried, by, why, "aborted on every host"),
            End::Over => tracing::info!(handler, version = tried, by, why, "the shadow had its time on every host"),
        }
        self.tell_end(entry, (end.own(), tried), by, &why).await;
        cluster.touch();
        recorded?;
        Ok((desired.active, tried, version.digest.clone()))
    }
}
