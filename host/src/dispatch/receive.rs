//! The receive loop: asks the broker for as much as there is room for, and puts it in line.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{Delivery, ReceiveError};
use crate::dispatch::in_flight::InFlight;
use crate::dispatch::ramp::STEP;
use crate::dispatch::rest::{WayBack, rest};
use crate::dispatch::shared::Shared;

/// The line between receive and process. Bounded by `max_in_flight`, which is also all that can be held.
pub(crate) type Line = async_channel::Sender<Arc<InFlight>>;

/// What the loop saw next.
enum Event {
    Received(Result<Vec<Delivery>, ReceiveError>),
    /// It may have been paused elsewhere: nothing more is asked for until that is known.
    AsksFirst,
    AtRest,
    Stopped,
}

/// Receives until it is stopped or the broker is closed. Dropping the receive that is under way loses nothing: the port
/// promises that what it would have brought comes back.
pub(crate) async fn receive(shared: Arc<Shared>, line: Line, back: WayBack, stop: CancellationToken) {
    let mut failures = 0;
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stopped,
            () = shared.until_it_rests() => Event::AtRest,
            () = shared.hold.until_asks(true) => Event::AsksFirst,
            received = next(&shared, &back) => Event::Received(received),
        };
        match event {
            Event::Stopped => return,
            Event::AtRest => rest(&shared, &back, &stop).await,
            Event::AsksFirst => tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = shared.until_it_rests() => {}
                () = shared.hold.until_asks(false) => {}
            },
            Event::Received(Ok(deliveries)) => {
                if std::mem::take(&mut failures) > 0 {
                    shared.set_lost(None);
                }
                put_in_line(&shared, &line, deliveries);
            }
            Event::Received(Err(ReceiveError::Closed)) => return,
            Event::Received(Err(error)) => {
                failures += 1;
                if matches!(error, ReceiveError::Gone(_)) {
                    shared.set_lost(Some(error.to_string()));
                }
                tracing::warn!(
                    subscription = %shared.setup.identity.subscription, failures, %error, "receiving failed, trying again"
                );
                let wait = tokio::time::sleep(pause_after(failures));
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = shared.until_it_rests() => {}
                    () = wait => {}
                }
                if matches!(error, ReceiveError::Gone(_)) {
                    renew(&shared).await;
                }
            }
        }
    }
}

async fn next(shared: &Shared, back: &WayBack) -> Result<Vec<Delivery>, ReceiveError> {
    shared.slot.filled().await;
    shared.gate.open().await;
    let (source, budget) = (shared.source(), shared.table.budget());
    let demand = loop {
        let now = Instant::now();
        let is_full = shared.ramp(now).is_some() && budget.messages_held() >= shared.may_hold();
        tokio::select! {
            biased;
            demand = budget.room(|| shared.may_hold()) => break demand,
            // While a ramp is on there is more room by itself.
            () = tokio::time::sleep(STEP), if shared.is_ramping(now) => {}
            // What was asked for before the pause, and has no room now: in an inbox its lease would run out.
            came = source.leftover(), if is_full => back.give_back_all(shared, came),
        }
    };
    source.receive(demand).await
}

fn put_in_line(shared: &Shared, line: &Line, deliveries: Vec<Delivery>) {
    if deliveries.is_empty() {
        return;
    }
    shared.metrics.received(deliveries.len());
    let now = shared.setup.clock.now();
    for delivery in deliveries.iter().filter(|delivery| delivery.progress.deliveries == 1) {
        shared.metrics.waited(now.duration_since(delivery.message.published_at).unwrap_or_default());
    }
    for entry in shared.table.admit(deliveries, Instant::now()) {
        // The line is as long as all that can be held. It refuses only when it was closed for a drain; the drain then
        // finds the entry in the table and returns it.
        let _ = line.try_send(entry);
    }
}

/// Sets the source up again after the broker lost it. A failure is tried again by the next receive.
async fn renew(shared: &Shared) {
    match shared.broker.subscribe(&shared.setup.spec).await {
        Ok(source) => {
            shared.replace_source(source);
            shared.set_lost(None);
            tracing::info!(subscription = %shared.setup.identity.subscription, "the source was set up again");
        }
        Err(error) => {
            shared.set_lost(Some(error.to_string()));
            tracing::warn!(subscription = %shared.setup.identity.subscription, %error, "could not set the source up again");
        }
    }
}

/// 100 ms, doubled with every failure in a row, up to ten seconds: quick after a hiccup, quiet during an outage.
fn pause_after(failures: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(1 << failures.saturating_sub(1).min(7)).min(Duration::from_secs(10))
}
