//! Rollouts: a version is tried beside the active one before it takes its place.
//!
//! Invariants:
//! - A version that is tried has passed every step of a deploy, and is recorded as tried before a message runs on it:
//!   whatever the host dies of, the next start goes on with the rollout, or has never begun it.
//! - While one is on, the versions of its handler do not change otherwise: another deploy and a rollback are refused.
//!   Only what the configuration deploys, at a start or when it is applied, ends it; who applies one is shown that it will.
//! - What is decided of a canary follows from counts alone ([`judge`]), and of a shadow from the time ([`shadow`]); what carries
//!   it out ([`mod@watch`]) decides nothing.
//! - Promoting changes the records before the slot, as every switch does. Aborting changes the slot first ([`abort`]): what
//!   speaks against a version does not wait for a disk that is full.
//! - What is recorded and not on goes on after a load that may take minutes ([`resume`]): in its handler's turn, and when the
//!   records still say so then.
//! - In a cluster all of it goes through what is to run there, and the counts are those of all hosts (`deploy/cluster`).

mod abort;
mod exact;
mod held;
mod judge;
mod resume;
mod shadow;
mod sums;
mod view;
mod waits;
mod watch;

use std::sync::{Arc, PoisonError};

pub(super) use abort::Unrecorded;
pub(super) use held::Held;
pub(super) use sums::Sums;
pub(super) use view::plan_view;
use watch::Watched;
pub(super) use watch::watch;

use super::cluster::End;
use super::entry::{Entry, Loaded};
use super::own::{Own, OwnAct};
use super::report::{Aborted, Promoted};
use super::{DeployError, Deployments, check_granted};
use crate::dispatch::{Share, Trial, Way, Work};
use crate::registry::{Digest, RegistryError, RolloutPlan, RolloutRecord};
use crate::telemetry::{Metrics, RolloutSide, ShownRollout, SideFigures};

/// Who promotes and aborts by itself.
pub(super) const HOST: &str = "host";

/// A version that is tried on this host.
#[derive(Clone)]
pub(super) struct OnTrial {
    pub(super) loaded: Loaded,
    pub(super) digest: Digest,
    pub(super) trial: Arc<Trial>,
    pub(super) record: RolloutRecord,
    watched: Arc<Watched>,
    _shown: Arc<ShownRollout>,
}

impl OnTrial {
    /// A version that is tried from now on, beside the active one; and the work of a shadow, which is to be run.
    fn new(
        loaded: Loaded,
        digest: Digest,
        record: RolloutRecord,
        active: &Loaded,
        metrics: &Metrics,
    ) -> (Self, Option<Work>) {
        let candidate = Arc::clone(&loaded.deployed);
        let (trial, work) = match record.plan {
            RolloutPlan::Canary { share, .. } => (Trial::canary(candidate, share), None),
            RolloutPlan::Shadow { share, .. } => {
                let (trial, work) = Trial::shadow(candidate, share);
                (trial, Some(work))
            }
        };
        let side = |role, of: &Loaded, figures: &Arc<SideFigures>| RolloutSide {
            role,
            version: of.deployed.number,
            figures: Arc::clone(figures),
        };
        let (stable, tried) = (side("stable", active, &trial.stable), side("candidate", &loaded, &trial.tried));
        let handler = loaded.version.name();
        let shown = Arc::new(match &trial.way {
            Way::Canary => metrics.rollout(handler, stable, tried),
            Way::Shadow(shadow) => metrics.shadow(handler, stable, tried, Arc::clone(shadow.books().figures())),
        });
        (Self { loaded, digest, trial, record, watched: Arc::new(Watched::new()), _shown: shown }, work)
    }
}

/// Refuses a plan that cannot be carried out.
pub(super) fn check(entry: &Entry, plan: &RolloutPlan) -> Result<(), DeployError> {
    match plan {
        RolloutPlan::Canary { share: Share::ALL, .. } => return Err(DeployError::WholeCanary),
        // A shadow is compared on the same messages, and may see all of them.
        RolloutPlan::Canary { .. } | RolloutPlan::Shadow { .. } => {}
    }
    match entry.active() {
        Some(_) => Ok(()),
        None => Err(DeployError::NothingBeside { handler: entry.name.clone() }),
    }
}

/// Refuses to end the trial of another version than the one that was looked at.
pub(super) fn check_number(handler: &str, number: Option<u64>, tried: u64) -> Result<(), DeployError> {
    match number {
        Some(number) if number != tried => Err(DeployError::OtherTried { handler: handler.to_owned(), number, tried }),
        Some(_) | None => Ok(()),
    }
}

/// Refuses what would change the versions of a handler while one is tried.
pub(super) fn check_none(entry: &Entry) -> Result<(), DeployError> {
    let tried = entry.on_trial().map(|on| (on.record.number, on.record.plan.name()));
    match tried.or_else(|| entry.held().map(|held| (held.number, held.kind))) {
        None => Ok(()),
        Some((number, kind)) => Err(DeployError::RolloutOn { handler: entry.name.clone(), number, kind }),
    }
}

