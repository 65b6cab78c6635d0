//! Goes on with a rollout that is recorded and not on: after a start, and when a handler is configured again.
//!
//! Invariant: a load may take minutes, in which anybody may end the rollout or deploy another version, and nobody waits for it.
//! What was loaded begins, is held or is aborted in the handler's turn, and when the rollout is on record as it was before.

use std::sync::Arc;

use super::HOST;
use super::held::may_pass;
use crate::deploy::entry::{Entry, Loaded};
use crate::deploy::own::Own;
use crate::deploy::{DeployError, Deployments, check_granted};
use crate::registry::{Digest, HandlerRecord, RolloutRecord};

impl Deployments {
    /// Goes on with the rollouts that are recorded and not on. A version that cannot be loaded any more is not tried any more: the
    /// active one runs. One that cannot be loaded just now is held; what is held already is tried again soon, and not waited for.
    pub(in crate::deploy) async fn resume_rollouts(&self) {
        let records = match self.registry.handlers().await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, "the rollouts that are recorded could not be read, and do not go on");
                return;
            }
        };
        for record in records {
            let (Some(rollout), Ok(entry)) = (record.rollout.clone(), self.entry(&record.name)) else { continue };
            if entry.active().is_none() || is_on_or_over(&entry, rollout.number) {
                continue;
            }
            if entry.held().is_some() {
                self.go_on_soon(&entry, rollout.number);
                continue;
            }
            let resumed = self.resume_rollout(&entry, &record, &rollout).await;
            if let Err(error) = resumed {
                self.put_off(&entry, &rollout, &error);
            }
        }
    }

    /// Loads what is tried, and goes on with it.
    ///
    /// # Errors
    /// When somebody has the handler, or the records cannot be read; nothing has changed then.
    pub(super) async fn resume_rollout(
        &self,
        entry: &Arc<Entry>,
        record: &HandlerRecord,
        rollout: &RolloutRecord,
    ) -> Result<(), DeployError> {
        let number = rollout.number;
        let loaded = self.load_tried(entry, record, number).await;
        let _busy = entry.busy_soon(HOST).await?;
        let recorded = self.registry.handler(&entry.name).await?.rollout;
        if recorded.as_ref() != Some(rollout) || is_on_or_over(entry, number) {
            tracing::info!(handler = entry.name, version = number, "what was tried ended while it was loaded");
            entry.change_held(number, |_over| None);
            return Ok(());
        }
        // What it may have can be less than it was when the load began.
        let loaded = loaded.and_then(|loaded| check_granted(entry, number, &loaded.0.settings).map(|()| loaded));
        self.go_on_with(entry, rollout, loaded).await;
        Ok(())
    }

    async fn load_tried(
        &self,
        entry: &Entry,
        record: &HandlerRecord,
        number: u64,
    ) -> Result<(Loaded, Digest), DeployError> {
        let no_version = || DeployError::NoVersion { handler: record.name.clone(), number: Some(number) };
        let version = record.version(number).ok_or_else(no_version)?;
        check_granted(entry, number, &version.settings)?;
        Ok((self.load(&record.name, version).await?, version.digest.clone()))
    }

    /// Goes on with a rollout that was loaded, or was not; for whoever holds the handler.
    async fn go_on_with(
        &self,
        entry: &Arc<Entry>,
        rollout: &RolloutRecord,
        loaded: Result<(Loaded, Digest), DeployError>,
    ) {
        let (handler, number) = (&entry.name, rollout.number);
        match loaded {
            Ok((loaded, digest)) => {
                tracing::info!(handler, version = number, kind = rollout.plan.name(), "the rollout goes on");
                self.begin_trial(entry, loaded, digest, rollout.clone());
            }
            Err(error) if self.cluster.is_some() || may_pass(&error) => self.put_off(entry, rollout, &error),
            Err(error) => {
                let why = error.chain();
                tracing::error!(handler, version = number, why, "what was tried cannot be loaded, and is aborted");
                entry.set_held(None);
                match self.registry.abort(handler, number, HOST, &why).await {
                    Ok(()) => self.tell_end(entry, (Own::Aborted, number), HOST, &why).await,
                    Err(error) => tracing::error!(handler, %error, "that could not be recorded"),
                }
            }
        }
    }

    /// It cannot go on now.
    fn put_off(&self, entry: &Entry, rollout: &RolloutRecord, error: &DeployError) {
        if self.cluster.is_none() {
            return self.hold(entry, rollout, error);
        }
        let (handler, version, why) = (&entry.name, rollout.number, error.chain());
        tracing::error!(handler, version, why, "what is tried cannot be loaded; the cluster is asked");
    }
}

/// Whether a version is tried just now, or this one is not any more, which is not recorded yet.
fn is_on_or_over(entry: &Entry, number: u64) -> bool {
    entry.on_trial().is_some() || entry.unrecorded().is_some_and(|over| over.number == number)
}
