//! Rollouts in the records: at most one a handler; begun with its version, ended with what comes after it, each in one
//! transaction.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{Records, happened, insert, make_active, millis, time, unreadable, version_of};
use crate::dispatch::Share;
use crate::registry::RegistryError;
use crate::registry::rollout::{RolloutPlan, RolloutRecord};
use crate::registry::version::{Event, NewVersion, VersionRecord};

/// What layout 2 added.
pub(super) const TABLE: &str = "
CREATE TABLE rollout (
    handler          TEXT    PRIMARY KEY,
    number           INTEGER NOT NULL,  -- the version that is tried
    kind             TEXT    NOT NULL,  -- canary, shadow
    share            INTEGER NOT NULL,  -- in hundredths of a percent
    promote_after_ms INTEGER,           -- or a shadow ends; NULL: not by itself
    started_ms       INTEGER NOT NULL,
    started_by       TEXT    NOT NULL
) WITHOUT ROWID;";

impl Records {
    /// Records a version and that it is tried beside the active one.
    pub(in crate::registry) fn begin_rollout(
        &mut self,
        new: &NewVersion,
        plan: &RolloutPlan,
    ) -> Result<(VersionRecord, RolloutRecord), RegistryError> {
        let started_at = SystemTime::now();
        self.change(|transaction| {
            let (name, by) = (&new.handler, &new.deployed_by);
            let number = insert(transaction, new, millis(started_at))?;
            let (tried, started_by) = (number.cast_unsigned(), by.clone());
            let record = RolloutRecord { number: tried, plan: *plan, started_at, started_by };
            let detail = format!("{} of the messages; {}", plan.share(), new.source);
            begin(transaction, name, &record, &detail)?;
            let rollout = rollout(transaction, name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            Ok((version_of(transaction, name, number)?, rollout))
        })
    }

    /// Makes the version that is tried the active one, when it is still the one that is tried.
    pub(in crate::registry) fn promote(
        &mut self,
        name: &str,
        number: u64,
        by: &str,
        detail: &str,
    ) -> Result<(), RegistryError> {
        let now = millis(SystemTime::now());
        self.end_rollout(name, number, |transaction| {
            make_active(transaction, name, number.cast_signed(), now)?;
            happened(transaction, name, Some(number.cast_signed()), Event::Promoted, by, detail)
        })
    }

    /// Ends the rollout of a version, and leaves the active one as it is.
    pub(in crate::registry) fn abort(
        &mut self,
        name: &str,
        number: u64,
        by: &str,
        event: Event,
        detail: &str,
    ) -> Result<(), RegistryError> {
        self.end_rollout(name, number, |transaction| {
            happened(transaction, name, Some(number.cast_signed()), event, by, detail)
        })
    }

    fn end_rollout(
        &mut self,
        name: &str,
        number: u64,
        then: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), RegistryError> {
        let found = self.change(|transaction| {
            let found = transaction.execute(
                "DELETE FROM rollout WHERE handler = ?1 AND number = ?2",
                params![name, number.cast_signed()],
            )?;
            if found == 1 {
                then(transaction)?;
            }
            Ok(found == 1)
        })?;
        if found { Ok(()) } else { Err(RegistryError::NoVersion { handler: name.to_owned(), number }) }
    }
}

/// Notes that a version which is recorded is tried from now on.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    name: &str,
    rollout: &RolloutRecord,
    detail: &str,
) -> rusqlite::Result<()> {
    let RolloutRecord { number, plan, started_at, started_by } = rollout;
    let event = match plan {
        RolloutPlan::Canary { .. } => Event::CanaryStarted,
        RolloutPlan::Shadow { .. } => Event::ShadowStarted,
    };
    let after = plan.after().map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    let (number, share, started) = (number.cast_signed(), plan.share().hundredths(), millis(*started_at));
    transaction.execute(
        "INSERT INTO rollout (handler, number, kind, share, promote_after_ms, started_ms, started_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![name, number, plan.name(), share, after, started, started_by],
    )?;
    happened(transaction, name, Some(number), event, started_by, detail)
}

/// Forgets the rollout of a handler.
pub(super) fn remove(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM rollout WHERE handler = ?1", params![name])?;
    Ok(())
}

/// Ends a rollout because another version becomes the active one, as part of that.
pub(super) fn replaced(transaction: &Transaction<'_>, name: &str, by: i64, who: &str) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare("DELETE FROM rollout WHERE handler = ?1 RETURNING number")?;
    let number: Option<i64> = statement.query_row(params![name], |row| row.get(0)).optional()?;
    if let Some(number) = number.filter(|number| *number != by) {
        happened(
            transaction,
            name,
            Some(number),
            Event::Aborted,
            who,
            &format!("version {by} was made the active one"),
        )?;
    }
    Ok(())
}

/// The rollout of a handler.
pub(super) fn rollout(connection: &Connection, name: &str) -> rusqlite::Result<Option<RolloutRecord>> {
    let mut statement = connection.prepare(
        "SELECT number, kind, share, promote_after_ms, started_ms, started_by FROM rollout WHERE handler = ?1",
    )?;
    statement.query_row(params![name], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<RolloutRecord> {
    let share = row.get::<_, u16>(2)?;
    let share = Share::from_hundredths(share).ok_or_else(|| unreadable(2, Unknown("share", share.to_string())))?;
    let kind: String = row.get(1)?;
    let after: Option<i64> = row.get(3)?;
    let after = after.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
    let plan = match kind.as_str() {
        "canary" => RolloutPlan::Canary { share, promote_after: after },
        "shadow" => RolloutPlan::Shadow { share, ends_after: after },
        _ => return Err(unreadable(1, Unknown("kind of rollout", kind))),
    };
    Ok(RolloutRecord {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        plan,
        started_at: time(row.get(4)?),
        started_by: row.get(5)?,
    })
}

/// A value that this host does not know.
#[derive(Debug, thiserror::Error)]
#[error("there is no {0} `{1}`")]
struct Unknown(&'static str, String);
