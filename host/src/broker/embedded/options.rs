//! What the embedded queue is told when it is opened, with its defaults and their reasons.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::bucket::DEFAULT_MAX_BYTES;

/// The largest payload that can be asked for, in bytes: half of what SQLite stores in a row, so that a dead letter fits too.
pub const LARGEST_PAYLOAD: usize = 256 << 20;

/// Where the queue lives and what its limits are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The directory of the queue; made when it is not there. One process owns it at a time.
    pub path: PathBuf,
    /// How long a message id is remembered after its publish.
    pub dedupe_window: Duration,
    /// How many message ids are remembered at most; an id that is forgotten early is counted.
    pub dedupe_max: usize,
    /// The bytes of all kept messages, above which publishes are refused.
    pub max_bytes: u64,
    /// The number of all kept messages, above which publishes are refused.
    pub max_messages: u64,
    /// The age at which a message that no subscription has yet to settle is removed.
    pub max_age: Duration,
    /// What a confirmation of the queue means.
    pub durability: Durability,
    /// The free disk space below which publishes are refused, so that what consumes can still write.
    pub reserve_bytes: u64,
    /// The largest message in bytes: body, headers, subject and id.
    pub max_payload: usize,
    /// The bytes that one bucket of handlers may keep, above which it takes no more: keys, values, and 64 for each entry.
    pub max_bucket_bytes: u64,
}

/// What a confirmation of the queue means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Confirmed after fsync: survives a loss of power.
    #[default]
    Fsync,
    /// Confirmed after the write: survives a kill of the process; a loss of power may take the last moments with it.
    /// The file stays whole either way.
    Relaxed,
}

impl Options {
    /// The defaults, in a directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            // Longer than a producer that is restarted by its platform keeps sending again.
            dedupe_window: Duration::from_secs(3600),
            // 278 ids a second over the hour; about 42 MB of memory when full.
            dedupe_max: 1_000_000,
            // What a small server's disk has to spare.
            max_bytes: 16 << 30,
            // Fifty million rows stay under the time of a second to open.
            max_messages: 50_000_000,
            // A subscription that is added within a week still finds what nobody took.
            max_age: Duration::from_secs(7 * 24 * 3600),
            durability: Durability::Fsync,
            // The log of the store (at most 16 MiB between checkpoints), and as many dead letters again, twice over.
            reserve_bytes: 64 << 20,
            // What a NATS server takes by default, so that a message which fits here fits there.
            max_payload: 1 << 20,
            max_bucket_bytes: DEFAULT_MAX_BYTES,
        }
    }
}
