//! `/v1/dead-letters`: looking at dead letters, sending them back, removing them.
//!
//! Headers and bodies are payload: they are for whoever may operate. A caller who is limited to some handlers meets
//! the dead letters of those alone; of the others it is not told whether they exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fail::Fail;
use super::publish::whole;
use super::state::HostState;
use super::wire::{DeadLetterList, DeadLetterView, PublishedMessage, Shown};
use crate::access::{Caller, Scope};
use crate::broker::subject::check_subject;
use crate::broker::{DeadLetterError, DeadLetterFilter, DeadLetterQuery, NamedBroker, SendBack};
use crate::settle::dead_letter::DeadLetterId;

mod carry;
mod chosen;
mod newest;
mod replay;
mod running;
mod stats;
pub(super) mod tasks;

pub(super) use carry::{export, import};
use chosen::Chosen;
use newest::{Part, Shown as Position, newest, position};
pub(super) use replay::replay;
use running::{refuse_same_version, running, shown};
pub(super) use stats::stats;

/// A page holds at most so many: 1,000 records of a few KiB are some MiB of JSON.
const LONGEST_PAGE: usize = 1000;
/// A page of this many fits a screen or two.
const PAGE: usize = 100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(flatten)]
    chosen: Chosen,
    /// Those that were sent back, too.
    #[serde(default)]
    include_redriven: bool,
    /// What the page before gave as `next`: `broker/id`, and with a comma between them when several brokers have more.
    #[schemars(extend("pattern" = "/"))]
    after: Option<String>,
    /// How many at the most: 100 when it is not said, and never more than 1,000.
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneQuery {
    /// The broker that keeps it; all are asked when it is not said.
    broker: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedriveQuery {
    /// The broker that keeps it; all are asked when it is not said.
    broker: Option<String>,
    /// Sends it back even if it came back from redrives three times. One that was sent back already never is a second time.
    #[serde(default)]
    force: bool,
    /// Sends it to this subject and whoever receives it, and not to where it came from.
    to: Option<String>,
    /// Refuses one that failed in a version that its handler still runs here.
    #[serde(default)]
    only_if_version_changed: bool,
    /// Sends it back with the body of this request in the place of its own, which the dead letter keeps.
    #[serde(default)]
    edited: bool,
}

type Given<T> = Result<Query<T>, QueryRejection>;

fn given<T>(query: Given<T>) -> Result<T, Fail> {
    query.map(|Query(query)| query).map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))
}

pub(super) async fn list(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    query: Given<ListQuery>,
) -> Result<Json<DeadLetterList>, Fail> {
    let query = given(query)?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
    let filter = DeadLetterFilter { include_redriven: query.include_redriven, ..query.chosen.filter(&caller)? };
    let brokers = state.brokers.all();
    let names = query.chosen.brokers(&brokers)?;
    let from = match &query.after {
        None => names.iter().map(|name| (*name, Position::None)).collect(),
        Some(text) => position(text).ok_or_else(|| Fail::bad_request("invalid-query", "`after` is no position"))?,
    };
    let mut parts = Vec::new();
    for name in &names {
        let Some((_, shown)) = from.iter().find(|(known, _)| known == name) else { continue };
        let page_query = DeadLetterQuery { filter: filter.clone(), after: shown.through(), limit, oldest_first: false };
        let page = named(&brokers, name)?.1.broker.dead_letters().list(&page_query).await;
        let page = page.map_err(|error| unlisted(name, names.len(), &error))?;
        parts.push(Part::new(name, shown.clone(), page));
    }
    let (letters, next) = newest(parts, limit);
    let running = running(&state).await;
    let letters =
        letters.into_iter().map(|(name, stored)| shown(stored, name, Shown::listed(&caller), running.as_ref()));
    // A page may be shorter than it was asked to be; `next` alone says whether it is the last.
    Ok(Json(DeadLetterList { letters: letters.collect(), next }))
}

/// Which of several brokers it is that cannot be looked at, and how to see the others.
fn unlisted(name: &str, brokers: usize, error: &DeadLetterError) -> Fail {
    let mut fail = Fail::from(error);
    if brokers > 1 {
        fail.body.message =
            format!("broker `{name}`: {}; the others are shown one by one, by `broker`", fail.body.message);
    }
    fail
}

pub(super) async fn show(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Given<OneQuery>,
) -> Result<Json<DeadLetterView>, Fail> {
    let id = DeadLetterId(id);
    let query = given(query)?;
    let brokers = state.brokers.all();
    for (name, entry) in candidates(&brokers, query.broker.as_deref())? {
        match entry.broker.dead_letters().get(&id).await {
            Ok(stored) if caller.covers(&stored.letter.record.handler) => {
                return Ok(Json(shown(stored, name, Shown::whole(&caller), running(&state).await.as_ref())));
            }
            Ok(_) | Err(DeadLetterError::NotFound(_)) => {}
            Err(error) => return Err(Fail::from(&error)),
        }
    }
    Err(Fail::from(&DeadLetterError::NotFound(id.0)))
}

