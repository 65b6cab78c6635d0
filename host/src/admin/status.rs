//! `GET /v1/status`: what every subscription has done, for people and progress displays.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::health::depth;
use super::state::HostState;
use super::wire::{self, BrokerView, PauseView, StallView, SubscriptionView};
use crate::access::{Caller, Scope};
use crate::broker::Status;

/// Whoever is limited to some handlers sees their subscriptions, and of brokers what says nothing of others: not how many dead
/// letters all have together, and not the warnings, which name streams and consumers.
pub(super) async fn status(State(state): State<Arc<HostState>>, caller: Caller) -> Json<wire::Status> {
    let is_whole = caller.handlers == Scope::All;
    let all = state.brokers.all();
    let mut brokers = Vec::with_capacity(all.len());
    for (name, entry) in all.iter() {
        let trouble = match entry.broker.status() {
            Status::Connected => None,
            Status::Away(why) | Status::Failed(why) => Some(why),
        };
        brokers.push(BrokerView {
            name: name.clone(),
            kind: entry.kind.to_owned(),
            connected: trouble.is_none(),
            trouble,
            dead_letters: if is_whole { depth(entry.broker.as_ref()).await } else { None },
            warnings: if is_whole { entry.broker.warnings() } else { Vec::new() },
        });
    }
    let recent = state.metrics.history().recent();
    let theirs = state.subscriptions.list().into_iter().filter(|subscription| caller.covers(&subscription.handler));
    let subscriptions = theirs.map(|subscription| SubscriptionView {
        recent_run_seconds: recent.get(&subscription.name).copied(),
        name: subscription.name,
        broker: subscription.broker,
        handler: subscription.handler,
        subjects: subscription.subjects,
        digest: subscription.digest,
        trouble: subscription.trouble,
        pause: subscription.pause.as_ref().map(PauseView::of).or(subscription.circuit.map(PauseView::of_circuit)),
        stall: subscription.stall.as_ref().map(StallView::of),
        counts: subscription.counts,
    });
    Json(wire::Status {
        host: state.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: state.started.elapsed().as_secs_f64(),
        draining: state.subscriptions.is_draining(),
        brokers,
        subscriptions: subscriptions.collect(),
    })
}
