//! How many workers a subscription has, and how many it should have: the number may change while they work.
//!
//! Invariant: there are never more workers at once than the larger of the numbers before and after a change; a worker
//! that is too many leaves between two messages, never within one.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The count of a subscription's workers.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    wanted: AtomicUsize,
    /// Those that work or wait for work.
    there: AtomicUsize,
    resized: Notify,
}

impl Crew {
    /// How many there should be.
    pub(crate) fn size(&self) -> usize {
        self.wanted.load(Ordering::Acquire)
    }

    /// Changes how many there should be, and gives back how many are to be started. One that was too many and has not
    /// left yet stays when it is wanted again.
    pub(crate) fn resize(&self, wanted: usize) -> usize {
        self.wanted.store(wanted, Ordering::Release);
        let grown =
            self.there.fetch_update(Ordering::AcqRel, Ordering::Acquire, |there| (there < wanted).then_some(wanted));
        self.resized.notify_waiters();
        grown.map_or(0, |there| wanted.saturating_sub(there))
    }

    /// Asked by a worker between two messages: whether it is too many. When it is, it is counted as gone.
    pub(crate) fn leave(&self) -> bool {
        let left = self.there.fetch_update(Ordering::AcqRel, Ordering::Acquire, |there| {
            // Asked anew on each try: the number may change meanwhile.
            (there > self.wanted.load(Ordering::Acquire)).then(|| there.saturating_sub(1))
        });
        left.is_ok()
    }

    /// Ends with the next change. To be made before [`Crew::leave`] is asked, so that no change falls in between.
    pub(crate) fn resized(&self) -> Notified<'_> {
        self.resized.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_have_not_left_stay_when_they_are_wanted_again() {
        let crew = Crew::default();
        assert_eq!(crew.resize(4), 4);
        assert!(!crew.leave());
        assert_eq!(crew.resize(2), 0);
        assert!(crew.leave(), "one of two that are too many");
        assert_eq!(crew.resize(4), 1, "the other one stays");
        assert!(!crew.leave());
        assert_eq!(crew.resize(1), 0);
        assert_eq!((0..10).filter(|_| crew.leave()).count(), 3);
        assert_eq!(crew.size(), 1);
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_change() {
        let crew = Crew::default();
        let resized = crew.resized();
        crew.resize(1);
        resized.await;
    }
}
