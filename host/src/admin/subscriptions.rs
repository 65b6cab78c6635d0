//! `/v1/subscriptions/{subscription}` and `/v1/handlers/{handler}`: pausing and resuming, on this host or on all of its cluster.
//!
//! A caller who is limited to some handlers pauses the subscriptions of those alone.

use std::collections::BTreeMap;
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
use crate::access::{Caller, Scope};
use crate::config::{nearest, parse_duration};
use crate::pause::{Pause, PauseError, PauseRecord, Reach};

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
    /// Which hosts: `this` one, or `all` of its cluster.
    #[serde(default)]
    hosts: Reach,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeQuery {
    /// Whose pause: that of `this` host, or that of `all` of its cluster.
    #[serde(default)]
    hosts: Reach,
}

type Given = Result<Query<PauseQuery>, QueryRejection>;
type GivenToResume = Result<Query<ResumeQuery>, QueryRejection>;

impl PauseQuery {
    fn read(given: Given, caller: &Caller) -> Result<Pause, Fail> {
        let Query(query) = given.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
        let wrong = |message: String| Fail::bad_request("invalid-query", format!("`for`: {message}"));
        let time = query.time.as_deref().map(parse_duration).transpose().map_err(wrong)?;
        if let Some(time) = time.filter(|time| !TIME.contains(time)) {
            return Err(wrong(format!("{time:?} is not between a second and 30 days")));
        }
        let why = query.why.unwrap_or_default();
        let why: String = why.chars().filter(|c| !c.is_control()).take(WHY_CHARS).collect();
        let since = SystemTime::now();
        let record = PauseRecord {
            by: caller.name.to_string(),
            why: Some(why).filter(|why| !why.is_empty()),
            since,
            until: time.map(|time| since + time),
        };
        Ok(Pause { hosts: query.hosts, record })
    }
}

impl ResumeQuery {
    fn read(given: GivenToResume) -> Result<Reach, Fail> {
        let read = given.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()));
        read.map(|Query(Self { hosts })| hosts)
    }
}

pub(super) async fn pause(
    State(state): State<Arc<HostState>>,
    Path(subscription): Path<String>,
    caller: Caller,
    query: Given,
) -> Result<Json<Paused>, Fail> {
    let pause = PauseQuery::read(query, &caller)?;
    may_reach(&caller, pause.hosts)?;
    close(&state, one(&state, &subscription, &caller)?, pause).await
}

pub(super) async fn pause_handler(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
    caller: Caller,
    query: Given,
) -> Result<Json<Paused>, Fail> {
    let pause = PauseQuery::read(query, &caller)?;
    may_reach(&caller, pause.hosts)?;
    close(&state, of_handler(&state, &handler)?, pause).await
}

pub(super) async fn resume(
    State(state): State<Arc<HostState>>,
    Path(subscription): Path<String>,
    caller: Caller,
    query: GivenToResume,
) -> Result<Json<Resumed>, Fail> {
    let hosts = ResumeQuery::read(query)?;
    may_reach(&caller, hosts)?;
    open(&state, one(&state, &subscription, &caller)?, hosts, &caller).await
}

pub(super) async fn resume_handler(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
    caller: Caller,
    query: GivenToResume,
) -> Result<Json<Resumed>, Fail> {
    let hosts = ResumeQuery::read(query)?;
    may_reach(&caller, hosts)?;
    open(&state, of_handler(&state, &handler)?, hosts, &caller).await
}

async fn close(state: &HostState, subscriptions: Vec<SubscriptionStatus>, pause: Pause) -> Result<Json<Paused>, Fail> {
    let names = names(&subscriptions);
    let Pause { hosts, record } = pause;
    // As it was just before; whoever pauses it at the same moment is not told of.
    let holds = |name: &str| state.pausing.as_ref().and_then(|pausing| pausing.holds(name));
    let same = |name: &String| Some((name.clone(), holds(name).filter(|before| before.hosts == hosts)?));
    let mut before: BTreeMap<String, Pause> = names.iter().filter_map(same).collect();
    let record = whole(state, move |pausing| async move { pausing.pause(hosts, &names, &record).await }).await?;
    let view = PauseView::of(&Pause { hosts, record });
    let paused = subscriptions.into_iter().map(|one| PausedSubscription {
        pause: view.clone(),
        replaced: before.remove(&one.name).as_ref().map(PauseView::of),
        name: one.name,
        handler: one.handler,
        in_flight: one.counts.in_flight,
    });
    Ok(Json(Paused { subscriptions: paused.collect() }))
}

async fn open(
    state: &HostState,
    subscriptions: Vec<SubscriptionStatus>,
    hosts: Reach,
    caller: &Caller,
) -> Result<Json<Resumed>, Fail> {
    let names = names(&subscriptions);
    let by = caller.name.to_string();
    let ended = whole(state, move |pausing| async move { pausing.resume(hosts, &names, &by).await }).await?;
    let holds = |name: &str| state.pausing.as_ref().and_then(|pausing| pausing.holds(name));
    let resumed = subscriptions.into_iter().map(|one| ResumedSubscription {
        was_paused: ended.contains(&one.name),
        still: holds(&one.name).as_ref().map(PauseView::of),
        name: one.name,
        handler: one.handler,
    });
    Ok(Json(Resumed { subscriptions: resumed.collect() }))
}

fn names(subscriptions: &[SubscriptionStatus]) -> Vec<String> {
    subscriptions.iter().map(|one| one.name.clone()).collect()
}

/// Refuses all hosts to a caller who is limited to some handlers: what is of this name there may have another one.
fn may_reach(caller: &Caller, hosts: Reach) -> Result<(), Fail> {
    if hosts == Reach::This || caller.handlers == Scope::All {
        return Ok(());
    }
    let message = "this concerns all hosts of the cluster, and your access is limited to some handlers";
    Err(Fail::new(StatusCode::FORBIDDEN, "limited-to-handlers", message))
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
            let theirs = || all.iter().filter(|one| caller.covers(&one.handler));
            let of_handler: Vec<&str> =
                theirs().filter(|one| one.handler == name).map(|one| one.name.as_str()).collect();
            if !of_handler.is_empty() {
                let message = format!(
                    "there is no subscription `{name}` on this host; `{name}` is a handler, and has {}",
                    of_handler.join(", ")
                );
                return Err(Fail::new(StatusCode::NOT_FOUND, "no-such-subscription", message));
            }
            let known = theirs().map(|one| one.name.as_str());
            Err(unknown(&format!("there is no subscription `{name}` on this host"), name, known))
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
    done.map_err(|error| match error {
        PauseError::NoCluster => Fail::new(StatusCode::CONFLICT, "no-cluster", error.to_string()),
        PauseError::Cluster(_) => unavailable("cluster-not-told", error.chain()),
        PauseError::Read { .. } | PauseError::Unreadable { .. } | PauseError::Write { .. } | PauseError::Stopped => {
            unavailable("not-kept", error.chain())
        }
    })
}
