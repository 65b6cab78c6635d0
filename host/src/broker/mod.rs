//! Where messages come from and go to: the ports that every broker implements, and one folder a broker.
//!
//! A broker hands out [`Delivery`] values under a lease and takes [`Settlement`] values back. It decides nothing: how
//! often a message is run, when, and when it is given up on is decided in [`crate::settle`].
//!
//! Invariants:
//! - A settlement that gives `Ok` is confirmed by the broker; anything unknown is an error and leaves the message there.
//! - A dead letter is stored and confirmed before its original is given up (embedded: the same transaction).
//! - `receive` never hands out more than was asked for, in messages or (but for a single one) in bytes.
//! - A lease ends earlier on our clock than on the broker's: `ends_at` is what the host goes by.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::message::{Message, Publish};
use crate::settle::dead_letter::DeadLetter;
use crate::settle::progress::Progress;
use crate::telemetry::Timings;
use crate::telemetry::names::Name;

pub mod bucket;
mod dead_letters;
mod directory;
mod disk;
pub mod done;
pub mod embedded;
mod error;
pub mod jetstream;
mod kept;
pub mod lease;
mod named_bucket;
mod past;
mod running;
pub mod subject;
mod tally;
mod timeline;

pub use bucket::{Access, Bucket, BucketError, EmptyBucket, Held, KeyPage};
pub use dead_letters::{DeadLetterFilter, DeadLetterPage, DeadLetterQuery, DeadLetters, MAX_REDRIVES, SendBack};
pub use directory::{Directory, NamedBroker};
pub use error::{DeadLetterError, ForgetError, PublishError, ReceiveError, SettleError, SubscribeError};
pub use kept::{KeptSubscription, Left};
pub use past::{PastError, PastPage, PastQuery};
pub use running::Running;
pub use tally::{By, Counted, Group, Tally, Traits};
pub use timeline::OverTime;

