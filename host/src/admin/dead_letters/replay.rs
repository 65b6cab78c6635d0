//! `POST /v1/dead-letters/{id}/replay`: its message once more, on a version that the host keeps, with no effect on anything.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Given, candidates, given};
use crate::access::Caller;
use crate::admin::fail::Fail;
use crate::admin::handlers::{self, deployments};
use crate::admin::publish::whole;
use crate::admin::state::HostState;
use crate::admin::wire::ReplayView;
use crate::broker::DeadLetterError;
use crate::deploy::ReplayError;
use crate::settle::dead_letter::DeadLetterId;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct ReplayQuery {
    /// The broker that keeps it; all are asked when it is not said.
    broker: Option<String>,
    /// The version that it is run on, by its number; the one that gave it up when it is not said.
    version: Option<u64>,
    /// Runs it with the body of this request in the place of its own.
    #[serde(default)]
    edited: bool,
}

pub(in crate::admin) async fn replay(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Given<ReplayQuery>,
    body: Body,
) -> Result<Json<ReplayView>, Fail> {
    let id = DeadLetterId(id);
    let query = given(query)?;
    let deployments = deployments(&state)?;
    let body = match query.edited {
        true => Some(whole(body.into_data_stream(), state.max_publish_bytes).await?),
        false => None,
    };
    let brokers = state.brokers.all();
    for (name, entry) in candidates(&brokers, query.broker.as_deref())? {
        let stored = match entry.broker.dead_letters().get(&id).await {
            Ok(stored) if caller.covers(&stored.letter.record.handler) => stored,
            Ok(_) | Err(DeadLetterError::NotFound(_)) => continue,
            Err(error) => return Err(Fail::from(&error)),
        };
        let mut letter = stored.letter;
        if let Some(body) = body {
            letter.body = body;
        }
        let replay = deployments.replay(&letter, query.version).await.map_err(|error| fail(&error))?;
        let outcome = replay.run.outcome.code().0;
        tracing::debug!(who = %caller.name, %id, broker = name, version = replay.version.number, outcome, "replayed");
        return Ok(Json(ReplayView::new(&letter.record, replay)));
    }
    Err(Fail::from(&DeadLetterError::NotFound(id.0)))
}

fn fail(error: &ReplayError) -> Fail {
    let (status, code) = match error {
        ReplayError::Version(error) => return handlers::fail(error),
        ReplayError::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "too-many-replays"),
        ReplayError::Unfinished => (StatusCode::SERVICE_UNAVAILABLE, "replay-unfinished"),
        ReplayError::NoneRan { .. } => (StatusCode::CONFLICT, "no-version-ran"),
        ReplayError::Forgotten { .. } => (StatusCode::CONFLICT, "version-forgotten"),
        ReplayError::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "replay-broken"),
    };
    Fail::new(status, code, error.to_string())
}
