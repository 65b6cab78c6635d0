//! The dead letters of a JetStream broker: a stream of their own, kept until somebody sends them back or discards them.
//!
//! Invariants:
//! - A dead letter is stored when [`DeadLetterStore::store`] returns `Ok`: the stream confirmed it, or it was there.
//! - Looking changes nothing: what is made for it on the server is removed, or removes itself.
//!
//! An id is the ULID of the record. It is found by the time inside it, and when that fails by looking at all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::{Message, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::check::STAMP;
use super::link::Link;
use super::options::DeadLetterOptions;
use super::publish::Publisher;
use super::risks;
use super::session::{RequestError, Session};
use super::setup::stream_info;
use super::stored;
use super::wire::{ApiError, code, number};
use crate::broker::{
    DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery, DeadLetters, Published, SendBack, Tally,
};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, StoredDeadLetter};

mod catalog;
mod count;
mod destination;
mod forget;
mod layout;
mod picked;
mod rest;
mod room;
mod scan;
mod send_back;
mod store;

use catalog::Catalog;
use layout::{BODIES, Decoded, LETTERS, REDRIVEN, Rest};

/// The dead letters of one broker.
#[derive(Debug)]
pub(super) struct DeadLetterStore {
    link: Arc<Link>,
    publisher: Arc<Publisher>,
    options: DeadLetterOptions,
    catalog: Catalog,
}

/// A message of the stream, found again.
struct Found {
    message: Message,
    decoded: Decoded,
    sequence: u64,
}

/// The stream, as it stands.
pub(super) struct Prepared {
    /// What may become of dead letters there, for a person.
    pub(super) risks: Vec<String>,
    /// Its copies.
    pub(super) replicas: i64,
}

impl DeadLetterStore {
    pub(super) fn new(link: Arc<Link>, publisher: Arc<Publisher>, options: DeadLetterOptions) -> Self {
        let catalog = Catalog::new(Arc::clone(&link), &options.stream, options.catalog.clone());
        Self { link, publisher, options, catalog }
    }

    /// Waits for the end of what goes on in the background, once the link is closed.
    pub(super) async fn close(&self) {
        self.catalog.close().await;
    }

    /// Makes the stream when it is missing, else looks whether it can hold dead letters. The error says what is wrong.
    pub(super) async fn prepare(&self, session: &Session) -> Result<Result<Prepared, String>, ApiError> {
        let name = &self.options.stream;
        match stream_info(session, name).await? {
            Some(info) => Ok(room::problems(name, &info).map(|()| Prepared {
                risks: risks::of_letters(name, &info.config),
                replicas: number(&info.config, "num_replicas"),
            })),
            None if self.options.create => {
                let config = json!({
                    "name": name,
                    "description": "Dead letters of Tidegate",
                    "subjects": [format!("{LETTERS}.>"), format!("{REDRIVEN}.>"), format!("{BODIES}.>")],
                    "retention": "limits",
                    "storage": "file",
                    "discard": "new",
                    "discard_new_per_subject": true,
                    "max_msgs_per_subject": 1,
                    "num_replicas": self.options.replicas,
                    "allow_direct": true,
                    "metadata": { STAMP: env!("CARGO_PKG_VERSION") },
                });
                tracing::info!(stream = name, "the stream of dead letters is created");
                let _: Value = session.api(&format!("STREAM.CREATE.{name}"), &config).await?;
                let replicas = i64::try_from(self.options.replicas).unwrap_or(i64::MAX);
                Ok(Ok(Prepared { risks: Vec::new(), replicas }))
            }
            None => Ok(Err(missing(name))),
        }
    }

    /// A message of the stream, with headers; `None` when there is none.
    async fn direct_get(&self, session: &Session, question: &Value) -> Result<Option<Message>, DeadLetterError> {
        let subject = session.api_subject(&format!("DIRECT.GET.{}", self.options.stream));
        let payload = Bytes::from(question.to_string());
        match session.request(Subject::from(subject), None, payload, session.request_timeout()).await {
            Ok(message) => match message.status.map(|status| status.as_u16()) {
                None => Ok(Some(message)),
                Some(404) => Ok(None),
                Some(other) => Err(DeadLetterError::Store(format!("the server answered {other} to a direct get"))),
            },
            // Nobody answers when there is no such stream, or when JetStream is away.
            Err(RequestError::NoResponders(_)) => match stream_info(session, &self.options.stream).await {
                Ok(None) => Ok(None),
                Ok(Some(_)) => Err(DeadLetterError::Store("the stream does not answer a direct get".to_owned())),
                Err(error) => Err(error.into()),
            },
            Err(RequestError::Unanswered(why)) => Err(DeadLetterError::Store(why.to_string())),
        }
    }