pub(super) async fn redrive(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Given<RedriveQuery>,
    body: Body,
) -> Result<Json<PublishedMessage>, Fail> {
    let id = DeadLetterId(id);
    let query = given(query)?;
    check_destination(&caller, query.to.as_deref())?;
    let body = match query.edited {
        true => Some(whole(body.into_data_stream(), state.max_publish_bytes).await?),
        false => None,
    };
    let how = SendBack { force: query.force, body, to: query.to.clone() };
    let brokers = state.brokers.all();
    for (name, entry) in candidates(&brokers, query.broker.as_deref())? {
        if !is_theirs(&caller, entry, &id).await? {
            continue;
        }
        if query.only_if_version_changed {
            match refuse_same_version(&state, entry, &id).await {
                Ok(()) => {}
                Err(fail) if fail.status == StatusCode::NOT_FOUND => continue,
                Err(fail) => return Err(fail),
            }
        }
        match entry.broker.dead_letters().send_back(&id, &how).await {
            Ok(published) => {
                tracing::info!(who = %caller.name, %id, broker = name, force = query.force, "dead letter redriven");
                state.metrics.dead_letters_acted(name, "redrive", "done", 1);
                let answer = PublishedMessage { sequence: published.sequence, duplicate: published.duplicate };
                return Ok(Json(answer));
            }
            Err(DeadLetterError::NotFound(_)) => {}
            Err(error) => {
                state.metrics.dead_letters_acted(name, "redrive", result(&error), 1);
                return Err(Fail::from(&error));
            }
        }
    }
    Err(Fail::from(&DeadLetterError::NotFound(id.0)))
}

/// Whether a caller may send to another subject, and whether it is one.
pub(super) fn check_destination(caller: &Caller, to: Option<&str>) -> Result<(), Fail> {
    let Some(to) = to else { return Ok(()) };
    if caller.handlers != Scope::All {
        let message = "another subject leads to any handler, and your access is limited to some";
        return Err(Fail::new(StatusCode::FORBIDDEN, "limited-to-handlers", message));
    }
    check_subject(to).map_err(|error| Fail::bad_request("invalid-query", format!("`to`: {error}")))
}

/// The word in the metrics for one that was not sent back.
fn result(error: &DeadLetterError) -> &'static str {
    match error {
        DeadLetterError::NotFound(_) | DeadLetterError::AlreadyRedriven(_) => "gone",
        DeadLetterError::Loop { .. } => "held-back",
        DeadLetterError::Publish { .. } | DeadLetterError::NobodyTakes { .. } => "failed",
        DeadLetterError::StillThere { .. } | DeadLetterError::Store(_) => "failed",
    }
}

pub(super) async fn discard(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Given<OneQuery>,
) -> Result<StatusCode, Fail> {
    let id = DeadLetterId(id);
    let query = given(query)?;
    let brokers = state.brokers.all();
    for (name, entry) in candidates(&brokers, query.broker.as_deref())? {
        if !is_theirs(&caller, entry, &id).await? {
            continue;
        }
        match entry.broker.dead_letters().discard(&id).await {
            Ok(()) => {
                tracing::info!(who = %caller.name, %id, broker = name, "dead letter discarded");
                state.metrics.dead_letters_acted(name, "discard", "done", 1);
                return Ok(StatusCode::NO_CONTENT);
            }
            Err(DeadLetterError::NotFound(_)) => {}
            Err(error) => return Err(Fail::from(&error)),
        }
    }
    Err(Fail::from(&DeadLetterError::NotFound(id.0)))
}

/// Whether a caller may touch a dead letter. Whoever is not limited is spared the look.
async fn is_theirs(caller: &Caller, entry: &NamedBroker, id: &DeadLetterId) -> Result<bool, Fail> {
    if caller.handlers == Scope::All {
        return Ok(true);
    }
    match entry.broker.dead_letters().get(id).await {
        Ok(stored) => Ok(caller.covers(&stored.letter.record.handler)),
        Err(DeadLetterError::NotFound(_)) => Ok(false),
        Err(error) => Err(Fail::from(&error)),
    }
}

impl Shown {
    fn listed(caller: &Caller) -> Self {
        if caller.sees_payload() { Self::Headers } else { Self::Nothing }
    }

    fn whole(caller: &Caller) -> Self {
        if caller.sees_payload() { Self::All } else { Self::Nothing }
    }
}

/// The brokers by their names.
type Brokers = BTreeMap<String, NamedBroker>;

/// The brokers that may keep a dead letter: the one that is named, or all.
fn candidates<'a>(brokers: &'a Brokers, broker: Option<&str>) -> Result<Vec<(&'a str, &'a NamedBroker)>, Fail> {
    match broker {
        Some(name) => Ok(vec![named(brokers, name)?]),
        None => Ok(brokers.iter().map(|(name, entry)| (name.as_str(), entry)).collect()),
    }
}

/// The broker of a name.
pub(super) fn named<'a>(brokers: &'a Brokers, name: &str) -> Result<(&'a str, &'a NamedBroker), Fail> {
    let found = brokers.get_key_value(name).map(|(name, entry)| (name.as_str(), entry));
    found.ok_or_else(|| Fail::bad_request("no-such-broker", format!("there is no broker `{name}`")))
}
