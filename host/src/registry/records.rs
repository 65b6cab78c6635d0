//! The records: versions, the active ones and the history, in SQLite, each change one synced transaction.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, Transaction, params};

use super::previous::Ran;
use super::retain::forgotten;
use super::version::{Configured, Event, HandlerRecord, Happened, NewVersion, VersionRecord};
use super::{Digest, RegistryError};
use active::make_active;

mod active;
mod follow;
mod rollout;

/// The layout of the file; another number is another layout. 1 had no rollouts, 2 not what a version took the place of.
const LAYOUT: i64 = 3;

/// What layout 1 had.
const TABLES: &str = "
CREATE TABLE handler (
    name                TEXT    PRIMARY KEY,
    active              INTEGER,           -- the version that runs; NULL: none yet
    activated_ms        INTEGER,
    next_number         INTEGER NOT NULL,  -- numbers are never used twice
    configured_module   TEXT,              -- what the configuration said at the last start
    configured_settings TEXT
) WITHOUT ROWID;
CREATE TABLE version (
    handler       TEXT    NOT NULL,
    number        INTEGER NOT NULL,
    digest        TEXT    NOT NULL,
    settings      TEXT    NOT NULL,        -- JSON
    size          INTEGER NOT NULL,
    contract      TEXT    NOT NULL,
    source        TEXT    NOT NULL,
    deployed_by   TEXT    NOT NULL,
    deployed_ms   INTEGER NOT NULL,
    activated_ms  INTEGER,                 -- the last time; NULL: never
    PRIMARY KEY (handler, number)
) WITHOUT ROWID;
CREATE TABLE history (
    id      INTEGER PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    handler TEXT    NOT NULL,
    number  INTEGER,
    event   TEXT    NOT NULL,
    who     TEXT    NOT NULL,
    detail  TEXT    NOT NULL
);
CREATE INDEX history_of ON history (handler, id);";

/// The open records.
#[derive(Debug)]
pub(super) struct Records {
    connection: Connection,
    path: PathBuf,
}

impl Records {
    pub(super) fn open(path: &Path) -> Result<Self, RegistryError> {
        let failed = |error| failed(path, error);
        let connection = Connection::open(path).map_err(failed)?;
        set_up(&connection).map_err(failed)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        let mut records = Self { connection, path: path.to_owned() };
        match found {
            0..LAYOUT => records.change(|transaction| {
                if found < 1 {
                    transaction.execute_batch(TABLES)?;
                }
                if found < 2 {
                    transaction.execute_batch(rollout::TABLE)?;
                }
                transaction.execute_batch(active::COLUMN)?;
                active::fill_in(transaction)?;
                transaction.pragma_update(None, "user_version", LAYOUT)
            })?,
            LAYOUT => {}
            _ => return Err(RegistryError::Layout { path: path.to_owned(), found, known: LAYOUT }),
        }
        Ok(records)
    }

