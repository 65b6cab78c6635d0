//! Which version of a handler is the active one, and which one it took the place of.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Records, happened, millis, rollout};
use crate::registry::RegistryError;
use crate::registry::previous::{Ran, replaced_by};
use crate::registry::version::Event;

/// What layout 3 added: the version that it took the place of the last time; NULL: none, or an earlier host did that.
pub(super) const COLUMN: &str = "ALTER TABLE version ADD COLUMN replaced INTEGER;";

impl Records {
    pub(in crate::registry) fn activate(
        &mut self,
        name: &str,
        number: u64,
        by: &str,
        event: Event,
    ) -> Result<(), RegistryError> {
        let now = millis(SystemTime::now());
        let found = self.change(|transaction| {
            let found = make_active(transaction, name, number.cast_signed(), now)?;
            if found {
                happened(transaction, name, Some(number.cast_signed()), event, by, "")?;
                rollout::replaced(transaction, name, number.cast_signed(), by)?;
            }
            Ok(found)
        })?;
        if found { Ok(()) } else { Err(RegistryError::NoVersion { handler: name.to_owned(), number }) }
    }
}

/// Fills in what versions took the place of, as far as the history of a file of before has it.
pub(super) fn fill_in(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let became = [Event::Deployed, Event::RolledBack, Event::Promoted, Event::Followed].map(Event::name);
    let mut statement = transaction.prepare(
        "SELECT handler, number FROM history
         WHERE number IS NOT NULL AND event IN (?1, ?2, ?3, ?4) ORDER BY handler, id",
    )?;
    let rows = statement.query_map(became, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let mut handlers: BTreeMap<String, (Vec<Ran>, Option<u64>)> = BTreeMap::new();
    for row in rows {
        let (name, number) = row?;
        let (versions, active) = handlers.entry(name).or_default();
        let number = number.cast_unsigned();
        let replaced = replaced_by(versions, *active, number);
        versions.retain(|version| version.number != number);
        versions.push(Ran { number, was_active: true, replaced });
        *active = Some(number);
    }
    for (name, (versions, _)) in handlers {
        for Ran { number, replaced, .. } in versions {
            transaction.execute(
                "UPDATE version SET replaced = ?3 WHERE handler = ?1 AND number = ?2",
                params![name, number.cast_signed(), replaced.map(u64::cast_signed)],
            )?;
        }
    }
    Ok(())
}

/// False when there is no such version.
pub(super) fn make_active(transaction: &Transaction<'_>, name: &str, number: i64, now: i64) -> rusqlite::Result<bool> {
    let active = transaction.query_row("SELECT active FROM handler WHERE name = ?1", params![name], |row| row.get(0));
    let active: Option<i64> = active.optional()?.flatten();
    let replaced = replaced_by(&ran(transaction, name)?, active.map(i64::cast_unsigned), number.cast_unsigned());
    let found = transaction.execute(
        "UPDATE version SET activated_ms = ?3, replaced = ?4 WHERE handler = ?1 AND number = ?2",
        params![name, number, now, replaced.map(u64::cast_signed)],
    )?;
    if found == 1 {
        transaction
            .execute("UPDATE handler SET active = ?2, activated_ms = ?3 WHERE name = ?1", params![name, number, now])?;
    }
    Ok(found == 1)
}

fn ran(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<Vec<Ran>> {
    let mut statement =
        transaction.prepare("SELECT number, activated_ms IS NOT NULL, replaced FROM version WHERE handler = ?1")?;
    let rows = statement.query_map(params![name], |row| {
        let (number, replaced): (i64, Option<i64>) = (row.get(0)?, row.get(2)?);
        Ok(Ran { number: number.cast_unsigned(), was_active: row.get(1)?, replaced: replaced.map(i64::cast_unsigned) })
    })?;
    rows.collect()
}
