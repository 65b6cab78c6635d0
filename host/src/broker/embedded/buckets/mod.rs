//! The buckets of the embedded queue: in a file of their own beside the queue's, written by one thread.
//!
//! Why not in the queue's file, under its writer: what handlers do with buckets must not cost a message. So the writer of the
//! queue does not wait for them; a store of buckets that is damaged, or whose fsync failed, closes the buckets alone and the
//! queue goes on; what buckets take is not between messages, and is gone with one file. The price is an fsync of their own,
//! which many writers share. And a queue whose handlers use no bucket has no such file and no such thread.
//!
//! Invariants:
//! - A write that gives `Ok` is in a commit, and with [`Durability::Fsync`] on the disk.
//! - A bucket is refused more before a publish is: what is kept free of the disk for the queue is kept free by buckets twice.
//! - After a failed write or fsync nothing is confirmed any more until the queue is opened anew; reading goes on.
//! - No thread of the runtime waits for the disk, and no more than [`READERS`](reader::READERS) of the blocking pool's do.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot, watch};

use super::options::{Durability, Options};
use crate::broker::Access;
use crate::broker::bucket::{Bucket, BucketError, Held, KeyPage, check_key, check_value};

mod change;
mod reader;
mod room;
mod store;
mod writer;

pub(super) use store::FILES;

use change::{Change, Done};
use reader::Readers;
use writer::Write;

/// How long a store that could not be opened is not tried anew: a person mends it, and calls come by the thousand.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Writes that wait for the writer: as many as there may be instances of handlers, each of which waits for its own.
const WAITING: usize = 256;

/// All buckets of a queue. The file is opened when the first of them is used.
#[derive(Debug)]
pub(super) struct Buckets {
    settings: Settings,
    state: Mutex<State>,
    /// Who may wait for the writer.
    waiting: Arc<Semaphore>,
}

/// What the buckets take of the queue's options.
#[derive(Debug, Clone)]
struct Settings {
    directory: PathBuf,
    max_bytes: u64,
    reserve_bytes: u64,
    durability: Durability,
}

/// One thread at a time has the file: another one begins only when the one before has ended.
#[derive(Debug)]
enum State {
    Unused,
    Running {
        /// The only one: the thread ends when it is dropped, whoever waits for what meanwhile. What is in it is bounded, for
        /// each write has a place among [`WAITING`].
        inbox: mpsc::Sender<Write>,
        thread: JoinHandle<()>,
        shared: Shared,
    },
    Closed,
}

/// What whoever uses a bucket has of the thread.
#[derive(Debug, Clone)]
struct Shared {
    /// Whether the file is open, once that is known, or why it cannot be.
    opened: watch::Receiver<Option<Result<(), NotOpened>>>,
    readers: Arc<Readers>,
}

/// Why the file could not be opened, and when that was.
#[derive(Debug, Clone)]
struct NotOpened {
    why: String,
    at: Instant,
}

impl Buckets {
    pub(super) fn new(options: &Options) -> Self {
        let settings = Settings {
            directory: options.path.clone(),
            max_bytes: options.max_bucket_bytes,
            reserve_bytes: options.reserve_bytes,
            durability: options.durability,
        };
        Self { settings, state: Mutex::new(State::Unused), waiting: Arc::new(Semaphore::new(WAITING)) }
    }

    /// One of them. Nothing is opened for that.
    pub(super) fn bucket(self: &Arc<Self>, name: &str, access: Access) -> EmbeddedBucket {
        EmbeddedBucket { all: Arc::clone(self), name: name.into(), access }
    }

