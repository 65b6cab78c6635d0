//! NATS JetStream behind the ports of [`crate::broker`].
//!
//! ```text
//! link: keeps one session ── session: one connection, never re-established
//! setup + check: stream and durable consumer ── source: pull (pull, pump), hand out, extend
//! key_values: buckets of handlers; buckets: what the hosts of a cluster share
//! settle: outputs and dead letters stored (publish, dead) -> record of what is done -> acks: confirmed in groups
//! ```
//!
//! Invariants:
//! - The server is asked for no more than the caller can take; what comes is under a lease that ends earlier here than
//!   there.
//! - The server keeps no retry policy: it hands out for ever, and the host decides.
//! - No trouble of the broker ends the process. Connections come back by themselves, and [`Broker::status`] tells.
//! - What a confirmed acknowledgement settled may still come back after a crash of the server; the record knows it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use crate::broker::bucket::{self, Bucket};
use crate::broker::done::DoneRecord;
use crate::broker::{
    Access, Broker, DeadLetters, Level, PublishError, Published, Source, Status, SubscribeError, SubscriptionSpec,
};
use crate::message::Publish;
use crate::telemetry::names::{self, Name};

mod acks;
mod advisories;
mod arrival;
mod auth;
mod backlog;
mod buckets;
mod check;
mod counters;
mod dead;
mod events;
mod exhausted;
mod extend;
mod guard;
mod hand_out;
mod headers;
mod held;
mod key_values;
mod leftover;
mod link;
mod losses;
mod notes;
mod options;
mod past;
mod permits;
mod publish;
mod pull;
mod pump;
mod raw;
mod reader;
mod reply;
mod risks;
mod session;
mod settle;
mod setup;
mod source;
mod stored;
mod survived;
mod unreadable;
mod upsets;
mod warnings;
mod wire;

pub use buckets::{BucketError, Buckets, Changed, HOST_REMEMBERED, Held, Keys, ModuleReader, SwapError, Watch};
pub use counters::Counts;
pub use link::ConnectError;
pub use options::{
    Auth, BucketOptions, CatalogOptions, Confirm, DeadLetterOptions, OLDEST_SERVER, Options, StreamDefaults,
    StreamSettings, Tls, lease_margin,
};

use counters::Counters;
use dead::DeadLetterStore;
use exhausted::Exhausted;
use key_values::KeyValues;
use link::Link;
use losses::Losses;
use notes::Notes;
use publish::Publisher;
use source::JetStreamSource;
use warnings::Warnings;

/// How long `subscribe` waits for a connection before it says that the broker is away.
const WAIT_FOR_SESSION: Duration = Duration::from_secs(1);

/// A NATS server or cluster with JetStream.
#[derive(Debug)]
pub struct JetStream {
    options: Arc<Options>,
    link: Arc<Link>,
    record: Arc<DoneRecord>,
    publisher: Arc<Publisher>,
    dead: Arc<DeadLetterStore>,
    losses: Arc<Losses>,
    notes: Arc<Notes>,
    counters: Arc<Counters>,
    exhausted: Arc<Exhausted>,
    warnings: Warnings,
}

impl JetStream {
    /// Connects. A broker that is away is no error: connecting goes on in the background, and [`Broker::status`] tells.
    /// The record is closed with the broker.
    ///
    /// # Errors
    /// When a person has to act: an address, a certificate, a refused login, a server that is too old.
    pub async fn connect(options: Options, record: Arc<DoneRecord>) -> Result<Arc<Self>, ConnectError> {
        let options = Arc::new(options);
        let link = Arc::new(Link::connect(Arc::clone(&options)).await?);
        let losses = Arc::new(Losses::new(Arc::clone(&record)));
        let publisher = Publisher::new(Arc::clone(&link), Arc::clone(&losses), options.max_publishes);
        let publisher = Arc::new(publisher);
        let dead = DeadLetterStore::new(Arc::clone(&link), Arc::clone(&publisher), options.dead_letters.clone());
        let notes = Notes::new(Arc::clone(&link), options.dead_letters.replicas);
        Ok(Arc::new(Self {
            options,
            link,
            record,
            publisher,
            dead: Arc::new(dead),
            losses,
            notes: Arc::new(notes),
            counters: Arc::default(),
            exhausted: Arc::default(),
            warnings: Warnings::default(),
        }))
    }

    fn warn(&self, place: &str, risks: Vec<String>) {
        self.warnings.found(&self.options.name, place, risks);
    }

    /// What was counted since the first connection.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            reconnects: self.link.reconnects(),
            already_done: read(&self.counters.already_done),
            held_back: read(&self.counters.held_back),
            stale: read(&self.counters.stale),
            silent_pulls: read(&self.counters.silent_pulls),
            unreadable: read(&self.counters.unreadable),
            slow_consumer: read(&self.link.events().slow_consumer),
            server_errors: read(&self.link.events().server_errors),
        }
    }
}

