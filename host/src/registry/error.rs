//! What can go wrong with the registry.

use std::io;
use std::path::PathBuf;

use super::Digest;

/// Why the registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The disk has no room. Nothing was changed.
    #[error("the disk of the registry is full ({}); nothing was changed: make room and try again", path.display())]
    Full {
        /// Where it was to be written.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("could not use {} of the registry", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More bytes came than a module may have.
    #[error(
        "the module is larger than the limit of {limit} bytes: strip it, or raise `limits.module_size` of the handler"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes that came are not those that were announced.
    #[error("the sha256 of what arrived is {found}, not {expected}: it was changed on its way, or is another module")]
    WrongDigest {
        /// What came.
        found: Digest,
        /// What was announced.
        expected: Digest,
    },
    /// There is no such module.
    #[error("the registry has no module {digest}: deploy it again")]
    NoModule {
        /// The module's digest.
        digest: Digest,
    },
    /// A module's file does not have the bytes that its name says.
    #[error("the module {digest} in the registry is damaged; its file was put aside as {}: deploy it again", aside.display())]
    Damaged {
        /// The module's digest.
        digest: Digest,
        /// Where its file is now.
        aside: PathBuf,
    },
    /// There is no such version.
    #[error("handler `{handler}` has no version {number}, or not any more")]
    NoVersion {
        /// The handler.
        handler: String,
        /// The version's number.
        number: u64,
    },
    /// Another process has the records.
    #[error("{} is in use: another host runs on this data directory", path.display())]
    InUse {
        /// The records' file.
        path: PathBuf,
    },
    /// The records were written by a later host.
    #[error("{} has the layout {found} and this host knows {known}: run the newer host, or move the file away", path.display())]
    Layout {
        /// The records' file.
        path: PathBuf,
        /// The layout that was found.
        found: i64,
        /// The layout that this host writes.
        known: i64,
    },
    /// The records are damaged, or cannot be read or written.
    #[error(
        "could not use the records of the registry, {}; when they are damaged beyond repair, move the file away: handlers \
         then start from the modules that the configuration names", path.display()
    )]
    Records {
        /// The records' file.
        path: PathBuf,
        /// What the database said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The work was cut off.
    #[error("work on the registry stopped; this is a bug of the host")]
    Stopped {
        /// How it ended.
        source: tokio::task::JoinError,
    },
}

impl RegistryError {
    /// An error with a file.
    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }
}
