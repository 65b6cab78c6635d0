//! What a host is called among the others: a name that stays with its data.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The file that has it, in the data directory.
const FILE: &str = "cluster-host";
/// How much of the machine's name is in it: as a key it is one token of a subject.
const LONGEST: usize = 50;
/// Letters behind it that tell two hosts of one machine's name apart: a million of them.
const LETTERS: usize = 4;

/// Why a host has no name in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("could not keep this host's name in the cluster in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What stands in the file is none.
    #[error("{} does not hold the name of a host: remove it, and another one is made", path.display())]
    NoName {
        /// The file.
        path: PathBuf,
    },
    /// The broker has no buckets.
    #[error("broker `{broker}` has no buckets in which hosts could meet")]
    NoBuckets {
        /// The broker.
        broker: String,
    },
}

/// The name that is kept in a folder; made from the machine's name when there is none.
pub(super) fn kept(folder: &Path, machine: &str) -> Result<String, IdentityError> {
    let path = folder.join(FILE);
    let failed = |source| IdentityError::File { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim() {
            name if is_name(name) => Ok(name.to_owned()),
            _ => Err(IdentityError::NoName { path }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = made(machine);
            std::fs::create_dir_all(folder).map_err(failed)?;
            // Under another name first: a file that is there is whole.
            let part = path.with_extension("part");
            let mut file = std::fs::File::create(&part).map_err(failed)?;
            file.write_all(format!("{name}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            std::fs::rename(&part, &path).map_err(failed)?;
            Ok(name)
        }
        Err(source) => Err(IdentityError::File { path, source }),
    }
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !text.is_empty() && text.len() <= 64 && text.chars().all(fits)
}

fn made(machine: &str) -> String {
    let fitting = machine.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let name: String = fitting.take(LONGEST).collect();
    let letters: String = std::iter::repeat_with(fastrand::lowercase).take(LETTERS).collect();
    format!("{}-{letters}", if name.is_empty() { "host" } else { &name })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_host_keeps_its_name_and_two_of_one_machine_have_two() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = kept(&one.path().join("data"), "Web 1.example").unwrap();
        assert!(name.starts_with("web-1-example-") && is_name(&name), "{name}");
        assert_eq!(kept(&one.path().join("data"), "elsewhere").unwrap(), name);
        assert_ne!(kept(other.path(), "Web 1.example").unwrap(), name);
        std::fs::write(other.path().join(FILE), "../x y").unwrap();
        assert!(kept(other.path(), "x").unwrap_err().to_string().contains("does not hold the name"));
        assert!(is_name(&made("")) && is_name(&made(&"ü".repeat(300))));
    }
}
