//! The room on the disk of a store, looked at once in a while: a look costs two questions to the store and one to the system.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::broker::disk;

/// How often the disk's free space is looked at, while something is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And after so many bytes in between: an eighth of the default reserve.
const LOOK_AFTER_BYTES: i64 = 8 << 20;

/// When the disk was looked at last, and what was written since.
#[derive(Debug)]
pub(super) struct Space {
    directory: PathBuf,
    looked_at: Option<Instant>,
    written: i64,
}

/// What is free, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free {
    /// On the disk.
    pub(super) disk: u64,
    /// In pages of the store's file that it does not use.
    pub(super) inside: u64,
}

/// What a look found.
#[derive(Debug)]
pub(super) enum Look {
    /// It was not time to.
    NotYet,
    /// The disk does not say; that was logged.
    Unreadable,
    /// So much.
    Found(Free),
}

impl Space {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory, looked_at: None, written: 0 }
    }

    pub(super) fn written(&mut self, bytes: i64) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Looks at the disk again, when it is time to.
    pub(super) fn look(&mut self, connection: &Connection) -> Look {
        let recent = self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY);
        if recent && self.written < LOOK_AFTER_BYTES {
            return Look::NotYet;
        }
        self.looked_at = Some(Instant::now());
        self.written = 0;
        match disk::free(&self.directory) {
            Ok(disk) => Look::Found(Free { disk, inside: inside(connection).unwrap_or(0) }),
            Err(error) => {
                tracing::warn!(%error, "the free space of the disk cannot be read");
                Look::Unreadable
            }
        }
    }
}

impl Free {
    /// Whether less is free than is to be kept. Pages that are free inside the file are room too; without them a file that was
    /// once full would refuse for ever. The log needs real space beside them.
    pub(super) const fn is_below(self, kept: u64) -> bool {
        self.disk.saturating_add(self.inside) < kept || self.disk < kept / 2
    }
}

/// The bytes of a store's file that it does not use.
fn inside(connection: &Connection) -> Option<u64> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).ok();
    let pages = pragma("freelist_count")?;
    let size = pragma("page_size")?;
    u64::try_from(pages.saturating_mul(size)).ok()
}
