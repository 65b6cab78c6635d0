//! What happens around a session, in one line of events.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::rerun::Reran;
use super::sources::Scan;
use crate::admin::wire::LiveLine;
use crate::cli::exit::Failure;
use crate::deploy::report::Line;

/// Events that wait. The largest are what runs did, of about 150 KiB: 38 MiB at the very most.
pub(super) const EVENTS: usize = 256;

/// What happened.
pub(super) enum Event {
    /// The sources are others than before.
    Changed(Box<Scan>),
    /// A build did not come to a module.
    NotBuilt {
        /// Why.
        error: anyhow::Error,
    },
    /// There is a module, which is deployed now.
    Built {
        /// How long it took.
        took: Duration,
    },
    /// What a deploy came to.
    Deployed {
        /// The end of it, or why there was none.
        end: Result<Line, Failure>,
        /// The module.
        module: Vec<u8>,
        /// When the build had ended.
        built_at: Instant,
    },
    /// A line of the host about its messages.
    Live(LiveLine),
    /// The host does not answer, and is asked again.
    Away(String),
    /// A re-run has ended.
    Reran {
        /// The version's number.
        version: u64,
        /// One for each message.
        runs: anyhow::Result<Vec<Reran>>,
    },
    /// A key was pressed.
    Key(char),
    /// A signal to end.
    Stop(&'static str),
}

/// A file as it is named to a person: from where they are, when it is below.
pub(super) fn named(path: &std::path::Path) -> PathBuf {
    let path = path.strip_prefix(".").unwrap_or(path);
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_owned()
}
