//! Compiled code on disk, so that a start does not compile.
//!
//! An entry is two files in a directory named for wasmtime's version and the engine's settings:
//! `<digest of the module>.cwasm`, and beside it `.sha256` with the digest of the compiled code. The name of a module
//! that was wrapped has the encoder's version too. When `.sha256` was changed last, the entry was used last: give or take
//! an hour.
//!
//! Invariants:
//! - The directory belongs to our user and nobody else can enter it; one that does not is not used.
//! - A file is written aside and renamed, the digest last: a half-written entry has no digest that fits.
//! - Nothing here fails a load: what does not work is logged, and the module is compiled.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

mod clean;

pub(super) use clean::Needed;

/// How exactly it is noted when an entry was used: what is used all day is written to a few times.
const USED_NOTED_EVERY: Duration = Duration::from_secs(3600);

/// The version that the crate is pinned to; a test compares it with the lock file.
pub(super) const WASMTIME: &str = "48.0.8";

/// A directory for compiled code that can be trusted.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
}

/// The place of one module's compiled code.
#[derive(Debug)]
pub(super) struct Entry {
    code: PathBuf,
    digest: PathBuf,
}

/// What there is of an entry.
pub(super) enum Found<'a> {
    /// Code that is what was written, at this path.
    Whole(&'a Path),
    /// Nothing.
    Nothing,
    /// Something else than what was written; a warning says so.
    Damaged,
}

impl Cache {
    /// Opens a directory, and makes it when it is not there. `None` when it cannot be trusted or made; a warning says
    /// why.
    pub(super) fn open(dir: &Path) -> Option<Self> {
        match make_private(dir) {
            Ok(()) => Some(Self { dir: dir.to_owned() }),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the code cache is not used: modules are compiled at each start");
                None
            }
        }
    }

    /// Where the code of a module would be, by the name that tells it from all others.
    pub(super) fn entry(&self, engine: &Engine, name: &str) -> Entry {
        let dir = self.folder(engine);
        Entry { code: dir.join(format!("{name}.cwasm")), digest: dir.join(format!("{name}.sha256")) }
    }

    /// Removes what is not needed. Takes as long as the disk does.
    pub(super) fn clean(&self, needed: &Needed) {
        let removed = clean::clean(&self.dir, WASMTIME, needed, SystemTime::now());
        if removed > 0 {
            tracing::info!(removed, "compiled code that nobody needs any more was removed");
        }
    }

    fn folder(&self, engine: &Engine) -> PathBuf {
        let mut settings = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        self.dir.join(format!("{WASMTIME}-{:016x}", settings.finish()))
    }
}

impl Entry {
    /// Whether the code is there and is what was written.
    pub(super) fn look(&self) -> Found<'_> {
        let (Ok(recorded), Some(dir)) = (fs::read_to_string(&self.digest), self.code.parent()) else {
            return Found::Nothing;
        };
        let checked = check_private(dir).and_then(|()| sha256_of(&self.code));
        match checked {
            Ok(found) if found == recorded.trim() => {
                self.note_used();
                Found::Whole(&self.code)
            }
            Ok(_other) => {
                tracing::warn!(path = %self.code.display(), "compiled code is damaged and is compiled anew");
                Found::Damaged
            }
            Err(error) => {
                tracing::warn!(path = %self.code.display(), %error, "compiled code is not usable and is compiled anew");
                Found::Damaged
            }
        }
    }

    /// Notes that it is used. What cannot be noted may be removed a day after it was written.
    fn note_used(&self) {
        let note = || {
            let file = fs::File::open(&self.digest)?;
            let now = SystemTime::now();
            let before = file.metadata()?.modified()?;
            if now.duration_since(before).is_ok_and(|since| since < USED_NOTED_EVERY) {
                return Ok(());
            }
            file.set_modified(now)
        };
        let noted: io::Result<()> = note();
        if let Err(error) = noted {
            tracing::debug!(path = %self.digest.display(), %error, "it was not noted that compiled code is used");
        }
    }

    /// Writes compiled code. `None` when it could not be; a warning says why.
    pub(super) fn store(&self, code: &[u8]) -> Option<()> {
        let digest = hex::encode(Sha256::digest(code));
        let written = self
            .code
            .parent()
            .map_or(Ok(()), make_private)
            .and_then(|()| write_atomically(&self.code, code))
            .and_then(|()| write_atomically(&self.digest, digest.as_bytes()));
        written
            .inspect_err(|error| tracing::warn!(path = %self.code.display(), %error, "compiled code could not be kept"))
            .ok()
    }
}

fn sha256_of(path: &Path) -> io::Result<String> {
    struct Sink(Sha256);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(Sha256::new());
    io::copy(&mut fs::File::open(path)?, &mut sink)?;
    Ok(hex::encode(sink.0.finalize()))
}

fn make_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    check_private(dir)
}

/// Whether a directory is ours alone. A symbolic link is looked at itself: it could be moved by whoever owns it.
fn check_private(dir: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(dir)?;
    let ours = rustix::process::geteuid().as_raw();
    if !found.is_dir() {
        return Err(io::Error::other("it is not a directory"));
    }
    if found.uid() != ours {
        return Err(io::Error::other(format!("it belongs to user {} and not to ours, {ours}", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o777;
        return Err(io::Error::other(format!("others may enter it (mode {mode:03o}): set its mode to 700")));
    }
    Ok(())
}

/// Writes aside, in the same directory, and renames. Not synced: after a power cut the digest does not fit.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{unique}.tmp", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        fs::rename(&aside, path)
    };
    write().inspect_err(|_error| drop(fs::remove_file(&aside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_named_for_the_wasmtime_that_is_built_in() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n")));
    }
}
