//! The embedded queue: durable, in the host's own process, no server to install.
//!
//! It stands on SQLite, in its write-ahead-log mode. Why: it is the most trusted storage code there is, and the best
//! tested against crashes and full disks; anyone can look into a queue with a SQL shell; dead letters can be asked for
//! by any column; and with a group commit one thread stores more messages a second than handlers can run. The price:
//! half a minute of C to build, and C in the process. (Measured beside redb, fjall, heed and a bare log before the
//! choice: within 20 % of the fastest of the trusted ones at taking in, and in the middle at handing out.)
//!
//! One thread owns the connection that writes ([`writer`]). It takes what came in meanwhile, does all of it in one
//! transaction, and answers after the commit. Who listens to what, leases and known message ids are kept in memory; what
//! must survive is in the tables of [`schema`]. Listings are read beside it ([`reader`]).
//!
//! Invariants:
//! - A publish, a settlement or a dead-letter operation that gives `Ok` is on the disk ([`Durability::Fsync`]).
//! - An acknowledgement and its outputs, or a dead letter and the removal of its message, are one transaction: a
//!   handler's outputs to this queue are exactly once.
//! - A settlement by anyone but the present holder of the lease changes nothing.
//! - A message is there until every subscription that wants it has settled it. When the queue is full, publishes are
//!   refused; nothing is dropped to make room.
//! - Deliveries are counted in the store before they are handed out, so a message that kills its host is bounded too.
//! - After a failed write or fsync nothing is confirmed any more, until the queue is opened anew.
//! - What an operation costs depends neither on the backlog nor on how many subscriptions there are that it does not
//!   concern.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use async_trait::async_trait;

use crate::broker::bucket::{self, Bucket};
use crate::broker::subject::check_filter;
use crate::broker::{
    Access, Broker, BucketError, DeadLetterError, DeadLetters, ForgetError, KeptSubscription, Left, Level,
    PublishError, Published, Source, Status, SubscribeError, SubscriptionSpec, disk,
};
use crate::message::Publish;
use crate::telemetry::Timings;
use crate::telemetry::names::{self, Name};

mod bind;
mod buckets;
mod clock;
mod codec;
mod dead;
mod dead_letters;
mod error;
mod file;
mod filters;
mod inbox;
mod letters;
mod lock;
mod log;
mod marks;
mod options;
mod past;
mod prepare;
mod private;
mod publish;
mod reader;
mod recover;
mod retain;
mod row;
mod schema;
mod serve;
mod settle;
mod shared;
mod source;
mod space;
mod start;
mod state;
mod statements;
mod table;
mod tokens;
mod wake;
mod wanted;
mod window;
mod writer;

#[cfg(test)]
mod tests;

pub use dead_letters::Inspector;
pub use error::OpenError;
pub use options::{Durability, LARGEST_PAYLOAD, Options};
pub use shared::Stats;

use error::Failure;
use filters::Filters;
use inbox::{Answered, Bind, Forget, Inbox, Op, Request};
use prepare::Prepared;
use shared::{Gauge, Shared};

/// A publish of many messages goes to the writer in pieces of at most so many, so that others get a turn in between.
const PIECE_MESSAGES: usize = 256;
/// And of at most so many bytes, but for a single larger message.
const PIECE_BYTES: usize = 1 << 20;

/// References to a subscription's gauge that are the writer's; one more is the source's.
const WRITERS_OWN: usize = 1;

/// The embedded queue. Dropped, it finishes what it was given and lets its directory go.
pub struct EmbeddedQueue {
    inner: Arc<Inner>,
}

/// What the queue, its sources and its dead letters share.
struct Inner {
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    reader: reader::Reader,
    buckets: Arc<buckets::Buckets>,
    directory: PathBuf,
    max_payload: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The sources that were handed out, by their subscriptions: the gauge is theirs and the writer's.
    bound: Mutex<HashMap<String, Weak<Gauge>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Before the queue, with whose thread the directory goes.
        self.buckets.close();
        self.inbox.shut(Failure::Closed);
        if let Some(thread) = self.take_thread() {
            // Some milliseconds: one last group, and the log put into the file. A panic there was logged by then.
            let _panicked = thread.join();
        }
    }
}

impl Inner {
    /// Whether somebody has the source of a subscription.
    fn is_bound(&self, name: &str) -> bool {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.get(name).is_some_and(|gauge| gauge.strong_count() > WRITERS_OWN)
    }