    /// Does something in one transaction: all or nothing.
    fn change<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, RegistryError> {
        let path = self.path.clone();
        let whole = || {
            let transaction = self.connection.transaction()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        whole().map_err(|error| failed(&path, error))
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, RegistryError> {
        work(&self.connection).map_err(|error| failed(&self.path, error))
    }

    pub(super) fn handler(&self, name: &str) -> Result<HandlerRecord, RegistryError> {
        self.read(|connection| handler(connection, name))
    }

    pub(super) fn handlers(&self) -> Result<Vec<HandlerRecord>, RegistryError> {
        self.read(|connection| {
            let mut names = connection.prepare("SELECT name FROM handler ORDER BY name")?;
            let names = names.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
            names.iter().map(|name| handler(connection, name)).collect()
        })
    }

    pub(super) fn deploy(
        &mut self,
        new: &NewVersion,
        configured: Option<&Configured>,
    ) -> Result<VersionRecord, RegistryError> {
        let now = millis(SystemTime::now());
        self.change(|transaction| add_version(transaction, new, configured, now))
    }

    pub(super) fn deploy_all(
        &mut self,
        versions: &[(NewVersion, Option<Configured>)],
        notes: &[(String, Configured)],
    ) -> Result<Vec<VersionRecord>, RegistryError> {
        let now = millis(SystemTime::now());
        self.change(|transaction| {
            for (name, configured) in notes {
                add_handler(transaction, name)?;
                note_configured(transaction, name, configured)?;
            }
            let added =
                versions.iter().map(|(new, configured)| add_version(transaction, new, configured.as_ref(), now));
            added.collect()
        })
    }

    pub(super) fn happened(
        &mut self,
        name: &str,
        number: Option<u64>,
        event: Event,
        by: &str,
        detail: &str,
    ) -> Result<(), RegistryError> {
        let number = number.map(u64::cast_signed);
        self.change(|transaction| happened(transaction, name, number, event, by, detail))
    }

    pub(super) fn history(&self, name: &str, limit: u32) -> Result<Vec<Happened>, RegistryError> {
        self.read(|connection| {
            let mut statement = connection.prepare(
                "SELECT at_ms, number, event, who, detail FROM history WHERE handler = ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![name, limit], |row| {
                Ok(Happened {
                    at: time(row.get(0)?),
                    number: row.get::<_, Option<i64>>(1)?.map(i64::cast_unsigned),
                    event: row.get(2)?,
                    who: row.get(3)?,
                    detail: row.get(4)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Forgets the versions that are not to be kept. With the largest `keep` there are none: the cluster says which are.
    pub(super) fn forget(&mut self, keep: usize) -> Result<(), RegistryError> {
        if keep == usize::MAX {
            return Ok(());
        }
        let due: Vec<(String, Vec<u64>)> = self
            .handlers()?
            .into_iter()
            .map(|handler| {
                let versions: Vec<Ran> = handler.versions.iter().map(VersionRecord::ran).collect();
                let tried = handler.rollout.map(|rollout| rollout.number);
                (handler.name, forgotten(&versions, handler.active, tried, keep))
            })
            .filter(|(_, numbers)| !numbers.is_empty())
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        self.change(|transaction| {
            for (name, numbers) in &due {
                for number in numbers.iter().map(|number| number.cast_signed()) {
                    transaction
                        .execute("DELETE FROM version WHERE handler = ?1 AND number = ?2", params![name, number])?;
                    happened(transaction, name, Some(number), Event::Forgotten, "host", "beyond `keep_versions`")?;
                }
            }
            Ok(())
        })
    }

    /// The modules that versions name.
    pub(super) fn digests(&self) -> Result<BTreeSet<Digest>, RegistryError> {
        self.read(|connection| {
            let mut statement = connection.prepare("SELECT DISTINCT digest FROM version")?;
            statement.query_map([], |row| digest(row, 0))?.collect()
        })
    }
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    // Who holds it holds it for as long as it runs: there is nothing to wait for.
    connection.busy_timeout(Duration::from_millis(100))?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Deploys are few, and each must survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")
}

fn handler(connection: &Connection, name: &str) -> rusqlite::Result<HandlerRecord> {
    let mut statement =
        connection.prepare("SELECT active, configured_module, configured_settings FROM handler WHERE name = ?1")?;
    let found = statement.query_row(params![name], |row| {
        let module = row.get::<_, Option<String>>(1)?.and_then(|text| text.parse().ok());
        let settings: Option<String> = row.get(2)?;
        let configured = settings.map(|settings| Configured { module, settings });
        Ok((row.get::<_, Option<i64>>(0)?.map(i64::cast_unsigned), configured))
    });
    let (active, configured) = found.optional()?.unwrap_or_default();
    let mut statement = connection.prepare(
        "SELECT number, digest, settings, size, contract, source, deployed_by, deployed_ms, activated_ms, replaced
         FROM version WHERE handler = ?1 ORDER BY number DESC",
    )?;
    let versions = statement.query_map(params![name], version)?.collect::<rusqlite::Result<_>>()?;
    let rollout = rollout::rollout(connection, name)?;
    Ok(HandlerRecord { name: name.to_owned(), active, rollout, configured, versions })
}

fn version(row: &Row<'_>) -> rusqlite::Result<VersionRecord> {
    let settings: String = row.get(2)?;
    let settings = serde_json::from_str(&settings).map_err(|error| unreadable(2, error))?;
    Ok(VersionRecord {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        digest: digest(row, 1)?,
        settings,
        size: row.get::<_, i64>(3)?.cast_unsigned(),
        contract: row.get(4)?,
        source: row.get(5)?,
        deployed_by: row.get(6)?,
        deployed_at: time(row.get(7)?),
        activated_at: row.get::<_, Option<i64>>(8)?.map(time),
        replaced: row.get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
    })
}

fn digest(row: &Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    row.get::<_, String>(index)?.parse().map_err(|error| unreadable(index, error))
}

fn unreadable(index: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
}

fn version_of(connection: &Connection, name: &str, number: i64) -> rusqlite::Result<VersionRecord> {
    let found = handler(connection, name)?;
    found.version(number.cast_unsigned()).cloned().ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn add_handler(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    transaction.execute("INSERT OR IGNORE INTO handler (name, next_number) VALUES (?1, 1)", params![name])?;
    Ok(())
}

/// Records a version under the next number of its handler, and makes it the active one.
fn add_version(
    transaction: &Transaction<'_>,
    new: &NewVersion,
    configured: Option<&Configured>,
    now: i64,
) -> rusqlite::Result<VersionRecord> {
    let name = &new.handler;
    let number = insert(transaction, new, now)?;
    make_active(transaction, name, number, now)?;
    if let Some(configured) = configured {
        note_configured(transaction, name, configured)?;
    }
    happened(transaction, name, Some(number), Event::Deployed, &new.deployed_by, &new.source)?;
    rollout::replaced(transaction, name, number, &new.deployed_by)?;
    version_of(transaction, name, number)
}

/// Adds a version, and its handler when it is the first; gives back the number.
fn insert(transaction: &Transaction<'_>, new: &NewVersion, now: i64) -> rusqlite::Result<i64> {
    let name = &new.handler;
    add_handler(transaction, name)?;
    let number: i64 = transaction.query_row(
        "UPDATE handler SET next_number = next_number + 1 WHERE name = ?1 RETURNING next_number - 1",
        params![name],
        |row| row.get(0),
    )?;
    transaction.execute(
        "INSERT INTO version (handler, number, digest, settings, size, contract, source, deployed_by, deployed_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            name,
            number,
            new.digest.as_str(),
            new.settings.to_json(),
            new.size.cast_signed(),
            new.contract,
            new.source,
            new.deployed_by,
            now
        ],
    )?;
    Ok(number)
}

fn note_configured(transaction: &Transaction<'_>, name: &str, configured: &Configured) -> rusqlite::Result<()> {
    let module = configured.module.as_ref().map(Digest::as_str);
    transaction.execute(
        "UPDATE handler SET configured_module = ?2, configured_settings = ?3 WHERE name = ?1",
        params![name, module, configured.settings],
    )?;
    Ok(())
}

fn happened(
    transaction: &Transaction<'_>,
    name: &str,
    number: Option<i64>,
    event: Event,
    by: &str,
    detail: &str,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO history (at_ms, handler, number, event, who, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![millis(SystemTime::now()), name, number, event.name(), by, detail],
    )?;
    Ok(())
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

fn failed(path: &Path, error: rusqlite::Error) -> RegistryError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => RegistryError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => RegistryError::InUse { path },
        Some(_) | None => RegistryError::Records { path, source: Box::new(error) },
    }
}
