//! A rollout that is recorded, and cannot go on for a reason that passes by itself: the machine has too much to do at a start, a
//! file cannot be read just now. On a host by itself; in a cluster what is to be tried there is followed.
//!
//! Invariants:
//! - It is tried again, more seldom each time, until it goes on, a person ends it, or another version takes the active one's place.
//! - What speaks against the version itself still ends it.

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
        if held.rests_until.is_none_or(|until| Instant::now() < until) {
            return;
        }
        entry.change_held(held.number, |held| Some(Held { rests_until: None, ..held }));
        let (deployments, entry, held) = (Arc::clone(self), Arc::clone(entry), held.clone());
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move { deployments.go_on(&entry, held).await });
    }

    /// Tries it again at the next look: what kept it may be over. One that is under way goes on.
    pub(super) fn go_on_soon(&self, entry: &Entry, number: u64) {
        let now = Instant::now();
        entry.change_held(number, |held| Some(Held { rests_until: held.rests_until.map(|_later| now), ..held }));
    }

    async fn go_on(&self, entry: &Arc<Entry>, held: Held) {
        let found = self.registry.handler(&entry.name).await.map_err(DeployError::from);
        let resumed = match found.map(|record| (record.rollout.clone(), record)) {
            Ok((Some(rollout), record)) if rollout.number == held.number => {
                self.resume_rollout(entry, &record, &rollout).await
            }
            Ok(_) => {
                // It is over.
                entry.change_held(held.number, |_over| None);
                Ok(())
            }
            Err(error) => Err(error),
        };
        let Err(error) = resumed else { return };
        let pause = match error {
            DeployError::Busy { .. } => TAKEN_AGAIN_AFTER,
            error => {
                let error = error.chain();
                tracing::error!(handler = entry.name, error, "what is recorded as tried could not be read");
                again::pause(held.tries)
            }
        };
        let rests_until = Some(Instant::now() + pause);
        entry.change_held(held.number, |held| Some(Held { rests_until, ..held }));
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
    use super::*;
    use crate::registry::Digest;
    use crate::sandbox::LoadError;

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
