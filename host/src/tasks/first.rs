//! The dead letters that go first, and what is known of each: plain data, kept in the record of their task.
//!
//! Invariants:
//! - One stands here, and on the disk, before it is sent: a host that was killed in between counts it among those that may go
//!   first.
//! - The first thing that a message comes to is what counts. A first run that is to be retried has failed: whoever waits for the
//!   last attempt waits for hours.

use serde::{Deserialize, Serialize};

use super::record::CanaryCounts;
use crate::settle::dead_letter::{DeadLetterId, StoredDeadLetter};
use crate::telemetry::Ending;

/// How far one is on its way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// It is to be sent.
    Chosen,
    /// It may have been sent: a try began, and nobody knows how it ended.
    Unsure,
    /// It was sent.
    Sent,
}

/// One of those that go first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct First {
    /// The dead letter's id, as people know it.
    pub(super) id: String,
    /// By which its store finds it.
    pub(super) handle: DeadLetterId,
    subscription: String,
    message_id: String,
    pub(super) way: Way,
    /// It failed in a version that still runs, and is passed over for that.
    #[serde(default)]
    pub(super) same_version: bool,
    /// Whether its message did well; `None`: it has not ended.
    well: Option<bool>,
}

impl First {
    pub(super) fn new(stored: &StoredDeadLetter, same_version: bool) -> Self {
        let record = &stored.letter.record;
        Self {
            id: record.id.0.clone(),
            handle: stored.handle.clone(),
            subscription: record.subscription.clone(),
            message_id: record.message_id.clone(),
            way: Way::Chosen,
            same_version,
            well: None,
        }
    }

    fn is_sent(&self) -> bool {
        self.way == Way::Sent
    }
}

/// Those that stand in a record were begun with in an earlier life of the host, which may have been killed in the middle.
pub(super) fn doubt(all: &mut [First]) {
    for one in all.iter_mut().filter(|one| !one.is_sent()) {
        one.way = Way::Unsure;
    }
}

/// Those that are still to be sent, or to be asked after.
pub(super) fn waiting(all: &[First]) -> Vec<First> {
    all.iter().filter(|one| !one.is_sent()).cloned().collect()
}

/// Takes in what a message came to; whether anything is new. Messages of one id are told apart by nothing: what one of them
/// came to holds for all.
pub(super) fn see(all: &mut [First], subscription: &str, message_id: &str, ending: Ending) -> bool {
    let Some(well) = judged(ending) else { return false };
    let theirs = all
        .iter_mut()
        .filter(|one| one.well.is_none() && one.message_id == message_id && one.subscription == subscription);
    theirs.map(|one| one.well = Some(well)).count() > 0
}

/// How those did that were sent.
pub(super) fn counts(all: &[First]) -> CanaryCounts {
    let count = |of: fn(&First) -> bool| all.iter().filter(|one| one.is_sent() && of(one)).count() as u64;
    CanaryCounts {
        sent: count(|_| true),
        well: count(|one| one.well == Some(true)),
        badly: count(|one| one.well == Some(false)),
    }
}

/// Whether a message did well that ended so; `None`: it is still on its way.
const fn judged(ending: Ending) -> Option<bool> {
    match ending {
        Ending::Completed | Ending::Skipped | Ending::AlreadyDone => Some(true),
        Ending::Retried | Ending::DeadLettered => Some(false),
        Ending::Returned | Ending::Abandoned => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    fn first(id: &str, way: Way) -> First {
        let text = || id.to_owned();
        let (subscription, message_id) = ("orders".to_owned(), text());
        First {
            id: text(),
            handle: DeadLetterId(text()),
            subscription,
            message_id,
            way,
            same_version: false,
            well: None,
        }
    }

    #[test]
    fn what_a_message_comes_to_first_counts_and_only_of_those_that_were_sent() {
        let mut all =
            vec![first("a", Way::Sent), first("b", Way::Chosen), first("a", Way::Sent), first("c", Way::Sent)];
        assert!(!see(&mut all, "orders", "a", Ending::Returned), "it comes again");
        assert!(!see(&mut all, "others", "a", Ending::Completed), "of another subscription");
        assert!(see(&mut all, "orders", "a", Ending::Retried));
        assert!(!see(&mut all, "orders", "a", Ending::Completed), "the second run of the same");
        assert!(see(&mut all, "orders", "b", Ending::Completed), "it may end before its sending is known");
        assert_eq!(counts(&all), CanaryCounts { sent: 3, well: 0, badly: 2 });
        all[1].way = Way::Sent;
        assert_eq!(counts(&all), CanaryCounts { sent: 4, well: 1, badly: 2 });
    }

    #[test]
    fn what_was_chosen_in_an_earlier_life_may_have_been_sent() {
        let mut all = vec![first("a", Way::Sent), first("b", Way::Chosen)];
        doubt(&mut all);
        assert_eq!([all[0].way, all[1].way], [Way::Sent, Way::Unsure]);
        assert_eq!(waiting(&all).len(), 1);
    }
}
