//! Buckets of handlers as key-value buckets of NATS: those of `nats kv`, which other programs read and write too.
//!
//! One that is missing is made, with bounds, where a handler may write to it. One that stands there is used when it cannot
//! lose a value and cannot fill the server's disk; else it is refused, with what to change.
//!
//! Invariants:
//! - What is read is read from the leader of the stream: never older than what was confirmed.
//! - What stands under a key is replaced by `swap` and `increment` only by whoever knows what stands there.
//! - Nothing waits without an end: each step has the time of a request, or ends with the connection.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::headers;
use super::link::Link;
use super::options::BucketOptions;
use super::publish::from_refusal;
use super::raw;
use super::reader::{Reader, Reads, Start};
use super::session::{RequestError, Session, Unanswered};
use super::setup::stream_info;
use super::wire::{ApiAnswer, ApiError, PubAck, Refusal, StreamInfo, code};
use crate::broker::bucket::{Bucket, BucketError, Held, KeyPage, check_key, check_value, sum};
use crate::broker::{Access, PublishError};

mod key;
mod page;
mod settings;

use page::Page;

/// Waiting for a connection that was just lost: as long as a server takes to hand over.
const WAIT_FOR_SESSION: Duration = Duration::from_secs(1);
/// How often an increment is tried when others are first. With the waits between, some seconds: longer than any crowd of
/// hosts keeps one out by chance.
const INCREMENT_ROUNDS: u32 = 64;
/// The longest wait between two rounds, in milliseconds. They are spread from nothing to that.
const LONGEST_WAIT_MS: u64 = 64;
/// Increments of one host under the same key take turns: only those of other hosts are then in each other's way. Keys that
/// share a turn by chance wait for one another, which does no harm.
const TURNS: usize = 16;

/// The sequence that what stands under the subject must have for a message to be stored.
const EXPECTED_REVISION: &str = "Nats-Expected-Last-Subject-Sequence";

/// One bucket.
#[derive(Debug)]
pub(super) struct KeyValues {
    link: Arc<Link>,
    options: BucketOptions,
    name: String,
    stream: String,
    prefix: String,
    access: Access,
    /// The session over which it was looked at last; 0: none.
    ready_over: AtomicU64,
    making: tokio::sync::Mutex<()>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    hashes: RandomState,
}

/// Why a value was not stored.
enum PutError {
    /// Something else stands there.
    Conflict,
    Other(BucketError),
}

impl From<BucketError> for PutError {
    fn from(error: BucketError) -> Self {
        Self::Other(error)
    }
}

impl PutError {
    /// Where nothing was expected, nothing is in conflict with it.
    fn into_error(self) -> BucketError {
        match self {
            Self::Conflict => BucketError::Contended,
            Self::Other(error) => error,
        }
    }
}

impl KeyValues {
    pub(super) fn new(link: Arc<Link>, options: &BucketOptions, name: &str, access: Access) -> Self {
        Self {
            link,
            options: *options,
            name: name.to_owned(),
            stream: settings::stream(name),
            prefix: settings::prefix(name),
            access,
            ready_over: AtomicU64::new(0),
            making: tokio::sync::Mutex::default(),
            turns: Default::default(),
            hashes: RandomState::new(),
        }
    }

    async fn connected(&self) -> Result<Arc<Session>, BucketError> {
        self.link.wait(WAIT_FOR_SESSION).await.map_err(BucketError::Unavailable)
    }

    /// A connection over which the bucket was looked at; `None`: there is no such bucket yet, and so nothing in it. Looking makes
    /// none.
    async fn looked_at(&self) -> Result<Option<Arc<Session>>, BucketError> {
        let session = self.connected().await?;
        if self.ready_over.load(Ordering::Acquire) != session.number {
            let found = stream_info(&session, &self.stream).await.map_err(|error| failed(&error))?;
            if self.is_to_be_made(found.as_ref())? {
                return Ok(None);
            }
            self.ready_over.store(session.number, Ordering::Release);
        }
        Ok(Some(session))
    }

    /// A connection over which the bucket is there: made where it may be.
    async fn session(&self) -> Result<Arc<Session>, BucketError> {
        // Looking is rare, and large as a future.
        if let Some(session) = Box::pin(self.looked_at()).await? {
            return Ok(session);
        }
        // One of many who want it at once makes it, and the others find it there: a cluster that is asked to make the same stream many
        // times over answers them, and drops some of what is sent to it meanwhile.
        let session = self.connected().await?;
        let turn = tokio::time::timeout(session.request_timeout(), self.making.lock()).await;
        let _turn = turn.map_err(|_| BucketError::Unavailable("the bucket is not made yet".to_owned()))?;
        if let Some(session) = Box::pin(self.looked_at()).await? {
            return Ok(session);
        }
        let session = self.connected().await?;
        Box::pin(self.make(&session)).await?;
        self.ready_over.store(session.number, Ordering::Release);
        Ok(session)
    }

    /// The same for whoever changes something.
    async fn writable(&self) -> Result<Arc<Session>, BucketError> {
        if self.access == Access::Read {
            return Err(BucketError::Refused(format!("`{}` is granted for reading alone", self.name)));
        }
        self.session().await
    }

