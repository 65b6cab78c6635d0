//! The sources of a project as they are at a moment: what a build would read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::ignored::Ignored;
use crate::cli::build::MODULE;

/// More files than any handler has; a scan of so many takes a tenth of a second.
const FILES: usize = 20_000;

/// The folders that are watched.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// The project's folder first.
    roots: Vec<PathBuf>,
}

/// What was there at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scan {
    files: BTreeMap<PathBuf, Stamp>,
    pub(super) folders: BTreeSet<PathBuf>,
    /// There is more than is looked at.
    pub(super) cut_off: bool,
}

/// By which a file is known to have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Sources {
    pub(super) fn new(project: &Path, others: &[PathBuf]) -> Self {
        Self { roots: std::iter::once(project.to_owned()).chain(others.iter().cloned()).collect() }
    }

    /// Looks at all of them now. What cannot be read is as if it were not there.
    pub(super) fn scan(&self) -> Scan {
        let mut scan = Scan::default();
        for root in &self.roots {
            let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
            add(&mut scan, root, Path::new(""), &Ignored::read(&ignored));
        }
        scan
    }
}

fn add(scan: &mut Scan, root: &Path, below: &Path, ignored: &Ignored) {
    let folder = root.join(below);
    let Ok(entries) = fs::read_dir(&folder) else { return };
    scan.folders.insert(folder);
    for entry in entries.filter_map(Result::ok) {
        let path = below.join(entry.file_name());
        // A link to a folder is not followed: it may lead in a circle.
        let Ok(kind) = entry.file_type() else { continue };
        if ignored.covers(&path, kind.is_dir()) || path == Path::new(MODULE) {
            continue;
        }
        if kind.is_dir() {
            add(scan, root, &path, ignored);
        } else if let Ok(metadata) = fs::metadata(entry.path()).map_err(drop) {
            if scan.files.len() >= FILES {
                scan.cut_off = true;
                return;
            }
            let stamp = Stamp { size: metadata.len(), modified: metadata.modified().ok() };
            scan.files.insert(root.join(path), stamp);
        }
    }
}

impl Scan {
    /// The files that differ from those of a scan before: changed, new or gone.
    pub(super) fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        let differs = |path: &&PathBuf| self.files.get(*path) != before.files.get(*path);
        let all: BTreeSet<&PathBuf> = self.files.keys().chain(before.files.keys()).collect();
        all.into_iter().filter(differs).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_change_of_a_source_is_seen_and_what_a_build_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "a");
        write(".gitignore", "/dist/\n");
        let sources = Sources::new(folder.path(), &[]);
        let first = sources.scan();
        for built in ["target/release/x.wasm", "handler.wasm", "dist/bundle.js", ".git/HEAD", "src/lib.rs~"] {
            write(built, "built");
        }
        assert!(sources.scan().changed_since(&first).is_empty());
        write("src/lib.rs", "ab");
        write("src/deep/new.rs", "");
        let second = sources.scan();
        let named = |scan: &Scan, before: &Scan| {
            let changed = scan.changed_since(before).into_iter();
            changed.map(|path| path.strip_prefix(folder.path()).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(named(&second, &first), [Path::new("src/deep/new.rs"), Path::new("src/lib.rs")]);
        assert_eq!(second.folders.len(), 3);
        fs::remove_file(folder.path().join("src/lib.rs")).unwrap();
        assert_eq!(named(&sources.scan(), &second), [Path::new("src/lib.rs")]);
    }
}
