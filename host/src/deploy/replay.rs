//! The message of a dead letter once more, on a version that is kept, for whoever looks at it.
//!
//! Invariants:
//! - It has no effect: what it would send goes nowhere, what it measures is counted nowhere, and it touches no instance that
//!   a message will meet.
//! - It runs when no message wants to, a few at once; one more is refused and not kept waiting.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::entry::Entry;
use super::{DeployError, Deployments, none_beyond};
use crate::broker::lease::Lease;
use crate::dispatch::{Place, Turns, gave_way};
use crate::handler::{Call, Effects, Handler as _, Run};
use crate::outcome::{Outcome, Usage};
use crate::registry::{HandlerRecord, VersionRecord};
use crate::sandbox::limits::Limits;
use crate::settle::dead_letter::{DeadLetter, DeadLetterRecord};
use crate::settle::outputs::{Routed, resolve};

/// So many at once: one stands behind the messages at a time, and the other is being loaded or waits for it.
const AT_ONCE: usize = 2;
/// The longest run that is waited for: somebody sits before it. The command line runs what takes longer.
const LONGEST: Duration = Duration::from_secs(60);
/// What a run may take beside its own time: the wait for an instance, and for turns that no message wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a message was not run once more.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// As many are run as may.
    #[error("{AT_ONCE} replays go on already, and more would take from the messages: try again when one has ended")]
    TooMany,
    /// No module ran on the message.
    #[error("no version ran on the message, which ended in {reason}: say which one it is to be run on")]
    NoneRan {
        /// Why it was given up.
        reason: String,
    },
    /// The version that ran is kept no more.
    #[error(
        "{ran} was forgotten, and its module with it: the host keeps the newest versions, as many as \
         `registry.keep_versions` says; say which one it is to be run on instead"
    )]
    Forgotten {
        /// Which one: `invoice@7 (9b74c9897bac)`.
        ran: String,
    },
    /// The run had no turn in its time, or asked for more of it than a replay gets.
    #[error(
        "it did not end in its time: messages go first, and this host has many, or it takes longer than a minute by itself; \
         try again, or run it elsewhere with `tidegate dlq replay`"
    )]
    Unfinished,
    /// The host panicked. A bug.
    #[error("the host stopped in the middle of it; a bug of the host")]
    Broken,
    /// The handler or the version is not there, or the version cannot be loaded or has grants that were withdrawn.
    #[error(transparent)]
    Version(#[from] DeployError),
}

/// What came of it.
#[derive(Debug)]
pub struct Replay {
    /// The version that it ran on.
    pub version: VersionRecord,
    /// The attempt that it was told it is.
    pub attempt: u32,
    /// The run; the outputs are beside it.
    pub run: Run,
    /// What it would have sent.
    pub outputs: Vec<Routed>,
}

/// Where messages are run once more.
#[derive(Debug)]
pub(super) struct Replays {
    /// Those that are free. A place is for ever, so they are made once.
    places: Mutex<Vec<Place>>,
}

/// A place in use; it is free again when this is dropped.
struct Taken<'a> {
    replays: &'a Replays,
    place: Option<Place>,
}

impl Replays {
    pub(super) fn new(turns: &std::sync::Arc<Turns>) -> Self {
        let seat = turns.seat_behind();
        Self { places: Mutex::new((0..AT_ONCE).map(|_| seat.place()).collect()) }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Place>> {
        // A push or a pop: it is whole even if a holder died.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Taken<'_>, ReplayError> {
        let place = self.free().pop().ok_or(ReplayError::TooMany)?;
        Ok(Taken { replays: self, place: Some(place) })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.replays.free().extend(self.place.take());
    }
}

/// What a version is told from others of its handler by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks<'a> {
    /// Its number; `None`: a host of before did not write it down.
    pub(crate) number: Option<u64>,
    /// Its module.
    pub(crate) digest: &'a str,
    /// The fuel that it is given; 0: unmetered.
    pub(crate) fuel: u64,
}

impl<'a> Marks<'a> {
    /// Of the version that a dead letter's last run was on.
    #[must_use]
    pub(crate) fn recorded(record: &'a DeadLetterRecord) -> Self {
        Self { number: record.version, digest: &record.digest, fuel: record.fuel_limit }
    }

    /// Of a version that is kept.
    #[must_use]
    pub(crate) fn kept(number: u64, digest: &'a str, limits: &Limits) -> Self {
        Self { number: Some(number), digest, fuel: limits.fuel.map_or(0, |fuel| fuel.get()) }
    }
}

/// Which of the versions that are kept, the newest first, it was: by its number, where that is known; else the newest with its
/// module and its fuel. `None`: it is kept no more.
#[must_use]
pub(crate) fn which_ran(ran: &Marks<'_>, kept: &[Marks<'_>]) -> Option<u64> {
    let with_module = || kept.iter().filter(|version| version.digest == ran.digest);
    let by_number = ran.number.and_then(|_| with_module().find(|version| version.number == ran.number));
    let by_fuel = || with_module().find(|version| version.fuel == ran.fuel);
    by_number.or_else(by_fuel).or_else(|| with_module().next()).and_then(|version| version.number)
}