    async fn session(&self) -> Result<Arc<Session>, DeadLetterError> {
        self.link.wait(Duration::from_secs(1)).await.map_err(DeadLetterError::Store)
    }

    /// Finds a dead letter, whole.
    async fn find(&self, session: &Session, id: &DeadLetterId) -> Result<Found, DeadLetterError> {
        let found = self.locate(session, id).await?;
        self.assembled(session, found).await
    }

    /// Finds a dead letter, without what it refers to.
    async fn locate(&self, session: &Session, id: &DeadLetterId) -> Result<Found, DeadLetterError> {
        let not_found = || DeadLetterError::NotFound(id.to_string());
        let (wanted, _) = scan::split_cursor(id);
        let sequence = self.position(session, id).await?;
        let found = self.direct_get(session, &json!({ "seq": sequence })).await?.ok_or_else(not_found)?;
        if layout::header(&found, layout::ID) != Some(wanted) {
            return Err(not_found());
        }
        let decoded = layout::decode(&found).map_err(DeadLetterError::Store)?;
        Ok(Found { message: found, decoded, sequence })
    }

    /// With what it refers to.
    async fn assembled(&self, session: &Session, found: Found) -> Result<Found, DeadLetterError> {
        let Found { message, mut decoded, sequence } = found;
        let wanted = decoded.letter.record.id.clone();
        if let Some((subject, _)) = &decoded.elsewhere {
            let body = self.direct_get(session, &json!({ "last_by_subj": subject })).await?;
            let body = body.filter(|body| layout::is_referred(&message, &body.payload));
            let Some(body) = body else {
                return Err(DeadLetterError::Store(format!(
                    "the body of dead letter `{wanted}` is not in `{subject}`"
                )));
            };
            decoded.letter.body = body.payload;
        }
        if let Some(rest) = &decoded.rest {
            let packed = self.rest(session, rest).await?;
            rest::unpack(&mut decoded.letter, rest, &packed)
                .map_err(|error| DeadLetterError::Store(format!("dead letter `{wanted}`: {error}")))?;
        }
        Ok(Found { message, decoded, sequence })
    }

    /// The parts of what lies elsewhere, put together.
    async fn rest(&self, session: &Session, rest: &Rest) -> Result<Vec<u8>, DeadLetterError> {
        let mut packed = Vec::new();
        for subject in rest.subjects() {
            let part = self.direct_get(session, &json!({ "last_by_subj": subject })).await?;
            let part = part.ok_or_else(|| DeadLetterError::Store(format!("there is no message in `{subject}`")))?;
            packed.extend_from_slice(&part.payload);
        }
        Ok(packed)
    }