/// One messaging system, as the configuration names it.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Binds a subscription to its source: creates or checks what it needs on the broker.
    ///
    /// # Errors
    /// When the broker is away, or when what stands there has settings that would lose messages; the text says which
    /// and what to do.
    async fn subscribe(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Source>, SubscribeError>;

    /// Whether [`Broker::subscribe`] would bind a subscription now, as far as can be learnt without making or changing
    /// anything.
    ///
    /// # Errors
    /// As [`Broker::subscribe`].
    async fn check(&self, spec: &SubscriptionSpec) -> Result<(), SubscribeError>;

    /// Makes sure that what the handler of a subscription sends to these subjects (a last `>` names any below it) has a place
    /// where it is stored. With `create` a place that is missing is made.
    ///
    /// # Errors
    /// When there is no place and it was not to be made, or could not be; the text says what to do.
    async fn take_outputs(
        &self,
        _subscription: &str,
        _subjects: &[String],
        _create: bool,
    ) -> Result<(), SubscribeError> {
        Ok(())
    }

    /// Publishes messages and waits until each is stored. One result a message, in order.
    async fn publish(&self, messages: Vec<Publish>) -> Vec<Result<Published, PublishError>>;

    /// The subscriptions that hold messages of this broker until they have settled them, whether or not somebody receives
    /// them; empty for a broker on which one that is not used any more holds nothing up.
    ///
    /// # Errors
    /// When the store cannot be read, with why.
    async fn kept(&self) -> Result<Vec<KeptSubscription>, String> {
        Ok(Vec::new())
    }

    /// Removes a subscription that is not used any more, so that it holds no messages.
    ///
    /// # Errors
    /// When there is none of this name, it is in use, or it could not be removed.
    async fn forget(&self, name: &str, _left: Left) -> Result<(), ForgetError> {
        Err(ForgetError::Unknown(name.to_owned()))
    }

    /// The dead letters that this broker keeps.
    fn dead_letters(&self) -> Arc<dyn DeadLetters>;

    /// A bucket of this broker, for handlers. Nothing is made or asked for that, and a broker that is away is no error.
    ///
    /// # Errors
    /// When no bucket can have this name, or the broker has none.
    fn bucket(&self, _name: &str, _access: Access) -> Result<Arc<dyn Bucket>, BucketError> {
        Err(BucketError::Refused("this broker has no buckets".to_owned()))
    }

    /// Whether the broker can be reached now, for `/ready` and metrics.
    fn status(&self) -> Status;

    /// Waits until it fails in a way that only a new start of the host can mend, and says how. Never ends for one that
    /// reconnects by itself.
    async fn failed(&self) -> String {
        std::future::pending().await
    }

    /// How often the connection was lost and made again. Zero where there is no connection.
    fn reconnects(&self) -> u64 {
        0
    }

    /// What it counted by itself since it was opened, by the names of [`names::TALLIES`](crate::telemetry::names).
    fn tallies(&self) -> Vec<(Name, u64)> {
        Vec::new()
    }

    /// What a person should know of it, though it works: settings by which messages may be lost or handled twice.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What stands at it now, by the names of [`names::LEVELS`](crate::telemetry::names). Asked for every two seconds.
    fn levels(&self) -> Vec<Level> {
        Vec::new()
    }

    /// How often its server told of what became of the consumers of this host, by the kind of what it told.
    fn advisories(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// How long its commits took; `None` for a broker that has none here.
    fn commits(&self) -> Option<Timings> {
        None
    }

    /// Where hosts share what they run, in buckets whose names begin with `prefix`; `None` for a broker that hosts do not
    /// share.
    fn buckets(&self, _prefix: &str, _replicas: usize) -> Option<jetstream::Buckets> {
        None
    }

    /// Flushes and closes. Nothing is received or settled afterwards.
    async fn close(&self);
}

/// A subscription's end of a broker: receive, extend, settle.
#[async_trait]
pub trait Source: Send + Sync {
    /// Waits for messages and hands out at most as many as asked for. An empty answer means that none came within the
    /// broker's own waiting time; call again.
    ///
    /// Dropping the future loses nothing: what was under way comes back when its lease ends.
    ///
    /// # Errors
    /// When the broker is away or refuses. The caller waits and calls again; the implementation reconnects by itself.
    async fn receive(&self, demand: Demand) -> Result<Vec<Delivery>, ReceiveError>;

    /// Hands out what the broker sends though nobody asks any more: on what an earlier [`Source::receive`] asked for and did
    /// not wait for. Asks for nothing itself, and waits for ever when nothing is owed. For a caller who is to run nothing and
    /// gives it all back; dropping the future loses nothing.
    async fn leftover(&self) -> Vec<Delivery> {
        std::future::pending().await
    }

    /// For how long the broker may still send what was asked for; zero when nothing is owed. What is given back with a
    /// shorter delay may come straight back here.
    fn still_owed(&self) -> Duration {
        Duration::ZERO
    }

    /// Carries settlements out, as one group where the broker can. One result a settlement, in order; `Ok` means
    /// confirmed, or that the broker has lost the message and there is nothing left to confirm.
    async fn settle(&self, group: Vec<Settle>) -> Vec<Result<(), SettleError>>;

    /// How many outputs of what was settled here were stored already, since it was asked last.
    fn take_duplicates(&self) -> u64 {
        0
    }

    /// Extends leases. For each the new end on our clock, counted from before the request was sent; `None` when the
    /// broker did not confirm it (the old end then still holds).
    async fn extend(&self, receipts: &[Receipt]) -> Vec<Option<Instant>>;

    /// How much waits, for metrics.
    ///
    /// # Errors
    /// When the broker is away.
    async fn backlog(&self) -> Result<Backlog, ReceiveError>;

    /// A page of the messages that its stream still has, settled or not. Looking changes nothing.
    ///
    /// # Errors
    /// When the broker is away, or has no way to do it.
    async fn past(&self, _query: &PastQuery) -> Result<PastPage, PastError> {
        Err(PastError::Unsupported)
    }

    /// How long a lease lasts on this source when it is not extended.
    fn lease_duration(&self) -> Duration;
}

/// What a subscription asks of its broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionSpec {
    /// The subscription's name: letters, digits, `-` and `_`. On JetStream the durable's name, shared by all hosts.
    pub name: String,
    /// The stream (JetStream); the embedded queue has one.
    pub stream: Option<String>,
    /// The subjects to receive, with `*` and `>`.
    pub subjects: Vec<String>,
    /// The broker's lease: how long a delivery is ours without being extended.
    pub ack_wait: Duration,
    /// How many messages this host may hold at once; the broker's own limit is set above it.
    pub max_in_flight: usize,
    /// Whether streams and consumers that are missing are created.
    pub create: bool,
}

