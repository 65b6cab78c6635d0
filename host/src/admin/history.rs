//! `GET /v1/history`: the last hour, for charts.

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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// Of which subscription; all together when it is not said.
    subscription: Option<String>,
}

/// `GET /v1/history`
pub(super) async fn history(
    State(state): State<Arc<HostState>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Series>, Fail> {
    let Query(HistoryQuery { subscription }) =
        query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let points = state.metrics.history().points(subscription.as_deref());
    let points = match (points, &subscription) {
        (Some(points), _) => points,
        // One that has just come has no history yet, and is known all the same.
        (None, Some(name)) if state.subscriptions.list().iter().any(|known| known.name == *name) => Vec::new(),
        (None, name) => {
            let message = format!("there is no subscription `{}` here", name.as_deref().unwrap_or_default());
            return Err(Fail::new(StatusCode::NOT_FOUND, "no-such-subscription", message));
        }
    };
    Ok(Json(Series::new(subscription, &points)))
}
