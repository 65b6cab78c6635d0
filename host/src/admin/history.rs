//! `GET /v1/history`: the last hour, for charts. A caller who is limited to some handlers gets the subscriptions of those alone.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fail::Fail;
use super::state::HostState;
use super::wire::Series;
use crate::access::{Caller, Scope};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// Of which subscription; all together when it is not said.
    subscription: Option<String>,
}

/// `GET /v1/history`
pub(super) async fn history(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Series>, Fail> {
    let Query(HistoryQuery { subscription }) =
        query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let all = state.subscriptions.list();
    let is_theirs = |name: &str| all.iter().any(|known| known.name == name && caller.covers(&known.handler));
    let points = match (&subscription, &caller.handlers) {
        (None, Scope::All) => state.metrics.history().points(None).unwrap_or_default(),
        (None, Scope::Only(_)) => state.metrics.history().together(is_theirs),
        // One that has just come has no history yet, and is known all the same; one that has just gone is not, and has one.
        (Some(name), scope) => {
            let known = state.metrics.history().points(Some(name)).filter(|_| *scope == Scope::All || is_theirs(name));
            match known {
                Some(points) => points,
                None if is_theirs(name) => Vec::new(),
                None => {
                    let message = format!("there is no subscription `{name}` here");
                    return Err(Fail::new(StatusCode::NOT_FOUND, "no-such-subscription", message));
                }
            }
        }
    };
    Ok(Json(Series::new(subscription, &points)))
}
