//! The file of the record: SQLite in its write-ahead mode, one writer, read once at the start.
//!
//! `synchronous = NORMAL`: a commit is a write to the operating system and no sync, which any end of the process
//! survives. The file itself stays whole through a power cut; the last commits may be missing then.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, params};

use super::blocks::{BlockKey, NONE, Tags};
use super::notes::{Note, NoteKey};
use super::{DoneError, SourceId, SourceIdentity};

/// The layout of the file; another number is another layout.
const LAYOUT: i64 = 3;

/// The open file.
#[derive(Debug)]
pub(super) struct File {
    connection: Connection,
}

/// What was in the file.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) sources: HashMap<SourceIdentity, SourceId>,
    pub(super) blocks: Vec<(BlockKey, Tags)>,
    pub(super) notes: Vec<(NoteKey, Note)>,
    pub(super) outputs: Vec<(String, u64)>,
}

/// What is to be written in one transaction.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) sources: Vec<(SourceId, SourceIdentity)>,
    pub(super) blocks: Vec<(BlockKey, Option<Box<Tags>>)>,
    pub(super) notes: Vec<(NoteKey, Option<Note>)>,
    pub(super) outputs: Vec<(String, u64)>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.blocks.is_empty() && self.notes.is_empty() && self.outputs.is_empty()
    }
}

impl File {
    /// Opens the file and reads it. A damaged one is put aside.
    pub(super) fn open(path: &Path) -> Result<(Self, Content), DoneError> {
        match Self::try_open(path) {
            Ok(opened) => Ok(opened),
            Err(error) if is_damage(&error) => {
                let aside = with_suffix(path, ".damaged");
                tracing::warn!(
                    file = %path.display(), aside = %aside.display(), %error,
                    "the record of what is done is damaged; it is put aside and a new one begun"
                );
                std::fs::rename(path, &aside).map_err(|error| file_error(path, error))?;
                for suffix in ["-wal", "-shm"] {
                    // They belong to the damaged file, and are not always there.
                    let _ = std::fs::remove_file(with_suffix(path, suffix));
                }
                Self::try_open(path).map_err(|error| file_error(path, error))
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                Err(DoneError::Locked(path.to_owned()))
            }
            Err(error) => Err(file_error(path, error)),
        }
    }

    fn try_open(path: &Path) -> rusqlite::Result<(Self, Content)> {
        let connection = Connection::open(path)?;
        // Who holds it holds it for as long as it runs: there is nothing to wait for.
        connection.busy_timeout(Duration::from_millis(100))?;
        // One process owns it; without the shared index the log is cheaper, too.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // A checkpoint writes each changed page once, however often it changed: 4,000 pages are 16 MiB of log.
        connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
        let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if layout != 0 && layout != LAYOUT {
            // A record of another layout is worth no more than none: the same second runs, and no loss.
            connection.execute_batch(
                "DROP TABLE IF EXISTS source; DROP TABLE IF EXISTS done; DROP TABLE IF EXISTS note;
                 DROP TABLE IF EXISTS output;",
            )?;
        }
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS source (
                 id INTEGER PRIMARY KEY, stream TEXT NOT NULL, stream_created TEXT NOT NULL,
                 consumer TEXT NOT NULL, consumer_created TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS done (
                 source INTEGER NOT NULL, block INTEGER NOT NULL, tags BLOB NOT NULL,
                 PRIMARY KEY (source, block)) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS note (
                 source INTEGER NOT NULL, sequence INTEGER NOT NULL, tag INTEGER NOT NULL, progress TEXT NOT NULL,
                 PRIMARY KEY (source, sequence)) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS output (
                 stream TEXT PRIMARY KEY, furthest INTEGER NOT NULL) WITHOUT ROWID;",
        )?;
        connection.pragma_update(None, "user_version", LAYOUT)?;
        let content = read(&connection)?;
        Ok((Self { connection }, content))
    }

