//! The version that was active last, brought back.
//!
//! Invariant: what keeps it from running concerns its handler alone, which waits and says why. The host runs.

use super::{Fate, NamedModule};
use crate::deploy::entry::{Entry, Loaded, Terms};
use crate::deploy::signed::Admitted;
use crate::deploy::{DeployError, Deployments, check_granted_by};
use crate::registry::{RegistryError, VersionRecord};

impl Deployments {
    /// Loads the active version of a handler of which the configuration says `terms`; `module`, when the configuration's
    /// file is that very module.
    pub(super) async fn resume(
        &self,
        entry: &Entry,
        terms: &Terms,
        active: &VersionRecord,
        module: Option<NamedModule>,
    ) -> Result<Fate, DeployError> {
        match self.load_again(&entry.name, terms, active, module).await {
            Ok(loaded) => Ok(Fate::Resumes(Box::new(loaded))),
            Err(error) => wait(entry, error),
        }
    }

    async fn load_again(
        &self,
        handler: &str,
        terms: &Terms,
        active: &VersionRecord,
        module: Option<NamedModule>,
    ) -> Result<Loaded, DeployError> {
        let (number, settings) = (active.number, &active.settings);
        check_granted_by(terms, handler, number, settings)?;
        let Admitted { bytes, .. } = match module {
            Some(module) => self.admit_again(&module.digest, module.bytes, module.signature.as_ref()).await?,
            None => self.admit(&active.digest, None).await?,
        };
        let version = self.load_of(handler, terms, active, bytes, &settings.limits).await?;
        Ok(Loaded::new(number, version, settings, &self.metrics))
    }
}

/// Leaves a handler without a version where nothing but itself is concerned, so that the host runs and a deploy, or another
/// look at its configuration, can mend it.
pub(super) fn wait(entry: &Entry, error: DeployError) -> Result<Fate, DeployError> {
    match &error {
        DeployError::Signature(_)
        | DeployError::Unloadable { .. }
        | DeployError::NotGranted { .. }
        | DeployError::Registry(RegistryError::NoModule { .. } | RegistryError::Damaged { .. }) => {}
        error if error.is_of_a_grant() => {}
        _ => return Err(error),
    }
    tracing::error!(handler = entry.name, error = error.chain(), "the handler has no version that runs");
    entry.set_trouble(error.chain());
    Ok(Fate::GoesOn)
}
