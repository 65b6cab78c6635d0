//! Secrets: where they are read from, and a value that does not print itself.

use std::fmt;
use std::path::PathBuf;

/// A secret that was read. Printing it prints three stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for handing to a client and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is read from. It is read when it is needed, so that a person without it can still use a
/// configuration for what needs no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file.
    File(PathBuf),
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, or not text.
    #[error("the environment variable `{0}` is not set")]
    Unset(String),
    /// The file could not be read.
    #[error("could not read the secret from {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing in it.
    #[error("the secret from {0} is empty")]
    Empty(String),
}

impl SecretError {
    /// The error with its cause, on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{self}{cause}")
    }
}

impl SecretSource {
    /// Reads the secret; white space at its ends is dropped, because editors end a file with a newline.
    ///
    /// # Errors
    /// When the variable is not set, or the file cannot be read, or there is nothing in it.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let (text, place) = match self {
            Self::Env(name) => (
                std::env::var(name).map_err(|_| SecretError::Unset(name.clone()))?,
                format!("the environment variable `{name}`"),
            ),
            Self::File(path) => (
                std::fs::read_to_string(path).map_err(|source| SecretError::File { path: path.clone(), source })?,
                path.display().to_string(),
            ),
        };
        match text.trim() {
            "" => Err(SecretError::Empty(place)),
            trimmed => Ok(Secret(trimmed.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_secret_is_read_from_a_file_and_does_not_print_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        let secret = SecretSource::File(path.clone()).read().unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(SecretSource::File(path).read(), Err(SecretError::Empty(_))));
        let unset = SecretSource::Env("TIDEGATE_TEST_NO_SUCH_VARIABLE".into()).read();
        assert!(matches!(unset, Err(SecretError::Unset(_))));
    }
}
