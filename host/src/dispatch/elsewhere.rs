//! Outputs for other brokers than the message's own: published and confirmed before the message is settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::broker::{PublishError, SettleError};
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
    let published = batches.into_iter().map(|(name, (owners, messages))| async move {
        let results = match shared.brokers.get(&name) {
            Some(named) => named.broker.publish(messages).await,
            None => {
                let missing = || PublishError::Invalid(format!("there is no broker `{name}` in the configuration"));
                owners.iter().map(|_| Err(missing())).collect()
            }
        };
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
                failed.entry(index).or_insert(SettleError::Output(error));
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
