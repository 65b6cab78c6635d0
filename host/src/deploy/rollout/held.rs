//! A rollout that is recorded, and cannot go on for a reason that passes by itself: the machine has too much to do at a start, a
//! file cannot be read just now. On a host by itself; in a cluster what is to be tried there is followed.
//!
//! Invariants:
//! - It is tried again, more seldom each time, until it goes on, a person ends it, or another version takes the active one's place.
//! - What speaks against the version itself still ends it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{HOST, check_number};
use crate::deploy::again;
use crate::deploy::entry::{Entry, Loaded};
use crate::deploy::own::Own;
use crate::deploy::report::Aborted;
use crate::deploy::verdict::verdict;
use crate::deploy::{DeployError, Deployments};
use crate::registry::{Digest, HandlerRecord, RegistryError, RolloutRecord};

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
fn may_pass(error: &DeployError) -> bool {
    match error {
        // Nothing but another deploy brings it back.
        DeployError::Registry(RegistryError::NoModule { .. } | RegistryError::Damaged { .. }) => false,
        error => verdict(error).passes(),
    }
}

impl Deployments {
    /// Goes on with a rollout that was loaded, or was not.
    pub(super) async fn resume_rollout(
        &self,
        entry: &Arc<Entry>,
        rollout: RolloutRecord,
        loaded: Result<(Loaded, Digest), DeployError>,
    ) {
        let (handler, number) = (&entry.name, rollout.number);
        match loaded {
            Ok((loaded, digest)) => {
                tracing::info!(handler, version = number, kind = rollout.plan.name(), "the rollout goes on");
                self.begin_trial(entry, loaded, digest, rollout);
            }
            Err(error) if self.cluster.is_some() => {
                let why = error.chain();
                tracing::error!(handler, version = number, why, "what is tried cannot be loaded; the cluster is asked");
            }
            Err(error) if may_pass(&error) => self.hold(entry, &rollout, &error),
            Err(error) => {
                let why = error.chain();
                tracing::error!(handler, version = number, why, "what was tried cannot be loaded, and is aborted");
                entry.set_held(None);
                match self.registry.abort(handler, number, HOST, &why).await {
                    Ok(()) => self.tell_end(entry, (Own::Aborted, number), HOST, &why).await,
                    Err(error) => tracing::error!(handler, %error, "that could not be recorded"),
                }
            }
        }
    }

    fn hold(&self, entry: &Entry, rollout: &RolloutRecord, error: &DeployError) {
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
        entry.set_held(Some(Held { rests_until: None, ..held.clone() }));
        let (deployments, entry, held) = (Arc::clone(self), Arc::clone(entry), held.clone());
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move { deployments.go_on(&entry, held).await });
    }

    async fn go_on(&self, entry: &Arc<Entry>, held: Held) {
        let found = self.recorded(entry, held.number).await;
        let loaded = match &found {
            Ok(Some((record, _))) => Some(self.load_tried(record, held.number).await),
            Ok(None) | Err(_) => None,
        };
        let is_held = || entry.held().is_some_and(|now| now.number == held.number);
        let Ok(_busy) = entry.busy_soon(HOST).await else {
            let rests_until = Some(Instant::now() + TAKEN_AGAIN_AFTER);
            if is_held() {
                entry.set_held(Some(Held { rests_until, ..held }));
            }
            return;
        };
        // Somebody may have ended it meanwhile.
        if !is_held() {
            return;
        }
        match (found, loaded) {
            (Ok(Some((_, rollout))), Some(loaded)) => self.resume_rollout(entry, rollout, loaded).await,
            (Err(error), _) => {
                tracing::error!(handler = entry.name, %error, "what is recorded as tried could not be read");
                let rests_until = Some(Instant::now() + again::pause(held.tries));
                entry.set_held(Some(Held { rests_until, ..held }));
            }
            // It is over.
            (Ok(_), _) => entry.set_held(None),
        }
    }

    /// The rollout of a version, when it is still on by the records.
    async fn recorded(
        &self,
        entry: &Entry,
        number: u64,
    ) -> Result<Option<(HandlerRecord, RolloutRecord)>, RegistryError> {
        let record = self.registry.handler(&entry.name).await?;
        let rollout = record.rollout.clone().filter(|rollout| rollout.number == number);
        Ok(rollout.map(|rollout| (record, rollout)))
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