    async fn make(&self, session: &Session) -> Result<(), BucketError> {
        let question = settings::made(&self.name, &self.options);
        match session.api::<Value>(&format!("STREAM.CREATE.{}", self.stream), &question).await {
            Ok(_made) => {
                tracing::info!(bucket = self.name, "the bucket is created");
                Ok(())
            }
            // Somebody made it at this moment, in another way.
            Err(error) if error.is(code::STREAM_NAME_IN_USE) => {
                let found = stream_info(session, &self.stream).await.map_err(|error| failed(&error))?;
                self.is_to_be_made(found.as_ref()).map(|_missing| ())
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Whether it is missing and may be made; an error when what stands there cannot be used.
    fn is_to_be_made(&self, found: Option<&StreamInfo>) -> Result<bool, BucketError> {
        let Some(found) = found else {
            return match self.access {
                Access::ReadWrite => Ok(true),
                Access::Read => Err(BucketError::Refused(format!(
                    "there is no bucket `{}`, and one that is granted for reading alone is not made; make it with `nats kv add {}`",
                    self.name, self.name
                ))),
            };
        };
        match settings::problems(&self.name, self.access, &found.config).first() {
            None => Ok(false),
            Some(problem) => Err(BucketError::Refused(format!("bucket `{}`: {problem}", self.name))),
        }
    }

    /// What came of a use of the bucket: when it failed, the bucket may be gone, and the next use looks.
    fn noted<T, E>(&self, done: Result<T, E>) -> Result<T, E> {
        if done.is_err() {
            self.ready_over.store(0, Ordering::Release);
        }
        done
    }

    fn subject(&self, key: &str) -> Result<String, BucketError> {
        check_key(key)?;
        Ok(format!("{}{}", self.prefix, key::encode(key)))
    }

    async fn stands(&self, session: &Session, subject: &str) -> Result<Held, BucketError> {
        let found = raw::last(session, &self.stream, subject).await.map_err(|error| failed(&error));
        let Some(message) = self.noted(found)? else { return Ok(Held::default()) };
        let value = (!message.is_removal()).then_some(message.payload);
        Ok(Held { value, revision: message.sequence })
    }

    /// Stores a message under a subject of the bucket, and waits until it is confirmed.
    async fn put(
        &self,
        session: &Session,
        subject: &str,
        headers: HeaderMap,
        value: Bytes,
    ) -> Result<PubAck, PutError> {
        let (size, limit) = (value.len() + headers::wire_size(&headers), session.max_payload());
        if size > limit {
            return Err(BucketError::TooLarge { size, limit }.into());
        }
        // A domain has the subjects of its buckets below its API.
        let subject = if session.domain().is_some() { session.api_subject(subject) } else { subject.to_owned() };
        let headers = (!headers.is_empty()).then_some(headers);
        let answer = session.request(Subject::from(subject), headers, value, session.request_timeout()).await;
        let answer = self.noted(answer.map_err(|error| BucketError::Unavailable(error.to_string())))?;
        match serde_json::from_slice::<ApiAnswer<PubAck>>(&answer.payload) {
            Ok(ApiAnswer::Given(ack)) => Ok(ack),
            Ok(ApiAnswer::Refused { error }) if code::WRONG_LAST_SEQUENCE.contains(&error.err_code) => {
                Err(PutError::Conflict)
            }
            Ok(ApiAnswer::Refused { error }) => Err(refused(&error).into()),
            Err(error) => {
                let text = format!("the answer is none of a bucket: {error}");
                Err(BucketError::Unavailable(text).into())
            }
        }
    }

    /// Puts a value under a subject if what stands there has a revision. False: it has not.
    async fn put_at(&self, session: &Session, subject: &str, revision: u64, value: Bytes) -> Result<bool, BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED_REVISION, revision.to_string());
        match self.put(session, subject, headers, value).await {
            Ok(_stored) => Ok(true),
            Err(PutError::Conflict) => Ok(false),
            Err(PutError::Other(error)) => Err(error),
        }
    }

    /// Takes everything out that stands under a subject, what is newer than a sequence excepted.
    async fn purge(&self, session: &Session, subject: &str, through: Option<u64>) -> Result<(), BucketError> {
        let mut question = json!({ "filter": subject });
        if let (Some(through), Some(fields)) = (through, question.as_object_mut()) {
            fields.insert("seq".to_owned(), json!(through + 1));
        }
        let purged = session.api::<Value>(&format!("STREAM.PURGE.{}", self.stream), &question).await;
        self.noted(purged.map_err(|error| failed(&error))).map(|_answer| ())
    }

    fn turn(&self, key: &str) -> &tokio::sync::Mutex<()> {
        let hash = usize::try_from(self.hashes.hash_one(key) % TURNS as u64).unwrap_or(0);
        let [first, ..] = &self.turns;
        self.turns.get(hash).unwrap_or(first)
    }

    /// Looks at the name of every key, and keeps those of the page.
    async fn look(&self, session: &Session, mut page: Page) -> Result<Page, ApiError> {
        let filter = [format!("{}>", self.prefix)];
        let opened = Reader::open(session, &self.stream, &filter, Start::Sequence(1)).await?;
        let mut reader = opened.reading(Reads::WhatComesToo);
        let looked = loop {
            match reader.next().await {
                Ok(Some((message, _position))) => {
                    let key = message.subject.strip_prefix(self.prefix.as_str()).and_then(key::decode);
                    if let Some(key) = key {
                        page.see(key, !is_removal(message.headers.as_ref()));
                    }
                }
                Ok(None) => break Ok(page),
                Err(error) => break Err(error),
            }
        };
        reader.close().await;
        looked
    }
}

#[async_trait]
impl Bucket for KeyValues {
    async fn ready(&self) -> Result<(), BucketError> {
        self.session().await.map(|_session| ())
    }

