//! What a cluster has of a handler, in the records: its versions stand there as the cluster numbers them.

use rusqlite::{Transaction, params};

use super::{Records, add_handler, happened, millis, note_configured, rollout};
use crate::registry::RegistryError;
use crate::registry::version::{Event, Followed, VersionRecord};

impl Records {
    /// Takes over what a cluster has of a handler.
    pub(in crate::registry) fn follow(&mut self, followed: &Followed) -> Result<(), RegistryError> {
        let Followed { name, active, next, versions, rollout, tries, event, by, detail, .. } = followed;
        let Followed { ended, ended_as, why_ended, configured, .. } = followed;
        self.change(|transaction| {
            add_handler(transaction, name)?;
            let before: Option<i64> =
                transaction.query_row("SELECT active FROM handler WHERE name = ?1", params![name], |row| row.get(0))?;
            let tried_before = rollout::rollout(transaction, name)?.map(|rollout| rollout.number);
            transaction.execute("DELETE FROM version WHERE handler = ?1", params![name])?;
            for version in versions {
                insert(transaction, name, version)?;
            }
            let activated = versions.iter().find(|version| version.number == *active);
            let activated = activated.and_then(|version| version.activated_at).map(millis);
            transaction.execute(
                "UPDATE handler SET active = ?2, activated_ms = ?3, next_number = max(next_number, ?4) WHERE name = ?1",
                params![name, active.cast_signed(), activated, next.cast_signed()],
            )?;
            if let Some(configured) = configured {
                note_configured(transaction, name, configured)?;
            }
            if before != Some(active.cast_signed()) {
                happened(transaction, name, Some(active.cast_signed()), *event, by, detail)?;
            }
            let rollout = rollout.as_ref().filter(|rollout| *tries || tried_before == Some(rollout.number));
            let tried = rollout.map(|rollout| rollout.number);
            if let Some(over) = tried_before.filter(|over| tried != Some(*over)) {
                rollout::remove(transaction, name)?;
                if over != *active {
                    happened(transaction, name, Some(over.cast_signed()), *ended_as, by, why_ended)?;
                }
            }
            if let Some(ended) = ended.filter(|ended| tried_before != Some(*ended))
                && !is_told(transaction, name, ended, *ended_as)?
            {
                happened(transaction, name, Some(ended.cast_signed()), *ended_as, by, why_ended)?;
            }
            match rollout.filter(|_| tried != tried_before) {
                Some(rollout) => rollout::begin(transaction, name, rollout, detail),
                None => Ok(()),
            }
        })
    }
}

/// Whether the history has an event of a version.
fn is_told(transaction: &Transaction<'_>, name: &str, number: u64, event: Event) -> rusqlite::Result<bool> {
    transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM history WHERE handler = ?1 AND number = ?2 AND event = ?3)",
        params![name, number.cast_signed(), event.name()],
        |row| row.get(0),
    )
}

fn insert(transaction: &Transaction<'_>, name: &str, version: &VersionRecord) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO version
            (handler, number, digest, settings, size, contract, source, deployed_by, deployed_ms, activated_ms,
             replaced)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            name,
            version.number.cast_signed(),
            version.digest.as_str(),
            version.settings.to_json(),
            version.size.cast_signed(),
            version.contract,
            version.source,
            version.deployed_by,
            millis(version.deployed_at),
            version.activated_at.map(millis),
            version.replaced.map(u64::cast_signed)
        ],
    )?;
    Ok(())
}
