//! Publishes to streams and waits until each message is stored, with a bound on how many are under way.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::headers;
use super::link::Link;
use super::losses::Losses;
use super::session::RequestError;
use super::wire::{ApiAnswer, PubAck, Refusal, code};
use crate::broker::subject::check_subject;
use crate::broker::{PublishError, Published};
use crate::message::Publish;

/// Between two questions about a message whose id a stream is about to store: a stream with copies does that in some milliseconds.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Publishes for the whole broker.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Arc<Link>,
    losses: Arc<Losses>,
    permits: Semaphore,
    most: usize,
}

/// Why a stream did not take a message.
#[derive(Debug)]
pub(super) enum StoreError {
    /// The stream says no.
    Refused(Refusal),
    /// Any other way.
    Publish(PublishError),
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>, losses: Arc<Losses>, most: usize) -> Self {
        let most = most.max(1);
        Self { link, losses, permits: Semaphore::new(most), most }
    }

    /// Publishes messages that nobody vouches for: reserved headers are refused. One result a message, in order.
    ///
    /// Dropping the future leaves it unknown which of those under way are stored; their ids make a second try harmless.
    pub(super) async fn publish_all(&self, messages: Vec<Publish>) -> Vec<Result<Published, PublishError>> {
        let published = |ack: PubAck| Published { sequence: ack.seq, duplicate: ack.duplicate };
        let all: Vec<_> = self.publish_each(messages).await;
        all.into_iter().map(|stored| stored.map(published)).collect()
    }

    /// The same, with which stream took each.
    pub(super) async fn publish_each(&self, messages: Vec<Publish>) -> Vec<Result<PubAck, PublishError>> {
        futures_util::stream::iter(messages).map(|message| self.publish(message)).buffered(self.most).collect().await
    }

    async fn publish(&self, message: Publish) -> Result<PubAck, PublishError> {
        check_subject(&message.subject).map_err(|error| PublishError::Invalid(error.to_string()))?;
        if message.subject.starts_with('$') {
            return Err(PublishError::Invalid(format!("subject `{}` belongs to the server", message.subject)));
        }
        let map = headers::to_nats(&message.headers, message.id.as_deref())?;
        match self.store(Subject::from(message.subject), map, message.body).await {
            Ok(ack) => Ok(ack),
            Err(StoreError::Publish(error)) => Err(error),
            Err(StoreError::Refused(refusal)) => Err(from_refusal(&refusal)),
        }
    }

    /// Publishes a message with headers of the host's own making, and waits for the stream's word.
    pub(super) async fn store(&self, subject: Subject, map: HeaderMap, body: Bytes) -> Result<PubAck, StoreError> {
        let unavailable = |text: String| StoreError::Publish(PublishError::Unavailable(text));
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(unavailable("the broker is closed".to_owned()));
        };
        let session = self.link.session().map_err(unavailable)?;
        // What is stored hides how far a stream was before.
        self.losses.look(&session, None).await;
        let before = self.losses.before();
        let size = headers::wire_size(&map) + body.len();
        let limit = session.max_payload();
        if size > limit {
            return Err(StoreError::Publish(PublishError::TooLarge { size, limit }));
        }
        let map = (!map.is_empty()).then_some(map);
        let until = Instant::now() + session.request_timeout();
        loop {
            let answer =
                match session.request(subject.clone(), map.clone(), body.clone(), session.request_timeout()).await {
                    Ok(answer) => answer,
                    Err(RequestError::NoResponders(subject)) => {
                        return Err(unavailable(format!(
                            "no stream takes in the subject `{subject}`, or JetStream is away"
                        )));
                    }
                    Err(RequestError::Unanswered(why)) => return Err(unavailable(why.to_string())),
                };
            match serde_json::from_slice::<ApiAnswer<PubAck>>(&answer.payload) {
                Ok(ApiAnswer::Given(ack)) => {
                    self.losses.stored(&before, &ack).await;
                    return Ok(ack);
                }
                // As good as stored mostly, and only a second question tells.
                Ok(ApiAnswer::Refused { error })
                    if error.err_code == code::DUPLICATE_IN_PROCESS && Instant::now() < until =>
                {
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                }
                Ok(ApiAnswer::Refused { error }) => return Err(StoreError::Refused(error)),
                Err(error) => return Err(unavailable(format!("the answer is none of a stream: {error}"))),
            }
        }
    }
}

/// What a refusal of a stream means to whoever publishes.
pub(super) fn from_refusal(refusal: &Refusal) -> PublishError {
    let text = format!("{} (error {})", refusal.description, refusal.err_code);
    match refusal.err_code {
        code::INSUFFICIENT_RESOURCES
        | code::MEMORY_EXCEEDED
        | code::STORAGE_EXCEEDED
        | code::ACCOUNT_RESOURCES_EXCEEDED => PublishError::Full(text),
        code::STORE_FAILED if refusal.description.contains("exceeded") => PublishError::Full(text),
        code::MESSAGE_TOO_LARGE => PublishError::Invalid(text),
        // What passes by itself (no leader, too many requests, the same id under way) and what is not known: to be tried again, as it may have
        // been stored.
        code::DUPLICATE_IN_PROCESS => PublishError::Unavailable(text),
        _ if refusal.code >= 500 || refusal.code == 429 => PublishError::Unavailable(text),
        _ => PublishError::Invalid(text),
    }
}
