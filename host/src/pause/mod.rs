//! Pauses of subscriptions by an operator: by whom, why and until when. They are kept on the disk, so that a host that was
//! started again, or whose configuration has changed, takes nothing that somebody wanted to wait.
//!
//! A pause is of this host, or of all hosts of its cluster. Those of all hosts stand in the cluster
//! ([`crate::cluster::Cluster::pauses`]); what is here is what this host saw of them last, and it goes by that while NATS is
//! away.
//!
//! Invariants:
//! - A pause of this host is on the disk before it is answered, and so is its end before messages are taken again. One of all
//!   hosts is confirmed by the cluster; the disk has it too, as soon as it can be written.
//! - A pause stays until somebody ends it or its time is over, whatever becomes of its subscription meanwhile.
//! - A pause whose time is over holds nothing back, also when that cannot be written down.
//! - A subscription takes messages when neither this host nor its cluster has a pause of it.

mod book;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use book::Book;
pub use book::{OfAllHosts, Pause, PauseRecord, Reach};

use crate::cluster::PausesError;
use crate::dispatch::Hold;

/// Between two looks at the wall clock at the most: it may be set, and a machine may sleep.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why pauses could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The file could not be read.
    #[error("could not read which subscriptions are paused, {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What stands in the file is none.
    #[error(
        "{} does not hold pauses: mend it, or remove it, and then every subscription takes messages again", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file could not be written. Nothing has changed.
    #[error("could not write down which subscriptions are paused, {}, so nothing was changed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The host ends, and did not come to it.
    #[error("the host ends, and nothing was changed")]
    Stopped,
    /// It was to be of all hosts, and there is no cluster.
    #[error("this host is in no cluster, so there are no other hosts to tell: pause or resume it on this host alone")]
    NoCluster,
    /// It was to be of all hosts, and the cluster did not take it, or did not say so.
    #[error(transparent)]
    Cluster(PausesError),
}

/// What changed by what the cluster said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Paused from now on, or otherwise than before; by subscription.
    pub begun: BTreeMap<String, PauseRecord>,
    /// Not paused any more for all hosts.
    pub ended: BTreeMap<String, PauseRecord>,
}

/// The word on a subscription.
#[derive(Debug)]
struct Word {
    hold: Arc<Hold>,
    /// It receives from the broker of the cluster.
    in_cluster: bool,
}

/// The pauses of a host.
#[derive(Debug)]
pub struct Pauses {
    path: PathBuf,
    book: Mutex<Book>,
    /// One for each subscription that was ever asked for, or was ever paused on all hosts: configurations bound them.
    holds: Mutex<BTreeMap<String, Word>>,
    /// Whether the cluster is to be asked before more is received.
    asks: AtomicBool,
    /// Changes are written one after the other.
    turn: tokio::sync::Mutex<()>,
    /// What holds differs from what stands in the file.
    unwritten: AtomicBool,
    changed: Notify,
}

