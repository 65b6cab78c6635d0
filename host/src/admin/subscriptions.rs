//! `/v1/subscriptions/{subscription}` and `/v1/handlers/{handler}`: pausing and resuming, on this host.
//!
//! A caller who is limited to some handlers pauses the subscriptions of those alone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fail::Fail;
use super::state::{HostState, Pausing, SubscriptionStatus};
use super::wire::{PauseView, Paused, PausedSubscription, Resumed, ResumedSubscription};
use crate::access::Caller;
use crate::config::{nearest, parse_duration};
use crate::pause::{PauseError, PauseRecord};

/// How long a pause may be to end by itself: what nobody looked after for a month was forgotten.
const TIME: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
/// How much of why is kept: a sentence or two, and a ticket.
const WHY_CHARS: usize = 200;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseQuery {
    /// Why, for people; 200 characters of it are kept.
    why: Option<String>,
    /// How long until it ends by itself: `10m`; between a second and 30 days. It does not end by itself when it is not said.
    #[serde(rename = "for")]
    time: Option<String>,
}

type Given = Result<Query<PauseQuery>, QueryRejection>;

impl PauseQuery {
    fn record(given: Given, caller: &Caller) -> Result<PauseRecord, Fail> {
        let Query(query) = given.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
        let wrong = |message: String| Fail::bad_request("invalid-query", format!("`for`: {message}"));
        let time = query.time.as_deref().map(parse_duration).transpose().map_err(wrong)?;
        if let Some(time) = time.filter(|time| !TIME.contains(time)) {
            return Err(wrong(format!("{time:?} is not between a second and 30 days")));
        }
        let why = query.why.unwrap_or_default();
        let why: String = why.chars().filter(|c| !c.is_control()).take(WHY_CHARS).collect();
        let since = SystemTime::now();
        Ok(PauseRecord {
            by: caller.name.to_string(),
            why: Some(why).filter(|why| !why.is_empty()),
            since,
            until: time.map(|time| since + time),
        })
    }
}

pub(super) async fn pause(
    State(state): State<Arc<HostState>>,
    Path(subscription): Path<String>,
    caller: Caller,
    query: Given,
) -> Result<Json<Paused>, Fail> {
    let record = PauseQuery::record(query, &caller)?;
    close(&state, one(&state, &subscription, &caller)?, record).await
}

pub(super) async fn pause_handler(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
    caller: Caller,
    query: Given,
) -> Result<Json<Paused>, Fail> {
    let record = PauseQuery::record(query, &caller)?;
    close(&state, of_handler(&state, &handler)?, record).await
}

pub(super) async fn resume(
    State(state): State<Arc<HostState>>,
    Path(subscription): Path<String>,
    caller: Caller,
) -> Result<Json<Resumed>, Fail> {
    open(&state, one(&state, &subscription, &caller)?).await
}

pub(super) async fn resume_handler(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
) -> Result<Json<Resumed>, Fail> {
    open(&state, of_handler(&state, &handler)?).await
}

async fn close(
    state: &HostState,
    subscriptions: Vec<SubscriptionStatus>,
    record: PauseRecord,
) -> Result<Json<Paused>, Fail> {
    let names = names(&subscriptions);
    let view = PauseView::of(&record);
    whole(state, move |pausing| async move { pausing.pause(&names, &record).await }).await?;
    let paused = subscriptions.into_iter().map(|one| PausedSubscription {
        name: one.name,
        handler: one.handler,
        in_flight: one.counts.in_flight,
        pause: view.clone(),
    });
    Ok(Json(Paused { subscriptions: paused.collect() }))
}

async fn open(state: &HostState, subscriptions: Vec<SubscriptionStatus>) -> Result<Json<Resumed>, Fail> {
    let names = names(&subscriptions);
    let ended = whole(state, move |pausing| async move { pausing.resume(&names).await }).await?;
    let resumed = subscriptions.into_iter().map(|one| ResumedSubscription {
        was_paused: ended.contains(&one.name),
        name: one.name,
        handler: one.handler,
    });
    Ok(Json(Resumed { subscriptions: resumed.collect() }))
}

fn names(subscriptions: &[SubscriptionStatus]) -> Vec<String> {
    subscriptions.iter().map(|one| one.name.clone()).collect()
}

/// The subscription of a name, when the caller may steer it.
pub(super) fn one(state: &HostState, name: &str, caller: &Caller) -> Result<Vec<SubscriptionStatus>, Fail> {
    let all = state.subscriptions.list();
    match all.iter().find(|one| one.name == name) {
        Some(found) => {
            caller.check(&found.handler)?;
            Ok(vec![found.clone()])
        }
        None => {
            let theirs = all.iter().filter(|one| caller.covers(&one.handler)).map(|one| one.name.as_str());
            Err(unknown(&format!("there is no subscription `{name}` on this host"), name, theirs))
        }
    }
}

/// The subscriptions of a handler, of which the gate knows that the caller may steer it.
fn of_handler(state: &HostState, name: &str) -> Result<Vec<SubscriptionStatus>, Fail> {
    let all = state.subscriptions.list();
    let found: Vec<SubscriptionStatus> = all.iter().filter(|one| one.handler == name).cloned().collect();
    if found.is_empty() {
        let handlers = all.iter().map(|one| one.handler.as_str());
        return Err(unknown(&format!("no subscription of this host has a handler `{name}`"), name, handlers));
    }
    Ok(found)
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Fail {
    let meant = nearest(name, known).map(|meant| format!("; did you mean `{meant}`?"));
    Fail::new(StatusCode::NOT_FOUND, "no-such-subscription", format!("{what}{}", meant.unwrap_or_default()))
}

/// Does it in a task of its own: a caller who goes away in the middle leaves nothing half done.
async fn whole<T: Send + 'static, F: Future<Output = Result<T, PauseError>> + Send + 'static>(
    state: &HostState,
    work: impl FnOnce(Arc<dyn Pausing>) -> F,
) -> Result<T, Fail> {
    let unavailable = |code, message: String| Fail::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
    let Some(pausing) = &state.pausing else {
        let message = "no subscriptions run here: this listener serves queues alone";
        return Err(unavailable("no-subscriptions-here", message.to_owned()));
    };
    let done = tokio::spawn(work(Arc::clone(pausing))).await;
    let done = done.unwrap_or(Err(PauseError::Stopped));
    done.map_err(|error| unavailable("not-kept", error.chain()))
}
