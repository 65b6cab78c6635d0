//! Versions that are kept, loaded again.

use std::sync::Arc;

use super::entry::{Loaded, Terms};
use super::{DeployError, Deployments};
use crate::registry::VersionRecord;
use crate::sandbox::Version;
use crate::sandbox::limits::Limits;

impl Deployments {
    /// Loads a version that is kept.
    pub(super) async fn load(&self, handler: &str, version: &VersionRecord) -> Result<Loaded, DeployError> {
        let bytes = self.admit(&version.digest, None).await?.bytes;
        let (terms, limits) = (self.entry(handler)?.terms(), &version.settings.limits);
        let loaded = self.load_of(handler, &terms, version, bytes, limits).await?;
        Ok(Loaded::new(version.number, loaded, &version.settings, &self.metrics))
    }

    /// Loads a module as a version that is kept, with what a configuration that says `terms` has for it. The version ran on this
    /// host before: a later host refuses what an earlier one took, and another deploy mends that.
    pub(super) async fn load_of(
        &self,
        handler: &str,
        terms: &Terms,
        version: &VersionRecord,
        module: Vec<u8>,
        limits: &Limits,
    ) -> Result<Arc<Version>, DeployError> {
        let granted = self.granted(handler, terms, &version.settings).await?;
        let loaded = self.sandbox.load_granted(module, handler, limits, granted).await;
        let loaded = loaded.map_err(|source| DeployError::Unloadable { number: version.number, source })?;
        self.hand_secrets(handler, terms, &version.settings, &loaded).await;
        Ok(loaded)
    }
}
