//! `/v1/configuration`: what the host's own file changes, and applying it.
//!
//! The file is the host's: it is never sent. Where a host is remote, its file is changed there, by whatever brings files
//! to machines; who may ask for the changes sees what stands in it, as it holds, but for secrets, which are not in it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fail::Fail;
use super::handlers;
use super::state::HostState;
use crate::access::Caller;
use crate::apply::report::{Applied, Changes};
use crate::apply::{ApplyError, Configuration};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplyQuery {
    /// The digest of the changes that were shown.
    digest: String,
}

pub(super) async fn changes(State(state): State<Arc<HostState>>) -> Result<Json<Changes>, Fail> {
    Ok(Json(configuration(&state)?.changes().await.map_err(|error| fail(&error))?))
}

pub(super) async fn apply(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    query: Result<Query<ApplyQuery>, QueryRejection>,
) -> Result<Json<Applied>, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let applied = configuration(&state)?.apply(Some(&query.digest), &caller.name).await;
    Ok(Json(applied.map_err(|error| fail(&error))?))
}

fn configuration(state: &HostState) -> Result<&Arc<dyn Configuration>, Fail> {
    let message = "nothing runs by a configuration here: this listener serves queues alone";
    let none = || Fail::new(StatusCode::SERVICE_UNAVAILABLE, "no-configuration-here", message);
    state.configuration.as_ref().ok_or_else(none)
}

pub(super) fn fail(error: &ApplyError) -> Fail {
    let status = match error {
        ApplyError::Config(_) | ApplyError::Broker { .. } | ApplyError::Subscription { .. } | ApplyError::Tls(_) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ApplyError::NeedsRestart { .. } | ApplyError::Busy { .. } | ApplyError::Changed => StatusCode::CONFLICT,
        ApplyError::Handler(error) => handlers::fail(error).status,
        ApplyError::Draining | ApplyError::NotWritten(_) => StatusCode::SERVICE_UNAVAILABLE,
        ApplyError::Broken => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Fail::new(status, error.code(), error.chain())
}
