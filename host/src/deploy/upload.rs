//! A module that arrives, until its deploy goes on by itself.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use super::report::Line;
use super::say::Say;
use super::turn::Arriving;
use super::witness::{Witness, Witnessed};
use super::{DeployError, Deployments, Provenance, cluster, pipeline, rollout};
use crate::cluster::Basis;
use crate::registry::{Digest, Incoming, RolloutPlan};
use crate::signature::Signature;

/// Progress lines that wait for a reader: a deploy has seven steps and an end.
const LINES: usize = 32;

/// A module that arrives for a handler. Until it is deployed, nobody else deploys to that handler; going back is no deploy.
pub struct Upload {
    pub(super) incoming: Incoming,
    pub(super) begun: Instant,
    pub(super) arriving: Arriving,
    pub(super) signature: Option<Signature>,
    pub(super) plan: Option<RolloutPlan>,
    pub(super) witness: Option<Box<dyn Witness>>,
    /// What was to run in the cluster when it began.
    pub(super) basis: Option<Basis>,
    pub(super) deployments: Arc<Deployments>,
}

impl Upload {
    /// Tries the module beside the active version, instead of putting it in its place.
    ///
    /// # Errors
    /// When there is no active version, the plan cannot be carried out, or this host does not run what is to run in its
    /// cluster.
    pub fn tried(self, plan: RolloutPlan) -> Result<Self, DeployError> {
        rollout::check(self.arriving.entry(), &plan)?;
        if let Some(basis) = &self.basis {
            cluster::check_tried_in(self.arriving.entry(), basis)?;
        }
        Ok(Self { plan: Some(plan), ..self })
    }

    /// With a signature of the module.
    #[must_use]
    pub fn signed(self, signature: Signature) -> Self {
        Self { signature: Some(signature), ..self }
    }

    /// With somebody who is told how the deploy ended, once it has begun.
    #[must_use]
    pub fn witnessed(self, witness: Box<dyn Witness>) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// Takes some bytes of the module.
    ///
    /// # Errors
    /// When there are too many, or they cannot be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), DeployError> {
        self.incoming.write(bytes).await?;
        crate::failpoint::reached("arriving");
        Ok(())
    }

    /// Deploys what has arrived. What is left of the way goes on by itself, whether or not somebody reads the lines that
    /// tell of it; the last one says how it ended.
    ///
    /// # Errors
    /// When the bytes do not have the digest that was said, or cannot be kept; or somebody changes or changed meanwhile which
    /// version runs. Nothing has changed then.
    pub async fn deploy(
        self,
        provenance: Provenance,
        expected: Option<&Digest>,
    ) -> Result<mpsc::Receiver<Line>, DeployError> {
        let Self { incoming, begun, arriving, signature, plan, witness, basis, deployments } = self;
        crate::failpoint::reached("uploaded");
        let kept = incoming.keep(expected).await?;
        crate::failpoint::reached("kept");
        let busy = arriving.begin(&provenance.by, basis.is_some()).await?;
        if basis.is_none() {
            rollout::check_none(&busy.entry)?;
        }
        let (lines, reader) = mpsc::channel(LINES);
        let uploaded = pipeline::Uploaded { kept, took: begun.elapsed(), signature, provenance, plan, basis };
        let say = Say::to(lines);
        let witnessed = Witnessed::new(witness, &say);
        let work = pipeline::run(Arc::clone(&deployments), busy, uploaded, say, witnessed);
        let mut running = deployments.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(work);
        drop(running);
        Ok(reader)
    }
}
