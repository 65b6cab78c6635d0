//! Deploying in a cluster: what is to run is changed there first, and then taken here as on every other host.
//!
//! ```text
//! propose (module into the object store, compare-and-set) -> take over (records) -> switch
//! reconcile: what is to run, against what runs -> fetch, every step of a deploy -> take over -> switch
//! ```
//!
//! What is tried is a part of what is to run, and goes the same way.
//!
//! Invariants:
//! - The records of a host are those of the cluster, under its numbers, once the host has taken them over.
//! - Killed at any step, the host runs the old or the new version whole, and takes what is to run at its next start.

mod member;
mod reconcile;
mod rollout;
mod share;
mod together;
mod under_way;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::entry::{Entry, Loaded};
use super::report::RolledBack;
use super::{DeployError, Deployments, check_granted};
use crate::cluster::record::{Changed, Desired, DesiredRollout, What};
use crate::cluster::report::ClusterView;
use crate::cluster::{Basis, Cluster, ClusterError};
use crate::registry::{Configured, Event, Followed, NewVersion, RolloutPlan};

pub(super) use reconcile::CLUSTER;
pub(super) use rollout::{End, check_none_in, check_tried_in};

impl Deployments {
    /// The cluster as this host sees it; `None`: it is in none.
    #[must_use]
    pub fn cluster_view(&self) -> Option<ClusterView> {
        self.cluster.as_ref().map(|cluster| cluster.hosts().view(cluster.me()))
    }

    /// Makes a version that has passed every step here the one that is to run on every host; or that is to be tried there, by
    /// a plan.
    pub(super) async fn propose(
        &self,
        cluster: &Cluster,
        basis: &Basis,
        new: &NewVersion,
        plan: Option<&RolloutPlan>,
    ) -> Result<Desired, DeployError> {
        self.share(cluster, &new.digest).await?;
        crate::failpoint::reached("shared");
        let signature = self.registry.signature(&new.digest).await?;
        let change = |what| Changed::now(what, &new.deployed_by, &cluster.me().host);
        let (before, signature) = (basis.desired.as_ref(), signature.as_ref());
        let keep = self.keep_versions.load(Ordering::Relaxed);
        let desired = match plan {
            None => Desired::deployed(before, new, signature, keep, change(What::Deployed)),
            Some(plan) => {
                let before = before.ok_or_else(|| ClusterError::Removed { handler: new.handler.clone() })?;
                let why = format!("{} of the messages; {}", plan.share(), new.source);
                let what = match plan {
                    RolloutPlan::Canary { .. } => What::CanaryStarted,
                    RolloutPlan::Shadow { .. } => What::ShadowStarted,
                };
                before.tried(new, signature, plan, keep, cluster.now(), change(what).because(&why))
            }
        };
        cluster.change(&new.handler, basis, &desired).await?;
        crate::failpoint::reached("proposed");
        Ok(desired)
    }

    /// Records what is to run as what this host has; `tries`: what is tried is tried here too, from now on.
    pub(super) async fn take_over(
        &self,
        handler: &str,
        desired: &Desired,
        tries: bool,
        configured: Option<Configured>,
    ) -> Result<(), DeployError> {
        let change = &desired.change;
        let is_ours = self.cluster.as_ref().is_some_and(|cluster| cluster.me().host == change.host);
        let event = match change.what {
            What::Deployed if is_ours => Event::Deployed,
            What::RolledBack if is_ours => Event::RolledBack,
            What::Promoted => Event::Promoted,
            What::Deployed | What::RolledBack | What::Brought => Event::Followed,
            What::CanaryStarted | What::ShadowStarted | What::Aborted | What::Ended => Event::Followed,
        };
        let colon = if change.why.is_empty() { "" } else { ": " };
        let detail = format!("{} on host {}{colon}{}", change.what.name(), change.host, change.why);
        let why_ended = match change.what {
            What::Aborted | What::Ended => detail.clone(),
            What::Deployed
            | What::RolledBack
            | What::Brought
            | What::CanaryStarted
            | What::ShadowStarted
            | What::Promoted => format!("version {} was made the active one", desired.active),
        };
        let followed = Followed {
            name: handler.to_owned(),
            active: desired.active,
            next: desired.next,
            versions: desired.records(),
            rollout: desired.rollout.as_ref().map(DesiredRollout::record),
            tries,
            event,
            by: change.by.clone(),
            detail,
            ended: change.ended,
            ended_as: change.what.ends_as(),
            why_ended,
            configured,
        };
        let recorded = self.registry.follow(followed).await;
        let number = desired.active;
        recorded.map_err(|source| ClusterError::NotRecorded { number, source: Box::new(source) })?;
        if let Some(cluster) = &self.cluster {
            cluster.hosts().trouble(handler, None);
            cluster.touch();
        }
        Ok(())
    }

    /// Makes a version of before the one that is to run on every host.
    pub(super) async fn roll_back_in(
        &self,
        cluster: &Cluster,
        entry: &Arc<Entry>,
        to: Option<u64>,
        by: &str,
    ) -> Result<RolledBack, DeployError> {
        let begun = Instant::now();
        let handler = entry.name.clone();
        let basis = self.basis(cluster, &handler).await?;
        let no_version = || DeployError::NoVersion { handler: handler.clone(), number: to };
        let desired = basis.desired.as_ref().ok_or_else(no_version)?;
        check_none_in(&handler, &basis)?;
        let found = match to {
            Some(number) => desired.version(number),
            None => desired.previous(),
        };
        let target = found.ok_or_else(no_version)?;
        let runs = entry.active().map(|active| active.deployed.number);
        if desired.active == target.number && runs == Some(target.number) {
            return Err(DeployError::AlreadyActive { handler, number: target.number });
        }
        check_granted(entry, target.number, &target.settings)?;
        let Ready { loaded, was_loaded } = self.ready(cluster, entry, target).await?;
        let change = Changed::now(What::RolledBack, by, &cluster.me().host);
        let after = desired.rolled_back(target.number, change);
        let changed = async {
            self.share(cluster, &target.digest).await?;
            crate::failpoint::reached("shared");
            cluster.change(&handler, &basis, &after).await?;
            crate::failpoint::reached("proposed");
            self.take_over(&handler, &after, false, None).await
        };
        if let Err(error) = changed.await {
            entry.keep_loaded(loaded);
            return Err(error);
        }
        crate::failpoint::reached("recorded");
        entry.switch(loaded);
        cluster.touch();
        tracing::info!(handler, from = ?runs, to = target.number, by, "rolled back in the cluster");
        let (to, digest, ms) = (target.number, target.digest.clone(), begun.elapsed().as_secs_f64() * 1e3);
        Ok(RolledBack { handler, from: runs, to, digest, was_loaded, ms })
    }
}

/// A version that is ready to run here.
pub(super) struct Ready {
    pub(super) loaded: Loaded,
    /// Whether it was in memory.
    was_loaded: bool,
}