    /// Writes changes in one transaction: all or none.
    pub(super) fn write(&mut self, changes: &Changes) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        write_sources(&transaction, &changes.sources)?;
        write_blocks(&transaction, &changes.blocks)?;
        write_notes(&transaction, &changes.notes)?;
        for (stream, furthest) in &changes.outputs {
            let row = params![stream, furthest.cast_signed()];
            transaction.execute("INSERT OR REPLACE INTO output VALUES (?1, ?2)", row)?;
        }
        transaction.commit()
    }

    /// Makes the file take no more pages, as on a full disk.
    #[cfg(test)]
    pub(super) fn limit_pages_for_test(&mut self, pages: i64) {
        let limited =
            self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0));
        assert!(limited.is_ok(), "the limit was not taken");
    }
}

fn write_sources(connection: &Connection, sources: &[(SourceId, SourceIdentity)]) -> rusqlite::Result<()> {
    for (id, identity) in sources {
        connection.execute(
            "INSERT OR REPLACE INTO source VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id.0, identity.stream, identity.stream_created, identity.consumer, identity.consumer_created],
        )?;
    }
    Ok(())
}

fn write_blocks(connection: &Connection, blocks: &[(BlockKey, Option<Box<Tags>>)]) -> rusqlite::Result<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare("INSERT OR REPLACE INTO done VALUES (?1, ?2, ?3)")?;
    let mut delete = connection.prepare("DELETE FROM done WHERE source = ?1 AND block = ?2")?;
    for ((source, block), tags) in blocks {
        match tags {
            Some(tags) => insert.execute(params![source.0, block.cast_signed(), to_bytes(tags)])?,
            None => delete.execute(params![source.0, block.cast_signed()])?,
        };
    }
    Ok(())
}

fn write_notes(connection: &Connection, notes: &[(NoteKey, Option<Note>)]) -> rusqlite::Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare("INSERT OR REPLACE INTO note VALUES (?1, ?2, ?3, ?4)")?;
    let mut delete = connection.prepare("DELETE FROM note WHERE source = ?1 AND sequence = ?2")?;
    for ((source, sequence), note) in notes {
        // Plain data of ours always has a JSON form; if it had not, the note would be dropped, not the write.
        match note.as_ref().and_then(|note| Some((note.tag, serde_json::to_string(&note.progress).ok()?))) {
            Some((tag, text)) => insert.execute(params![source.0, sequence.cast_signed(), tag, text])?,
            None => delete.execute(params![source.0, sequence.cast_signed()])?,
        };
    }
    Ok(())
}

fn read(connection: &Connection) -> rusqlite::Result<Content> {
    let mut content = Content::default();
    let mut statement =
        connection.prepare("SELECT id, stream, stream_created, consumer, consumer_created FROM source")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let identity = SourceIdentity {
            stream: row.get(1)?,
            stream_created: row.get(2)?,
            consumer: row.get(3)?,
            consumer_created: row.get(4)?,
        };
        content.sources.insert(identity, SourceId(row.get(0)?));
    }
    let mut statement = connection.prepare("SELECT source, block, tags FROM done")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let block: i64 = row.get(1)?;
        let bytes: Vec<u8> = row.get(2)?;
        content.blocks.push(((SourceId(row.get(0)?), block.cast_unsigned()), from_bytes(&bytes)));
    }
    let mut statement = connection.prepare("SELECT source, sequence, tag, progress FROM note")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(1)?;
        let text: String = row.get(3)?;
        // A note of a form that is not known any more is as good as lost.
        if let Ok(progress) = serde_json::from_str(&text) {
            content
                .notes
                .push(((SourceId(row.get(0)?), sequence.cast_unsigned()), Note { tag: row.get(2)?, progress }));
        }
    }
    let mut statement = connection.prepare("SELECT stream, furthest FROM output")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        content.outputs.push((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()));
    }
    Ok(content)
}

fn to_bytes(tags: &Tags) -> Vec<u8> {
    tags.iter().flat_map(|tag| tag.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> Tags {
    let mut tags = NONE;
    for (tag, chunk) in tags.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *tag = u32::from_le_bytes(*chunk);
    }
    tags
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn file_error(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> DoneError {
    DoneError::File { path: path.to_owned(), source: Box::new(error) }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
