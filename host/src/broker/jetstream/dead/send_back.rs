//! Sends dead letters back: published again for the subscription that gave the message up, then moved among those that
//! were sent back.
//!
//! Invariants:
//! - Sent back means: published again and confirmed by the stream from which that subscription receives, then moved under
//!   another subject, confirmed, then taken from the first. A crash in between leaves it where it was; sending it back
//!   again uses the same message id, so that the stream drops the second copy within its window.
//! - What nobody would run is refused: the dead letter is all there is of its message.
//! - A stream without room is no reason to send one back twice: what was confirmed is taken out first, then kept if it can be.

use std::time::SystemTime;

use async_nats::{HeaderMap, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::destination::{destination, elsewhere};
use super::layout::{self, REDRIVEN, REDRIVEN_AT};
use super::{DeadLetterStore, Found, is_there_already, subject_of};
use crate::broker::jetstream::headers::{EXPECTED_STREAM, MESSAGE_ID, append, is_reserved};
use crate::broker::jetstream::publish::{StoreError, from_refusal};
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::stored;
use crate::broker::jetstream::wire::PubAck;
use crate::broker::{DeadLetterError, MAX_REDRIVES, PublishError, Published, SendBack};
use crate::message::{KEPT_ID_HEADER, REDRIVE_COUNT_HEADER, REDRIVE_FOR_HEADER, REDRIVE_OF_HEADER};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, UNREADABLE_HEADERS};

impl DeadLetterStore {
    /// Publishes one again, with its own body or another, where it came from or elsewhere, and moves it among those that were sent back.
    pub(super) async fn publish_again(&self, id: &DeadLetterId, how: &SendBack) -> Result<Published, DeadLetterError> {
        let SendBack { force, body, to } = how;
        let session = self.session().await?;
        let found = self.find(&session, id).await?;
        let record = &found.decoded.letter.record;
        let id = record.id.to_string();
        if found.decoded.redriven_at.is_some() {
            return Err(DeadLetterError::AlreadyRedriven(id));
        }
        if record.redrives >= MAX_REDRIVES && !*force {
            return Err(DeadLetterError::Loop { id, count: record.redrives });
        }
        if self.lies_among(&session, &places_of(&found), &record.id).await? {
            // It was sent back before, and what did that was killed before it was taken out.
            self.delete(&session, found.sequence).await?;
            return Err(DeadLetterError::AlreadyRedriven(id));
        }
        let failed = |source| DeadLetterError::Publish { id: id.clone(), source };
        let stream = match to {
            Some(to) => elsewhere(&session, to, &self.options.stream)
                .await?
                .map_err(|why| DeadLetterError::NobodyTakes { id: id.clone(), to: to.clone(), why })?,
            None => destination(&session, record).await?.map_err(failed)?,
        };
        let map = again(&found.decoded.letter, &id, to.is_some()).map_err(failed)?;
        let subject = to.as_ref().unwrap_or(&record.subject);
        let sent = body.clone().unwrap_or_else(|| found.decoded.letter.body.clone());
        let ack = match self.publisher.store(Subject::from(subject.as_str()), map, sent.clone()).await {
            Ok(ack) => ack,
            Err(StoreError::Refused(refusal)) => return Err(failed(from_refusal(&refusal))),
            Err(StoreError::Publish(error)) => return Err(failed(error)),
        };
        if ack.stream != stream {
            // The subject went to another one since it was looked at. That it goes to one stream alone cannot be asked of the server:
            // the header for it stays in the message, and mirrors of the stream would refuse that.
            return Err(failed(PublishError::Invalid(format!(
                "its subject `{subject}` was taken in by stream `{}` and not by `{stream}`, as was to be expected",
                ack.stream
            ))));
        }
        tracing::info!(dead_letter = id, subject, stream = ack.stream, "sent back");
        self.move_to_redriven(&session, &found)
            .await
            .map_err(|error| DeadLetterError::StillThere { id: id.clone(), why: error.to_string() })?;
        // An earlier try had sent it, and the stream took this one for that.
        if ack.duplicate && !is_as_told(&session, &ack, subject, &sent).await {
            return Err(DeadLetterError::AlreadyRedriven(id));
        }
        Ok(Published { sequence: ack.seq, duplicate: ack.duplicate })
    }

    /// Puts a dead letter among those that were sent back.
    async fn move_to_redriven(&self, session: &Session, found: &Found) -> Result<(), DeadLetterError> {
        match self.archive(session, found).await {
            Ok(()) => self.delete(session, found.sequence).await,
            Err(PublishError::Full(_)) => {
                self.delete(session, found.sequence).await?;
                if let Err(error) = self.archive(session, found).await {
                    let (id, stream) = (&found.decoded.letter.record.id, &self.options.stream);
                    tracing::warn!(dead_letter = %id, stream, %error, "was sent back, and no copy of it could be kept");
                    self.discard_parts_unless_awaited(session, &found.decoded).await?;
                }
                Ok(())
            }
            Err(error @ (PublishError::Unavailable(_) | PublishError::Invalid(_) | PublishError::TooLarge { .. })) => {
                Err(DeadLetterError::Store(error.to_string()))
            }
        }
    }