    async fn delete(&self, session: &Session, sequence: u64) -> Result<(), DeadLetterError> {
        let verb = format!("STREAM.MSG.DELETE.{}", self.options.stream);
        let _told = self.catalog.deleting().await;
        // No overwriting of the bytes: that would rewrite the file's block.
        match session.api::<Value>(&verb, &json!({ "seq": sequence, "no_erase": true })).await {
            Ok(_) => self.catalog.deleted(sequence),
            // Somebody else was faster, or it was asked twice: what is gone is as it should be.
            Err(error)
                if code::NOT_REMOVED.iter().any(|number| error.is(*number))
                    && stored::at(session, &self.options.stream, sequence).await?.is_none() =>
            {
                self.catalog.missing(sequence);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Removes what a dead letter refers to.
    async fn discard_parts(&self, session: &Session, decoded: &Decoded) -> Result<(), DeadLetterError> {
        let body = decoded.elsewhere.iter().map(|(subject, _)| subject.clone());
        let rest = decoded.rest.iter().flat_map(Rest::subjects);
        for subject in body.chain(rest) {
            self.discard_part(session, &subject).await?;
        }
        Ok(())
    }

    /// Removes what lies under a subject, if anything does.
    async fn discard_part(&self, session: &Session, subject: &str) -> Result<(), DeadLetterError> {
        let part = self.direct_get(session, &json!({ "last_by_subj": subject })).await?;
        match part.as_ref().and_then(|part| layout::header(part, layout::SEQUENCE)?.parse().ok()) {
            Some(sequence) => self.delete(session, sequence).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl DeadLetters for DeadLetterStore {
    async fn list(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, DeadLetterError> {
        let session = self.session().await?;
        if let Some(page) = self.page_by_rows(&session, query).await? {
            return Ok(page);
        }
        match query.oldest_first {
            true => self.page_forwards(&session, query).await,
            false => self.page(&session, query).await,
        }
    }

    async fn tally(&self, filter: &DeadLetterFilter, tally: Tally) -> Result<Tally, DeadLetterError> {
        let session = self.session().await?;
        self.count_each(&session, filter, tally).await
    }

    async fn get(&self, id: &DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        let session = self.session().await?;
        let Found { decoded, sequence, .. } = self.find(&session, id).await?;
        let body_size = decoded.letter.body.len() as u64;
        let handle = DeadLetterId(format!("{}@{sequence}", decoded.letter.record.id));
        Ok(StoredDeadLetter { letter: decoded.letter, body_size, redriven_at: decoded.redriven_at, handle })
    }

    async fn send_back(&self, id: &DeadLetterId, how: &SendBack) -> Result<Published, DeadLetterError> {
        self.publish_again(id, how).await
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), DeadLetterError> {
        let session = self.session().await?;
        // One whose body is gone can be discarded too.
        let found = self.locate(&session, id).await?;
        self.delete(&session, found.sequence).await?;
        // Only then what it refers to: a crash in between leaves parts that nobody needs, never a dead letter in pieces.
        self.discard_parts_unless_awaited(&session, &found.decoded).await?;
        tracing::info!(dead_letter = %id, "discarded");
        Ok(())
    }

    async fn restore(&self, letter: DeadLetter) -> Result<bool, DeadLetterError> {
        let session = self.session().await?;
        // It may have been sent back since it was taken from here: brought in again, a redrive would run it a second time.
        if self.was_sent_back(&session, &letter.record).await? {
            return Ok(false);
        }
        self.store(&letter).await.map(|stored| !stored.duplicate).map_err(DeadLetterError::Store)
    }

    async fn forget_redriven(&self, before: SystemTime, at_most: usize) -> Result<usize, DeadLetterError> {
        let session = self.session().await?;
        self.forget(&session, before, at_most).await
    }

    async fn depth(&self) -> Result<u64, DeadLetterError> {
        let session = self.session().await?;
        self.count(&session).await
    }

    async fn oldest(&self) -> Result<Option<SystemTime>, DeadLetterError> {
        let session = self.session().await?;
        let first = json!({ "seq": 1, "next_by_subj": format!("{LETTERS}.>") });
        let first = self.direct_get(&session, &first).await?;
        Ok(first.as_ref().and_then(layout::traits).map(|traits| traits.died))
    }

    async fn is_writable(&self) -> Result<(), DeadLetterError> {
        let session = self.session().await?;
        let name = &self.options.stream;
        match stream_info(&session, name).await {
            Ok(Some(info)) => {
                room::problems(name, &info).and_then(|()| room::left(name, &info)).map_err(DeadLetterError::Store)
            }
            Ok(None) => Err(DeadLetterError::Store(missing(name))),
            Err(error) => Err(error.into()),
        }
    }
}

/// The subject that a message was stored under, as a direct get tells it.
fn subject_of(message: &Message) -> &str {
    layout::header(message, "Nats-Subject").unwrap_or_else(|| message.subject.as_str())
}

/// What a person reads of a stream that is not there, and does about it.
fn missing(name: &str) -> String {
    format!(
        "stream `{name}` for dead letters does not exist; make it with `nats stream add {name} \
         --subjects='{LETTERS}.>,{REDRIVEN}.>,{BODIES}.>' --retention=limits --storage=file --discard=new \
         --discard-per-subject --max-msgs-per-subject=1 --allow-direct`"
    )
}

/// Whether a refusal says that the subject has its one message.
fn is_there_already(description: &str) -> bool {
    description.contains("maximum messages per subject exceeded")
}

impl From<ApiError> for DeadLetterError {
    fn from(error: ApiError) -> Self {
        Self::Store(error.to_string())
    }
}