    async fn check(&self) -> Result<(), BucketError> {
        let session = self.connected().await?;
        let found = stream_info(&session, &self.stream).await.map_err(|error| failed(&error))?;
        self.is_to_be_made(found.as_ref()).map(|_missing| ())
    }

    async fn find(&self, key: &str) -> Result<Held, BucketError> {
        let subject = self.subject(key)?;
        match Box::pin(self.looked_at()).await? {
            Some(session) => self.stands(&session, &subject).await,
            None => Ok(Held::default()),
        }
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), BucketError> {
        let subject = self.subject(key)?;
        check_value(&value)?;
        let session = self.writable().await?;
        let stored = self.put(&session, &subject, HeaderMap::new(), value).await;
        stored.map(|_ack| ()).map_err(PutError::into_error)
    }

    /// First a word that the key is removed, which whoever watches the bucket and keeps up sees; then nothing, so that keys that
    /// come and go do not fill it. A full bucket has no room for the word.
    async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let subject = self.subject(key)?;
        let session = self.writable().await?;
        let mut headers = HeaderMap::new();
        headers.insert(raw::OPERATION, "DEL");
        match self.put(&session, &subject, headers, Bytes::new()).await {
            Ok(ack) => {
                // What remains otherwise is the word, which says the same.
                if let Err(error) = self.purge(&session, &subject, Some(ack.seq)).await {
                    tracing::debug!(bucket = self.name, %error, "the word that a key is removed stays in the bucket");
                }
                Ok(())
            }
            Err(PutError::Other(BucketError::Full(_))) => self.purge(&session, &subject, None).await,
            Err(error) => Err(error.into_error()),
        }
    }

    async fn increment(&self, key: &str, by: i64) -> Result<i64, BucketError> {
        let subject = self.subject(key)?;
        let session = self.writable().await?;
        let _turn = self.turn(key).lock().await;
        for round in 0..INCREMENT_ROUNDS {
            let held = self.stands(&session, &subject).await?;
            let sum = sum(held.value.as_deref(), by)?;
            if self.put_at(&session, &subject, held.revision, sum.to_string().into()).await? {
                return Ok(sum);
            }
            let longest = (1_u64 << round.min(16)).min(LONGEST_WAIT_MS);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=longest))).await;
        }
        Err(BucketError::Contended)
    }

    async fn swap(&self, key: &str, revision: u64, value: Bytes) -> Result<bool, BucketError> {
        let subject = self.subject(key)?;
        check_value(&value)?;
        let session = self.writable().await?;
        self.put_at(&session, &subject, revision, value).await
    }

    async fn keys(&self, after: Option<&str>, limit: NonZeroU32) -> Result<KeyPage, BucketError> {
        let Some(session) = Box::pin(self.looked_at()).await? else { return Ok(KeyPage::default()) };
        let mut page = Page::new(after, limit);
        loop {
            let looked = self.look(&session, page).await;
            match self.noted(looked.map_err(|error| failed(&error)))?.finish() {
                Ok(page) => return Ok(page),
                Err(further) => page = further,
            }
        }
    }
}

fn is_removal(headers: Option<&HeaderMap>) -> bool {
    let headers = headers.into_iter().flat_map(HeaderMap::iter);
    headers
        .into_iter()
        .any(|(name, values)| values.iter().any(|value| raw::says_removed(name.as_ref(), value.as_str())))
}

fn failed(error: &ApiError) -> BucketError {
    match error {
        // A server does not answer what it does not permit.
        ApiError::Away(RequestError::Unanswered(Unanswered::TimedOut(_))) => {
            BucketError::Unavailable(format!("{error}; when NATS is there, look whether the credentials permit it"))
        }
        ApiError::Away(_) | ApiError::Unreadable(_) => BucketError::Unavailable(error.to_string()),
        ApiError::Refused(refusal) => refused(refusal),
    }
}

/// What a refusal of the server means for a bucket.
fn refused(refusal: &Refusal) -> BucketError {
    match from_refusal(refusal) {
        PublishError::Full(text) => BucketError::Full(text),
        PublishError::Unavailable(text) => BucketError::Unavailable(text),
        PublishError::Invalid(text) => BucketError::Refused(text),
        PublishError::TooLarge { size, limit } => BucketError::TooLarge { size, limit },
    }
}
