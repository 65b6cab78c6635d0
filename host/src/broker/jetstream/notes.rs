//! What is remembered of messages that come back, where every host of a subscription finds it.
//!
//! A message that one host returned may come to another next, which has to know then how many of its deliveries were attempts,
//! and how they failed. So a note stands twice: in the host's own record, and as the last message of a subject of its own in a
//! stream. The stream is written before the return is sent. It is asked only for messages whose count of deliveries does not
//! follow from what the own record has: a host by itself asks for those alone of which it left no word.
//!
//! Invariants:
//! - A note that is lost or late costs an over-counted attempt and no message: nothing is kept back for it.
//! - A stream that does not answer is left alone for a while: it holds up no more than one group in that time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::check::STAMP;
use super::publish::{Publisher, StoreError, from_refusal};
use super::session::Session;
use super::setup::stream_info;
use super::stored;
use super::wire::{ApiError, Stored, code, texts};
use crate::broker::done::SourceIdentity;
use crate::settle::progress::Progress;

/// The stream.
const STREAM: &str = "NOTES_tidegate";
/// How the subjects of notes begin.
const NOTES: &str = "tidegate-note";
/// A note that nobody renewed for so long is of no message that still waits: the longest delays are of days.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Notes that are kept, the newest; four times what one host keeps, some 60 MiB where each has a long history.
const MOST: u32 = 65_536;
/// Questions, or writes, that are under way at once.
const AT_ONCE: usize = 64;
/// How long a group waits for its notes.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a stream that failed is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The notes of all subscriptions of a broker.
#[derive(Debug)]
pub(super) struct Notes {
    publisher: Arc<Publisher>,
    replicas: usize,
    /// Nothing is asked or written before this.
    left_alone_until: Mutex<Option<Instant>>,
}

/// Where the notes of one subscription stand.
#[derive(Debug)]
pub(super) struct Place(String);

impl Place {
    /// By stream and consumer, and by when the consumer was created: one that is made anew counts from the start.
    pub(super) fn of(source: &SourceIdentity) -> Self {
        let created: String = source.consumer_created.chars().filter(char::is_ascii_digit).collect();
        Self(format!("{NOTES}.{}.{}.{created}", source.stream, source.consumer))
    }

    fn subject(&self, sequence: u64) -> String {
        format!("{}.{sequence}", self.0)
    }
}

impl Notes {
    pub(super) fn new(publisher: Arc<Publisher>, replicas: usize) -> Self {
        Self { publisher, replicas, left_alone_until: Mutex::default() }
    }

