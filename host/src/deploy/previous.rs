//! The versions that rollbacks go to, loaded after a start, so that the first one is as quick as any.
//!
//! Invariants:
//! - Nothing waits for it, and it changes nothing of what runs.
//! - It holds one place of those that compile at the most: with another one free a deploy goes on.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::entry::{Entry, Loaded};
use super::{DeployError, Deployments, check_granted};
use crate::registry::Settings;

/// What a start has to do, and the first messages, come before it.
const AFTER_START: Duration = Duration::from_secs(1);

/// Loads them, one after the other.
pub(super) async fn load_all(deployments: Weak<Deployments>) {
    tokio::time::sleep(AFTER_START).await;
    let Some(handlers) = deployments.upgrade().map(|deployments| deployments.handlers.load_full()) else { return };
    for entry in handlers.values() {
        let Some(deployments) = deployments.upgrade() else { return };
        match deployments.load_previous(entry).await {
            Ok(Some(loaded)) => {
                let (handler, version) = (&entry.name, loaded.deployed.number);
                tracing::debug!(handler, version, "the version that a rollback goes to is in memory");
                entry.keep_behind(loaded);
            }
            Ok(None) => {}
            Err(error) => {
                let (handler, error) = (&entry.name, error.chain());
                tracing::warn!(handler, error, "the version that a rollback goes to could not be loaded");
            }
        }
    }
}

impl Deployments {
    /// The version that a rollback of a handler goes to; nothing where there is none, or it is in memory.
    async fn load_previous(&self, entry: &Arc<Entry>) -> Result<Option<Loaded>, DeployError> {
        if let Some(cluster) = &self.cluster {
            let basis = cluster.basis(&entry.name).await?;
            let previous = basis.desired.as_ref().and_then(|desired| desired.previous());
            return match previous.filter(|previous| is_wanted(entry, previous.number, &previous.settings)) {
                // Another host may have deployed it: it passes every step here first.
                Some(previous) => Ok(Some(self.ready(cluster, entry, previous).await?.loaded)),
                None => Ok(None),
            };
        }
        let record = self.registry.handler(&entry.name).await?;
        match record.previous().filter(|previous| is_wanted(entry, previous.number, &previous.settings)) {
            Some(previous) => Ok(Some(self.load(&entry.name, previous).await?)),
            None => Ok(None),
        }
    }
}

/// Whether it is not in memory, and a rollback to it would not be refused.
fn is_wanted(entry: &Entry, number: u64, settings: &Settings) -> bool {
    entry.loaded(number).is_none() && check_granted(entry, number, settings).is_ok()
}
