//! What dead letters failed in, beside what runs now.

use axum::http::StatusCode;

use crate::admin::fail::Fail;
use crate::admin::state::HostState;
use crate::admin::wire::{DeadLetterView, Shown};
use crate::broker::{NamedBroker, Running, Traits};
use crate::settle::dead_letter::{DeadLetterId, StoredDeadLetter};

/// The versions that run here, for what can be warned of; `None`: nobody can tell.
pub(super) async fn running(state: &HostState) -> Option<Running> {
    let running = state.deployments.as_ref()?.running().await;
    running.inspect_err(|error| tracing::warn!(error = error.chain(), "the versions that run cannot be read")).ok()
}

/// A dead letter as it is shown, with whether its version still runs. One that was sent back is not sent again.
pub(super) fn shown(stored: StoredDeadLetter, broker: &str, how: Shown, running: Option<&Running>) -> DeadLetterView {
    let fails_again = |running: &Running| running.failed_in(&Traits::of(&stored.letter.record));
    let same_version = stored.redriven_at.is_none() && running.is_some_and(fails_again);
    DeadLetterView { same_version, ..DeadLetterView::new(stored, broker, how) }
}

/// Refuses one that failed in a version that still runs.
pub(super) async fn refuse_same_version(state: &HostState, entry: &NamedBroker, id: &DeadLetterId) -> Result<(), Fail> {
    let Some(deployments) = &state.deployments else {
        let message = "no handlers run here, and whether a version changed is told by those that run: start the host";
        return Err(Fail::new(StatusCode::CONFLICT, "no-handlers-here", message));
    };
    let running = deployments.running().await.map_err(|error| {
        let message = format!("the versions that run here cannot be read: {}", error.chain());
        Fail::new(StatusCode::SERVICE_UNAVAILABLE, "versions-unreadable", message)
    })?;
    let stored = entry.broker.dead_letters().get(id).await.map_err(|error| Fail::from(&error))?;
    match running.failed_in(&Traits::of(&stored.letter.record)) {
        true => {
            let handler = &stored.letter.record.handler;
            let message =
                format!("dead letter `{id}` failed in a version that `{handler}` still runs; it was not sent back");
            Err(Fail::new(StatusCode::CONFLICT, "same-version", message))
        }
        false => Ok(()),
    }
}
