//! Brings a handler of this host to what is to run in the cluster.

use std::sync::Arc;
use std::time::Instant;

use super::Ready;
use super::rollout::end_what_is_over;
use crate::cluster::record::{Changed, Desired, DesiredVersion, What};
use crate::cluster::{Basis, Cluster, ClusterError, Next, next};
use crate::deploy::entry::{Entry, Loaded, Terms};
use crate::deploy::pipeline::{self, Checked, Uploaded};
use crate::deploy::say::Say;
use crate::deploy::turn::Busy;
use crate::deploy::verdict::verdict;
use crate::deploy::{DeployError, Deployments, Provenance, check_granted};
use crate::registry::{Digest, RegistryError};

/// Who deploys what others deployed.
pub(in crate::deploy) const CLUSTER: &str = "cluster";
/// How far back the history is looked at for the end of a rollout, which is the last that happened in the cluster.
const RECENT: u32 = 50;
/// How often somebody else may be first before this is tried again later: each time something has changed for all.
const TRIES: u32 = 5;

impl Deployments {
    /// Brings a handler to what is to run, and what the configuration changes to the cluster.
    pub(in crate::deploy) async fn reconcile(&self, cluster: &Cluster, entry: &Arc<Entry>) -> Result<(), DeployError> {
        let busy = entry.busy(CLUSTER)?;
        self.reconcile_held(cluster, entry, busy).await
    }

    /// The same for somebody who waits for it: what this host does with the handler by itself just now, as to follow the cluster,
    /// is waited for.
    pub(in crate::deploy) async fn reconcile_soon(
        &self,
        cluster: &Cluster,
        entry: &Arc<Entry>,
    ) -> Result<(), DeployError> {
        let busy = entry.busy_soon(CLUSTER).await?;
        self.reconcile_held(cluster, entry, busy).await
    }