/// The version to run on: the one that is asked for, else the one that ran.
fn chosen<'a>(
    record: &DeadLetterRecord,
    handler: &'a HandlerRecord,
    on: Option<u64>,
) -> Result<&'a VersionRecord, ReplayError> {
    if let Some(number) = on {
        let missing = || DeployError::NoVersion { handler: handler.name.clone(), number: on };
        return Ok(handler.version(number).ok_or_else(missing)?);
    }
    if record.digest.is_empty() {
        return Err(ReplayError::NoneRan { reason: record.reason.clone() });
    }
    let kept =
        |version: &'a VersionRecord| Marks::kept(version.number, version.digest.as_str(), &version.settings.limits);
    let kept: Vec<Marks<'_>> = handler.versions.iter().map(kept).collect();
    let found = which_ran(&Marks::recorded(record), &kept).and_then(|number| handler.version(number));
    found.ok_or_else(|| {
        let number = record.version.map(|number| format!("@{number}")).unwrap_or_default();
        let digest = record.digest.get(..12).unwrap_or(&record.digest);
        ReplayError::Forgotten { ran: format!("{}{number} ({digest})", record.handler) }
    })
}

impl Deployments {
    /// Runs the message of a dead letter once more, on the version that ran or on the one that is named. Dropped in the
    /// middle, it stops the run.
    ///
    /// # Errors
    /// When there is no such version, or not any more, it is granted a secret or a bucket that the configuration does not grant
    /// any more, it cannot be loaded, too many go on already, or it does not end in its time.
    pub async fn replay(&self, letter: &DeadLetter, on: Option<u64>) -> Result<Replay, ReplayError> {
        let mut taken = self.replays.take()?;
        let record = &letter.record;
        let entry = self.entry(&record.handler)?;
        let handler = self.registry.handler(&record.handler).await.map_err(DeployError::from)?;
        let version = chosen(record, &handler, on)?;
        // What was withdrawn is withdrawn from it too. Where it would send is not, for nothing is sent.
        let beyond: Vec<String> = version.settings.read_beyond(&entry.terms().settings).collect();
        none_beyond(&record.handler, version.number, &beyond)?;
        let fresh = self.fresh(&entry, version).await?;
        let message = letter.message();
        let limits = &version.settings.limits;
        let ends_at = Instant::now() + limits.max_run.min(LONGEST) + PATIENCE;
        let lease = Lease::until(ends_at);
        let previous = record.previous_failure();
        let attempt = record.attempts.max(1);
        let call = Call {
            message: &message,
            subscription: &record.subscription,
            attempt,
            max_attempts: record.max_attempts,
            previous_failure: previous.as_deref(),
            lease: &lease,
            effects: Effects::Suppressed,
            keeps_spans: false,
        };
        let Some(place) = taken.place.as_mut() else { return Err(ReplayError::TooMany) };
        let _ = place.waited();
        let run = std::panic::AssertUnwindSafe(place.run(fresh.handle(call))).catch_unwind();
        let run = tokio::time::timeout_at(ends_at, run).await.map_err(|_elapsed| ReplayError::Unfinished)?;
        let mut run = run.map_err(|_panic| {
            tracing::error!(handler = record.handler, version = version.number, "the host panicked in a replay");
            ReplayError::Broken
        })?;
        let waited = place.waited();
        if gave_way(&run.outcome, waited, run.usage.duration) {
            return Err(ReplayError::Unfinished);
        }
        run.usage = Usage { duration: run.usage.duration.saturating_sub(waited), ..run.usage };
        let outcome = std::mem::replace(&mut run.outcome, Outcome::Completed(Vec::new()));
        let (outcome, outputs) = resolve(outcome, &version.settings.grants(), &record.subscription, &record.message_id);
        run.outcome = outcome;
        Ok(Replay { version: version.clone(), attempt, run, outputs })
    }

    /// The version, with no instance that a message has used or will: the loaded one, where it makes one for each message
    /// anyway.
    async fn fresh(
        &self,
        entry: &Entry,
        version: &VersionRecord,
    ) -> Result<std::sync::Arc<crate::sandbox::Version>, DeployError> {
        let limits = &version.settings.limits;
        if limits.reuse == NonZeroU32::MIN
            && let Some(loaded) = entry.loaded(version.number)
        {
            return Ok(loaded.version);
        }
        let bytes = self.admit(&version.digest, None).await?.bytes;
        let limits = Limits { reuse: NonZeroU32::MIN, ..limits.clone() };
        self.load_of(&entry.name, &entry.terms(), version, bytes, &limits).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn of(number: Option<u64>, digest: &'static str, fuel: u64) -> Marks<'static> {
        Marks { number, digest, fuel }
    }

    #[test]
    fn the_version_that_ran_is_found_by_its_number_else_by_its_module_and_its_fuel() {
        // The same module under other limits is another version.
        let kept = [of(Some(4), "b", 7), of(Some(3), "a", 9), of(Some(2), "a", 5), of(Some(1), "a", 9)];
        let rows = [
            (of(Some(1), "a", 9), Some(1)),
            (of(Some(2), "a", 9), Some(2)),
            (of(None, "a", 9), Some(3)),
            (of(None, "a", 5), Some(2)),
            (of(None, "a", 1), Some(3)),
            // A number that another cluster or another registry gave: the module tells.
            (of(Some(4), "a", 5), Some(2)),
            (of(Some(4), "c", 7), None),
            (of(None, "c", 7), None),
        ];
        for (ran, found) in rows {
            assert_eq!(which_ran(&ran, &kept), found, "{ran:?}");
        }
        assert_eq!(which_ran(&of(Some(1), "a", 9), &[]), None);
    }

    #[test]
    fn a_place_is_free_again_when_its_replay_has_ended() {
        let replays = Replays::new(&Turns::new(1));
        let all: Vec<_> = (0..AT_ONCE).map(|_| replays.take().unwrap()).collect();
        assert!(matches!(replays.take(), Err(ReplayError::TooMany)));
        drop(all);
        assert!(replays.take().is_ok());
    }
}
