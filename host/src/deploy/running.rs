//! The versions that messages run on, for whoever sends dead letters back.

use async_trait::async_trait;

use super::{DeployError, Deployments};
use crate::broker::Running;
use crate::registry::{HandlerRecord, RolloutPlan, VersionRecord};
use crate::tasks::Versions;

impl Deployments {
    /// The versions that messages run on now: the active ones, and those that some of the messages try. A shadow decides nothing.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn running(&self) -> Result<Running, DeployError> {
        let records = self.records().await?;
        let mut running = Running::default();
        for entry in self.handlers.load_full().values() {
            let Some(record) = records.get(&entry.name) else { continue };
            let tried = entry.on_trial().filter(|on| matches!(on.record.plan, RolloutPlan::Canary { .. }));
            let numbers = entry.active().map(|loaded| loaded.deployed.number);
            let numbers = numbers.into_iter().chain(tried.map(|on| on.loaded.deployed.number));
            for version in numbers.filter_map(|number| record.version(number)) {
                let since = has_earlier(record, version).then_some(version.deployed_at);
                running.add(&entry.name, version.digest.as_str(), since);
            }
        }
        Ok(running)
    }
}

/// Whether an earlier version had the same module.
fn has_earlier(record: &HandlerRecord, version: &VersionRecord) -> bool {
    record.versions.iter().any(|other| other.number < version.number && other.digest == version.digest)
}

#[async_trait]
impl Versions for Deployments {
    async fn running(&self) -> Result<Running, String> {
        self.running().await.map_err(|error| error.chain())
    }
}
