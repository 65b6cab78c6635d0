//! Keeps the leases of what is held: extends those that have used up half, and leaves short runs alone.
//!
//! An extension costs the broker a write (JetStream: a Raft proposal on replicated consumers), so a handler that is
//! done within half a lease never causes one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::broker::Receipt;
use crate::dispatch::in_flight::InFlight;
use crate::dispatch::shared::Shared;
use crate::telemetry::Operation;

/// Extends leases until it is dropped. Dropping it in mid-request loses an extension at worst; the lease then ends
/// earlier on our clock than on the broker's.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let lease = shared.source().lease_duration();
    // Six looks a lease: a lease at half is seen with a third of it left, and a failed request can be repeated.
    let mut looks = tokio::time::interval((lease / 6).max(Duration::from_millis(50)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let due = due(&shared, lease / 2);
        if due.is_empty() {
            continue;
        }
        let receipts: Vec<Receipt> = due.iter().map(|entry| entry.receipt().clone()).collect();
        let began = Instant::now();
        let ends = shared.source().extend(&receipts).await;
        shared.metrics.operation(Operation::Extend, began.elapsed());
        for (entry, ends_at) in due.iter().zip(ends) {
            shared.metrics.heartbeat(ends_at.is_some());
            match ends_at {
                Some(ends_at) => entry.lease.extend_to(ends_at),
                None => tracing::warn!(
                    subscription = %shared.setup.identity.subscription,
                    sequence = entry.sequence(),
                    "a lease was not extended"
                ),
            }
        }
    }
}

/// What is held with less than half of its lease left, and may be held for longer.
fn due(shared: &Shared, half: Duration) -> Vec<Arc<InFlight>> {
    let now = Instant::now();
    let mut held = shared.table.snapshot();
    held.retain(|entry| {
        let remaining = entry.lease.remaining(now);
        remaining < half && !remaining.is_zero() && !shared.held_too_long(entry, now)
    });
    held
}
