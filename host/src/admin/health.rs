//! `/live`, `/ready` and `/metrics`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::state::HostState;
use super::wire::{DEAD_LETTERS, Readiness, Trouble};
use crate::access::Caller;
use crate::broker::{NamedBroker, Status};
use crate::telemetry::Metrics;

/// A scrape or a probe is not held up longer than this by a broker that is slow to tell of its dead letters.
const DEPTH_PATIENCE: Duration = Duration::from_secs(2);

/// In the place of a reason, for whoever may not read it.
const WITHHELD: &str = "why is told to those who show a token that may read it";

pub(super) async fn live() -> &'static str {
    "live\n"
}

pub(super) async fn ready(
    State(state): State<Arc<HostState>>,
    caller: Option<Extension<Caller>>,
) -> (StatusCode, Json<Readiness>) {
    let readiness = readiness(&state, caller.as_deref()).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// What a probe needs to know is for all: the state, and of what it is. Why it is so may say names, subjects and addresses, and
/// is for a caller who may read, of the handlers that they cover.
async fn readiness(state: &HostState, caller: Option<&Caller>) -> Readiness {
    let told = |is_theirs: bool, why: String| if is_theirs { why } else { WITHHELD.to_owned() };
    let mut troubles = Vec::new();
    if state.subscriptions.is_draining() {
        troubles.push(Trouble { what: "host".to_owned(), why: "it is draining".to_owned() });
    }
    for (name, entry) in state.brokers.all().iter() {
        match entry.broker.status() {
            Status::Connected => {
                if let Err(why) = writable(entry.broker.as_ref()).await {
                    let why = told(caller.is_some(), why);
                    troubles.push(Trouble { what: format!("{DEAD_LETTERS} of broker {name}"), why });
                }
            }
            Status::Away(why) | Status::Failed(why) => {
                troubles.push(Trouble { what: format!("broker {name}"), why: told(caller.is_some(), why) });
            }
        }
    }
    let (mut paused, mut stalled) = (Vec::new(), Vec::new());
    for subscription in state.subscriptions.list() {
        if subscription.pause.is_some() || subscription.circuit.is_some() {
            paused.push(subscription.name.clone());
        }
        if subscription.stall.is_some() {
            stalled.push(subscription.name.clone());
        }
        if let Some(why) = subscription.trouble {
            let why = told(caller.is_some_and(|caller| caller.covers(&subscription.handler)), why);
            troubles.push(Trouble { what: format!("subscription {}", subscription.name), why });
        }
    }
    let refused = state.deployments.as_ref().map(|deployments| deployments.refused()).unwrap_or_default();
    let refused = refused.into_iter().map(|(handler, why)| {
        let why = told(caller.is_some_and(|caller| caller.covers(&handler)), why);
        Trouble { what: format!("handler {handler}"), why }
    });
    let refused = refused.collect();
    let cluster = state.deployments.as_ref().and_then(|deployments| deployments.cluster_view()?.trouble);
    let cluster = cluster.map(|why| told(caller.is_some(), why));
    Readiness { ready: troubles.is_empty(), troubles, paused, stalled, refused, cluster }
}

pub(super) async fn metrics(State(state): State<Arc<HostState>>) -> Response {
    for (name, entry) in state.brokers.all().iter() {
        show_broker(&state.metrics, name, entry).await;
    }
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], state.metrics.render()).into_response()
}

/// Looks at a broker, and shows in the metrics how it stands.
pub(crate) async fn show_broker(metrics: &Metrics, name: &str, named: &NamedBroker) {
    let (broker, shown) = (named.broker.as_ref(), metrics.broker(name, named.kind));
    shown.set_connected(broker.status() == Status::Connected);
    shown.set_reconnects(broker.reconnects());
    shown.set_tallies(&broker.tallies());
    shown.set_levels(&broker.levels());
    shown.set_advisories(&broker.advisories());
    if let Some(commits) = broker.commits() {
        shown.show_commits(&commits);
    }
    let letters = broker.dead_letters();
    let look = tokio::time::timeout(DEPTH_PATIENCE, async {
        shown.set_dead_letters(letters.depth().await.ok()?);
        shown.set_oldest_dead_letter(letters.oldest().await.ok()?, SystemTime::now());
        Some(())
    });
    let _known_or_as_before = look.await;
}

/// How many dead letters wait, when that can be learnt soon.
pub(super) async fn depth(broker: &dyn crate::broker::Broker) -> Option<u64> {
    let letters = broker.dead_letters();
    tokio::time::timeout(DEPTH_PATIENCE, letters.depth()).await.ok()?.ok()
}

/// Whether dead letters could be stored, when that can be learnt soon; else why not.
async fn writable(broker: &dyn crate::broker::Broker) -> Result<(), String> {
    let letters = broker.dead_letters();
    match tokio::time::timeout(DEPTH_PATIENCE, letters.is_writable()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the broker did not say within {DEPTH_PATIENCE:?} whether they can be stored")),
    }
}
