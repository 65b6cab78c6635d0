//! Outputs for other brokers than the message's own: published and confirmed before the message is settled.
//!
//! Invariant: when a lease of a batch ends, no more of the batch is sent. What of it was on its way then may be stored; its ids
//! make that harmless.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::broker::lease::{Lease, while_held};
use crate::broker::{PublishError, Published, SettleError};
use crate::dispatch::decided::Decided;
use crate::dispatch::shared::Shared;
use crate::message::Publish;
use crate::telemetry::Operation;

/// Publishes what a group has for other brokers, each broker's messages as one batch. Gives back those whose outputs
/// are all confirmed; the others go to `tried` with the first error.
pub(crate) async fn publish_elsewhere(
    shared: &Shared,
    mut group: Vec<Decided>,
    tried: &mut Vec<(Decided, Result<(), SettleError>)>,
) -> Vec<Decided> {
    if group.iter().all(|decided| decided.elsewhere.is_empty()) {
        return group;
    }
    let now = Instant::now();
    let mut batches: BTreeMap<Arc<str>, (Vec<usize>, Vec<Publish>)> = BTreeMap::new();
    let mut failed: BTreeMap<usize, SettleError> = BTreeMap::new();
    for (index, decided) in group.iter().enumerate() {
        if decided.elsewhere.is_empty() {
            continue;
        }
        if decided.entry.lease.is_over(now) {
            failed.insert(index, SettleError::LeaseLost);
            continue;
        }
        for routed in &decided.elsewhere {
            let (owners, messages) = batches.entry(Arc::clone(&routed.broker)).or_default();
            owners.push(index);
            messages.push(routed.publish.clone());
        }
    }
    let held = &group;
    let published = batches.into_iter().map(|(name, (owners, messages))| async move {
        // The messages of one owner stand beside each other.
        let mut distinct = owners.clone();
        distinct.dedup();
        let leases = distinct.iter().filter_map(|index| held.get(*index)).map(|decided| &decided.entry.lease).collect();
        let results = publish_to(shared, &name, messages, leases).await;
        owners.into_iter().zip(results).collect::<Vec<_>>()
    });
    let (mut sent, mut duplicates) = (0, 0);
    let published = futures_util::future::join_all(published).await;
    shared.metrics.operation(Operation::Send, now.elapsed());
    for (index, result) in published.into_iter().flatten() {
        match result {
            Ok(published) => {
                sent += 1;
                duplicates += u64::from(published.duplicate);
            }
            Err(error) => {
                let is_over = group.get(index).is_some_and(|decided| decided.entry.lease.is_over(Instant::now()));
                let error = if is_over { SettleError::LeaseLost } else { SettleError::Output(error) };
                failed.entry(index).or_insert(error);
            }
        }
    }
    shared.metrics.outputs(sent, duplicates);
    let mut confirmed = Vec::with_capacity(group.len());
    for (index, mut decided) in group.drain(..).enumerate() {
        match failed.remove(&index) {
            Some(error) => tried.push((decided, Err(error))),
            None => {
                decided.elsewhere.clear();
                confirmed.push(decided);
            }
        }
    }
    confirmed
}

/// Publishes one broker's messages while these leases hold. One result a message.
async fn publish_to(
    shared: &Shared,
    name: &str,
    messages: Vec<Publish>,
    leases: Vec<&Lease>,
) -> Vec<Result<Published, PublishError>> {
    let count = messages.len();
    let all = |error: &dyn Fn() -> PublishError| (0..count).map(|_| Err(error())).collect();
    let Some(named) = shared.brokers.get(name) else {
        return all(&|| PublishError::Invalid(format!("there is no broker `{name}` in the configuration")));
    };
    let late = || {
        let text = format!("broker `{name}` did not confirm before the lease of one of the messages ended");
        PublishError::Unavailable(text)
    };
    while_held(&leases, named.broker.publish(messages)).await.unwrap_or_else(|| all(&late))
}
