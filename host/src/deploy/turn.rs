//! Whose turn a handler is: one changes its versions at a time, and a rollback waits for no deploy that has changed nothing.
//!
//! Invariants:
//! - Nobody changes which version runs but whoever has the turn.
//! - A module that arrives keeps nobody but another one from the handler. Its deploy takes the turn when it is whole, and is
//!   refused when the version that runs was changed meanwhile: who deploys has looked at another one.
//! - A rollback overtakes a deploy that has recorded nothing; the deploy then changes nothing. One that records is waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::DeployError;
use super::cluster::CLUSTER;
use super::entry::Entry;
use super::rollout::HOST;

/// How long the host's own work on a handler, or a deploy that gives way, is waited for: a module is fetched and compiled in
/// seconds, and a switch takes milliseconds.
const SOON: Duration = Duration::from_secs(10);
/// Between two looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Somebody deploys.
#[derive(Debug, Clone)]
pub(super) struct Deploying {
    pub(super) by: String,
    pub(super) since: SystemTime,
}

impl Deploying {
    fn now(by: &str) -> Self {
        Self { by: by.to_owned(), since: SystemTime::now() }
    }
}

/// Who has the turn of a handler.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// Whose module arrives, or is deployed.
    upload: Option<Deploying>,
    /// How often it was changed what runs, and who did it last.
    changes: u64,
    changed_by: String,
}

#[derive(Debug)]
struct Held {
    who: Deploying,
    /// `None`: it is no deploy, and gives way to nobody.
    deploy: Option<Way>,
}

/// How far a deploy is.
#[derive(Debug, Default)]
struct Way {
    overtaken: CancellationToken,
    overtaken_by: Option<String>,
    /// It records its version now, and gives way no more.
    commits: bool,
}

/// Held by whoever changes a handler: nobody else does.
pub(super) struct Busy {
    pub(super) entry: Arc<Entry>,
    /// Of a deploy: given back after the turn.
    _upload: Option<Upload>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.entry.turn.lock().held = None;
    }
}

/// Held while a module arrives and is deployed: no other one does.
struct Upload {
    entry: Arc<Entry>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.entry.turn.lock().upload = None;
    }
}

/// A module arrives for a handler.
pub(super) struct Arriving {
    upload: Upload,
    /// Changes of what runs until it began.
    seen: u64,
}

impl Turn {
    /// Another version runs, or another one is tried.
    pub(super) fn changed(&self) {
        let mut state = self.lock();
        state.changes += 1;
        state.changed_by = state.held.as_ref().map(|held| held.who.by.clone()).unwrap_or_default();
    }

    /// Who deploys or changes the handler otherwise.
    pub(super) fn holder(&self) -> Option<Deploying> {
        let state = self.lock();
        state.held.as_ref().map(|held| held.who.clone()).or_else(|| state.upload.clone())
    }