    async fn reconcile_held(&self, cluster: &Cluster, entry: &Arc<Entry>, _busy: Busy) -> Result<(), DeployError> {
        let mut tries = 1;
        loop {
            match self.reconcile_once(cluster, entry).await {
                Err(DeployError::Cluster(ClusterError::Conflict(_) | ClusterError::Removed { .. }))
                    if tries < TRIES =>
                {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// What is to run of a handler, to be changed from there. Where the cluster knows nothing of it, because it is new
    /// there or its bucket was lost, what this host has is brought first: so numbers go on, and nothing that runs is
    /// forgotten.
    pub(in crate::deploy) async fn basis(&self, cluster: &Cluster, handler: &str) -> Result<Basis, DeployError> {
        let mut basis = cluster.basis(handler).await?;
        if basis.desired.is_none() {
            match self.bring(cluster, handler, &basis).await {
                // Somebody else brought it.
                Ok(()) | Err(DeployError::Cluster(ClusterError::Conflict(_) | ClusterError::Removed { .. })) => {}
                Err(error) => return Err(error),
            }
            basis = cluster.basis(handler).await?;
        }
        cluster.hosts().wanted(handler, basis.desired.as_ref(), basis.revision);
        Ok(basis)
    }

    async fn reconcile_once(&self, cluster: &Cluster, entry: &Arc<Entry>) -> Result<(), DeployError> {
        let basis = self.basis(cluster, &entry.name).await?;
        let mut refused = Ok(());
        if entry.is_unplanned() {
            match Box::pin(self.plan_in_cluster(cluster, entry, &basis)).await {
                Ok(true) => {
                    // What is deployed makes something else superfluous, whichever way it is deployed.
                    self.collect_in_cluster().await;
                    return Ok(());
                }
                Ok(false) => {}
                // What the configuration names cannot run: what the cluster has runs all the same.
                Err(
                    error @ (DeployError::Configured { .. }
                    | DeployError::Unreadable { .. }
                    | DeployError::Overtaken { .. }),
                ) => {
                    // What it grants may be there at the next look, and the machine have less to do.
                    entry.set_unplanned(verdict(&error).passes());
                    refused = Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        let active = entry.active();
        let digest = active.as_ref().and_then(|active| active.deployed.handler.digest().parse::<Digest>().ok());
        let runs = active.as_ref().zip(digest.as_ref());
        let runs = runs.map(|(active, digest)| (active.deployed.number, digest, &active.settings));
        if let Some(desired) = &basis.desired {
            end_what_is_over(entry, desired);
        }
        match (next(basis.desired.as_ref(), runs), &basis.desired) {
            (Next::Runs, Some(desired)) => self.mirror(&entry.name, desired).await?,
            (Next::Take, Some(desired)) => {
                let taken = Box::pin(self.take(cluster, entry, desired)).await;
                // Why the configuration's own is not there is told, and that is tried again.
                if refused.as_ref().err().is_none_or(|refused| !verdict(refused).passes()) {
                    taken?;
                }
            }
            // What could be brought was: of this one the module is gone.
            (Next::Bring | Next::Wait | Next::Runs | Next::Take, _) => {}
        }
        if let Some(desired) = &basis.desired {
            Box::pin(self.try_what_is_tried(cluster, entry, &basis, desired)).await?;
        }
        refused
    }

    /// Records what else the cluster says of a handler whose active version runs: versions that were forgotten, and what each took the place of.
    async fn mirror(&self, handler: &str, desired: &Desired) -> Result<(), DeployError> {
        let record = self.registry.handler(handler).await?;
        let same = |ours: &crate::registry::VersionRecord, theirs: &DesiredVersion| {
            ours.number == theirs.number
                && ours.digest == theirs.digest
                && ours.settings == theirs.settings
                && ours.replaced == theirs.replaced
        };
        let is_same = record.versions.len() == desired.versions.len()
            && record.versions.iter().zip(&desired.versions).all(|(ours, theirs)| same(ours, theirs));
        // What is tried is recorded when it is tried here.
        let is_over = record.rollout.as_ref().map(|rollout| rollout.number)
            != desired.rollout.as_ref().map(|rollout| rollout.version)
            && record.rollout.is_some();
        // That it ended is told here too where it was never tried.
        let ended_as = desired.change.what.ends_as();
        let is_untold = match desired.change.ended {
            Some(ended) => {
                let history = self.registry.history(handler, RECENT).await?;
                !history.iter().any(|one| one.number == Some(ended) && one.event == ended_as.name())
            }
            None => false,
        };
        if is_same && record.active == Some(desired.active) && !is_over && !is_untold {
            return Ok(());
        }
        self.take_over(handler, desired, false, None).await
    }

    /// Takes the version that is to run through every step of a deploy, and makes it the active one here.
    async fn take(&self, cluster: &Cluster, entry: &Arc<Entry>, desired: &Desired) -> Result<(), DeployError> {
        let begun = Instant::now();
        let Some(version) = desired.active_version() else { return Ok(()) };
        cluster.touch();
        check_granted(entry, version.number, &version.settings)?;
        let Ready { loaded, .. } = self.ready(cluster, entry, version).await?;
        crate::failpoint::reached("follower-checked");
        if let Err(error) = self.take_over(&entry.name, desired, false, None).await {
            entry.keep_loaded(loaded);
            return Err(error);
        }
        crate::failpoint::reached("follower-recorded");
        entry.switch(loaded);
        cluster.touch();
        let (handler, version, digest) = (&entry.name, version.number, &version.digest);
        let (by, host) = (&desired.change.by, &desired.change.host);
        tracing::info!(handler, version, %digest, by, host, took = ?begun.elapsed(), "taken from the cluster");
        if let Err(error) = self.collect().await {
            tracing::warn!(%error, "old versions could not be removed; the next deploy tries again");
        }
        Ok(())
    }

    /// A version of the cluster, ready to run here: as it is in memory, or taken through every step.
    pub(in crate::deploy) async fn ready(
        &self,
        cluster: &Cluster,
        entry: &Arc<Entry>,
        version: &DesiredVersion,
    ) -> Result<Ready, DeployError> {
        let is_it = |loaded: &Loaded| {
            loaded.deployed.handler.digest() == version.digest.as_str() && loaded.settings == version.settings
        };
        let again = |loaded: &Loaded| {
            Loaded::new(version.number, Arc::clone(&loaded.version), &version.settings, &self.metrics)
        };
        let tried = entry.on_trial().filter(|on| on.record.number == version.number).map(|on| on.loaded);
        if let Some(loaded) = tried.filter(is_it) {
            return Ok(Ready { loaded, was_loaded: true });
        }
        if let Some(active) = entry.active().filter(is_it) {
            return Ok(Ready { loaded: again(&active), was_loaded: true });
        }
        if let Some(loaded) = entry.take_loaded(version.number).filter(is_it) {
            return Ok(Ready { loaded, was_loaded: true });
        }
        let begun = Instant::now();
        let kept = self.fetch(cluster, version).await?;
        let provenance = Provenance { by: version.deployed_by.clone(), source: version.source.clone() };
        let signature = version.signature();
        let uploaded = Uploaded { kept, took: begun.elapsed(), signature, provenance, plan: None, basis: None };
        let terms = Terms { settings: version.settings.clone(), ..(*entry.terms()).clone() };
        match pipeline::check(self, entry, &uploaded, &terms, &Say::nothing()).await {
            Ok(Checked::New(passed)) => {
                let (loaded, _told) = passed.loaded(&self.metrics, entry, version.number);
                Ok(Ready { loaded, was_loaded: false })
            }
            Ok(Checked::Same(_)) => match entry.active() {
                Some(active) => Ok(Ready { loaded: again(&active), was_loaded: true }),
                None => Err(DeployError::NoVersion { handler: entry.name.clone(), number: Some(version.number) }),
            },
            Err(stopped) => Err(stopped.error),
        }
    }

    /// Brings what this host ran before it was in the cluster, or before the cluster forgot it.
    async fn bring(&self, cluster: &Cluster, handler: &str, basis: &Basis) -> Result<(), DeployError> {
        let record = self.registry.handler(handler).await?;
        let Some(active) = record.active else { return Ok(()) };
        let next = record.versions.iter().map(|version| version.number).max().unwrap_or_default() + 1;
        let mut versions = Vec::new();
        for version in record.versions {
            match self.share(cluster, &version.digest).await {
                Ok(()) => {
                    let signature = self.registry.signature(&version.digest).await?;
                    versions.push((version, signature));
                }
                // Nobody could run it.
                Err(DeployError::Registry(RegistryError::NoModule { .. } | RegistryError::Damaged { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        let change = Changed::now(What::Brought, CLUSTER, &cluster.me().host);
        let rollout = record.rollout.as_ref();
        let Some(desired) = Desired::brought(active, next, &versions, rollout, change) else { return Ok(()) };
        cluster.change(handler, basis, &desired).await?;
        tracing::info!(handler, version = active, "the cluster runs what this host ran");
        self.take_over(handler, &desired, false, None).await
    }
}
