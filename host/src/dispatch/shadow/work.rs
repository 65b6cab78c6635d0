//! Runs the copies on the candidate, one after the other, behind everything else that runs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::compare::{compare, told};
use super::{Books, Copied, Difference, Ran, Waiting};
use crate::broker::lease::Lease;
use crate::dispatch::slot::Deployed;
use crate::dispatch::turns::{Place, Turns};
use crate::handler::{Call, Effects};
use crate::outcome::{Fault, FaultKind, Outcome, Usage};
use crate::settle::outputs::resolve;
use crate::telemetry::{CopyFate, SideFigures, says_something};

/// What a run may take beside its own limit: the wait for an instance, and for turns that nobody else wants. What is not
/// done by then is given up, so that it does not keep its instance for nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// A run that the clock stopped is not held against the candidate when it stood behind others for a tenth of it.
const OF_ITS_OWN: u32 = 10;

/// The work of a shadow.
#[derive(Debug)]
#[must_use = "nothing is compared unless it runs"]
pub struct Work {
    pub(super) copies: async_channel::Receiver<Waiting>,
    pub(super) candidate: Arc<Deployed>,
    pub(super) stable: Arc<SideFigures>,
    pub(super) tried: Arc<SideFigures>,
    pub(super) books: Arc<Books>,
    pub(super) ends: CancellationToken,
}

impl Work {
    /// Runs until the shadow ends. Dropped in the middle of a run, it stops that.
    pub async fn run(self, turns: Arc<Turns>) {
        let work = async {
            let mut place = turns.seat_behind().place();
            while let Ok(Waiting { copied, _room }) = self.copies.recv().await {
                // A queue that is never empty does not take part in tokio's cooperation; this does.
                tokio::task::coop::consume_budget().await;
                if AssertUnwindSafe(self.run_one(&mut place, &copied)).catch_unwind().await.is_err() {
                    tracing::error!(version = self.candidate.number, "the host panicked while it ran a shadow's copy");
                    self.books.count(CopyFate::Unfinished);
                }
            }
        };
        tokio::select! {
            biased;
            () = self.ends.cancelled() => {}
            () = work => {}
        }
    }

    async fn run_one(&self, place: &mut Place, copied: &Copied) {
        let Some(ran) = self.ran(place, copied).await else {
            self.books.count(CopyFate::Unfinished);
            return;
        };
        self.stable.ran(true, &copied.stable.outcome, &copied.stable.usage);
        self.tried.ran(true, &ran.outcome, &ran.usage);
        match compare(&copied.stable, &ran) {
            by @ (CopyFate::OtherFault | CopyFate::OtherOutcome | CopyFate::OtherOutputs) => {
                let told = told(&copied.stable, &ran);
                self.books.differs(Difference::new(copied, &ran, by, told));
            }
            fate @ (CopyFate::Same | CopyFate::Dropped | CopyFate::Unfinished) => self.books.count(fate),
        }
    }

    /// What the candidate does with the message; `None` when that says nothing of it. What the run logged and measured is
    /// dropped here, and its outputs go no further than the comparison.
    async fn ran(&self, place: &mut Place, copied: &Copied) -> Option<Ran> {
        let ends_at = Instant::now() + self.candidate.max_run + PATIENCE;
        let lease = Lease::until(ends_at);
        let call = Call {
            message: &copied.message,
            subscription: &copied.subscription,
            attempt: copied.attempt,
            max_attempts: Some(copied.max_attempts),
            previous_failure: None,
            lease: &lease,
            effects: Effects::Suppressed,
            keeps_spans: false,
        };
        // The lease ends a run that has a turn; this ends one that gets none.
        let run = tokio::time::timeout_at(ends_at, place.run(self.candidate.handler.handle(call))).await;
        let waited = place.waited();
        let run = run.ok()?;
        if !says_something(&run.outcome) || gave_way(&run.outcome, waited, run.usage.duration) {
            return None;
        }
        let usage = Usage { duration: run.usage.duration.saturating_sub(waited), ..run.usage };
        let (outcome, outputs) = resolve(run.outcome, &self.candidate.grants, &copied.subscription, &copied.message.id);
        Some(Ran { outcome, outputs, usage, effects: Some(run.effects) })
    }
}

/// Whether the clock stopped a run that stood behind others for a good part of its time.
pub(crate) fn gave_way(outcome: &Outcome, waited: Duration, took: Duration) -> bool {
    matches!(outcome, Outcome::Fault(Fault { kind: FaultKind::Timeout, .. }))
        && waited.saturating_mul(OF_ITS_OWN) > took
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_gave_way_is_not_held_against_the_candidate() {
        let fault = |kind| Outcome::Fault(Fault { kind, detail: String::new(), fingerprint: 0, backtrace: Vec::new() });
        let seconds = Duration::from_secs;
        let rows = [
            (fault(FaultKind::Timeout), seconds(0), false),
            (fault(FaultKind::Timeout), seconds(1), false),
            (fault(FaultKind::Timeout), seconds(2), true),
            (fault(FaultKind::OutOfFuel), seconds(9), false),
            (Outcome::Completed(Vec::new()), seconds(9), false),
        ];
        for (outcome, waited, expected) in rows {
            assert_eq!(gave_way(&outcome, waited, seconds(10)), expected, "{outcome:?} {waited:?}");
        }
    }
}
