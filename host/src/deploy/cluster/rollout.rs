//! A version that is tried on every host: begun, followed and ended through what is to run, judged by the counts of all.
//!
//! Invariants:
//! - It begins and ends by compare-and-set: of two who end it at once, and of two who begin one, one is told of the other.
//! - No host counts as one that tries it but those on which it has passed every step. A host on which it fails one ends it
//!   for all, and says which host that is and why.

use std::sync::Arc;

use super::Ready;
use crate::cluster::record::{Changed, Desired, What};
use crate::cluster::{Basis, Cluster, ClusterError, Counts};
use crate::deploy::entry::Entry;
use crate::deploy::report::{HostSides, OnAllHosts, RolloutView, Tally};
use crate::deploy::rollout::{HOST, OnTrial, Sums};
use crate::deploy::{DeployError, Deployments, check_granted};
use crate::registry::{Digest, RolloutPlan};

/// How a rollout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::deploy) enum End {
    /// What was tried becomes the active version.
    Promote,
    /// The active version stays.
    Abort,
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

/// Refuses to begin a rollout beside another version than the one that is to run, and one that only a host by itself has.
pub(in crate::deploy) fn check_tried_in(entry: &Entry, basis: &Basis, plan: &RolloutPlan) -> Result<(), DeployError> {
    match plan {
        RolloutPlan::Shadow { .. } => return Err(ClusterError::NoShadow.into()),
        RolloutPlan::Canary { .. } => {}
    }
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
        let Changed { by, host, why, .. } = &desired.change;
        tracing::warn!(handler, version, by, host, why, "what was tried in the cluster is not tried any more");
    }
}

fn is_tried(on: &OnTrial, desired: &Desired) -> bool {
    let tried = desired.tried_version();
    tried.is_some_and(|tried| tried.number == on.record.number && tried.digest == on.digest)
}

/// Whether a host that fails so at a version says something about the version there, and not about the moment.
const fn speaks_against(error: &DeployError) -> bool {
    match error {
        DeployError::Signature(_)
        | DeployError::Refused(_)
        | DeployError::Init { .. }
        | DeployError::Golden(_)
        | DeployError::Unexpected { .. }
        | DeployError::NotGranted { .. }
        | DeployError::Unloadable { .. } => true,
        DeployError::NoHandler { .. }
        | DeployError::Busy { .. }
        | DeployError::NoVersion { .. }
        | DeployError::AlreadyActive { .. }
        | DeployError::RolloutOn { .. }
        | DeployError::NoRollout { .. }
        | DeployError::NothingBeside { .. }
        | DeployError::WholeCanary
        | DeployError::Unreadable { .. }
        | DeployError::Configured { .. }
        | DeployError::Cluster(_)
        | DeployError::Registry(_) => false,
    }
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
            Err(error) if speaks_against(&error) => {
                let (host, why) = (&cluster.me().host, error.chain());
                let why = format!("host `{host}` cannot run version {}: {why}", version.number);
                let change = Changed::now(What::Aborted, HOST, host).because(&why);
                let Some(after) = desired.aborted(change) else { return Ok(()) };
                cluster.change(&entry.name, basis, &after).await?;
                self.take_over(&entry.name, &after, false, None).await?;
                self.count_end(entry, "aborted", HOST);
                tracing::error!(handler = entry.name, why, "what was tried in the cluster is aborted");
                return Ok(());
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
        if number.is_some_and(|number| number != version.number) {
            return Err(no_rollout());
        }
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
            End::Abort => (desired.aborted(change(What::Aborted)), None),
        };
        cluster.change(handler, &basis, &after.clone().ok_or_else(no_rollout)?).await?;
        crate::failpoint::reached("proposed");
        self.take_over(handler, &after.ok_or_else(no_rollout)?, false, None).await?;
        let tried = version.number;
        match loaded {
            Some(loaded) => {
                crate::failpoint::reached("promoted");
                entry.switch(loaded);
                self.count_end(entry, "promoted", by);
                tracing::info!(handler, version = tried, by, why, "promoted on every host");
            }
            None => {
                crate::failpoint::reached("aborted");
                entry.end_trial();
                self.count_end(entry, "aborted", by);
                tracing::warn!(handler, version = tried, by, why, "aborted on every host");
            }
        }
        cluster.touch();
        Ok((desired.active, tried, version.digest.clone()))
    }

    /// What both versions came to on the other hosts, as far as they said it; by the hosts' names.
    fn elsewhere(&self, entry: &Entry, on: &OnTrial, beside: u64) -> Vec<(String, Counts)> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        cluster.hosts().counts(cluster.me(), &entry.name, on.record.number, beside).into_iter().collect()
    }

    /// What this host says of a handler of which a version is tried here.
    pub(super) fn counts(entry: &Entry) -> Option<Counts> {
        let (on, active) = entry.on_trial().zip(entry.active())?;
        let Sums { stable, candidate, .. } = on.sums();
        Some(Counts { version: on.record.number, beside: active.deployed.number, stable, candidate })
    }

    /// Adds to what is shown of a rollout what it came to on all hosts.
    pub(in crate::deploy) fn shown_on_all_hosts(&self, entry: &Entry, view: &mut RolloutView) {
        let (Some(cluster), Some(on), Some(active)) = (&self.cluster, entry.on_trial(), entry.active()) else { return };
        let others = self.elsewhere(entry, &on, active.deployed.number);
        let sums = on.sums_with(others.iter().map(|(_, counts)| (&counts.stable, &counts.candidate)));
        view.note = on.note(&sums);
        let ours = on.sums();
        let mut hosts = vec![HostSides {
            host: cluster.me().host.clone(),
            stable: Tally::of(&ours.stable),
            candidate: Tally::of(&ours.candidate),
        }];
        hosts.extend(others.into_iter().map(|(host, counts)| HostSides {
            host,
            stable: Tally::of(&counts.stable),
            candidate: Tally::of(&counts.candidate),
        }));
        hosts.sort_by(|one, other| one.host.cmp(&other.host));
        let (stable, candidate) = (Tally::of(&sums.stable), Tally::of(&sums.candidate));
        view.cluster = Some(OnAllHosts { stable, candidate, hosts });
    }

    /// What both versions came to on all hosts.
    pub(in crate::deploy) fn sums(&self, entry: &Entry, on: &OnTrial, active: &crate::deploy::entry::Loaded) -> Sums {
        let others = self.elsewhere(entry, on, active.deployed.number);
        on.sums_with(others.iter().map(|(_, counts)| (&counts.stable, &counts.candidate)))
    }
}
