//! Stores dead letters: each once, and whole, in as many messages as it needs.
//!
//! Invariants:
//! - What a dead letter refers to is stored before it.
//! - A place that is taken is either the same death of the same message, or is left alone.

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use serde_json::json;

use super::layout::{self, BODIES, LETTERS, Rest};
use super::{DeadLetterStore, is_there_already, rest};
use crate::broker::PublishError;
use crate::broker::jetstream::headers::{EXPECTED_STREAM, append, wire_size};
use crate::broker::jetstream::publish::{StoreError, from_refusal};
use crate::broker::jetstream::wire::PubAck;
use crate::settle::dead_letter::DeadLetter;

/// What is left of the largest message for the lines of the protocol.
const SPARE: usize = 1024;

/// What a stream takes of headers at most, whatever the largest message is: the server answers "header size exceeds
/// maximum allowed of 64k" (error 10097).
const MAX_HEADERS: usize = u16::MAX as usize;

impl DeadLetterStore {
    /// Stores a dead letter, or finds it stored. Where it is. The error is a sentence for a person.
    pub(in crate::broker::jetstream) async fn store(&self, letter: &DeadLetter) -> Result<PubAck, String> {
        match self.try_store(letter, &layout::tail(&letter.record)).await {
            Err(StoreError::Refused(refusal)) if is_there_already(&refusal.description) => {
                self.store_beside(letter).await
            }
            Err(StoreError::Refused(refusal)) => Err(from_refusal(&refusal).to_string()),
            Err(StoreError::Publish(error)) => Err(error.to_string()),
            Ok(stored) => Ok(stored),
        }
    }

    /// Its place is taken: by itself, from a try whose confirmation was lost, or by a message of a stream that is no
    /// more.
    async fn store_beside(&self, letter: &DeadLetter) -> Result<PubAck, String> {
        let tail = layout::tail(&letter.record);
        let other = layout::other_tail(&letter.record);
        if let Some(stored) = self.find_same(&tail, letter).await? {
            return Ok(stored);
        }
        match self.try_store(letter, &other).await {
            Ok(stored) => Ok(stored),
            Err(StoreError::Refused(refusal)) if is_there_already(&refusal.description) => {
                self.find_same(&other, letter).await?.ok_or_else(|| "its place is taken twice".to_owned())
            }
            Err(StoreError::Refused(refusal)) => Err(from_refusal(&refusal).to_string()),
            Err(StoreError::Publish(error)) => Err(error.to_string()),
        }
    }

    /// What lies there, if it is this death of this message.
    async fn find_same(&self, tail: &str, letter: &DeadLetter) -> Result<Option<PubAck>, String> {
        let session = self.link.session()?;
        let question = json!({ "last_by_subj": format!("{LETTERS}.{tail}") });
        let found = self.direct_get(&session, &question).await.map_err(|error| error.to_string())?;
        let Some(message) = found else {
            // It was refused for being there and is not: sent back or discarded in between. The caller tries again.
            return Err("its place was taken a moment ago".to_owned());
        };
        if !layout::is_same_death(&layout::decode(&message)?.letter.record, &letter.record) {
            return Ok(None);
        }
        let sequence = layout::header(&message, layout::SEQUENCE).and_then(|text| text.parse().ok());
        let seq = sequence.ok_or_else(|| "the server does not say where it is".to_owned())?;
        Ok(Some(PubAck { stream: self.options.stream.clone(), seq, duplicate: true }))
    }

    async fn try_store(&self, letter: &DeadLetter, tail: &str) -> Result<PubAck, StoreError> {
        let limit = self.link.session().map_err(unavailable)?.max_payload().saturating_sub(SPARE);
        let mut map = self.headers()?;
        layout::encode_record(&mut map, &letter.record).map_err(StoreError::Publish)?;
        layout::encode_headers(&mut map, &letter.headers).map_err(StoreError::Publish)?;
        let subject = Subject::from(format!("{LETTERS}.{tail}"));
        let headers_fit = |map: &HeaderMap| wire_size(map) <= limit.min(MAX_HEADERS.saturating_sub(SPARE));
        if headers_fit(&map) && wire_size(&map) + letter.body.len() <= limit {
            return self.publisher.store(subject, map, letter.body.clone()).await;
        }
        // Parts lie under the name that no other message has: what is there already is of this very death.
        let parts = format!("{BODIES}.{}", layout::other_tail(&letter.record));
        if !headers_fit(&map) {
            map = self.headers()?;
            let record = layout::shortened(&letter.record);
            layout::encode_record(&mut map, &record).map_err(StoreError::Publish)?;
            let rest = self.store_rest(letter, &format!("{parts}.headers"), limit).await?;
            layout::refer_rest(&mut map, &rest).map_err(StoreError::Publish)?;
        }
        // The original fitted into a message by itself, and does again; the record goes into another.
        self.store_part(parts.clone(), letter.body.clone()).await?;
        layout::refer(&mut map, &parts, &letter.body).map_err(StoreError::Publish)?;
        self.publisher.store(subject, map, Bytes::new()).await
    }

    /// Stores the whole record and the headers in as many messages as they need.
    async fn store_rest(&self, letter: &DeadLetter, space: &str, limit: usize) -> Result<Rest, StoreError> {
        let (rest, parts) = rest::pack(letter, space, limit).map_err(StoreError::Publish)?;
        for (part, subject) in parts.into_iter().zip(rest.subjects()) {
            self.store_part(subject, part).await?;
        }
        Ok(rest)
    }

    /// Stores a part of a dead letter, or finds it stored.
    async fn store_part(&self, subject: String, part: Bytes) -> Result<(), StoreError> {
        match self.publisher.store(Subject::from(subject), self.headers()?, part).await {
            Ok(_) => Ok(()),
            Err(StoreError::Refused(refusal)) if is_there_already(&refusal.description) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The headers of everything that is stored here: in no other stream.
    fn headers(&self) -> Result<HeaderMap, StoreError> {
        let mut map = HeaderMap::new();
        append(&mut map, EXPECTED_STREAM, self.options.stream.as_bytes()).map_err(StoreError::Publish)?;
        Ok(map)
    }
}

fn unavailable(text: String) -> StoreError {
    StoreError::Publish(PublishError::Unavailable(text))
}