/// How much the caller can take now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Messages, at least 1.
    pub messages: usize,
    /// Bytes over all of them. A single message that is larger still comes, alone.
    pub bytes: usize,
}

/// One hand-over of a message, under a lease.
#[derive(Debug, Clone)]
#[must_use = "a delivery that is dropped comes back only when its lease ends"]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// What is known of earlier deliveries of it.
    pub progress: Progress,
    /// How to settle it.
    pub receipt: Receipt,
    /// When the lease ends on our clock, margin taken off.
    pub lease_ends_at: Instant,
    /// What is known of it already.
    pub standing: Standing,
}

/// What is known of a delivery before anything is decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is to be run.
    Due,
    /// This host's record says that the message was settled before (a broker that crashed gave it back): it is
    /// acknowledged without a run.
    Done,
    /// It was sent back from the dead-letter queue for another subscription: it is acknowledged without a run. Only
    /// brokers that cannot send a message to one subscription alone say so.
    ForAnother,
    /// What the broker holds cannot be read as a message: it is given up without a run. Says what is wrong with it.
    Unreadable(String),
    /// The broker handed it out as often as somebody told it to, and does so no more: it is given up without a run.
    Exhausted,
}

/// The broker's handle on a delivery: opaque to everyone else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The message's position in the stream.
    pub sequence: u64,
    /// The embedded queue's fencing token, or JetStream's reply subject.
    pub token: Bytes,
}

/// What the host does to the broker about a message. The last of the three words: failure, outcome, settlement.
#[derive(Debug, Clone)]
#[must_use]
pub enum Settlement {
    /// Done. The outputs are those that go to this same broker; the embedded queue commits them in the transaction of
    /// the acknowledgement, others publish them, confirmed, before it.
    Ack {
        /// Messages to publish on this broker.
        outputs: Vec<Publish>,
    },
    /// Come back after a delay. Whether this delivery counted as an attempt stands in `progress`.
    Return {
        /// From now.
        delay: Duration,
        /// What to remember with the message: counts, history.
        progress: Box<Progress>,
    },
    /// Given up on: stored in the dead-letter queue, then removed from the source.
    DeadLetter(Box<DeadLetter>),
}

/// A settlement for one delivery.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Which delivery.
    pub receipt: Receipt,
    /// What to do.
    pub settlement: Settlement,
    /// When our lease on it ends: a broker must not send anything for it after that.
    pub lease_ends_at: Instant,
}

/// The answer to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The position in the stream; that of the earlier message when this one was a duplicate.
    pub sequence: u64,
    /// True when a message of this id was there already; nothing was added.
    pub duplicate: bool,
}

/// How much waits for a subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that were never handed out.
    pub ready: u64,
    /// Messages that were handed out and are not settled, those that wait for a retry among them.
    pub pending: u64,
    /// When the oldest message that is not settled was published.
    pub oldest: Option<SystemTime>,
    /// How many may be pending at the most, over all hosts; `None`: the broker has no such limit.
    pub limit: Option<u64>,
    /// The messages that wait for another attempt; `None` where other hosts may hold some of what is pending.
    pub retries: Option<Retries>,
}

/// Messages that wait for another attempt: those that are pending and are held by nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retries {
    /// When the next of them is due; `None`: none waits.
    pub next_due: Option<SystemTime>,
}

/// What stands at a broker, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Which: one of [`names::LEVELS`](crate::telemetry::names).
    pub name: Name,
    /// Of which kind, where several go by one name.
    pub kind: Option<&'static str>,
    /// How much.
    pub value: u64,
}

impl Level {
    /// So much, of no kind.
    #[must_use]
    pub const fn new(name: Name, value: u64) -> Self {
        Self { name, kind: None, value }
    }

    /// So many of a kind.
    #[must_use]
    pub const fn of(name: Name, kind: &'static str, value: u64) -> Self {
        Self { name, kind: Some(kind), value }
    }
}

/// Whether a broker can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// All is well.
    Connected,
    /// Not now; what happened, for a person.
    Away(String),
    /// Not any more, until the host is started again; what happened, for a person.
    Failed(String),
}
