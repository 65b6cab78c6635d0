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
use bytes::Bytes;
use serde_json::json;

use super::layout::{self, REDRIVEN, REDRIVEN_AT};
use super::{DeadLetterStore, Found, is_there_already, subject_of};
use crate::broker::jetstream::check::{filters, has_origins};
use crate::broker::jetstream::headers::{EXPECTED_STREAM, MESSAGE_ID, append, is_reserved};
use crate::broker::jetstream::publish::{StoreError, from_refusal};
use crate::broker::jetstream::reader::{Reader, Start};
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::setup::{consumer_info, stream_info};
use crate::broker::jetstream::stored;
use crate::broker::jetstream::wire::{PubAck, StreamNames, texts};
use crate::broker::subject::matches;
use crate::broker::{DeadLetterError, MAX_REDRIVES, PublishError, Published};
use crate::message::{KEPT_ID_HEADER, REDRIVE_COUNT_HEADER, REDRIVE_FOR_HEADER, REDRIVE_OF_HEADER};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, UNREADABLE_HEADERS};

/// Where a message that is sent back is stored.
enum Destination {
    /// In this stream and no other.
    Stream(String),
    /// In whichever stream the one of the subscription collects from.
    Origin,
}

impl DeadLetterStore {
    /// Publishes one again, with its own body or another, and moves it among those that were sent back.
    pub(super) async fn send_back(
        &self,
        id: &DeadLetterId,
        force: bool,
        body: Option<Bytes>,
    ) -> Result<Published, DeadLetterError> {
        let session = self.session().await?;
        let found = self.find(&session, id).await?;
        let record = &found.decoded.letter.record;
        let id = record.id.to_string();
        if found.decoded.redriven_at.is_some() {
            return Err(DeadLetterError::AlreadyRedriven(id));
        }
        if record.redrives >= MAX_REDRIVES && !force {
            return Err(DeadLetterError::Loop { id, count: record.redrives });
        }
        let failed = |source| DeadLetterError::Publish { id: id.clone(), source };
        let destination = destination(&session, record).await?.map_err(failed)?;
        let map = again(&found.decoded.letter, &id, &destination).map_err(failed)?;
        let subject = Subject::from(record.subject.clone());
        let sent = body.clone().unwrap_or_else(|| found.decoded.letter.body.clone());
        let ack = match self.publisher.store(subject, map, sent).await {
            Ok(ack) => ack,
            Err(StoreError::Refused(refusal)) => return Err(failed(from_refusal(&refusal))),
            Err(StoreError::Publish(error)) => return Err(failed(error)),
        };
        tracing::info!(dead_letter = id, subject = record.subject, stream = ack.stream, "sent back");
        self.move_to_redriven(&session, &found).await.map_err(|error| {
            DeadLetterError::Store(format!(
                "dead letter `{id}` was sent back as message {} of stream `{}`, and could not be taken from the dead letters \
                 ({error}): discard it, or redrive it within the stream's duplicate window, which changes nothing else",
                ack.seq, ack.stream
            ))
        })?;
        match body {
            // An earlier try had sent it, and the stream took this one for that.
            Some(body) if ack.duplicate && !has_body(&session, &ack, &body).await => {
                Err(DeadLetterError::AlreadyRedriven(id))
            }
            Some(_) | None => Ok(Published { sequence: ack.seq, duplicate: ack.duplicate }),
        }
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
                    self.discard_parts(session, &found.decoded).await?;
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
        let subject = subject_of(&found.message);
        for place in places(subject.split_once('.').map_or("", |(_, tail)| tail), id) {
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
        let asked = all.iter().map(|place| self.lies_there(session, place, &record.id));
        Ok(futures_util::future::try_join_all(asked).await?.contains(&true))
    }

    /// Removes those that were sent back before a time, the oldest first, with what they refer to.
    pub(super) async fn forget(
        &self,
        session: &Session,
        before: SystemTime,
        at_most: usize,
    ) -> Result<usize, DeadLetterError> {
        if stream_info(session, &self.options.stream).await?.is_none() {
            return Ok(0);
        }
        let (all, start) = ([format!("{REDRIVEN}.>")], Start::Sequence(1));
        let mut reader = Reader::open(session, &self.options.stream, &all, start).await?;
        let mut old = Vec::new();
        let read = loop {
            match reader.next().await {
                // They were stored when they were sent back.
                Ok(Some((message, position))) if position.stored_at < before && old.len() < at_most => {
                    old.push((message, position.sequence));
                }
                Ok(Some(_) | None) => break Ok(()),
                Err(error) => break Err(DeadLetterError::from(error)),
            }
        };
        reader.close().await;
        read?;
        for (message, sequence) in &old {
            self.delete(session, *sequence).await?;
            // What is none of ours refers to nothing of ours.
            if let Ok(decoded) = layout::decode(message) {
                self.discard_parts(session, &decoded).await?;
            }
        }
        Ok(old.len())
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

fn away(error: DeadLetterError) -> PublishError {
    PublishError::Unavailable(error.to_string())
}

/// The stream that a message goes to that is sent back, if the subscription that gave it up receives it from there: nobody
/// else would run it.
async fn destination(
    session: &Session,
    record: &DeadLetterRecord,
) -> Result<Result<Destination, PublishError>, DeadLetterError> {
    let (name, subject) = (&record.subscription, &record.subject);
    let refused = |text: String| Ok(Err(PublishError::Invalid(text)));
    let stream = match &record.stream {
        Some(stream) => stream.clone(),
        // It died on a broker without streams, and was brought in here.
        None => {
            let names: StreamNames = session.api("STREAM.NAMES", &json!({ "subject": subject })).await?;
            let Some(stream) = names.streams.unwrap_or_default().into_iter().next() else {
                return refused(format!("no stream takes in its subject `{subject}`"));
            };
            stream
        }
    };
    let Some(consumer) = consumer_info(session, &stream, name).await? else {
        return refused(format!("there is no subscription `{name}` any more that would receive it"));
    };
    let wanted = filters(&consumer.config);
    if !wanted.is_empty() && !wanted.iter().any(|filter| matches(filter, subject)) {
        let wanted = wanted.join(", ");
        return refused(format!(
            "subscription `{name}` does not receive its subject `{subject}` any more (it receives {wanted})"
        ));
    }
    let Some(info) = stream_info(session, &stream).await? else {
        return refused(format!("there is no stream `{stream}` any more"));
    };
    if texts(&info.config, "subjects").iter().any(|filter| matches(filter, subject)) {
        return Ok(Ok(Destination::Stream(stream)));
    }
    match has_origins(&info.config) {
        true => Ok(Ok(Destination::Origin)),
        false => refused(format!(
            "stream `{stream}`, from which subscription `{name}` receives, does not take in its subject `{subject}` any more"
        )),
    }
}

/// The message that a dead letter becomes when it is sent back.
fn again(letter: &DeadLetter, id: &str, destination: &Destination) -> Result<HeaderMap, PublishError> {
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
    // Every subscription of the subject receives it; those that did not give it up pass it over.
    headers.set(REDRIVE_FOR_HEADER, record.subscription.clone());
    let mut map = HeaderMap::new();
    for header in headers.iter() {
        append(&mut map, &header.name, &header.value)?;
    }
    // Another id than the first time, or the stream would take it for a duplicate; the same for each try.
    append(&mut map, MESSAGE_ID, format!("redrive-{id}").as_bytes())?;
    match destination {
        // The subject may have gone to another stream since it was looked at.
        Destination::Stream(stream) => append(&mut map, EXPECTED_STREAM, stream.as_bytes())?,
        Destination::Origin => {}
    }
    Ok(map)
}

/// Whether what was stored has this body. What is gone by now, or cannot be looked at, is taken for another.
async fn has_body(session: &Session, ack: &PubAck, body: &Bytes) -> bool {
    let stored = stored::at(session, &ack.stream, ack.seq).await;
    matches!(stored, Ok(Some(stored)) if stored.data == STANDARD.encode(body))
}
