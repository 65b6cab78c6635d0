//! The files of modules that a configuration names.

use crate::deploy::entry::Terms;
use crate::deploy::{DeployError, Deployments};
use crate::registry::Digest;
use crate::signature::Signature;

/// A module as the configuration's file has it.
pub(super) struct NamedModule {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    /// The signature that lies beside it.
    pub(super) signature: Option<Signature>,
}

impl Deployments {
    /// The file that the configuration names. One that is gone is no error when the registry has a version.
    pub(super) async fn file(
        &self,
        name: &str,
        terms: &Terms,
        has_version: bool,
    ) -> Result<Option<NamedModule>, DeployError> {
        let Some(path) = &terms.module else { return Ok(None) };
        match tokio::fs::read(path).await {
            Ok(bytes) => {
                let (digest, signature) = (Digest::of(&bytes), self.signature_beside(path).await?);
                Ok(Some(NamedModule { bytes, digest, signature }))
            }
            Err(error) if has_version && error.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(handler = name, path = %path.display(), "the module's file is gone; the registry has it");
                Ok(None)
            }
            Err(source) => {
                let (handler, path) = (name.to_owned(), path.display().to_string());
                Err(DeployError::Unreadable { handler, path, source })
            }
        }
    }
}
