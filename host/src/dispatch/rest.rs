//! While a subscription is paused or its circuit is open: what stands in line and what the broker still sends goes back, uncounted and without a run.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::Delivery;
use crate::dispatch::decided::Decided;
use crate::dispatch::in_flight::InFlight;
use crate::dispatch::shared::Shared;

/// The way back of what does not run.
pub(crate) struct WayBack {
    /// What stands in line.
    pub(crate) in_line: async_channel::Receiver<Arc<InFlight>>,
    /// To the settle stage.
    pub(crate) decided: mpsc::Sender<Decided>,
}

/// Rests until messages may begin again or the subscription is stopped. Dropped in the middle, what it has taken stands in the table
/// undecided, and the drain returns it.
pub(crate) async fn rest(shared: &Shared, back: &WayBack, stop: &CancellationToken) {
    tracing::debug!(subscription = %shared.setup.identity.subscription, "at rest: what has not begun goes back");
    loop {
        // Workers that are free see the pause and do the same; when all of them run, nobody else looks here.
        while let Ok(entry) = back.in_line.try_recv() {
            give_back(shared, &back.decided, &entry);
        }
        let source = shared.source();
        let came = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.until_it_wakes() => return,
            came = source.leftover() => came,
        };
        back.give_back_all(shared, came);
    }
}

impl WayBack {
    /// Gives back what came though it was not wanted.
    pub(crate) fn give_back_all(&self, shared: &Shared, came: Vec<Delivery>) {
        shared.metrics.received(came.len());
        for entry in shared.table.admit(came, Instant::now()) {
            give_back(shared, &self.decided, &entry);
        }
    }
}

fn give_back(shared: &Shared, decided: &mpsc::Sender<Decided>, entry: &Arc<InFlight>) {
    entry.mark_decided();
    // The channel holds twice what can be in flight.
    if decided.try_send(Decided::paused(shared, entry)).is_err() {
        tracing::error!(subscription = %shared.setup.identity.subscription, "the settle stage is gone");
    }
}
