//! Why a task was not begun, or cannot be told of.

use crate::broker::DeadLetterError;

/// Why what was asked for was not done. Nothing has changed when one of these is given.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// There is none of this id.
    #[error("there is no task `{0}` over dead letters, or not any more")]
    NotFound(String),
    /// It is over, and can be neither held nor told to go on.
    #[error("task `{0}` over dead letters has ended already")]
    HasEnded(String),
    /// The configuration has no such broker.
    #[error("there is no broker `{0}`")]
    NoBroker(String),
    /// As many go on as may.
    #[error("four tasks over dead letters go on already: wait for one, or cancel one")]
    TooMany,
    /// Another number matches than was confirmed.
    #[error("{total} dead letters match now{}: nothing was removed; say how many you mean to remove",
        .confirmed.map(|confirmed| format!(", and {confirmed} were confirmed")).unwrap_or_default())]
    OtherCount {
        /// How many match.
        total: u64,
        /// How many were confirmed.
        confirmed: Option<u64>,
    },
    /// A canary needs handlers that run here.
    #[error(
        "no handlers run here, and a canary is judged by what they do: start the host, or redrive without a canary"
    )]
    NobodyRuns,
    /// Whether a version changed is told by those that run.
    #[error(
        "no handlers run here, and whether a version changed is told by those that run: start the host, or redrive whatever \
         the version"
    )]
    NoVersions,
    /// The versions that run cannot be read.
    #[error("the versions that run here cannot be read: {0}")]
    Versions(String),
    /// The dead letters cannot be looked at.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// The record cannot be written or read.
    #[error("the task cannot be written down, and nothing was done")]
    Disk(#[source] std::io::Error),
}
