//! How a trial is aborted: here at once, and on record as soon as that can be written.
//!
//! Invariants:
//! - No message runs on a version any more whose abort is due, whatever becomes of the record.
//! - The record is tried again until it is written. Killed before, the host goes on with the trial at its next start, and
//!   what spoke against it is seen again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{HOST, OnTrial};
use crate::cluster::ClusterError;
use crate::deploy::cluster::End;
use crate::deploy::entry::Entry;
use crate::deploy::own::Own;
use crate::deploy::{DeployError, Deployments};
use crate::registry::RegistryError;

/// What could not be recorded is tried again after so long: a full disk is told of once in a while.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A trial that is over here, and whose end is not recorded.
#[derive(Debug, Clone)]
pub(in crate::deploy) struct Unrecorded {
    pub(in crate::deploy) number: u64,
    by: String,
    why: String,
    /// Not before this is it tried again.
    rests_until: Instant,
}

impl Deployments {
    /// Ends a trial here and records that; for whoever holds the handler. `Some`: why it is not recorded yet, which is tried
    /// again.
    pub(in crate::deploy) async fn abort_now(
        &self,
        entry: &Arc<Entry>,
        on: &OnTrial,
        by: &str,
        why: &str,
    ) -> Option<String> {
        let (handler, number) = (&entry.name, on.record.number);
        let over = Unrecorded { number, by: by.to_owned(), why: why.to_owned(), rests_until: Instant::now() };
        entry.abort_trial(over.clone());
        tracing::warn!(handler, version = number, by, why, "aborted: the version from before goes on alone");
        crate::failpoint::reached("aborting");
        match self.record(entry, over).await {
            // Another version took its place a moment before, or another host ended it.
            Ok(()) => None,
            Err(error) => (!error.is_not_tried()).then(|| error.chain()),
        }
    }

    /// Records an end that could not be recorded before; for whoever holds the handler.
    ///
    /// # Errors
    /// When it still cannot be.
    pub(in crate::deploy) async fn record_what_ended(&self, entry: &Arc<Entry>) -> Result<(), DeployError> {
        let Some(over) = entry.unrecorded() else { return Ok(()) };
        match self.record(entry, over).await {
            Err(error) if !error.is_not_tried() => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The same for the watch, which comes by often.
    pub(super) async fn record_when_due(&self, entry: &Arc<Entry>, over: &Unrecorded) {
        if Instant::now() < over.rests_until {
            return;
        }
        // Whoever else has the handler is done with it soon.
        let Ok(_busy) = entry.busy(HOST) else { return };
        // It is told, and rests.
        let _still_not = self.record_what_ended(entry).await;
    }

    async fn record(&self, entry: &Arc<Entry>, over: Unrecorded) -> Result<(), DeployError> {
        let recorded = self.record_once(entry, &over).await;
        match &recorded {
            Ok(()) => entry.set_unrecorded(None),
            Err(error) if error.is_not_tried() => entry.set_unrecorded(None),
            Err(error) => {
                let (handler, version) = (&entry.name, over.number);
                let mut rests_until = Instant::now();
                // Else something was changed in the cluster at the same moment, as by another host that saw the same.
                if !matches!(error, DeployError::Cluster(ClusterError::Conflict(_))) {
                    let (again, error) = (AGAIN_AFTER, error.chain());
                    tracing::error!(handler, version, error, ?again, "that a trial was aborted could not be recorded");
                    rests_until += AGAIN_AFTER;
                }
                entry.set_unrecorded(Some(Unrecorded { rests_until, ..over }));
            }
        }
        recorded
    }

    async fn record_once(&self, entry: &Arc<Entry>, over: &Unrecorded) -> Result<(), DeployError> {
        let Unrecorded { number, by, why, .. } = over;
        if let Some(cluster) = &self.cluster {
            let ended = self.end_in_cluster(cluster, entry, End::Abort, Some(*number), by, Some(why));
            return Box::pin(ended).await.map(|_ended| ());
        }
        match self.registry.abort(&entry.name, *number, by, why).await {
            Ok(()) => {}
            Err(RegistryError::NoVersion { .. }) => {
                return Err(DeployError::NoRollout { handler: entry.name.clone() });
            }
            Err(error) => return Err(error.into()),
        }
        crate::failpoint::reached("aborted");
        self.tell_end(entry, (Own::Aborted, *number), by, why).await;
        Ok(())
    }
}
