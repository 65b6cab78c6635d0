//! A rollout that is recorded, and cannot go on for a reason that passes by itself: the machine has too much to do at a start, a
//! file cannot be read just now. On a host by itself; in a cluster what is to be tried there is followed.
//!
//! Invariants:
//! - It is tried again, more seldom each time, until it goes on, a person ends it, or another version takes the active one's place.
//! - What speaks against the version itself still ends it.
//! - It is not loaded while somebody has the handler, which would be for nothing; and whatever a try ends of, a panic too, it rests
//!   and is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check_number;
use crate::deploy::again;
use crate::deploy::entry::Entry;
use crate::deploy::own::Own;
use crate::deploy::report::Aborted;
use crate::deploy::verdict::verdict;
use crate::deploy::{DeployError, Deployments};
use crate::registry::{RegistryError, RolloutRecord};

/// When a handler is looked at again that somebody else had just then.
const TAKEN_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// A rollout that cannot go on yet.
#[derive(Debug, Clone)]
pub(in crate::deploy) struct Held {
    pub(in crate::deploy) number: u64,
    pub(in crate::deploy) kind: &'static str,
    why: String,
    /// How often it was tried.
    tries: u32,
    /// Not before this is it tried again; `None`: that is under way.
    rests_until: Option<Instant>,
}

/// A try of what is held. When it is over, and the rollout is held still, that rests.
struct UnderWay {
    entry: Arc<Entry>,
    number: u64,
    /// So long, unless the try has said how long.
    after: Duration,
}

impl UnderWay {
    fn begin(entry: &Arc<Entry>, number: u64) -> Self {
        entry.change_held(number, |held| Some(Held { rests_until: None, ..held }));
        Self { entry: Arc::clone(entry), number, after: again::AFTER_A_PANIC }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let until = Instant::now() + self.after;
        let rests = |held: Held| Some(Held { rests_until: held.rests_until.or(Some(until)), ..held });
        self.entry.change_held(self.number, rests);
    }
}

/// Whether it is to be tried now; `is_taken`: somebody has the handler.
fn is_due(held: &Held, is_taken: bool, now: Instant) -> bool {
    !is_taken && held.rests_until.is_some_and(|until| until <= now)
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, kind, why, .. } = self;
        write!(
            f,
            "the {kind} of version {number} cannot go on yet, and is tried again by itself; `tidegate abort` ends it: {why}"
        )
    }
}

/// Whether a version that cannot be loaded now may be later.
pub(super) fn may_pass(error: &DeployError) -> bool {
    match error {
        // Nothing but another deploy brings it back.
        DeployError::Registry(RegistryError::NoModule { .. } | RegistryError::Damaged { .. }) => false,
        error => verdict(error).passes(),
    }
}

impl Deployments {
    pub(super) fn hold(&self, entry: &Entry, rollout: &RolloutRecord, error: &DeployError) {
        let (number, kind, why) = (rollout.number, rollout.plan.name(), error.chain());
        let tries = entry.held().filter(|held| held.number == number).map_or(0, |held| held.tries);
        let again = again::pause(tries);
        tracing::warn!(handler = entry.name, version = number, kind, why, ?again, "what is tried cannot go on yet");
        let (tries, rests_until) = (tries.saturating_add(1), Some(Instant::now() + again));
        entry.set_held(Some(Held { number, kind, why, tries, rests_until }));
        self.trial_begun.notify_one();
    }

