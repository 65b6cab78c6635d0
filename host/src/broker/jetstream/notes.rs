//! What is remembered of messages that come back, where every host of a subscription finds it.
//!
//! A message that one host returned may come to another next, which has to know then how many of its deliveries were attempts,
//! and how they failed. So a note stands twice: in the host's own record, and as the last message of a subject of its own in a
//! stream. The stream is written before the return is sent. It is asked only for messages whose count of deliveries does not
//! follow from what the own record has: a host by itself asks for those alone of which it left no word.
//!
//! Invariants:
//! - A note that is lost or late costs an over-counted attempt and no message: nothing is kept back for it longer than a moment, and
//!   what has come by then counts.
//! - A stream that answers nothing is left alone for a while, then looked at anew, and made where it is gone.
//! - A note is on one message, and on no other one at its sequence: when that was stored is in the subject, too.
//!
//! A server that was put back to an earlier state counts deliveries anew: of a message that it hands out as for the first time nobody
//! is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::Subject;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::check::STAMP;
use super::link::Link;
use super::session::{RequestError, Session, Unanswered};
use super::setup::stream_info;
use super::stored;
use super::wire::{ApiError, PubAck, Stored, code, flag, number, texts};
use crate::broker::done::{MessageIdentity, SourceIdentity};
use crate::settle::progress::Progress;

/// The stream.
pub(super) const STREAM: &str = "NOTES_tidegate";
/// How the subjects of notes begin.
const NOTES: &str = "tidegate-note";
/// A note that nobody renewed for so long is of no message that still waits: the longest delays are of days.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Notes that are kept, the newest; twice what one host keeps, some 80 MiB where each has a long history.
const MOST: u32 = 32_768;
/// Questions, or writes, of one group that are under way at once.
const AT_ONCE: usize = 256;
/// How long a group waits for its notes at the most, and as a part of the lease on it.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_PART: u32 = 8;
/// How long a stream that failed is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The notes of all subscriptions of a broker.
#[derive(Debug)]
pub(super) struct Notes {
    link: Arc<Link>,
    replicas: usize,
    /// Nothing is asked or written before this.
    left_alone_until: Mutex<Option<Instant>>,
}

/// Where the notes of one subscription stand, and how long one waits for them.
#[derive(Debug)]
pub(super) struct Place {
    prefix: String,
    patience: Duration,
}

impl Place {
    /// By stream and consumer, and by when the consumer was created: one that is made anew counts from the start.
    pub(super) fn of(source: &SourceIdentity, lease: Duration) -> Self {
        let created: String = source.consumer_created.chars().filter(char::is_ascii_digit).collect();
        let prefix = format!("{NOTES}.{}.{}.{created}", source.stream, source.consumer);
        Self { prefix, patience: PATIENCE.min(lease / PATIENCE_PART) }
    }

    fn subject(&self, message: &MessageIdentity) -> String {
        let since = message.stored_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{}.{}.{}", self.prefix, message.sequence, since.as_nanos())
    }
}

impl Notes {
    pub(super) fn new(link: Arc<Link>, replicas: usize) -> Self {
        Self { link, replicas, left_alone_until: Mutex::default() }
    }

    /// Makes the stream when it is missing. Gives back why it is of no use, for a person; nothing where it is.
    pub(super) async fn prepare(&self, session: &Session) -> Vec<String> {
        let trouble = self.look(session).await;
        let text = trouble.map(|trouble| {
            format!(
                "stream `{STREAM}`, by which the hosts of a subscription tell each other of messages that come back, is of no use: \
                 {trouble}; of a message that another host returned each delivery counts as an attempt until it is, so that it \
                 may be given up too early"
            )
        });
        text.into_iter().collect()
    }