    /// Makes the stream when it is missing. Gives back why it is of no use, for a person; nothing where it is.
    pub(super) async fn prepare(&self, session: &Session) -> Vec<String> {
        let trouble = match stream_info(session, STREAM).await {
            Ok(Some(info)) if texts(&info.config, "subjects").contains(&format!("{NOTES}.>")) => None,
            Ok(Some(_)) => Some(format!("it does not take in `{NOTES}.>`")),
            Ok(None) => self.make(session).await.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        *self.left_alone_until() = trouble.as_ref().map(|_| Instant::now() + LEFT_ALONE);
        let text = trouble.map(|trouble| {
            format!(
                "stream `{STREAM}`, by which the hosts of a subscription tell each other of messages that come back, is of no use: \
                 {trouble}; of a message that another host returned each delivery counts as an attempt until it is, so that it \
                 may be given up too early"
            )
        });
        text.into_iter().collect()
    }

    async fn make(&self, session: &Session) -> Result<(), ApiError> {
        let config = json!({
            "name": STREAM,
            "description": "What the hosts of Tidegate remember of messages that come back",
            "subjects": [format!("{NOTES}.>")],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_msgs": MOST,
            "max_msgs_per_subject": 1,
            "max_age": u64::try_from(MAX_AGE.as_nanos()).unwrap_or(u64::MAX),
            "num_replicas": self.replicas,
            "metadata": { STAMP: env!("CARGO_PKG_VERSION") },
        });
        match session.api::<Value>(&format!("STREAM.CREATE.{STREAM}"), &config).await {
            Ok(_) => tracing::info!(stream = STREAM, "the stream of notes on messages that come back is created"),
            // Another host was faster, and wants other copies of it.
            Err(error) if error.is(code::STREAM_NAME_IN_USE) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Puts notes on messages, each in the place of the one that is there; returns when all are stored, or one could not be.
    pub(super) async fn write(&self, place: &Place, notes: Vec<(u64, Progress)>) {
        if self.is_left_alone() {
            return;
        }
        let storing = futures_util::stream::iter(notes)
            .map(|(sequence, progress)| self.put(place.subject(sequence), progress))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>();
        let done = match timeout(PATIENCE, storing).await {
            Ok(done) => done,
            Err(_elapsed) => Err(format!("not stored within {PATIENCE:?}")),
        };
        self.look_at(done);
    }

    async fn put(&self, subject: String, progress: Progress) -> Result<(), String> {
        let body = serde_json::to_vec(&progress).map_err(|error| error.to_string())?;
        let stored = self.publisher.store(Subject::from(subject), HeaderMap::new(), body.into()).await;
        stored.map(drop).map_err(|error| match error {
            StoreError::Publish(error) => error.to_string(),
            StoreError::Refused(refusal) => from_refusal(&refusal).to_string(),
        })
    }

    /// The notes on messages, by their sequences; those of which nothing is noted are left out.
    pub(super) async fn read(&self, session: &Session, place: &Place, sequences: Vec<u64>) -> HashMap<u64, Progress> {
        if sequences.is_empty() || self.is_left_alone() {
            return HashMap::new();
        }
        let asking = futures_util::stream::iter(sequences)
            .map(|sequence| async move {
                let found = stored::last(session, STREAM, &place.subject(sequence)).await?;
                Ok::<_, ApiError>(found.and_then(|stored| Some((sequence, note(&stored)?))))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>();
        let found = match timeout(PATIENCE, asking).await {
            Ok(found) => found.map(|found| found.into_iter().flatten().collect()).map_err(|error| error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {PATIENCE:?}")),
        };
        self.look_at(found).unwrap_or_default()
    }

    /// What came of a use of the stream; one that failed is left alone for a while.
    fn look_at<T>(&self, done: Result<T, String>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                *self.left_alone_until() = Some(Instant::now() + LEFT_ALONE);
                tracing::warn!(
                    stream = STREAM,
                    error,
                    "hosts do not hear from each other of messages that come back; tried again after {LEFT_ALONE:?}"
                );
                None
            }
        }
    }

    fn is_left_alone(&self) -> bool {
        self.left_alone_until().is_some_and(|until| Instant::now() < until)
    }

    fn left_alone_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.left_alone_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a note. One that cannot be read, of another version say, is none.
fn note(stored: &Stored) -> Option<Progress> {
    serde_json::from_slice(&STANDARD.decode(&stored.data).ok()?).ok()
}

/// Of what this host and others noted of a message, what was noted last: every return is a delivery more.
pub(super) fn newer(own: Option<Progress>, told: Option<Progress>) -> Option<Progress> {
    match (own, told) {
        (Some(own), Some(told)) => Some(if told.deliveries > own.deliveries { told } else { own }),
        (note, None) | (None, note) => note,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_place_is_one_token_for_each_part() {
        let place = Place::of(&SourceIdentity {
            stream: "ORDERS".to_owned(),
            stream_created: String::new(),
            consumer: "billing".to_owned(),
            consumer_created: "2026-11-29T22:58:12.123456789Z".to_owned(),
        });
        assert_eq!(place.subject(17), "tidegate-note.ORDERS.billing.20261129225812123456789.17");
    }

    #[test]
    fn what_was_noted_last_counts() {
        let note =
            |deliveries, uncounted| Some(Progress { deliveries, uncounted, ..Progress::first(SystemTime::UNIX_EPOCH) });
        let rows = [
            (None, None, None),
            (note(1, 1), None, note(1, 1)),
            (None, note(2, 1), note(2, 1)),
            (note(1, 0), note(2, 1), note(2, 1)),
            (note(3, 0), note(2, 1), note(3, 0)),
        ];
        for (own, told, expected) in rows {
            assert_eq!(newer(own, told), expected);
        }
    }
}
