//! Pauses of subscriptions by an operator: by whom, why and until when. They are kept on the disk, so that a host that was
//! started again, or whose configuration has changed, takes nothing that somebody wanted to wait.
//!
//! Invariants:
//! - A pause is on the disk before it is answered, and so is its end before messages are taken again.
//! - A pause stays until somebody ends it or its time is over, whatever becomes of its subscription meanwhile.
//! - A pause whose time is over holds nothing back, also when that cannot be written down.

mod book;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use book::Book;
pub use book::PauseRecord;

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
}

/// The pauses of a host.
#[derive(Debug)]
pub struct Pauses {
    path: PathBuf,
    book: Mutex<Book>,
    /// One for each subscription that was ever asked for: the configuration bounds them.
    holds: Mutex<BTreeMap<String, Arc<Hold>>>,
    /// Changes are written one after the other.
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
}

impl Pauses {
    /// Those of a data directory, without those whose time is over.
    ///
    /// # Errors
    /// When there is a file that cannot be read: to run what somebody wanted to wait is worse than not to start.
    pub fn open(directory: &Path, now: SystemTime) -> Result<Arc<Self>, PauseError> {
        let path = directory.join(file::NAME);
        let mut book = file::read(&path)?;
        book.end_over(now);
        Ok(Arc::new(Self {
            path,
            book: Mutex::new(book),
            holds: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// The word on a subscription, the same one for the same name.
    #[must_use]
    pub fn hold(&self, subscription: &str) -> Arc<Hold> {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let hold = holds.entry(subscription.to_owned()).or_insert_with(|| {
            let hold = Hold::default();
            if self.book().get(subscription).is_some() {
                hold.close();
            }
            Arc::new(hold)
        });
        Arc::clone(hold)
    }

    /// The pause of a subscription.
    #[must_use]
    pub fn get(&self, subscription: &str) -> Option<PauseRecord> {
        self.book().get(subscription).cloned()
    }

    /// All of them, by subscription.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, PauseRecord> {
        self.book().all().clone()
    }

    /// Pauses subscriptions. What was paused before is from now on paused as `record` says.
    ///
    /// Dropped in the middle, either all or none of them are paused, and which is not known: to be run to its end.
    ///
    /// # Errors
    /// When it cannot be written down; nothing is paused then.
    pub async fn pause(&self, subscriptions: &[String], record: &PauseRecord) -> Result<(), PauseError> {
        self.change(|book| book.put(subscriptions, record)).await?;
        crate::failpoint::reached("paused-on-disk");
        subscriptions.iter().for_each(|name| self.hold(name).close());
        Ok(())
    }

    /// Ends pauses. Gives back what was paused.
    ///
    /// # Errors
    /// When it cannot be written down; nothing takes messages again then.
    pub async fn resume(&self, subscriptions: &[String]) -> Result<BTreeMap<String, PauseRecord>, PauseError> {
        let ended = self.change(|book| book.take(subscriptions)).await?;
        self.open_holds(&ended);
        Ok(ended)
    }

    /// Waits until the time of some pauses is over, ends them, and gives them back.
    pub async fn next_over(&self) -> BTreeMap<String, PauseRecord> {
        loop {
            let changed = self.changed.notified();
            let now = SystemTime::now();
            let next = self.book().next_over();
            if next.is_some_and(|at| at <= now) {
                match self.change(|book| book.end_over(SystemTime::now())).await {
                    Ok(ended) if !ended.is_empty() => {
                        self.open_holds(&ended);
                        return ended;
                    }
                    Ok(_) => {}
                    Err(error) => return self.end_unwritten(&error),
                }
                continue;
            }
            let wait = next.and_then(|at| at.duration_since(now).ok());
            let wait = wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(wait), if next.is_some() => {}
            }
        }
    }

    /// Ends what is over without the disk: the file says until when, and the next start goes by that.
    fn end_unwritten(&self, error: &PauseError) -> BTreeMap<String, PauseRecord> {
        tracing::warn!(error = error.chain(), "pauses are over, and the file still has them with their end");
        let ended = self.book().end_over(SystemTime::now());
        self.open_holds(&ended);
        ended
    }

    fn open_holds(&self, ended: &BTreeMap<String, PauseRecord>) {
        let now = Instant::now();
        ended.keys().for_each(|name| self.hold(name).open(now));
    }

    /// Writes a changed book down, and then goes by it.
    async fn change<T>(&self, change: impl Fn(&mut Book) -> T) -> Result<T, PauseError> {
        let _turn = self.turn.lock().await;
        let mut book = self.book().clone();
        let changed = change(&mut book);
        let (path, written) = (self.path.clone(), book.clone());
        let writing = tokio::task::spawn_blocking(move || file::write(&path, &written));
        writing.await.map_err(|_| PauseError::Stopped)??;
        *self.book() = book;
        self.changed.notify_waiters();
        Ok(changed)
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
