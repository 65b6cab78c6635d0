//! What the server still delivers on pulls for which nobody waits any more.
//!
//! A pull cannot be taken back: without interest on its inbox the server drops it, and with it whatever is on the wire just
//! then, which would come back as a delivery that left no word. So it is left to run out, and what comes is handed out.

use tokio::time::Instant;

use super::source::JetStreamSource;
use crate::broker::{Delivery, Demand};

/// Waits for what comes without asking for anything; for ever, when nothing is owed. Dropped while it waits, it has taken
/// nothing out.
pub(super) async fn leftover(source: &JetStreamSource) -> Vec<Delivery> {
    let turn = source.inboxes.lock().await;
    let Some(inboxes) = turn.as_ref() else { return std::future::pending().await };
    loop {
        let (arrived, deadline) = {
            let mut pulls = inboxes.pulls();
            pulls.give_up_silent(Instant::now());
            (pulls.hand_out(Demand { messages: usize::MAX, bytes: usize::MAX }), pulls.next_deadline())
        };
        let deliveries = source.hand_out(inboxes, arrived).await;
        if !deliveries.is_empty() {
            return deliveries;
        }
        let silent = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = inboxes.arrived().notified() => {}
            () = silent => {}
            // Its pulls went with the connection.
            () = inboxes.session.ended() => return std::future::pending().await,
        }
    }
}