    /// Asks a deploy to give way. Whether it will be over soon.
    fn overtake(&self, by: &str) -> bool {
        let mut state = self.lock();
        let Some(way) = state.held.as_mut().and_then(|held| held.deploy.as_mut()) else { return false };
        if !way.commits && way.overtaken_by.is_none() {
            way.overtaken_by = Some(by.to_owned());
            way.overtaken.cancel();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in steps that cannot panic: it is whole even if a holder died.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is the host that does something by itself.
fn is_own(by: &str) -> bool {
    by == HOST || by == CLUSTER
}

impl Entry {
    /// Takes the turn.
    pub(super) fn busy(self: &Arc<Self>, by: &str) -> Result<Busy, DeployError> {
        self.hold(by, None)?;
        Ok(Busy { entry: Arc::clone(self), _upload: None })
    }

    /// Takes the turn for somebody. What the host does with the handler by itself, to follow its cluster or to end what is tried,
    /// is waited for: that is over soon, and nobody asked for it.
    pub(super) async fn busy_soon(self: &Arc<Self>, by: &str) -> Result<Busy, DeployError> {
        self.busy_when(by, is_own).await
    }

    /// The same for a rollback: a deploy that has changed nothing yet ends for it.
    pub(super) async fn overtake(self: &Arc<Self>, by: &str) -> Result<Busy, DeployError> {
        self.busy_when(by, |holder| is_own(holder) || self.turn.overtake(by)).await
    }

    async fn busy_when(self: &Arc<Self>, by: &str, is_over_soon: impl Fn(&str) -> bool) -> Result<Busy, DeployError> {
        let until = Instant::now() + SOON;
        loop {
            match self.busy(by) {
                Err(DeployError::Busy { by, .. }) if is_over_soon(&by) && Instant::now() < until => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                taken => return taken,
            }
        }
    }

    /// A module begins to arrive. One at a time, so that a handler has room on the disk for one.
    pub(super) async fn arriving(self: &Arc<Self>, by: &str) -> Result<Arriving, DeployError> {
        let _turn = self.busy_soon(by).await?;
        let mut state = self.turn.lock();
        if let Some(other) = &state.upload {
            return Err(self.is_held(other));
        }
        state.upload = Some(Deploying::now(by));
        Ok(Arriving { upload: Upload { entry: Arc::clone(self) }, seen: state.changes })
    }

    fn hold(&self, by: &str, deploy: Option<Way>) -> Result<(), DeployError> {
        let mut state = self.turn.lock();
        if let Some(held) = &state.held {
            return Err(self.is_held(&held.who));
        }
        state.held = Some(Held { who: Deploying::now(by), deploy });
        Ok(())
    }

    fn is_held(&self, by: &Deploying) -> DeployError {
        let since = super::spelled(by.since);
        DeployError::Busy { handler: self.name.clone(), by: by.by.clone(), since }
    }
}

impl Arriving {
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.upload.entry
    }

    /// It is whole: takes the turn, for its deploy. In a cluster (`by_basis`) what is to run there says whether it was changed
    /// meanwhile, for all hosts.
    pub(super) async fn begin(self, by: &str, by_basis: bool) -> Result<Busy, DeployError> {
        let Self { upload, seen } = self;
        let entry = Arc::clone(&upload.entry);
        // What the host does by itself is waited for.
        drop(entry.busy_soon(by).await?);
        entry.hold(by, Some(Way::default()))?;
        let busy = Busy { entry, _upload: Some(upload) };
        let state = busy.entry.turn.lock();
        let overtaken = (state.changes != seen && !by_basis).then(|| state.changed_by.clone());
        drop(state);
        match overtaken {
            Some(by) => Err(busy.overtaken_by(by)),
            None => Ok(busy),
        }
    }
}

impl Busy {
    /// Ends when a rollback overtakes this deploy; why it is over.
    pub(super) async fn overtaken(&self) -> DeployError {
        let token = self.way(|way| way.overtaken.clone()).unwrap_or_default();
        token.cancelled().await;
        self.overtaken_by(self.way(|way| way.overtaken_by.clone()).flatten().unwrap_or_default())
    }

    /// From here on this deploy gives way to nobody.
    ///
    /// # Errors
    /// When it was overtaken: it may change nothing.
    pub(super) fn commit(&self) -> Result<(), DeployError> {
        let overtaken = self.way(|way| {
            way.commits = way.overtaken_by.is_none();
            way.overtaken_by.clone()
        });
        overtaken.flatten().map_or(Ok(()), |by| Err(self.overtaken_by(by)))
    }

    fn way<T>(&self, look: impl FnOnce(&mut Way) -> T) -> Option<T> {
        self.entry.turn.lock().held.as_mut().and_then(|held| held.deploy.as_mut()).map(look)
    }

    fn overtaken_by(&self, by: String) -> DeployError {
        let by = if by.is_empty() { HOST.to_owned() } else { by };
        DeployError::Overtaken { handler: self.entry.name.clone(), by }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::deploy::entry::Terms;

    fn entry() -> Arc<Entry> {
        let config = crate::config::Config::from_text("t".as_ref(), "[handlers.h]".to_owned(), &[]).unwrap();
        let terms = config.handlers.values().map(Terms::of).next().unwrap();
        Arc::new(Entry::new("h", terms))
    }

    fn refused(taken: Result<Busy, DeployError>) -> String {
        taken.map(drop).unwrap_err().to_string()
    }

    /// A sender of five minutes kept everybody from going back for as long.
    #[tokio::test]
    async fn a_module_that_arrives_keeps_no_rollback_from_the_handler() {
        let entry = entry();
        let arriving = entry.arriving("ann").await.unwrap();
        let other = entry.arriving("bob").await.map(drop).unwrap_err().to_string();
        assert!(other.contains("`ann` deploys to handler `h` since"), "{other}");
        assert_eq!(entry.turn.holder().map(|who| who.by).as_deref(), Some("ann"));
        let rollback = entry.overtake("ops").await.unwrap();
        entry.turn.changed();
        drop(rollback);
        // What `ann` looked at when she began does not run any more.
        let told = refused(arriving.begin("ann", false).await);
        assert!(told.contains("`ops` changed which version of handler `h` runs"), "{told}");
        assert!(entry.turn.holder().is_none());
        // In a cluster the key of the handler says that.
        let arriving = entry.arriving("ann").await.unwrap();
        entry.turn.changed();
        assert!(arriving.begin("ann", true).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deploy_gives_way_to_a_rollback_until_it_records() {
        let entry = entry();
        let deploy = entry.arriving("ann").await.unwrap().begin("ann", false).await.unwrap();
        assert!(refused(entry.busy_soon("bob").await).contains("`ann` deploys"));
        let rollback = tokio::spawn({
            let entry = Arc::clone(&entry);
            async move { entry.overtake("ops").await.map(drop) }
        });
        let told = deploy.overtaken().await.to_string();
        assert!(told.contains("`ops` changed which version"), "{told}");
        assert!(deploy.commit().is_err(), "it may record nothing");
        drop(deploy);
        rollback.await.unwrap().unwrap();

        let deploy = entry.arriving("ann").await.unwrap().begin("ann", false).await.unwrap();
        deploy.commit().unwrap();
        // Waited for, and not ended.
        assert!(refused(entry.overtake("ops").await).contains("`ann` deploys"));
        assert!(deploy.commit().is_ok());
        drop(deploy);
        assert!(entry.overtake("ops").await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_deploy_gives_way_to_nobody() {
        let entry = entry();
        let applied = entry.busy("ann").unwrap();
        assert!(refused(entry.overtake("ops").await).contains("`ann` deploys"));
        assert!(applied.commit().is_ok());
    }
}
