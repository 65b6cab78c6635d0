//! `GET /v1/live`: what becomes of messages, a line of JSON each, as it happens.
//!
//! What is said of a run is for whoever may read; logs, outputs and messages are payload, and for whoever may operate. A
//! caller who is limited to some handlers sees those alone.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fail::Fail;
use super::state::HostState;
use super::wire::{EndedView, LiveLine};
use crate::access::Caller;
use crate::dispatch::{Glimpse, Look, Seen};

/// After so long without anything to say, it is said that there is nothing: whoever has gone is noticed by it, and
/// whoever reads knows that the host is there.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveQuery {
    /// Only messages of this broker.
    broker: Option<String>,
    /// Only those of this subscription.
    subscription: Option<String>,
    /// Only those of this handler.
    handler: Option<String>,
    /// With what the runs logged and published, and with their messages.
    #[serde(default)]
    payloads: bool,
}

impl LiveQuery {
    fn wants(&self, seen: &Seen) -> bool {
        let Self { broker, subscription, handler, payloads: _ } = self;
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let identity = &seen.identity;
        is(broker, &identity.broker) && is(subscription, &identity.subscription) && is(handler, &identity.handler)
    }
}

pub(super) async fn live(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    query: Result<Query<LiveQuery>, QueryRejection>,
) -> Result<Response, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    if query.payloads && !caller.sees_payload() {
        let message = "logs, outputs and messages need the role `operate`; without `payloads` the rest is shown";
        return Err(Fail::new(StatusCode::FORBIDDEN, "payload-withheld", message));
    }
    let nothing = "nothing runs here: this listener serves queues alone";
    let live = state.live.as_ref();
    let live = live.ok_or_else(|| Fail::new(StatusCode::SERVICE_UNAVAILABLE, "no-handlers-here", nothing))?;
    let look = live.look(query.payloads);
    let look = look.map_err(|error| Fail::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-look", error.to_string()))?;
    let lines = Lines { look, query, caller, begun: false };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines.stream())).into_response())
}

struct Lines {
    look: Look,
    query: LiveQuery,
    caller: Caller,
    begun: bool,
}

impl Lines {
    fn stream(self) -> impl Stream<Item = Result<Vec<u8>, serde_json::Error>> {
        futures_util::stream::unfold(self, |mut lines| async move {
            let line = lines.next().await?;
            let text = serde_json::to_vec(&line).map(|mut text| {
                text.push(b'\n');
                text
            });
            Some((text, lines))
        })
    }

    /// The next line; `None` when the host has ended.
    async fn next(&mut self) -> Option<LiveLine> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(LiveLine::Watching);
        }
        let quiet_at = tokio::time::Instant::now() + QUIET;
        loop {
            let Ok(glimpse) = tokio::time::timeout_at(quiet_at, self.look.next()).await else {
                return Some(LiveLine::Quiet);
            };
            match glimpse? {
                Glimpse::Missed(count) => return Some(LiveLine::Missed { count }),
                Glimpse::Seen(seen) if self.caller.covers(&seen.identity.handler) && self.query.wants(&seen) => {
                    return Some(LiveLine::Ended(Box::new(EndedView::new(&seen))));
                }
                Glimpse::Seen(_) => {}
            }
        }
    }
}
