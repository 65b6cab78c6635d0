//! What lies in a folder of the sources, to compare with what is in the program.
#![allow(clippy::unwrap_used, reason = "only tests use it, and a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every file below some folders of a folder, by its path in that folder.
pub(super) fn files_below(root: &Path, folders: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else {
                found.insert(path.to_str().unwrap().to_owned());
            }
        }
    }
    found
}
