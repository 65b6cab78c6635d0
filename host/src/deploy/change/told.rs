//! What is told of a look at a handler: how its file differs from what runs, that it stays beside it, and what is loaded.

use std::time::Instant;

use super::{Difference, Entry, Fate, Looked, Plan, decided};
use crate::registry::{Digest, HandlerRecord};

/// How the module that a configuration names differs from the one that runs, or that none does.
pub(super) fn difference(name: &str, looked: &Looked, is_down: bool) -> Option<Difference> {
    let before = looked.record.active_version().map(|active| active.digest.to_string()).unwrap_or_default();
    let after = looked.module.as_ref().map(ToString::to_string).unwrap_or_default();
    match looked.plan {
        Plan::DeployConfigured if before != after => {
            Some(Difference { what: format!("handlers.{name}.module (sha256)"), before, after })
        }
        Plan::DeployConfigured | Plan::DeployActive | Plan::Resume if is_down => Some(Difference {
            what: format!("handlers.{name}"),
            before: "no version that runs".to_owned(),
            after: "its version, tried again".to_owned(),
        }),
        Plan::DeployConfigured | Plan::DeployActive | Plan::Resume | Plan::Wait => None,
    }
}

/// That the file which the configuration names is not what runs, and stays so: it is told, or somebody waits for it in vain.
pub(super) fn unused(name: &str, looked: &Looked) -> Option<String> {
    let (module, active) = (looked.module.as_ref()?, looked.record.active_version()?);
    let stays = match looked.plan {
        Plan::Resume | Plan::DeployActive => active.digest != *module,
        Plan::Wait | Plan::DeployConfigured => false,
    };
    let kept = looked.record.versions.iter().find(|version| version.digest == *module);
    let of = kept.map_or_else(|| "another module".to_owned(), |version| format!("that of version {}", version.number));
    stays.then(|| {
        format!(
            "handler `{name}`: the file that it names is {of}, and version {} stays the active one; `tidegate deploy` brings the \
             file live",
            active.number
        )
    })
}

/// Says why a file that has changed is not deployed, as long as that is news.
pub(super) fn say_decided(handler: &str, record: &HandlerRecord, module: Option<&Digest>) {
    let last = record.configured.as_ref().and_then(|configured| configured.module.as_ref());
    let decided = module.filter(|module| last != Some(*module)).and_then(|module| decided(record, module));
    if let (Some(version), Some(active)) = (decided, record.active) {
        let is_tried = record.rollout.as_ref().is_some_and(|rollout| rollout.number == version.number);
        let standing = match (is_tried, version.activated_at) {
            (true, _) => "is tried beside it",
            (false, Some(_)) => "ran after it was deployed, and does not any more",
            (false, None) => "was tried, and not promoted",
        };
        tracing::info!(
            handler,
            file = version.number,
            runs = active,
            "the file that the configuration names is that of version {}, which {standing}: version {active} stays the active \
             one, and `tidegate deploy` brings the file live",
            version.number
        );
    }
}

/// Says which version a handler starts with.
pub(super) fn say_loaded(entry: &Entry, fate: &Fate, begun: Instant) {
    let handler = &entry.name;
    match fate {
        Fate::GoesOn if entry.trouble().is_none() => {
            tracing::warn!(handler, "the handler has no version yet: deploy one");
        }
        // The trouble was said.
        Fate::GoesOn => {}
        Fate::Resumes(loaded) => {
            let (number, digest) = (loaded.deployed.number, loaded.deployed.handler.digest());
            tracing::info!(handler, version = number, digest, took = ?begun.elapsed(), "the handler is loaded");
        }
        Fate::Passed(passed, _) => {
            let digest = &passed.new.digest;
            tracing::info!(handler, %digest, took = ?begun.elapsed(), "the configuration's module is loaded");
        }
    }
}
