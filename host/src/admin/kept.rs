//! `/v1/subscriptions`: the subscriptions that brokers keep messages for, and forgetting one that is gone for good.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fail::Fail;
use super::state::HostState;
use super::wire::{Forgotten, KeptList, KeptView};
use crate::access::Caller;
use crate::broker::{ForgetError, Left};
use crate::config::nearest;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgetQuery {
    /// The broker that keeps its messages; the one that knows it when it is not said.
    broker: Option<String>,
    /// What becomes of the messages that it alone wanted: `keep`, until their age, when it is not said.
    #[serde(default)]
    messages: Messages,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Messages {
    /// They are kept until their age, for whoever wants them before that.
    #[default]
    Keep,
    /// They are removed for good.
    Remove,
}

pub(super) async fn list(State(state): State<Arc<HostState>>) -> Result<Json<KeptList>, Fail> {
    Ok(Json(KeptList { subscriptions: all(&state).await? }))
}

pub(super) async fn forget(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(name): Path<String>,
    query: Result<Query<ForgetQuery>, QueryRejection>,
) -> Result<Json<Forgotten>, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let brokers = state.brokers.all();
    if let Some(broker) = &query.broker {
        super::dead_letters::named(&brokers, broker)?;
    }
    let kept = all(&state).await?;
    let is_meant =
        |one: &&KeptView| one.name == name && query.broker.as_ref().is_none_or(|broker| *broker == one.broker);
    let found: Vec<&KeptView> = kept.iter().filter(is_meant).collect();
    let one = match found.as_slice() {
        [one] => *one,
        [] => return Err(unknown(&name, &kept)),
        several => {
            let names = several.iter().map(|one| one.broker.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Fail::bad_request("which-broker", format!("several brokers keep `{name}`: {names}")));
        }
    };
    if one.in_use {
        return Err(refused(&ForgetError::InUse(name)));
    }
    let (broker, entry) = super::dead_letters::named(&brokers, &one.broker)?;
    let left = match query.messages {
        Messages::Keep => Left::Kept,
        Messages::Remove => Left::Removed,
    };
    entry.broker.forget(&name, left).await.map_err(|error| refused(&error))?;
    tracing::info!(who = %caller.name, broker, subscription = name, ?left, "a subscription was forgotten");
    Ok(Json(Forgotten { broker: broker.to_owned(), name, held: one.ready + one.pending }))
}

/// All of them, broker by broker.
async fn all(state: &HostState) -> Result<Vec<KeptView>, Fail> {
    let configured = state.subscriptions.list();
    let mut all = Vec::new();
    for (name, entry) in state.brokers.all().iter() {
        let configured: BTreeSet<&str> =
            configured.iter().filter(|one| one.broker == *name).map(|one| one.name.as_str()).collect();
        let kept = entry.broker.kept().await.map_err(|why| refused(&ForgetError::Store(why)))?;
        all.extend(kept.into_iter().map(|one| {
            let is_configured = configured.contains(one.name.as_str());
            KeptView::new(name, one, is_configured)
        }));
    }
    Ok(all)
}

fn unknown(name: &str, kept: &[KeptView]) -> Fail {
    let meant = nearest(name, kept.iter().filter(|one| !one.in_use).map(|one| one.name.as_str()));
    let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    let message = format!("no broker keeps messages for a subscription `{name}`{meant}");
    Fail::new(StatusCode::NOT_FOUND, "no-such-subscription", message)
}

fn refused(error: &ForgetError) -> Fail {
    let (status, code) = match error {
        ForgetError::Unknown(_) => (StatusCode::NOT_FOUND, "no-such-subscription"),
        ForgetError::InUse(_) => (StatusCode::CONFLICT, "subscription-in-use"),
        ForgetError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable"),
    };
    Fail::new(status, code, error.to_string())
}
