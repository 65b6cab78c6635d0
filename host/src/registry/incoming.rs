//! Bytes that arrive: written to a file of their own, counted and hashed on the way.
//!
//! Invariant: until [`Incoming::keep`] has ended well there is no module; dropped before that, the file is removed.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::{Digest, Kept, Registry, RegistryError};

/// An upload under way.
#[derive(Debug)]
pub struct Incoming {
    registry: Registry,
    file: tokio::fs::File,
    part: Part,
    hash: Sha256,
    size: u64,
    limit: u64,
}

/// The file; removed when it is dropped, wherever it is by then: a rename leaves nothing under this name.
#[derive(Debug)]
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Incoming {
    pub(super) async fn begin(registry: Registry, limit: u64) -> Result<Self, RegistryError> {
        let path = registry.inner.modules.new_incoming();
        let options = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await;
        let file = options.map_err(|source| RegistryError::io(&path, source))?;
        Ok(Self { registry, file, part: Part(path), hash: Sha256::new(), size: 0, limit })
    }

    /// Takes some bytes.
    ///
    /// # Errors
    /// When there are too many, or they cannot be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            return Err(RegistryError::TooLarge { limit: self.limit });
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).await.map_err(|source| RegistryError::io(self.path(), source))
    }

    /// Bytes so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Makes a module of what has arrived: synced, and named for its digest.
    ///
    /// # Errors
    /// When the digest is not the one that was announced, or it cannot be written.
    pub async fn keep(mut self, announced: Option<&Digest>) -> Result<Kept, RegistryError> {
        let (digest, size) = (Digest::finished(self.hash), self.size);
        if let Some(expected) = announced.filter(|expected| **expected != digest) {
            return Err(RegistryError::WrongDigest { found: digest, expected: expected.clone() });
        }
        let failed = |source| RegistryError::io(&self.part.0, source);
        // A write is handed to a thread: its error may come with the flush.
        self.file.flush().await.map_err(failed)?;
        self.file.sync_all().await.map_err(failed)?;
        let part = self.part;
        self.registry.with(move |inner| inner.modules.keep(digest, size, &part.0)).await
    }

    fn path(&self) -> &Path {
        &self.part.0
    }
}
