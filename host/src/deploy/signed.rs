//! Whether a module is signed as the host asks for, before anything is made of it.
//!
//! Invariants:
//! - What is checked are the bytes that are compiled next, and whose digest names them: they are handed on, not read again.
//! - A signature is kept once it has been found right, and is checked anew each time that its module is loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DeployError, Deployments};
use crate::registry::{Digest, RegistryError, VersionRecord};
use crate::signature::{Signature, SignatureError, Signer};

/// Who signed modules.
pub(super) type Signers = BTreeMap<Digest, Signer>;

/// A module that may run.
pub(super) struct Admitted {
    pub(super) bytes: Vec<u8>,
    /// Who signed it.
    pub(super) signer: Option<Signer>,
}

impl Deployments {
    /// Lets a module of the registry in, by the signature that came with it or by the one that is kept.
    pub(super) async fn admit(&self, digest: &Digest, given: Option<&Signature>) -> Result<Admitted, DeployError> {
        let bytes = self.registry.read(digest).await?;
        self.admit_bytes(digest, bytes, given).await
    }

    /// The same for bytes that are here already. Their digest is the one that is given.
    pub(super) async fn admit_bytes(
        &self,
        digest: &Digest,
        bytes: Vec<u8>,
        given: Option<&Signature>,
    ) -> Result<Admitted, DeployError> {
        let signature = match given {
            Some(given) => Some(given.clone()),
            None => self.registry.signature(digest).await?,
        };
        let policy = Arc::clone(&self.policy);
        // A signature over 64 MiB takes a tenth of a second: too long for a thread of the executor.
        let checked = tokio::task::spawn_blocking(move || {
            let signer = policy.check(&bytes, signature.as_ref());
            (bytes, signer)
        });
        let (bytes, signer) = checked.await.map_err(|source| RegistryError::Stopped { source })?;
        let signer = signer?;
        if let Some(given) = given {
            self.registry.keep_signature(digest, given).await?;
        }
        Ok(Admitted { bytes, signer })
    }

    /// Lets a module in that the configuration names and that ran before. The signature that is kept is enough; where it
    /// is not, as when the key was replaced, the one beside the file is.
    pub(super) async fn admit_again(
        &self,
        digest: &Digest,
        bytes: Vec<u8>,
        beside: Option<&Signature>,
    ) -> Result<Admitted, DeployError> {
        match (self.admit_bytes(digest, bytes.clone(), None).await, beside) {
            (Err(DeployError::Signature(_)), Some(beside)) => self.admit_bytes(digest, bytes, Some(beside)).await,
            (admitted, _) => admitted,
        }
    }

    /// The signature beside a module that the configuration names; not looked for where none is checked.
    pub(super) async fn signature_beside(&self, module: &std::path::Path) -> Result<Option<Signature>, DeployError> {
        if self.policy.is_off() {
            return Ok(None);
        }
        let module = module.to_owned();
        let read = tokio::task::spawn_blocking(move || crate::signature::beside(&module)).await;
        Ok(read.map_err(|source| RegistryError::Stopped { source })??)
    }

    /// Who signed the modules of versions, by the signatures that are kept.
    pub(super) async fn signers(
        &self,
        versions: impl IntoIterator<Item = &VersionRecord>,
    ) -> Result<Signers, DeployError> {
        let mut signers = Signers::new();
        for VersionRecord { digest, .. } in versions {
            if let Some(signature) = self.registry.signature(digest).await? {
                signers.insert(digest.clone(), self.policy.signer(&signature));
            }
        }
        Ok(signers)
    }
}

impl From<SignatureError> for DeployError {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}