impl Pauses {
    /// Those of a data directory, without those whose time is over, and without what was paused on all hosts of another cluster
    /// than the one that this host is in.
    ///
    /// # Errors
    /// When there is a file that cannot be read: to run what somebody wanted to wait is worse than not to start.
    pub fn open(directory: &Path, now: SystemTime, cluster: Option<&str>) -> Result<Arc<Self>, PauseError> {
        let path = directory.join(file::NAME);
        let mut book = file::read(&path)?;
        book.end_over(now);
        if let Some(OfAllHosts { cluster: other, subscriptions, .. }) = book.leave_other(cluster) {
            let names: Vec<String> = subscriptions.into_keys().collect();
            tracing::warn!(
                cluster = other,
                subscriptions = names.join(", "),
                "what is paused on all hosts of that cluster does not hold here any more: this host is not in it"
            );
        }
        Ok(Arc::new(Self {
            path,
            book: Mutex::new(book),
            holds: Mutex::default(),
            // Until the cluster was asked.
            asks: AtomicBool::new(cluster.is_some()),
            turn: tokio::sync::Mutex::default(),
            unwritten: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// The word on a subscription, the same one for the same name.
    #[must_use]
    pub fn hold(&self, subscription: &str) -> Arc<Hold> {
        Arc::clone(&self.word_on(&mut self.holds(), subscription).hold)
    }

    /// The same for one that is started. One that receives from the broker of the cluster asks the cluster before it receives
    /// anything more, whenever that was away.
    #[must_use]
    pub fn hold_of_started(&self, subscription: &str, in_cluster: bool) -> Arc<Hold> {
        let mut holds = self.holds();
        let word = self.word_on(&mut holds, subscription);
        word.in_cluster = in_cluster;
        word.hold.ask_first(in_cluster && self.asks.load(Ordering::Acquire));
        Arc::clone(&word.hold)
    }

    fn word_on<'a>(&self, holds: &'a mut BTreeMap<String, Word>, subscription: &str) -> &'a mut Word {
        holds.entry(subscription.to_owned()).or_insert_with(|| {
            let hold = Hold::default();
            if self.book().get(subscription).is_some() {
                hold.close();
            }
            Word { hold: Arc::new(hold), in_cluster: false }
        })
    }

    /// Whether the cluster is asked before more is received.
    pub(crate) fn asks_first(&self) -> bool {
        self.asks.load(Ordering::Acquire)
    }

    /// Whether the cluster is to be asked before more is received.
    pub(crate) fn ask_first(&self, asks: bool) {
        let holds = self.holds();
        self.asks.store(asks, Ordering::Release);
        holds.values().filter(|word| word.in_cluster).for_each(|word| word.hold.ask_first(asks));
    }

    /// What holds a subscription; where two pauses do, that of all hosts.
    #[must_use]
    pub fn get(&self, subscription: &str) -> Option<Pause> {
        self.book().get(subscription)
    }

    /// Those of all hosts, as this one saw them last.
    #[must_use]
    pub fn of_all_hosts(&self) -> OfAllHosts {
        self.book().of_all_hosts()
    }

    /// Pauses subscriptions on this host. What was paused before is from now on paused as `record` says.
    ///
    /// Dropped in the middle, either all or none of them are paused, and which is not known: to be run to its end.
    ///
    /// # Errors
    /// When it cannot be written down; nothing is paused then.
    pub async fn pause(&self, subscriptions: &[String], record: &PauseRecord) -> Result<(), PauseError> {
        self.change(|book| book.put(subscriptions, record)).await?;
        crate::failpoint::reached("paused-on-disk");
        self.go_by_the_book(subscriptions);
        Ok(())
    }

    /// Ends pauses of this host. Gives back what was paused.
    ///
    /// # Errors
    /// When it cannot be written down; nothing takes messages again then.
    pub async fn resume(&self, subscriptions: &[String]) -> Result<BTreeMap<String, PauseRecord>, PauseError> {
        let ended = self.change(|book| book.take(subscriptions)).await?;
        self.go_by_the_book(ended.keys());
        Ok(ended)
    }

    /// Goes by what the cluster says is paused on all hosts, without what is over. It holds from now on, whether or not it can
    /// be written down; that is tried again.
    pub async fn follow(&self, mut all: OfAllHosts, now: SystemTime) -> Followed {
        all.subscriptions.retain(|_, pause| !pause.is_over(now));
        let before = self.of_all_hosts();
        let differs = |one: &OfAllHosts, other: &OfAllHosts| {
            let of = one.subscriptions.iter().filter(|(name, pause)| other.subscriptions.get(*name) != Some(pause));
            of.map(|(name, pause)| (name.clone(), pause.clone())).collect::<BTreeMap<_, _>>()
        };
        let begun = differs(&all, &before);
        let mut ended = differs(&before, &all);
        ended.retain(|name, _| !all.subscriptions.contains_key(name));
        let same_bucket = all.bucket == before.bucket || all.subscriptions.is_empty();
        if begun.is_empty() && ended.is_empty() && same_bucket {
            return Followed::default();
        }
        // Before the disk, which may be slow, and whoever writes to it just now.
        begun.keys().for_each(|name| self.hold(name).close());
        let _turn = self.turn.lock().await;
        let mut book = self.book().clone();
        book.follow(&all);
        *self.book() = book.clone();
        self.go_by_the_book(begun.keys());
        self.written_anyway(&book).await;
        self.go_by_the_book(ended.keys());
        self.changed.notify_waiters();
        Followed { begun, ended }
    }

    /// Waits until what is paused changes, or a while has passed.
    pub(crate) async fn changed(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.changed.notified()).await;
    }

    /// Waits until the time of some pauses is over, ends them, and gives them back by subscription. One of all hosts is over on
    /// each by its own clock.
    pub async fn next_over(&self) -> Vec<(String, Pause)> {
        loop {
            let changed = self.changed.notified();
            let now = SystemTime::now();
            let next = self.book().next_over();
            if next.is_some_and(|at| at <= now) {
                // The file says until when, and the next start goes by that.
                let ended = self.change_anyway(|book| book.end_over(SystemTime::now())).await;
                if ended.is_empty() {
                    continue;
                }
                self.go_by_the_book(ended.iter().map(|(name, _)| name));
                return ended;
            }
            let wait = next.and_then(|at| at.duration_since(now).ok());
            let wait = wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
            let unwritten = self.unwritten.load(Ordering::Acquire);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(wait), if next.is_some() || unwritten => {
                    if unwritten {
                        self.change_anyway(|_| ()).await;
                    }
                }
            }
        }
    }

