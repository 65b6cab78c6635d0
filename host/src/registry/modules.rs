//! Modules on disk, each in a file that is named for the sha256 of its bytes.
//!
//! Invariants:
//! - A file appears under its name whole and synced, or not at all.
//! - What is being deployed is not removed, though no version names it yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Digest, RegistryError};
use crate::signature::Signature;

/// The folder of modules.
#[derive(Debug)]
pub(super) struct Modules {
    modules: PathBuf,
    incoming: PathBuf,
    /// What is being deployed, and how often.
    held: Arc<Mutex<BTreeMap<Digest, usize>>>,
}

/// A module that is in the registry, and stays there for as long as this is held.
#[derive(Debug)]
#[must_use = "when this is dropped and no version names the module, it may be removed"]
pub struct Kept {
    digest: Digest,
    size: u64,
    held: Arc<Mutex<BTreeMap<Digest, usize>>>,
}

/// What a look for modules that are not needed came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// The modules that versions name.
    pub named: BTreeSet<Digest>,
    /// Those that were removed.
    pub removed: BTreeSet<Digest>,
}

impl Kept {
    /// The module's digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The module's size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.digest);
            }
        }
    }
}

impl Modules {
    /// Makes the folders that are missing, and removes what uploads left that did not end.
    pub(super) fn open(dir: &Path) -> Result<Self, RegistryError> {
        let (modules, incoming) = (dir.join("modules"), dir.join("incoming"));
        for folder in [&modules, &incoming] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|source| RegistryError::io(folder, source))?;
        }
        for entry in fs::read_dir(&incoming).map_err(|source| RegistryError::io(&incoming, source))?.flatten() {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
        Ok(Self { modules, incoming, held: Arc::default() })
    }

    /// A name for a file that arrives.
    pub(super) fn new_incoming(&self) -> PathBuf {
        self.incoming.join(format!("{}.part", ulid::Ulid::generate()))
    }

    /// Moves a synced file to its name. A module that is there already stays, unless its size says that it is damaged.
    pub(super) fn keep(&self, digest: Digest, size: u64, part: &Path) -> Result<Kept, RegistryError> {
        // Under the lock nothing is removed: what is found here stays until it is held.
        let mut held = self.held();
        let path = self.path(&digest);
        if fs::metadata(&path).is_ok_and(|present| present.len() == size) && self.verified(&digest).is_ok() {
            let _ = fs::remove_file(part);
        } else {
            fs::rename(part, &path).map_err(|source| RegistryError::io(&path, source))?;
            crate::failpoint::reached("renamed");
            sync_folder(&self.modules)?;
        }
        *held.entry(digest.clone()).or_default() += 1;
        drop(held);
        Ok(Kept { digest, size, held: Arc::clone(&self.held) })
    }

    /// A module's bytes, verified; a file with other bytes is put aside.
    pub(super) fn read(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let error = match self.verified(digest) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        if let RegistryError::Damaged { aside, .. } = &error {
            let path = self.path(digest);
            tracing::error!(%digest, aside = %aside.display(), "a module in the registry is damaged and is put aside");
            fs::rename(&path, aside).map_err(|source| RegistryError::io(&path, source))?;
        }
        Err(error)
    }

    fn verified(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let path = self.path(digest);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => RegistryError::NoModule { digest: digest.clone() },
            _ => RegistryError::io(&path, source),
        })?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        Err(RegistryError::Damaged { digest: digest.clone(), aside: path.with_extension("wasm.damaged") })
    }

    /// The signature that is kept with a module; one that is damaged is none.
    pub(super) fn signature(&self, digest: &Digest) -> Result<Option<Signature>, RegistryError> {
        let path = self.signature_path(digest);
        match fs::read(&path) {
            Ok(bytes) => match Signature::read(&bytes, &path.display().to_string()) {
                Ok(signature) => Ok(Some(signature)),
                // As good as none; the next deploy that brings one writes over it.
                Err(error) => {
                    tracing::warn!(%digest, %error, "the signature of a module in the registry is damaged");
                    Ok(None)
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RegistryError::io(path, source)),
        }
    }

    /// Writes a signature beside its module, whole and synced.
    pub(super) fn keep_signature(&self, digest: &Digest, signature: &Signature) -> Result<(), RegistryError> {
        let (path, part) = (self.signature_path(digest), self.new_incoming());
        let written = write_synced(&part, signature.as_str().as_bytes()).and_then(|()| fs::rename(&part, &path));
        if let Err(source) = written {
            let _ = fs::remove_file(&part);
            return Err(RegistryError::io(path, source));
        }
        sync_folder(&self.modules)
    }

    /// Removes the modules that no version names and nobody holds.
    pub(super) fn collect(
        &self,
        named: impl FnOnce() -> Result<BTreeSet<Digest>, RegistryError>,
    ) -> Result<Collected, RegistryError> {
        let held = self.held();
        // Asked under the lock: a version that is recorded now has held its module until now.
        let named = named()?;
        let entries = fs::read_dir(&self.modules).map_err(|source| RegistryError::io(&self.modules, source))?;
        let mut removed = BTreeSet::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_signature = path.extension().is_some_and(|end| end == "minisig");
            let is_ours = is_signature || path.extension().is_some_and(|end| end == "wasm");
            let digest = path.file_stem().filter(|_| is_ours);
            // What is not named as we name modules is not ours to remove; damaged ones stay for a person to look at.
            let Some(Ok(digest)) = digest.and_then(|stem| stem.to_str()).map(str::parse::<Digest>) else { continue };
            let removable = !named.contains(&digest) && !held.contains_key(&digest);
            if removable && fs::remove_file(&path).is_ok() && !is_signature {
                tracing::info!(%digest, "a module that no version names any more was removed");
                removed.insert(digest);
            }
        }
        drop(held);
        Ok(Collected { named, removed })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.modules.join(format!("{digest}.wasm"))
    }

    fn signature_path(&self, digest: &Digest) -> PathBuf {
        self.modules.join(format!("{digest}.minisig"))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Digest, usize>> {
        // Counts are changed in single steps: they are whole even if a holder died.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), RegistryError> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| RegistryError::io(folder, source))
}
