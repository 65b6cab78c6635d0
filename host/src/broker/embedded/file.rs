//! A file of SQLite's that is the queue's own: how it is opened, whose it is, and in which format.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How long a connection waits for another program's lock before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// To write, and to make the file when it is not there. A connection stays on one thread, so SQLite need not lock it.
pub(super) const TO_WRITE: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_CREATE).union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// To read.
pub(super) const TO_READ: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Whose a file is, and the format that this version writes.
pub(super) struct Mark {
    /// `PRAGMA application_id`.
    pub(super) application: i64,
    /// `PRAGMA user_version`.
    pub(super) format: i64,
}

/// Why a file is not used.
pub(super) enum Unfit {
    /// It is a database of something else.
    Foreign,
    /// A later version wrote it, in this format.
    Newer(i64),
    /// It cannot be read.
    Store(rusqlite::Error),
}

/// Opens a file.
pub(super) fn open(file: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Whether nothing stands in it.
pub(super) fn is_fresh(connection: &Connection) -> Result<bool, rusqlite::Error> {
    connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

impl Mark {
    /// Whether a file has it, or that of an earlier format.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), Unfit> {
        let pragma =
            |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(Unfit::Store);
        if pragma("application_id")? != self.application {
            return Err(Unfit::Foreign);
        }
        let found = pragma("user_version")?;
        if found > self.format { Err(Unfit::Newer(found)) } else { Ok(()) }
    }

    /// Marks a file.
    pub(super) fn stamp(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        connection.pragma_update(None, "application_id", self.application)?;
        connection.pragma_update(None, "user_version", self.format)
    }
}
