//! The registry keeps what was deployed: modules by the sha256 of their bytes, and which versions of which handler there
//! are, which of them is active, and what happened.
//!
//! ```text
//! <data_dir>/registry/incoming/<ulid>.part    an upload, until it is whole
//! <data_dir>/registry/modules/<sha256>.wasm   a module
//! <data_dir>/registry/modules/<sha256>.minisig   its signature, when it has one
//! <data_dir>/registry/registry.sqlite         versions, the active ones, the history
//! ```
//!
//! Invariants:
//! - Bytes are handed out only when their sha256 is the one that was asked for; a file that differs is put aside and named.
//! - A module is durable before a version names it, and stays as long as a version that is kept names it.
//! - A version and the switch to it are one transaction, synced: after any crash the old or the new one is active, whole.
//! - So are a version and the rollout that tries it, and the end of a rollout and what comes after it.
//! - The history only grows.

mod digest;
mod error;
mod incoming;
mod modules;
mod previous;
mod records;
mod retain;
mod rollout;
mod settings;
mod version;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

pub use digest::{Digest, NotADigest};
pub use error::RegistryError;
pub use incoming::Incoming;
pub use modules::{Collected, Kept};
pub(crate) use previous::{Ran, before, replaced_by};
pub(crate) use retain::forgotten;
pub use rollout::{RolloutPlan, RolloutRecord};
pub use settings::{BucketGrant, OutputGrant, Settings};
pub use version::{Configured, Event, Followed, HandlerRecord, Happened, NewVersion, VersionRecord};

use crate::signature::Signature;
use modules::Modules;
use records::Records;

/// The registry of one host. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    modules: Modules,
    records: Mutex<Records>,
}

impl Registry {
    /// Opens the registry in a directory, and makes it when it is not there. What an earlier life left half done is
    /// cleaned up.
    ///
    /// # Errors
    /// When the directory or the records cannot be used, or another host uses them.
    pub async fn open(dir: PathBuf) -> Result<Self, RegistryError> {
        blocking(move || {
            let modules = Modules::open(&dir)?;
            let records = Mutex::new(Records::open(&dir.join("registry.sqlite"))?);
            Ok(Self { inner: Arc::new(Inner { modules, records }) })
        })
        .await
    }

