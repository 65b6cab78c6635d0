//! `/v1/subscriptions/{subscription}/messages`: what its stream still has of the messages that went by. They are payload, so it
//! needs the role that sees payloads; looking changes nothing.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fail::Fail;
use super::state::HostState;
use super::subscriptions::one;
use super::wire::PastMessages;
use crate::access::{Caller, parse_moment};
use crate::broker::{PastError, PastQuery};

/// A page of so many when it is not said, and at the most: with the bytes below some MiB of JSON.
const PAGE: usize = 500;
const LONGEST_PAGE: usize = 1000;
/// Bytes of a page: messages of 8 KiB fill it with 500. A single one that is larger comes alone.
const PAGE_BYTES: usize = 4 << 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PastQueryText {
    /// Those that were published at this time or later: a day or a time in UTC.
    since: String,
    /// And not later than that; now when it is not said.
    until: Option<String>,
    /// What the page before gave as `next`.
    after: Option<u64>,
    /// How many at the most: 500 when it is not said, and never more than 1,000.
    limit: Option<usize>,
}

pub(super) async fn messages(
    State(state): State<Arc<HostState>>,
    Path(subscription): Path<String>,
    caller: Caller,
    query: Result<Query<PastQueryText>, QueryRejection>,
) -> Result<Json<PastMessages>, Fail> {
    one(&state, &subscription, &caller)?;
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let query = PastQuery {
        since: moment("since", &query.since)?,
        until: query.until.as_deref().map(|until| moment("until", until)).transpose()?,
        after: query.after,
        messages: query.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE),
        bytes: PAGE_BYTES,
    };
    let unavailable = |code, message: String| Fail::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
    match state.subscriptions.past(&subscription, &query).await {
        Some(Ok(page)) => Ok(Json(PastMessages::new(page))),
        Some(Err(error @ PastError::Away(_))) => Err(unavailable("broker-unavailable", error.to_string())),
        Some(Err(error @ PastError::Unsupported)) => Err(unavailable("no-past", error.to_string())),
        None => Err(unavailable("no-past", "the subscription has not begun, and waits for its broker".to_owned())),
    }
}

fn moment(key: &str, text: &str) -> Result<SystemTime, Fail> {
    parse_moment(text).map_err(|why| Fail::bad_request("invalid-query", format!("`{key}`: {why}")))
}
