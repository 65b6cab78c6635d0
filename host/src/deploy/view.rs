//! What can be seen of a handler, from its records and from what runs.

use super::entry::Entry;
use super::report::{HandlerSummary, HandlerView, HistoryView, InProgress, RolloutView, VersionState, VersionView};
use super::signed::Signers;
use super::spelled;
use super::turn::Deploying;
use crate::registry::{HandlerRecord, Happened, VersionRecord};

/// A handler at a glance.
pub(super) fn summary(entry: &Entry, record: Option<&HandlerRecord>, signers: &Signers) -> HandlerSummary {
    let active = record.and_then(HandlerRecord::active_version);
    HandlerSummary {
        name: entry.name.clone(),
        active: active.map(|version| view(entry, version, signers)),
        rollout: rollout(entry),
        kept: record.map_or(0, |record| record.versions.len()),
        deploying: entry.turn.holder().map(in_progress),
        trouble: trouble(entry),
    }
}

/// A handler, whole.
pub(super) fn whole(entry: &Entry, record: &HandlerRecord, signers: &Signers, history: Vec<Happened>) -> HandlerView {
    HandlerView {
        name: entry.name.clone(),
        active: entry.active().map(|loaded| loaded.deployed.number),
        rollout: rollout(entry),
        deploying: entry.turn.holder().map(in_progress),
        trouble: trouble(entry),
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

fn trouble(entry: &Entry) -> Option<String> {
    let waits = || entry.active().is_none().then(|| "it has no version yet: deploy one".to_owned());
    entry.trouble().or_else(waits)
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