    /// Stores a copy of it among those that were sent back, or finds it there.
    async fn archive(&self, session: &Session, found: &Found) -> Result<(), PublishError> {
        let id = &found.decoded.letter.record.id;
        for place in places_of(found) {
            let (mut map, body) = layout::copy(&found.message);
            let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
            append(&mut map, REDRIVEN_AT, now.as_bytes())?;
            append(&mut map, EXPECTED_STREAM, self.options.stream.as_bytes())?;
            match self.publisher.store(Subject::from(place.as_str()), map, body).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Refused(refusal)) if is_there_already(&refusal.description) => {
                    // By itself, from a try whose confirmation was lost; or by a message of a stream that is no more.
                    if self.lies_there(session, &place, id).await.map_err(away)? {
                        return Ok(());
                    }
                }
                Err(StoreError::Refused(refusal)) => return Err(from_refusal(&refusal)),
                Err(StoreError::Publish(error)) => return Err(error),
            }
        }
        Err(PublishError::Invalid("its place among those that were sent back is taken twice".to_owned()))
    }

    /// Whether a dead letter lies among those that were sent back.
    pub(super) async fn was_sent_back(
        &self,
        session: &Session,
        record: &DeadLetterRecord,
    ) -> Result<bool, DeadLetterError> {
        let tails = [layout::tail(record), layout::other_tail(record)];
        let all: Vec<String> = tails.iter().flat_map(|tail| places(tail, &record.id)).collect();
        self.lies_among(session, &all, &record.id).await
    }

    /// Whether a dead letter lies in one of some places.
    pub(super) async fn lies_among(
        &self,
        session: &Session,
        places: &[String],
        id: &DeadLetterId,
    ) -> Result<bool, DeadLetterError> {
        let asked = places.iter().map(|place| self.lies_there(session, place, id));
        Ok(futures_util::future::try_join_all(asked).await?.contains(&true))
    }

    async fn lies_there(&self, session: &Session, place: &str, id: &DeadLetterId) -> Result<bool, DeadLetterError> {
        let there = self.direct_get(session, &json!({ "last_by_subj": place })).await?;
        Ok(there.as_ref().and_then(|there| layout::header(there, layout::ID)) == Some(id.0.as_str()))
    }
}

/// Where one may lie that was sent back: under its own name, and where that is taken under one that no other has.
fn places(tail: &str, id: &DeadLetterId) -> [String; 2] {
    [format!("{REDRIVEN}.{tail}"), format!("{REDRIVEN}.{tail}-{id}")]
}

/// The same of one that was found.
fn places_of(found: &Found) -> [String; 2] {
    let subject = subject_of(&found.message);
    places(subject.split_once('.').map_or("", |(_, tail)| tail), &found.decoded.letter.record.id)
}

fn away(error: DeadLetterError) -> PublishError {
    PublishError::Unavailable(error.to_string())
}

/// The message that a dead letter becomes when it is sent back.
/// `elsewhere`: it is for all that receive it.
fn again(letter: &DeadLetter, id: &str, elsewhere: bool) -> Result<HeaderMap, PublishError> {
    let record = &letter.record;
    if letter.headers.get(UNREADABLE_HEADERS).is_some() {
        return Err(PublishError::Invalid(
            "its headers could not be read, so it cannot be published as it was; publish its body anew with headers that \
             can, then discard it"
                .to_owned(),
        ));
    }
    let mut headers = letter.headers_again();
    headers.0.retain(|header| !is_reserved(&header.name));
    headers.set(KEPT_ID_HEADER, record.message_id.clone());
    headers.set(REDRIVE_COUNT_HEADER, record.redrives.saturating_add(1).to_string());
    headers.set(REDRIVE_OF_HEADER, id.to_owned());
    if elsewhere {
        headers.remove(REDRIVE_FOR_HEADER);
    } else {
        // Every subscription of the subject receives it; those that did not give it up pass it over.
        headers.set(REDRIVE_FOR_HEADER, record.subscription.clone());
    }
    let mut map = HeaderMap::new();
    for header in headers.iter() {
        append(&mut map, &header.name, &header.value)?;
    }
    // Another id than the first time, or the stream would take it for a duplicate; the same for each try.
    append(&mut map, MESSAGE_ID, format!("redrive-{id}").as_bytes())?;
    Ok(map)
}

/// Whether what was stored before has this subject and this body: an earlier try may have sent another body, or elsewhere. What is gone
/// by now, or cannot be looked at, is taken for another.
async fn is_as_told(session: &Session, ack: &PubAck, subject: &str, body: &[u8]) -> bool {
    let stored = stored::at(session, &ack.stream, ack.seq).await;
    matches!(stored, Ok(Some(stored)) if stored.subject == subject && stored.data == STANDARD.encode(body))
}