#[async_trait]
impl Broker for JetStream {
    async fn subscribe(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Source>, SubscribeError> {
        let away = |detail| SubscribeError::Away { subscription: spec.name.clone(), detail };
        let session = self.link.wait(WAIT_FOR_SESSION).await.map_err(away)?;
        // First the place for dead letters: without it nothing could be given up.
        let letters = match self.dead.prepare(&session).await {
            Ok(Ok(letters)) => letters,
            Ok(Err(detail)) => return Err(setup::refused(spec, detail)),
            Err(error) => return Err(setup::failed(spec, &error)),
        };
        self.warn("dead letters", letters.risks);
        self.warn("notes", self.notes.prepare(&session).await);
        let mut bound = setup::bind(&session, &self.options, spec).await?;
        let mut risks = std::mem::take(&mut bound.risks);
        risks.extend(risks::of_copies(
            &self.options.dead_letters.stream,
            letters.replicas,
            &bound.stream,
            bound.replicas,
        ));
        self.warn(&format!("subscription {}", spec.name), risks);
        self.warnings.say_of_power(&self.options.name, || risks::of_power(&bound.stream, bound.replicas));
        Ok(Arc::new(JetStreamSource::new(spec.clone(), bound, self)))
    }

    async fn check(&self, spec: &SubscriptionSpec) -> Result<(), SubscribeError> {
        let away = |detail| SubscribeError::Away { subscription: spec.name.clone(), detail };
        let session = self.link.wait(WAIT_FOR_SESSION).await.map_err(away)?;
        setup::check(&session, spec).await
    }

    async fn take_outputs(&self, subscription: &str, subjects: &[String], create: bool) -> Result<(), SubscribeError> {
        let away = |detail| SubscribeError::Away { subscription: subscription.to_owned(), detail };
        let session = self.link.wait(WAIT_FOR_SESSION).await.map_err(away)?;
        let risks = setup::take_outputs(&session, &self.options, subscription, subjects, create).await?;
        self.warn(&format!("outputs of {subscription}"), risks);
        Ok(())
    }

    async fn publish(&self, messages: Vec<Publish>) -> Vec<Result<Published, PublishError>> {
        self.publisher.publish_all(messages).await
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::clone(&self.dead) as Arc<dyn DeadLetters>
    }

    fn bucket(&self, name: &str, access: Access) -> Result<Arc<dyn Bucket>, bucket::BucketError> {
        bucket::check_name(name).map_err(bucket::BucketError::Refused)?;
        Ok(Arc::new(KeyValues::new(Arc::clone(&self.link), &self.options.buckets, name, access)))
    }

    fn status(&self) -> Status {
        self.link.status()
    }

    fn reconnects(&self) -> u64 {
        self.link.reconnects()
    }

    fn tallies(&self) -> Vec<(Name, u64)> {
        let (counts, record) = (self.counts(), self.record.counters());
        // `already_done` is not among them: each subscription counts those, as hits of the record.
        vec![
            (names::HELD_BACK, counts.held_back),
            (names::STALE, counts.stale),
            (names::UNREADABLE, counts.unreadable),
            (names::SILENT_PULLS, counts.silent_pulls),
            (names::SLOW_CONSUMER, counts.slow_consumer),
            (names::SERVER_ERRORS, counts.server_errors),
            (names::DEDUPE_BLOCKS_EVICTED, record.evicted_blocks),
            (names::DEDUPE_NOTES_EVICTED, record.evicted_notes),
            (names::DEDUPE_WRITE_FAILURES, record.failed_writes),
        ]
    }

    fn levels(&self) -> Vec<Level> {
        let record = self.record.counters();
        let mut levels = vec![
            Level::of(names::DEDUPE_RECORDS, "blocks", record.blocks),
            Level::of(names::DEDUPE_RECORDS, "notes", record.notes),
        ];
        levels.extend(self.record.disk_free().map(|free| Level::new(names::DISK_FREE, free)));
        levels
    }

    fn warnings(&self) -> Vec<String> {
        let mut all = self.warnings.all();
        all.extend(self.losses.warnings());
        all
    }

    fn advisories(&self) -> Vec<(&'static str, u64)> {
        self.counters.told.counts()
    }

    fn buckets(&self, prefix: &str, replicas: usize) -> Option<Buckets> {
        Some(Buckets::new(Arc::clone(&self.link), prefix, replicas))
    }

    async fn close(&self) {
        self.link.close().await;
        self.dead.close().await;
        self.record.close().await;
    }
}
