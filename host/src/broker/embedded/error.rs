//! Why the store cannot be opened, and what an error of SQLite means for the group it struck.

use std::path::PathBuf;

use rusqlite::{ErrorCode, ffi};

use crate::broker::{DeadLetterError, PublishError, ReceiveError, SettleError};

/// Why the embedded queue could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it; only that one may write.
    #[error("the queue in {path} is in use by {owner}; stop it, or give this one a directory of its own", path = path.display())]
    Owned {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as its lock file tells.
        owner: String,
    },
    /// It was written by a newer version of this program.
    #[error("the queue in {path} has format {found}, and this version reads formats up to {known}; use a newer version", path = path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format that was found.
        found: i64,
        /// The newest format that is known here.
        known: i64,
    },
    /// There is a SQLite file in its place that is not a queue.
    #[error("{path} is a database of something else", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The directory or a file could not be made, read or written.
    #[error("could not use {path}", path = path.display())]
    Io {
        /// What was used.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// SQLite could not open or read the store.
    #[error("could not open the store in {path}: {detail}", path = path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// A setting that cannot work.
    #[error("the option `{option}` of the embedded queue cannot work: {problem}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why, and what would do.
        problem: String,
    },
}

/// What struck a group of operations. Nothing of the group was stored.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// No space on the disk. The group was rolled back whole, and may be tried again.
    #[error("no space is left on the disk")]
    DiskFull,
    /// Somebody else holds the store's write lock (a person with a SQL shell). May be tried again.
    #[error("another program holds the store's write lock")]
    Busy,
    /// The store cannot be trusted to store any more: a failed write or fsync, a corrupt page. Never tried again,
    /// because after a failed fsync the kernel may report the next one as done without having written anything.
    #[error("the store failed and the queue is closed: {0}")]
    Fatal(String),
    /// The queue was closed by us.
    #[error("the queue is closed")]
    Closed,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            // Whatever else it is, it was not foreseen, and what is not foreseen fails closed.
            Some(_) | None => Self::Fatal(match error.sqlite_error().map(|error| error.extended_code) {
                Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => {
                    "an fsync failed, so what was written last may not be on the disk".to_owned()
                }
                Some(code) => format!("{error} (SQLite's code {code})"),
                None => error.to_string(),
            }),
        }
    }
}

impl Failure {
    pub(super) fn publish(&self) -> PublishError {
        match self {
            Self::DiskFull => PublishError::Full(self.to_string()),
            Self::Busy | Self::Fatal(_) | Self::Closed => PublishError::Unavailable(self.to_string()),
        }
    }

    pub(super) fn settle(&self) -> SettleError {
        SettleError::Unconfirmed(self.to_string())
    }

    pub(super) fn receive(&self) -> ReceiveError {
        match self {
            Self::Closed => ReceiveError::Closed,
            Self::DiskFull | Self::Busy | Self::Fatal(_) => ReceiveError::Away(self.to_string()),
        }
    }

    pub(super) fn dead_letter(&self) -> DeadLetterError {
        DeadLetterError::Store(self.to_string())
    }
}
