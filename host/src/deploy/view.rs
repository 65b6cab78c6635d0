//! What can be seen of a handler, from its records and from what runs.

use super::entry::Entry;
use super::report::{HandlerSummary, HandlerView, HistoryView, InProgress, RolloutView, VersionState, VersionView};
use super::signed::Signers;
use super::spelled;
use super::turn::Deploying;
use crate::registry::{HandlerRecord, Happened, VersionRecord};

/// A handler at a glance.
pub(super) fn summary(entry: &Entry, record: Option<&HandlerRecord>, signers: &Signers) -> HandlerSummary {
    let active = record.and_then(|record| running(entry, record));
    HandlerSummary {
        name: entry.name.clone(),
        active: active.map(|version| view(entry, version, signers)),
        rollout: rollout(entry),
        kept: record.map_or(0, |record| record.versions.len()),
        deploying: entry.turn.holder().map(in_progress),
        trouble: trouble(entry, record.and_then(|record| record.active)),
    }
}

/// The version that runs, as it is recorded.
pub(super) fn running<'a>(entry: &Entry, record: &'a HandlerRecord) -> Option<&'a VersionRecord> {
    record.version(entry.active()?.deployed.number)
}

/// A handler, whole.
pub(super) fn whole(entry: &Entry, record: &HandlerRecord, signers: &Signers, history: Vec<Happened>) -> HandlerView {
    HandlerView {
        name: entry.name.clone(),
        active: entry.active().map(|loaded| loaded.deployed.number),
        rollout: rollout(entry),
        deploying: entry.turn.holder().map(in_progress),
        trouble: trouble(entry, record.active),
        versions: record.versions.iter().map(|version| view(entry, version, signers)).collect(),
        history: history.into_iter().map(happened).collect(),
        to_run: None,
        cluster: None,
    }
}

fn rollout(entry: &Entry) -> Option<RolloutView> {
    Some(entry.on_trial()?.view(&entry.active()?))
}

fn view(entry: &Entry, version: &VersionRecord, signers: &Signers) -> VersionView {
    let loaded = entry.loaded(version.number);
    let active = entry.active().is_some_and(|active| active.deployed.number == version.number);
    let tried = entry.on_trial().is_some_and(|on| on.record.number == version.number);
    let state = match (&loaded, active, tried) {
        (_, true, _) => VersionState::Active,
        (_, false, true) => VersionState::Candidate,
        (Some(_), false, false) => VersionState::Loaded,
        (None, false, false) => VersionState::Kept,
    };
    VersionView {
        number: version.number,
        state,
        digest: version.digest.clone(),
        size: version.size,
        contract: version.contract.clone(),
        source: version.source.clone(),
        signed_by: signers.get(&version.digest).cloned(),
        deployed_by: version.deployed_by.clone(),
        deployed_at: spelled(version.deployed_at),
        activated_at: version.activated_at.map(spelled),
        settings: version.settings.clone(),
        figures: loaded.map(|loaded| loaded.deployed.figures.counts()),
    }
}

fn trouble(entry: &Entry, recorded: Option<u64>) -> Option<String> {
    let held = || entry.held().map(|held| held.to_string());
    entry.trouble().or_else(held).or_else(|| note(entry.active().map(|active| active.deployed.number), recorded))
}

/// What is to be told where what runs is not what is recorded as the active version.
fn note(runs: Option<u64>, recorded: Option<u64>) -> Option<String> {
    match (runs, recorded) {
        (None, None) => Some("it has no version yet: deploy one".to_owned()),
        (None, Some(number)) => Some(format!("version {number} is the active one by the records, and does not run")),
        (Some(runs), Some(number)) if runs != number => {
            Some(format!("version {runs} runs, and version {number} is the active one by the records"))
        }
        (Some(_), Some(_) | None) => None,
    }
}

fn in_progress(deploying: Deploying) -> InProgress {
    InProgress { by: deploying.by, since: spelled(deploying.since) }
}

fn happened(happened: Happened) -> HistoryView {
    HistoryView {
        at: spelled(happened.at),
        event: happened.event,
        version: happened.number,
        who: happened.who,
        detail: happened.detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_of_where_it_is_not_what_is_recorded() {
        let rows = [
            (None, None, Some("it has no version yet: deploy one")),
            (None, Some(3), Some("version 3 is the active one by the records, and does not run")),
            (Some(2), Some(3), Some("version 2 runs, and version 3 is the active one by the records")),
            (Some(3), Some(3), None),
            (Some(3), None, None),
        ];
        for (runs, recorded, told) in rows {
            assert_eq!(note(runs, recorded).as_deref(), told, "{runs:?} {recorded:?}");
        }
    }
}
