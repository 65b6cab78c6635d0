//! The slot of a handler: the version that its messages run on, shared by all of its subscriptions.
//!
//! Invariants:
//! - A run picks its version once, at its start, and keeps it to its end: what it may send to, what is recorded of it
//!   and how long it may take are all of that version.
//! - A swap is one store: what was picked before runs on the old version, what is picked after on the new one.
//! - A version that has left the slot lives for as long as something runs on it, or somebody else keeps it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::handler::Handler;
use crate::message::Message;
use crate::settle::outputs::Grants;
use crate::telemetry::{HandlerMetrics, VersionFigures};

/// A version of a handler that messages can run on.
pub struct Deployed {
    /// Its number among the versions of its handler; 0: it has none, as in a simulation.
    pub number: u64,
    /// What runs.
    pub handler: Arc<dyn Handler>,
    /// Where its outputs may go.
    pub grants: Grants,
    /// The longest run that its limits allow.
    pub max_run: Duration,
    /// Where its own measurements go.
    pub measurements: HandlerMetrics,
    /// What its runs came to.
    pub figures: VersionFigures,
}

impl std::fmt::Debug for Deployed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deployed")
            .field("number", &self.number)
            .field("digest", &self.handler.digest())
            .finish_non_exhaustive()
    }
}

/// Where the versions of one handler come and go.
#[derive(Debug, Default)]
pub struct Slot {
    active: ArcSwapOption<Deployed>,
    filled: Notify,
}

impl Slot {
    /// A slot without a version: subscriptions of its handler take nothing until there is one.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// A slot with a version.
    #[must_use]
    pub fn holding(version: Arc<Deployed>) -> Arc<Self> {
        let slot = Self::empty();
        slot.swap(version);
        slot
    }

    /// The version that a message runs on; `None` when there is none yet. Takes no lock.
    ///
    /// The message is asked for so that a part of them can be given to another version by what they are, and a message
    /// that comes again gets the same one.
    #[must_use]
    pub fn pick(&self, _message: &Message) -> Option<Arc<Deployed>> {
        self.active.load_full()
    }

    /// The version that new messages run on.
    #[must_use]
    pub fn active(&self) -> Option<Arc<Deployed>> {
        self.active.load_full()
    }

    /// Puts a version in the place of the one before, which is given back. What runs finishes on the old one; what the
    /// old one kept for its next message is dropped.
    pub fn swap(&self, version: Arc<Deployed>) -> Option<Arc<Deployed>> {
        version.handler.serve();
        let before = self.active.swap(Some(version));
        self.filled.notify_waiters();
        if let Some(before) = &before {
            before.handler.rest();
        }
        before
    }

    /// Waits until there is a version.
    pub async fn filled(&self) {
        loop {
            let filled = self.filled.notified();
            if self.active.load().is_some() {
                return;
            }
            filled.await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests say what went wrong by failing")]

    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::SystemTime;

    use async_trait::async_trait;

    use super::*;
    use crate::handler::{Call, Run};
    use crate::message::Headers;
    use crate::outcome::Outcome;
    use crate::telemetry::Metrics;

    #[derive(Default)]
    struct Quiet {
        resting: AtomicBool,
    }

    #[async_trait]
    impl Handler for Quiet {
        async fn handle(&self, _: Call<'_>) -> Run {
            Run::without_usage(Outcome::Completed(Vec::new()))
        }

        fn digest(&self) -> &'static str {
            "00"
        }

        fn serve(&self) {
            self.resting.store(false, Ordering::Release);
        }

        fn rest(&self) {
            self.resting.store(true, Ordering::Release);
        }
    }

    fn version(number: u64) -> (Arc<Quiet>, Arc<Deployed>) {
        let quiet = Arc::new(Quiet::default());
        let deployed = Deployed {
            number,
            handler: Arc::clone(&quiet) as _,
            grants: Grants::new(),
            max_run: Duration::ZERO,
            measurements: Metrics::new().handler("quiet", 1),
            figures: VersionFigures::default(),
        };
        (quiet, Arc::new(deployed))
    }

    fn message() -> Message {
        Message {
            id: "1".into(),
            subject: "a".into(),
            headers: Headers::default(),
            body: bytes::Bytes::new(),
            sequence: 1,
            published_at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_run_keeps_its_version_and_the_old_one_goes_with_its_last_run() {
        let ((one, first), (two, second)) = (version(1), version(2));
        let slot = Slot::holding(first);
        let running = slot.pick(&message()).unwrap();
        let old = slot.swap(second).unwrap();
        assert_eq!(slot.pick(&message()).unwrap().number, 2);
        assert_eq!((running.number, old.number), (1, 1));
        assert!(one.resting.load(Ordering::Acquire) && !two.resting.load(Ordering::Acquire));
        let gone = Arc::downgrade(&old);
        drop(old);
        assert!(gone.upgrade().is_some(), "something still runs on it");
        drop(running);
        assert!(gone.upgrade().is_none(), "nothing runs on it any more");
    }

    #[tokio::test]
    async fn an_empty_slot_is_waited_for() {
        let slot = Slot::empty();
        assert!(slot.pick(&message()).is_none());
        let mut waiting = std::pin::pin!(slot.filled());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        slot.swap(version(1).1);
        waiting.await;
        slot.filled().await;
    }
}