impl Deployments {
    /// Makes the version that is tried the active one, now; `number`: when it is that one.
    ///
    /// # Errors
    /// When there is no such handler, no version of it or another one is tried, somebody deploys to it, or it cannot be recorded.
    pub async fn promote(&self, handler: &str, number: Option<u64>, by: &str) -> Result<Promoted, DeployError> {
        let entry = self.entry(handler)?;
        let _busy = entry.busy_soon(by).await?;
        if let Some(cluster) = &self.cluster {
            let (from, to, digest) = self.end_in_cluster(cluster, &entry, End::Promote, number, by, None).await?;
            return Ok(Promoted { handler: handler.to_owned(), from, to, digest });
        }
        let (on, active) = tried(&entry)?;
        check_number(handler, number, on.record.number)?;
        self.promote_now(&entry, &on, by, &on.told(&active, &on.sums())).await?;
        let (from, to) = (active.deployed.number, on.record.number);
        Ok(Promoted { handler: handler.to_owned(), from, to, digest: on.digest })
    }

    /// Ends the rollout, and leaves the active version as it is; `number`: when it is that one's.
    ///
    /// It ends at once. On a host by itself, that it cannot be recorded is no error: the answer says so, and it is tried again.
    ///
    /// # Errors
    /// As for [`Deployments::promote`].
    pub async fn abort(&self, handler: &str, number: Option<u64>, by: &str) -> Result<Aborted, DeployError> {
        let entry = self.entry(handler)?;
        let _busy = entry.busy_soon(by).await?;
        if let Some(cluster) = &self.cluster {
            let (active, version, _) = self.end_in_cluster(cluster, &entry, End::Abort, number, by, None).await?;
            return Ok(Aborted { handler: handler.to_owned(), version, active, unrecorded: None });
        }
        if let Some(held) = entry.held() {
            return self.abort_held(&entry, &held, number, by).await;
        }
        let (on, active) = tried(&entry)?;
        check_number(handler, number, on.record.number)?;
        let unrecorded = self.abort_now(&entry, &on, by, &on.told(&active, &on.sums())).await;
        let (version, active) = (on.record.number, active.deployed.number);
        Ok(Aborted { handler: handler.to_owned(), version, active, unrecorded })
    }

    /// Begins to try a version that is recorded as tried.
    pub(super) fn begin_trial(&self, entry: &Entry, loaded: Loaded, digest: Digest, record: RolloutRecord) {
        // Without an active version there is nothing that it could be tried beside, and nothing takes messages.
        if let Some(active) = entry.active() {
            let is_over = self.has_had_its_time(&record);
            let (on, work) = OnTrial::new(loaded, digest, record, &active, &self.metrics);
            if is_over {
                // It ended while this host was away; that is recorded at the next look.
                on.see_no_more();
            }
            entry.begin_trial(on);
            if let Some(work) = work {
                let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                while running.try_join_next().is_some() {}
                running.spawn(work.run(Arc::clone(&self.turns)));
            }
            self.trial_begun.notify_one();
        }
    }

    /// Counts how a rollout ended; where nobody asked for that, it is written down too.
    pub(super) async fn tell_end(&self, entry: &Entry, (what, version): (Own, u64), by: &str, why: &str) {
        let is_own = by == HOST;
        self.metrics.rollout_ended(&entry.name, what.name(), if is_own { "host" } else { "person" });
        if is_own {
            let (handler, why) = (entry.name.clone(), why.to_owned());
            self.put_on_record(&[OwnAct { what, handler, version, why }]).await;
        }
    }

    /// For whoever holds the handler.
    async fn promote_now(&self, entry: &Entry, on: &OnTrial, by: &str, why: &str) -> Result<(), DeployError> {
        let (handler, version) = (&entry.name, on.record.number);
        check_granted(entry, version, &on.loaded.settings)?;
        self.registry.promote(handler, version, by, why).await.map_err(|error| ended(entry, error))?;
        crate::failpoint::reached("promoted");
        entry.switch(on.loaded.clone());
        tracing::info!(handler, version, by, why, "promoted");
        self.tell_end(entry, (Own::Promoted, version), by, why).await;
        Ok(())
    }

    /// For whoever holds the handler.
    async fn end_now(&self, entry: &Entry, on: &OnTrial, by: &str, why: &str) -> Result<(), DeployError> {
        let (handler, version) = (&entry.name, on.record.number);
        self.registry.end(handler, version, by, why).await.map_err(|error| ended(entry, error))?;
        entry.end_trial();
        tracing::info!(handler, version, by, why, "the shadow had its time");
        self.tell_end(entry, (Own::Ended, version), by, why).await;
        Ok(())
    }
}

/// Somebody else promoted or aborted it a moment before.
fn ended(entry: &Entry, error: RegistryError) -> DeployError {
    match error {
        RegistryError::NoVersion { .. } => DeployError::NoRollout { handler: entry.name.clone() },
        other => other.into(),
    }
}

/// What is tried, and what it is tried beside.
fn tried(entry: &Entry) -> Result<(OnTrial, Loaded), DeployError> {
    let both = entry.on_trial().zip(entry.active());
    both.ok_or_else(|| DeployError::NoRollout { handler: entry.name.clone() })
}