    fn take_thread(&self) -> Option<JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl EmbeddedQueue {
    /// Opens the queue in a directory, makes it when there is none, and takes up what was left by the last process.
    ///
    /// # Errors
    /// When another process owns the directory, when it is of a newer version, or cannot be read or written.
    pub async fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let max_payload = options.max_payload;
        let directory = options.path.clone();
        let reader = reader::Reader::new(&options.path);
        let buckets = Arc::new(buckets::Buckets::new(&options));
        let (inbox, shared, thread) = start::start(options).await?;
        let (thread, bound) = (Mutex::new(Some(thread)), Mutex::default());
        let inner = Inner { inbox, shared, reader, buckets, directory, max_payload, thread, bound };
        Ok(Arc::new(Self { inner: Arc::new(inner) }))
    }

    /// Opens a queue only to look at its dead letters and subscriptions, whoever owns it.
    ///
    /// # Errors
    /// When there is no queue, it is of a newer version, or it cannot be read.
    pub async fn inspect(directory: &Path) -> Result<Inspector, OpenError> {
        Inspector::open(directory).await
    }

    /// What is in the queue, and what became of what came.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.shared.stats()
    }

    /// Lets SQLite look for damage in its file; what it finds, empty when all is well. Reads all of the file.
    ///
    /// # Errors
    /// When the store cannot be read at all.
    pub async fn check(&self) -> Result<Vec<String>, DeadLetterError> {
        self.inner.reader.check().await.map_err(DeadLetterError::Store)
    }
}

