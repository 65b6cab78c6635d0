//! SQLite's log: put back into the store's file when the writer chooses, and safe to go on with after a failure.
//!
//! Invariants:
//! - A failure to put the log back is seen. What SQLite does by itself, after a commit or when a connection is closed,
//!   keeps its failure to itself; and an fsync that failed once reports success the next time, though what was written
//!   before is not on the disk.
//! - What is read of a log that another process left is on the disk. After a failed fsync the system may go on to show
//!   pages that it will never write; to build on them would be to lose what is confirmed later, and to put them back
//!   into the file while the log lacks them would damage it.

use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::error::{Failure, OpenError};

/// The log is put back at 16 MiB: pages that many groups change are then written back once for all of them; and the
/// writer, which does it, is held up for some tens of milliseconds.
const PAGES: i32 = 4096;

pub(super) struct Log {
    /// How many pages are in it, as of the last commit; 0 when all of them were put back.
    pages: Arc<AtomicI32>,
    told: bool,
}

impl Log {
    /// Takes over what SQLite would do by itself.
    pub(super) fn take_over(connection: &mut Connection) -> Result<Self, rusqlite::Error> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&pages);
        // This takes the place of SQLite's own hook, so that it puts nothing back by itself.
        let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook))?;
        Ok(Self { pages, told: false })
    }

    /// Puts it back when it is long. For after the answers: nobody waits for it.
    pub(super) fn put_back(&mut self, connection: &Connection) -> Result<(), Failure> {
        if self.pages.load(Ordering::Relaxed) < PAGES {
            return Ok(());
        }
        // One that a reader keeps from ending is no failure; the rest is put back after another commit.
        let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).map_err(Failure::from);
        match done {
            Ok(()) => {
                self.pages.store(0, Ordering::Relaxed);
                self.told = false;
            }
            Err(failure @ (Failure::Fatal(_) | Failure::Closed)) => return Err(failure),
            // Nothing is lost: the log keeps it, and the next commit tries again.
            Err(failure @ (Failure::DiskFull | Failure::Busy)) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(%failure, "the log could not be put into the store's file; it grows until it can");
                }
            }
        }
        Ok(())
    }
}

/// Puts all of the log into the file, so that what remains is one file to copy.
pub(super) fn put_away(connection: &Connection) -> Result<(), Failure> {
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        return Err(Failure::Busy);
    }
    // Now SQLite may remove it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(())
}

/// Writes a log that was left behind over itself, byte for byte, and waits for the disk. For before it is opened.
pub(super) fn write_anew(path: &Path) -> Result<(), OpenError> {
    let rewrite = || -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            let size = file.read_at(&mut buffer, at)?;
            let Some(read) = buffer.get(..size).filter(|read| !read.is_empty()) else { break };
            file.write_all_at(read, at)?;
            at += size as u64;
        }
        file.sync_all()
    };
    match rewrite() {
        // It was closed in order.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.map_err(|source| OpenError::Io { path: path.to_owned(), source }),
    }
}

/// Waits until the names of the files are on the disk: without its name, a file is not there after a loss of power.
pub(super) fn keep_names(directory: &Path) -> Result<(), OpenError> {
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
    for holder in [Some(directory), above].into_iter().flatten() {
        let synced = std::fs::File::open(holder).and_then(|opened| opened.sync_all());
        synced.map_err(|source| OpenError::Io { path: holder.to_owned(), source })?;
    }
    Ok(())
}