    /// Closes and opens what has changed, as the book has it now.
    fn go_by_the_book<'a>(&self, subscriptions: impl IntoIterator<Item = &'a String>) {
        let now = Instant::now();
        for name in subscriptions {
            let hold = self.hold(name);
            // Under the book's lock: of two changes at once the later one has the last word.
            let book = self.book();
            if book.get(name).is_some() { hold.close() } else { hold.open(now) }
        }
    }

    /// Writes a changed book down, and then goes by it.
    async fn change<T>(&self, change: impl Fn(&mut Book) -> T) -> Result<T, PauseError> {
        let _turn = self.turn.lock().await;
        let mut book = self.book().clone();
        let changed = change(&mut book);
        self.write(&book).await?;
        self.go_by(book);
        Ok(changed)
    }

    /// The same, and goes by it whether or not it could be written down.
    async fn change_anyway<T>(&self, change: impl Fn(&mut Book) -> T) -> T {
        let _turn = self.turn.lock().await;
        let mut book = self.book().clone();
        let changed = change(&mut book);
        self.written_anyway(&book).await;
        self.go_by(book);
        changed
    }

    /// Writes a book down; one that cannot be is tried again.
    async fn written_anyway(&self, book: &Book) {
        let Err(error) = self.write(book).await else { return };
        if !self.unwritten.swap(true, Ordering::AcqRel) {
            let error = error.chain();
            tracing::warn!(error, "what is paused holds, and what has ended has, though the file does not have it yet");
        }
    }

    async fn write(&self, book: &Book) -> Result<(), PauseError> {
        let (path, book) = (self.path.clone(), book.clone());
        tokio::task::spawn_blocking(move || file::write(&path, &book)).await.map_err(|_| PauseError::Stopped)??;
        self.unwritten.store(false, Ordering::Release);
        Ok(())
    }

    fn go_by(&self, book: Book) {
        *self.book() = book;
        self.changed.notify_waiters();
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<String, Word>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PauseError {
    /// The error with its cause.
    #[must_use]
    pub fn chain(&self) -> String {
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}"));
        format!("{self}{}", cause.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