#[async_trait]
impl Broker for EmbeddedQueue {
    async fn subscribe(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Source>, SubscribeError> {
        let name = spec.name.clone();
        let refused = |detail: String| SubscribeError::Refused { subscription: name.clone(), detail };
        let away = |detail: String| SubscribeError::Away { subscription: name.clone(), detail };
        check_spec(spec).map_err(refused)?;
        let filters = Filters::new(spec.subjects.clone());
        let counted = self.inner.reader.count_ready(name.clone(), filters.clone()).await.map_err(away)?;
        let (request, answered) = Request::new(Bind { name: name.clone(), filters, counted });
        let pushed = self.inner.inbox.push(Op::Bind(request), 0).await;
        let bound = match pushed {
            Ok(()) => answered.await.unwrap_or(Err(Failure::Closed)),
            Err(failure) => Err(failure),
        };
        let bound = bound.map_err(|failure| away(failure.to_string()))?;
        let gauge = Arc::downgrade(&bound.gauge);
        self.inner.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), gauge);
        Ok(Arc::new(source::EmbeddedSource::new(Arc::clone(&self.inner), name, bound, spec.ack_wait)))
    }

    async fn check(&self, spec: &SubscriptionSpec) -> Result<(), SubscribeError> {
        let subscription = spec.name.clone();
        check_spec(spec).map_err(|detail| SubscribeError::Refused { subscription: subscription.clone(), detail })?;
        match self.inner.shared.status() {
            Status::Connected => Ok(()),
            Status::Away(detail) | Status::Failed(detail) => Err(SubscribeError::Away { subscription, detail }),
        }
    }

    // Dropped, each piece that was given to the writer is stored all the same or not at all.
    async fn publish(&self, messages: Vec<Publish>) -> Vec<Result<Published, PublishError>> {
        let mut answers: Vec<Option<Result<Published, PublishError>>> = Vec::with_capacity(messages.len());
        let mut sent = Vec::new();
        let mut piece = Piece::default();
        for message in messages {
            match prepare::prepare(message, self.inner.max_payload) {
                Ok(prepared) => {
                    if piece.is_full() {
                        sent.push(self.send(std::mem::take(&mut piece)).await);
                    }
                    piece.add(prepared);
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        if !piece.messages.is_empty() {
            sent.push(self.send(piece).await);
        }
        let mut stored = Vec::with_capacity(answers.len());
        for (count, answered) in sent {
            let closed = || (0..count).map(|_| Err(Failure::Closed.publish())).collect();
            stored.append(&mut answered.await.unwrap_or_else(|_gone| closed()));
        }
        let mut stored = stored.into_iter();
        let unknown = || Err(Failure::Closed.publish());
        answers.into_iter().map(|answer| answer.or_else(|| stored.next()).unwrap_or_else(unknown)).collect()
    }

    async fn kept(&self) -> Result<Vec<KeptSubscription>, String> {
        let mut kept = self.inner.reader.subscriptions().await?;
        kept.iter_mut().for_each(|one| one.in_use = self.inner.is_bound(&one.name));
        Ok(kept)
    }

    // Dropped, it is done all the same or not at all.
    async fn forget(&self, name: &str, left: Left) -> Result<(), ForgetError> {
        let (request, answered) = Request::new(Forget { name: name.to_owned(), left });
        let shut = |failure: Failure| ForgetError::Store(failure.to_string());
        self.inner.inbox.push(Op::Forget(request), 0).await.map_err(shut)?;
        answered.await.unwrap_or_else(|_gone| Err(shut(Failure::Closed)))
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(dead_letters::EmbeddedDeadLetters { inner: Arc::clone(&self.inner) })
    }

    fn bucket(&self, name: &str, access: Access) -> Result<Arc<dyn Bucket>, BucketError> {
        bucket::check_name(name).map_err(BucketError::Refused)?;
        Ok(Arc::new(self.inner.buckets.bucket(name, access)))
    }

    fn status(&self) -> Status {
        self.inner.shared.status()
    }

    async fn failed(&self) -> String {
        self.inner.shared.failed().await
    }

    fn tallies(&self) -> Vec<(Name, u64)> {
        let stats = self.inner.shared.stats();
        vec![
            (names::UNREADABLE, stats.unreadable),
            (names::DEDUPE_IDS_FORGOTTEN, stats.ids_forgotten_early),
            (names::PUBLISH_DUPLICATES, stats.duplicates),
            (names::PUBLISH_REFUSED, stats.refused),
            (names::EXPIRED, stats.expired),
            (names::COMMITS, stats.commits),
        ]
    }

    fn levels(&self) -> Vec<Level> {
        let stats = self.inner.shared.stats();
        let mut levels = vec![
            Level::new(names::QUEUE_MESSAGES, stats.messages),
            Level::new(names::QUEUE_BYTES, stats.bytes),
            Level::of(names::DEDUPE_RECORDS, "ids", stats.known_ids),
        ];
        // What cannot be read is not shown; `/ready` says why.
        levels.extend(disk::free(&self.inner.directory).ok().map(|free| Level::new(names::DISK_FREE, free)));
        levels
    }

    fn commits(&self) -> Option<Timings> {
        Some(self.inner.shared.commits.clone())
    }

    async fn close(&self) {
        let buckets = Arc::clone(&self.inner.buckets);
        if tokio::task::spawn_blocking(move || buckets.close()).await.is_err() {
            tracing::error!("the buckets of the queue were not closed as they should be");
        }
        self.inner.inbox.shut(Failure::Closed);
        if let Some(thread) = self.inner.take_thread() {
            // Dropped here, the thread ends by itself.
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !matches!(joined, Ok(true)) {
                tracing::error!("the queue's writer did not end as it should");
            }
        }
    }
}

/// The answer to come for a piece of a publish, and how many messages it has.
type Sent = (usize, Answered<Vec<Prepared>, Vec<Result<Published, PublishError>>>);

#[derive(Default)]
struct Piece {
    messages: Vec<Prepared>,
    bytes: usize,
}

impl Piece {
    fn add(&mut self, message: Prepared) {
        self.bytes += message.body.len() + message.headers.len() + message.subject.len();
        self.messages.push(message);
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= PIECE_MESSAGES || self.bytes >= PIECE_BYTES
    }
}

impl EmbeddedQueue {
    async fn send(&self, piece: Piece) -> Sent {
        let count = piece.messages.len();
        let (request, answered) = Request::new(piece.messages);
        // An inbox that is shut drops the request, which its receiver reads as closed.
        let _shut = self.inner.inbox.push(Op::Publish(request), piece.bytes).await;
        (count, answered)
    }
}

fn check_spec(spec: &SubscriptionSpec) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if spec.name.is_empty() || !spec.name.chars().all(is_name) {
        return Err("its name must be of letters, digits, `-` and `_`".to_owned());
    }
    if spec.subjects.is_empty() {
        return Err("it has no subjects; `>` is all of them".to_owned());
    }
    if spec.ack_wait.is_zero() {
        return Err("its ack_wait is zero".to_owned());
    }
    spec.subjects.iter().try_for_each(|filter| check_filter(filter).map_err(|error| error.to_string()))
}