    /// A place for bytes that arrive, up to a limit. Dropped before it is kept, it leaves nothing behind.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn receive(&self, limit: u64) -> Result<Incoming, RegistryError> {
        Incoming::begin(self.clone(), limit).await
    }

    /// A module's bytes, verified.
    ///
    /// # Errors
    /// When there is no such module, when it is damaged, or when it cannot be read.
    pub async fn read(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let digest = digest.clone();
        self.with(move |inner| inner.modules.read(&digest)).await
    }

    /// The signature that is kept with a module; one that is damaged is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn signature(&self, digest: &Digest) -> Result<Option<Signature>, RegistryError> {
        let digest = digest.clone();
        self.with(move |inner| inner.modules.signature(&digest)).await
    }

    /// Keeps a signature with a module, in the place of the one that it had. It goes when the module goes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_signature(&self, digest: &Digest, signature: &Signature) -> Result<(), RegistryError> {
        let (digest, signature) = (digest.clone(), signature.clone());
        self.with(move |inner| inner.modules.keep_signature(&digest, &signature)).await
    }

    /// What is known of a handler; an empty record when nothing is.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn handler(&self, name: &str) -> Result<HandlerRecord, RegistryError> {
        let name = name.to_owned();
        self.with(move |inner| inner.records().handler(&name)).await
    }

    /// Everything that is known of all handlers, by name.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn handlers(&self) -> Result<Vec<HandlerRecord>, RegistryError> {
        self.with(|inner| inner.records().handlers()).await
    }

    /// Records a version and makes it the active one, in one transaction. A rollout that is on is over with that.
    ///
    /// # Errors
    /// When it could not be written; then nothing has changed.
    pub async fn deploy(
        &self,
        version: NewVersion,
        configured: Option<Configured>,
    ) -> Result<VersionRecord, RegistryError> {
        self.with(move |inner| inner.records().deploy(&version, configured.as_ref())).await
    }

    /// Records versions of several handlers and makes them the active ones, and notes what the configuration says of
    /// others, all in one transaction. One record a version, in their order. Rollouts of those handlers are over with
    /// that.
    ///
    /// # Errors
    /// When it could not be written; then nothing has changed.
    pub async fn deploy_all(
        &self,
        versions: Vec<(NewVersion, Option<Configured>)>,
        notes: Vec<(String, Configured)>,
    ) -> Result<Vec<VersionRecord>, RegistryError> {
        self.with(move |inner| inner.records().deploy_all(&versions, &notes)).await
    }

    /// Makes a version that is kept the active one, in one transaction. A rollout that is on is over with that.
    ///
    /// # Errors
    /// When there is no such version, or it could not be written; then nothing has changed.
    pub async fn activate(&self, name: &str, number: u64, by: &str, event: Event) -> Result<(), RegistryError> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.with(move |inner| inner.records().activate(&name, number, &by, event)).await
    }

    /// Takes over what a cluster has of a handler: exactly its versions, and the active one of them, in one transaction. A
    /// rollout that is on is over with that. `detail` says more, for people.
    ///
    /// # Errors
    /// When it could not be written; then nothing has changed.
    pub async fn follow(&self, followed: Followed) -> Result<(), RegistryError> {
        self.with(move |inner| inner.records().follow(&followed)).await
    }

    /// Notes what the configuration says of a handler.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn note_configured(&self, name: &str, configured: Configured) -> Result<(), RegistryError> {
        let name = name.to_owned();
        self.with(move |inner| inner.records().deploy_all(&[], &[(name, configured)]).map(|_| ())).await
    }

    /// Records a version and that it is tried beside the active one, in one transaction.
    ///
    /// # Errors
    /// When it could not be written, or a rollout of the handler is on already; then nothing has changed.
    pub async fn begin_rollout(
        &self,
        version: NewVersion,
        plan: RolloutPlan,
    ) -> Result<(VersionRecord, RolloutRecord), RegistryError> {
        self.with(move |inner| inner.records().begin_rollout(&version, &plan)).await
    }

    /// Makes the version that is tried the active one, in one transaction. `detail` says why, for people.
    ///
    /// # Errors
    /// When that version is not tried any more, or it could not be written; then nothing has changed.
    pub async fn promote(&self, name: &str, number: u64, by: &str, detail: &str) -> Result<(), RegistryError> {
        let (name, by, detail) = (name.to_owned(), by.to_owned(), detail.to_owned());
        self.with(move |inner| inner.records().promote(&name, number, &by, &detail)).await
    }

    /// Ends the rollout of a version; the active one stays. `detail` says why, for people.
    ///
    /// # Errors
    /// As for [`Registry::promote`].
    pub async fn abort(&self, name: &str, number: u64, by: &str, detail: &str) -> Result<(), RegistryError> {
        let (name, by, detail) = (name.to_owned(), by.to_owned(), detail.to_owned());
        self.with(move |inner| inner.records().abort(&name, number, &by, Event::Aborted, &detail)).await
    }

    /// The same for one that had its time.
    ///
    /// # Errors
    /// As for [`Registry::promote`].
    pub async fn end(&self, name: &str, number: u64, by: &str, detail: &str) -> Result<(), RegistryError> {
        let (name, by, detail) = (name.to_owned(), by.to_owned(), detail.to_owned());
        self.with(move |inner| inner.records().abort(&name, number, &by, Event::Ended, &detail)).await
    }

    /// Adds to the history what changed nothing else: a deploy that was refused.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn note_refused(&self, name: &str, by: &str, detail: &str) -> Result<(), RegistryError> {
        let (name, by, detail) = (name.to_owned(), by.to_owned(), detail.to_owned());
        self.with(move |inner| inner.records().happened(&name, None, Event::Refused, &by, &detail)).await
    }

    /// What happened to a handler, the latest first; at most so many.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn history(&self, name: &str, limit: u32) -> Result<Vec<Happened>, RegistryError> {
        let name = name.to_owned();
        self.with(move |inner| inner.records().history(&name, limit)).await
    }

    /// Forgets the versions of each handler beyond those in use, the newest `keep` of those that were active and a few that never
    /// were, then removes the modules that
    /// no version names and nobody is deploying.
    ///
    /// # Errors
    /// When the records cannot be written. A file that cannot be removed is no error: the next time removes it.
    pub async fn collect(&self, keep: usize) -> Result<Collected, RegistryError> {
        self.with(move |inner| {
            inner.records().forget(keep)?;
            inner.modules.collect(|| inner.records().digests())
        })
        .await
    }

    /// Does work with the disk away from the executor's threads. When the future is dropped, the work still ends whole.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn records(&self) -> std::sync::MutexGuard<'_, Records> {
        // Every change is a transaction: the records are whole even if a holder died.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(source) => Err(RegistryError::Stopped { source }),
    }
}

#[cfg(test)]
mod tests;
