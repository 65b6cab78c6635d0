//! What becomes of the messages of a canary, seen on this host.

use std::collections::HashMap;

use crate::dispatch::{Glimpse, Look, Seen};
use crate::telemetry::Ending;

use super::record::CanaryCounts;

/// The messages that went first, by subscription and id, and whether each did well; `None`: it has not ended.
#[derive(Debug, Default)]
pub(super) struct Watched {
    messages: HashMap<(String, String), Option<bool>>,
}

impl Watched {
    /// Watches a message too.
    pub(super) fn add(&mut self, subscription: String, message_id: String) {
        self.messages.insert((subscription, message_id), None);
    }

    /// Takes the next ending in; false: nothing more will come.
    pub(super) async fn next(&mut self, look: &mut Look) -> bool {
        match look.next().await {
            Some(Glimpse::Seen(seen)) => {
                self.see(&seen);
                true
            }
            // Those that were missed are taken for not ended.
            Some(Glimpse::Missed(_)) => true,
            None => false,
        }
    }

    fn see(&mut self, seen: &Seen) {
        let key = (seen.identity.subscription.to_string(), seen.message_id.clone());
        if let Some(standing) = self.messages.get_mut(&key) {
            *standing = judged(seen.settled_as).or(*standing);
        }
    }

    pub(super) fn counts(&self) -> CanaryCounts {
        let count = |wanted: Option<bool>| self.messages.values().filter(|is| **is == wanted).count() as u64;
        CanaryCounts { sent: self.messages.len() as u64, well: count(Some(true)), badly: count(Some(false)) }
    }
}

/// Whether a message did well that ended so; `None`: it is still on its way. A first run that is to be retried has failed:
/// whoever waits for the last attempt waits for hours.
const fn judged(ending: Ending) -> Option<bool> {
    match ending {
        Ending::Completed | Ending::Skipped | Ending::AlreadyDone => Some(true),
        Ending::Retried | Ending::DeadLettered => Some(false),
        Ending::Returned | Ending::Abandoned => None,
    }
}