    /// Tries it again when that is due, beside the looks at other rollouts.
    pub(super) fn go_on_when_due(self: &Arc<Self>, entry: &Arc<Entry>, held: &Held) {
        if !is_due(held, entry.turn.holder().is_some(), Instant::now()) {
            return;
        }
        let under_way = UnderWay::begin(entry, held.number);
        let (deployments, tries) = (Arc::clone(self), held.tries);
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move { deployments.go_on(under_way, tries).await });
    }

    /// Tries it again at the next look: what kept it may be over. One that is under way goes on.
    pub(super) fn go_on_soon(&self, entry: &Entry, number: u64) {
        let now = Instant::now();
        entry.change_held(number, |held| Some(Held { rests_until: held.rests_until.map(|_later| now), ..held }));
    }

    async fn go_on(&self, mut under_way: UnderWay, tries: u32) {
        let (entry, number) = (&under_way.entry, under_way.number);
        let found = self.registry.handler(&entry.name).await.map_err(DeployError::from);
        let resumed = match found.map(|record| (record.rollout.clone(), record)) {
            Ok((Some(rollout), record)) if rollout.number == number => {
                self.resume_rollout(entry, &record, &rollout).await
            }
            Ok(_) => {
                // It is over.
                entry.change_held(number, |_over| None);
                Ok(())
            }
            Err(error) => Err(error),
        };
        let Err(error) = resumed else { return };
        under_way.after = match error {
            DeployError::Busy { .. } => TAKEN_AGAIN_AFTER,
            error => {
                let error = error.chain();
                tracing::error!(handler = entry.name, error, "what is recorded as tried could not be read");
                again::pause(tries)
            }
        };
    }

    /// Ends it; for whoever holds the handler.
    pub(super) async fn abort_held(
        &self,
        entry: &Entry,
        held: &Held,
        number: Option<u64>,
        by: &str,
    ) -> Result<Aborted, DeployError> {
        check_number(&entry.name, number, held.number)?;
        let Some(active) = entry.active() else {
            return Err(DeployError::NoRollout { handler: entry.name.clone() });
        };
        let why = format!("it could not go on: {}", held.why);
        let aborted = self.registry.abort(&entry.name, held.number, by, &why).await;
        aborted.map_err(|error| super::ended(entry, error))?;
        entry.set_held(None);
        tracing::warn!(
            handler = entry.name,
            version = held.number,
            by,
            why,
            "aborted: the version from before goes on"
        );
        self.tell_end(entry, (Own::Aborted, held.number), by, &why).await;
        let (version, active) = (held.number, active.deployed.number);
        Ok(Aborted { handler: entry.name.clone(), version, active, unrecorded: None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::config::Config;
    use crate::deploy::entry::Terms;
    use crate::registry::Digest;
    use crate::sandbox::LoadError;

    fn held(number: u64, rests_until: Option<Instant>) -> Held {
        Held { number, kind: "canary", why: String::new(), tries: 1, rests_until }
    }

    #[test]
    fn what_rests_no_more_is_due_unless_somebody_has_the_handler() {
        let now = Instant::now();
        let (past, later) = (now.checked_sub(Duration::from_secs(1)).unwrap_or(now), now + Duration::from_secs(1));
        let rows = [
            (Some(past), false, true),
            (Some(now), false, true),
            (Some(past), true, false),
            (Some(later), false, false),
            (None, false, false),
        ];
        for (rests_until, is_taken, expected) in rows {
            assert_eq!(is_due(&held(2, rests_until), is_taken, now), expected, "{rests_until:?} {is_taken}");
        }
    }

    /// One of which the host panicked was told to be tried again, and never was.
    #[test]
    fn what_is_held_rests_after_a_try_whatever_that_ended_of() {
        let config = Config::from_text("t".as_ref(), "[handlers.h]".to_owned(), &[]).unwrap();
        let terms = config.handlers.values().map(Terms::of).next().unwrap();
        let entry = Arc::new(Entry::new("h", terms));
        let rests = || entry.held().map(|held| held.rests_until.is_some());
        entry.set_held(Some(held(2, Some(Instant::now()))));
        let under_way = UnderWay::begin(&entry, 2);
        assert_eq!(rests(), Some(false), "it is under way");
        let panicked = std::thread::spawn(move || {
            let _under_way = under_way;
            std::panic::resume_unwind(Box::new("a test"));
        });
        assert!(panicked.join().is_err());
        assert_eq!(rests(), Some(true));
        // What the try said goes before that, and what somebody ended meanwhile does not come back.
        let later = Instant::now() + Duration::from_secs(3600);
        let under_way = UnderWay::begin(&entry, 2);
        entry.set_held(Some(held(2, Some(later))));
        drop(under_way);
        assert_eq!(entry.held().and_then(|held| held.rests_until), Some(later));
        let under_way = UnderWay::begin(&entry, 2);
        entry.set_held(None);
        drop(under_way);
        assert_eq!(rests(), None);
        let under_way = UnderWay::begin(&entry, 2);
        entry.set_held(Some(held(3, None)));
        drop(under_way);
        assert_eq!(rests(), Some(false), "another one is under way");
    }

    #[test]
    fn what_a_busy_machine_refused_is_held_and_what_is_wrong_with_the_version_is_not() {
        let limit = Duration::from_secs(60);
        let digest = || Digest::of(b"");
        let rows = [
            (DeployError::Unloadable { number: 2, source: LoadError::CompilerBusy { limit } }, true),
            (DeployError::Unloadable { number: 2, source: LoadError::CompileTimeout { limit } }, true),
            (DeployError::Ungrantable { handler: String::new(), what: String::new() }, true),
            (RegistryError::TooLarge { limit: 1 }.into(), true),
            (DeployError::Unloadable { number: 2, source: LoadError::CoreModule }, false),
            (RegistryError::NoModule { digest: digest() }.into(), false),
            (DeployError::NotGranted { handler: String::new(), number: 2, grants: String::new() }, false),
        ];
        for (error, expected) in rows {
            assert_eq!(may_pass(&error), expected, "{error:?}");
        }
    }
}