    /// Finishes what was given, and lets the file go. For a thread that may wait.
    pub(super) fn close(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Closed);
        if let State::Running { inbox, thread, shared } = before {
            shared.readers.close();
            drop(inbox);
            if thread.join().is_err() {
                tracing::error!("the thread that writes buckets did not end as it should");
            }
        }
    }

    fn is_closed(&self) -> bool {
        matches!(*self.state(), State::Closed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is replaced whole, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread that has the file open. Dropping the future leaves it to open the file for whoever is next.
    async fn opened(&self) -> Result<Shared, BucketError> {
        let mut shared = self.running()?;
        let opened = shared.opened.wait_for(Option::is_some).await.map(|opened| opened.clone());
        match opened {
            Ok(Some(Err(not_opened))) => Err(failed(&not_opened.why)),
            Ok(Some(Ok(())) | None) => Ok(shared),
            Err(_gone) => Err(failed("its thread ended before it began")),
        }
    }

    /// The thread that has the file, or is to have it: begun when there is none, or when the one before could not open it a while
    /// ago.
    fn running(&self) -> Result<Shared, BucketError> {
        let mut state = self.state();
        match &*state {
            State::Closed => return Err(closed()),
            State::Running { shared, .. } if !shared.is_to_be_tried_again() => return Ok(shared.clone()),
            State::Running { .. } | State::Unused => {}
        }
        if let State::Running { thread, .. } = std::mem::replace(&mut *state, State::Unused) {
            // It has said why it ends, and ends at once.
            let _told = thread.join();
        }
        let (inbox, waiting) = mpsc::channel();
        let (told, opened) = watch::channel(None);
        let (settings, builder) = (self.settings.clone(), std::thread::Builder::new());
        let thread = builder.name("embedded-buckets".to_owned()).spawn(move || writer::run(&settings, waiting, &told));
        let thread = thread.map_err(|error| failed(&error.to_string()))?;
        let shared = Shared { opened, readers: Arc::new(Readers::new(&self.settings.directory)) };
        *state = State::Running { inbox, thread, shared: shared.clone() };
        Ok(shared)
    }

    /// The same for whoever looks; `None`: there is no file, and so nothing in any bucket. Looking makes none.
    async fn looked_at(&self) -> Result<Option<Shared>, BucketError> {
        if matches!(*self.state(), State::Unused) && !self.settings.directory.join(store::STORE_FILE).exists() {
            return Ok(None);
        }
        self.opened().await.map(Some)
    }

    /// Gives the thread something to write.
    fn give(&self, write: Write) -> Result<(), BucketError> {
        match &*self.state() {
            State::Running { inbox, .. } => inbox.send(write).map_err(|_gone| closed()),
            State::Unused | State::Closed => Err(closed()),
        }
    }
}

impl Shared {
    fn is_to_be_tried_again(&self) -> bool {
        matches!(&*self.opened.borrow(), Some(Err(not_opened)) if not_opened.at.elapsed() >= TRIED_AGAIN_AFTER)
    }
}

fn failed(why: &str) -> BucketError {
    BucketError::Unavailable(format!("the store of buckets cannot be opened: {why}"))
}

fn closed() -> BucketError {
    BucketError::Unavailable("the queue is closed".to_owned())
}

/// One bucket. It is there from its first key to its last.
#[derive(Debug)]
pub(super) struct EmbeddedBucket {
    all: Arc<Buckets>,
    name: Arc<str>,
    access: Access,
}

impl EmbeddedBucket {
    /// Dropped, it is done all the same or not at all.
    async fn write(&self, key: &str, change: Change) -> Result<Done, BucketError> {
        check_key(key)?;
        if self.access == Access::Read {
            return Err(BucketError::Refused(format!("`{}` is granted for reading alone", self.name)));
        }
        self.all.opened().await?;
        let place = Arc::clone(&self.all.waiting).acquire_owned().await.map_err(|_closed| closed())?;
        let (reply, answered) = oneshot::channel();
        self.all.give(Write { bucket: Arc::clone(&self.name), key: key.to_owned(), change, reply, _place: place })?;
        answered.await.unwrap_or_else(|_gone| Err(closed()))
    }
}

#[async_trait]
impl Bucket for EmbeddedBucket {
    async fn ready(&self) -> Result<(), BucketError> {
        self.all.opened().await.map(|_shared| ())
    }

    async fn check(&self) -> Result<(), BucketError> {
        if self.all.is_closed() { Err(closed()) } else { Ok(()) }
    }

    async fn find(&self, key: &str) -> Result<Held, BucketError> {
        check_key(key)?;
        let Some(shared) = self.all.looked_at().await? else { return Ok(Held::default()) };
        let (name, key) = (Arc::clone(&self.name), key.to_owned());
        shared.readers.run(move |connection| store::find(connection, &name, &key)).await
    }

    async fn exists(&self, key: &str) -> Result<bool, BucketError> {
        check_key(key)?;
        let Some(shared) = self.all.looked_at().await? else { return Ok(false) };
        let (name, key) = (Arc::clone(&self.name), key.to_owned());
        shared.readers.run(move |connection| store::exists(connection, &name, &key)).await
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), BucketError> {
        check_value(&value)?;
        self.write(key, Change::Set(value)).await.map(|_done| ())
    }

    async fn delete(&self, key: &str) -> Result<(), BucketError> {
        self.write(key, Change::Delete).await.map(|_done| ())
    }

    async fn increment(&self, key: &str, by: i64) -> Result<i64, BucketError> {
        self.write(key, Change::Increment(by)).await.map(|done| done.sum)
    }

    async fn swap(&self, key: &str, revision: u64, value: Bytes) -> Result<bool, BucketError> {
        check_value(&value)?;
        self.write(key, Change::Swap { revision, value }).await.map(|done| done.swapped)
    }

    async fn keys(&self, after: Option<&str>, limit: NonZeroU32) -> Result<KeyPage, BucketError> {
        let Some(shared) = self.all.looked_at().await? else { return Ok(KeyPage::default()) };
        // No key is empty, so all of them are behind it.
        let (name, after) = (Arc::clone(&self.name), after.unwrap_or_default().to_owned());
        shared.readers.run(move |connection| store::keys(connection, &name, &after, limit)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_could_not_be_opened_is_left_alone_for_a_while() {
        let failed = |ago: Duration| NotOpened {
            why: "no".to_owned(),
            at: Instant::now().checked_sub(ago).unwrap_or_else(Instant::now),
        };
        let shared = |opened| Shared {
            opened: watch::channel(opened).1,
            readers: Arc::new(Readers::new(std::path::Path::new("."))),
        };
        for (opened, expected) in [
            (None, false),
            (Some(Ok(())), false),
            (Some(Err(failed(Duration::ZERO))), false),
            (Some(Err(failed(TRIED_AGAIN_AFTER))), true),
        ] {
            assert_eq!(shared(opened.clone()).is_to_be_tried_again(), expected, "{opened:?}");
        }
    }
}