    /// Looks at the stream, and makes it when it is missing. What is wrong with it; then it is left alone.
    async fn look(&self, session: &Session) -> Option<String> {
        let trouble = match stream_info(session, STREAM).await {
            Ok(Some(info)) => problem(&info.config),
            Ok(None) => self.make(session).await.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        *self.left_alone_until() = trouble.as_ref().map(|_| Instant::now() + LEFT_ALONE);
        trouble
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

    /// Puts notes on messages, each in the place of the one that is there. Returns when all are stored, or when there is no more
    /// time for it.
    pub(super) async fn write(&self, place: &Place, notes: Vec<(MessageIdentity, Progress)>) {
        let Ok(session) = self.link.session() else { return };
        if notes.is_empty() || !self.is_of_use(&session).await {
            return;
        }
        let session = &session;
        let storing = futures_util::stream::iter(notes)
            .map(|(message, progress)| put(session, place.subject(&message), progress))
            .buffer_unordered(AT_ONCE);
        self.answers(storing, place.patience).await;
    }

    /// The notes on messages; those of which nothing is noted, or known in time, are left out.
    pub(super) async fn read(
        &self,
        session: &Session,
        place: &Place,
        messages: Vec<MessageIdentity>,
    ) -> HashMap<MessageIdentity, Progress> {
        if messages.is_empty() || !self.is_of_use(session).await {
            return HashMap::new();
        }
        let asking = futures_util::stream::iter(messages)
            .map(|message| async move {
                let found = stored::last(session, STREAM, &place.subject(&message)).await?;
                Ok(found.and_then(|stored| Some((message, note(&stored)?))))
            })
            .buffer_unordered(AT_ONCE);
        self.answers(asking, place.patience).await.into_iter().flatten().collect()
    }

    /// The answers that come in time. A stream of which none comes, though the connection lasts, is left alone for a while.
    async fn answers<T>(&self, asking: impl Stream<Item = Result<T, ApiError>>, patience: Duration) -> Vec<T> {
        let mut asking = std::pin::pin!(asking);
        let (until, mut came, mut trouble) = (Instant::now() + patience, Vec::new(), None);
        loop {
            match timeout_at(until, asking.next()).await {
                Ok(Some(Ok(answer))) => came.push(answer),
                Ok(Some(Err(ApiError::Away(RequestError::Unanswered(Unanswered::Ended | Unanswered::NotSent(_)))))) => {
                    return came;
                }
                Ok(Some(Err(error))) => {
                    trouble = Some(error.to_string());
                    // The others are not different.
                    if came.is_empty() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(_elapsed) => {
                    trouble.get_or_insert_with(|| format!("no answer within {patience:?}"));
                    break;
                }
            }
        }
        if let Some(error) = trouble.filter(|_| came.is_empty()) {
            *self.left_alone_until() = Some(Instant::now() + LEFT_ALONE);
            tracing::warn!(
                stream = STREAM,
                error,
                "hosts do not hear from each other of messages that come back; tried again after {LEFT_ALONE:?}"
            );
        }
        came
    }

    /// Whether the stream may be used. When one that failed was left alone for long enough, it is looked at.
    async fn is_of_use(&self, session: &Session) -> bool {
        {
            let mut until = self.left_alone_until();
            match *until {
                None => return true,
                Some(at) if Instant::now() < at => return false,
                // By one alone; the others leave it alone meanwhile.
                Some(_) => *until = Some(Instant::now() + LEFT_ALONE),
            }
        }
        matches!(timeout(PATIENCE, self.look(session)).await, Ok(None))
    }

    fn left_alone_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.left_alone_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a stream cannot keep notes.
fn problem(config: &Map<String, Value>) -> Option<String> {
    let all = format!("{NOTES}.>");
    if !texts(config, "subjects").contains(&all) {
        return Some(format!("it does not take in `{all}`"));
    }
    if flag(config, "sealed") || flag(config, "no_ack") {
        return Some("it takes nothing, or confirms nothing".to_owned());
    }
    (number(config, "max_msgs_per_subject") != 1).then(|| {
        format!("it keeps more than the last note on a message; `nats stream edit {STREAM} --max-msgs-per-subject=1`")
    })
}

async fn put(session: &Session, subject: String, progress: Progress) -> Result<(), ApiError> {
    session.ask::<PubAck>(Subject::from(subject), &progress).await.map(drop)
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
    use super::*;

    #[test]
    fn a_place_is_one_token_for_each_part() {
        let source = SourceIdentity {
            stream: "ORDERS".to_owned(),
            stream_created: String::new(),
            consumer: "billing".to_owned(),
            consumer_created: "2026-11-29T22:58:12.123456789Z".to_owned(),
        };
        let place = Place::of(&source, Duration::from_secs(4));
        assert_eq!(place.patience, Duration::from_millis(500));
        let stored_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001);
        assert_eq!(
            place.subject(&MessageIdentity { sequence: 17, stored_at }),
            "tidegate-note.ORDERS.billing.20261129225812123456789.17.1700000000000000001"
        );
    }

    #[test]
    fn a_stream_that_cannot_keep_notes_is_told_from_one_that_can() {
        let config = |change: Value| {
            let mut config = json!({ "subjects": ["tidegate-note.>"], "max_msgs_per_subject": 1 });
            if let (Some(config), Some(change)) = (config.as_object_mut(), change.as_object()) {
                config.extend(change.clone());
            }
            config.as_object().cloned().unwrap_or_default()
        };
        assert_eq!(problem(&config(json!({}))), None);
        for bad in [json!({ "subjects": ["a"] }), json!({ "sealed": true }), json!({ "max_msgs_per_subject": -1 })] {
            assert!(problem(&config(bad.clone())).is_some(), "{bad}");
        }
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
