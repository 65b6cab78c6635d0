//! Messages that the server hands out no more, because somebody set `max_deliver` on the consumer while the host ran.
//!
//! [`super::guard`] notices such a consumer within two seconds. What the server gave up until then it says once, in an
//! advisory, at the moment at which it would have handed the message out again: heard here, fetched by its place in the
//! stream, and handed to the host to be given up. It ends in the dead-letter queue, from where it can be sent back.
//!
//! Invariants:
//! - What was heard is kept, over connections and over setting up anew, until it was handed out.
//! - The server is told only when the dead letter is stored. It confirms that for a message which it does not hand out any
//!   more, too, and takes it from a work queue (tried on nats-server 2.11).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::time::Instant;

use super::advisories::Advisory as Told;
use super::pump::Inboxes;
use super::reply::{self, Position};
use super::session::Session;
use super::source::JetStreamSource;
use super::stored::{self, Read};
use super::wire::ApiError;
use super::{arrival, notes};
use crate::broker::{Delivery, Receipt, ReceiveError, Standing};

/// What was heard of all consumers of a broker: by stream and consumer the sequence and how often it was handed out.
///
/// Bounded by what was handed out when somebody set `max_deliver`: nothing more is asked for soon after.
#[derive(Debug, Default)]
pub(super) struct Exhausted {
    heard: Mutex<HashMap<(String, String), BTreeMap<u64, u32>>>,
}

impl Exhausted {
    fn heard(&self) -> MutexGuard<'_, HashMap<(String, String), BTreeMap<u64, u32>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, stream: &str, consumer: &str, advisory: &Advisory) {
        let key = (stream.to_owned(), consumer.to_owned());
        self.heard().entry(key).or_default().insert(advisory.stream_seq, advisory.deliveries);
    }

    /// The first ones of a consumer, at most so many. They stay until they are [`taken`](Self::taken).
    fn first(&self, stream: &str, consumer: &str, most: usize) -> Vec<(u64, u32)> {
        let heard = self.heard();
        // Nearly always there is nothing at all: no key is made then.
        if heard.is_empty() {
            return Vec::new();
        }
        let of_it = heard.get(&(stream.to_owned(), consumer.to_owned()));
        of_it
            .map(|of_it| of_it.iter().take(most).map(|(sequence, count)| (*sequence, *count)).collect())
            .unwrap_or_default()
    }

    fn taken(&self, stream: &str, consumer: &str, sequences: impl Iterator<Item = u64>) {
        let key = (stream.to_owned(), consumer.to_owned());
        let mut heard = self.heard();
        if let Some(of_it) = heard.get_mut(&key) {
            for sequence in sequences {
                of_it.remove(&sequence);
            }
            if of_it.is_empty() {
                heard.remove(&key);
            }
        }
    }
}

/// What came of looking for a message that the server gave up.
enum Fetched {
    Delivery(Box<Delivery>),
    /// It is not in the stream any more.
    Gone,
    /// It is to be looked for again.
    NotYet,
}

/// What the server says: `io.nats.jetstream.advisory.v1.max_deliver`.
#[derive(Debug, Deserialize)]
struct Advisory {
    stream_seq: u64,
    deliveries: u32,
}

impl JetStreamSource {
    /// Listens for what the server gives up, as long as there are these inboxes. A login that may not listen there is no
    /// reason to receive nothing: the server's refusal is counted and logged, as all of them are.
    pub(super) async fn listen_for_exhausted(&self, inboxes: &Inboxes) -> Result<(), ReceiveError> {
        let (stream, consumer) = (self.bound.stream.clone(), self.spec.name.clone());
        let listening = inboxes.session.subscribe(Told::MaxDeliveries.subject(&stream, &consumer)).await;
        let mut advisories = listening.map_err(|error| ReceiveError::Away(error.to_string()))?;
        let (exhausted, arrived) = (Arc::clone(&self.exhausted), Arc::clone(inboxes.arrived()));
        let (counters, stopped) = (Arc::clone(&self.counters), inboxes.stopped().clone());
        // Not joined: it holds nothing that must be finished, and ends with the inboxes or the session.
        tokio::spawn(async move {
            while let Some(Some(message)) = stopped.run_until_cancelled(advisories.next()).await {
                counters.told.note(Told::MaxDeliveries);
                match serde_json::from_slice::<Advisory>(&message.payload) {
                    Ok(advisory) => {
                        exhausted.note(&stream, &consumer, &advisory);
                        arrived.notify_one();
                    }
                    Err(error) => tracing::warn!(stream, consumer, %error, "an advisory of the server cannot be read"),
                }
            }
        });
        Ok(())
    }

    /// What the server gave up and is still to be handed out, at most so many.
    pub(super) async fn find_exhausted(&self, session: &Session, most: usize) -> Result<Vec<Delivery>, ReceiveError> {
        let (stream, consumer) = (&self.bound.stream, &self.spec.name);
        let wanted = self.exhausted.first(stream, consumer, most.max(1));
        let mut found = Vec::with_capacity(wanted.len());
        let mut taken = Vec::with_capacity(wanted.len());
        for (sequence, deliveries) in wanted {
            match self.fetch_exhausted(session, sequence, deliveries).await? {
                Fetched::Delivery(delivery) => found.push(*delivery),
                Fetched::Gone => {}
                Fetched::NotYet => continue,
            }
            taken.push(sequence);
        }
        self.exhausted.taken(stream, consumer, taken.into_iter());
        Ok(found)
    }

    async fn fetch_exhausted(
        &self,
        session: &Session,
        sequence: u64,
        deliveries: u32,
    ) -> Result<Fetched, ReceiveError> {
        let away = |error: ApiError| ReceiveError::Away(error.to_string());
        let stream = &self.bound.stream;
        let Some(stored) = stored::at(session, stream, sequence).await.map_err(away)? else {
            return Ok(Fetched::Gone);
        };
        let position = Position { deliveries, ..stored.position() };
        let message = match stored.read(stream).map_err(away)? {
            Read::Message(message) => message,
            Read::Unreadable(unreadable) => {
                return Ok(Fetched::Delivery(Box::new(self.give_up(session, unreadable))));
            }
        };
        if self.is_done(&position) && !self.losses.look(session, Some(Instant::now())).await {
            // What it came to may be lost: it is looked at again when that is known.
            return Ok(Fetched::NotYet);
        }
        tracing::error!(
            subscription = self.spec.name,
            stream,
            sequence,
            deliveries,
            "the server hands a message out no more, as somebody set `max_deliver`; it goes to the dead-letter queue"
        );
        let lease_ends_at = self.hold_from_now(session, &position);
        let known = self.record.look_up(self.source, std::iter::once(position.message())).into_iter().next();
        let (already_done, note) = known.unwrap_or_default();
        // It may have failed on other hosts too.
        let told = self.notes.read(session, &self.place, vec![position.message()]).await.remove(&position.message());
        let token = reply::of_unseen(stream, &self.spec.name, &position);
        Ok(Fetched::Delivery(Box::new(Delivery {
            message,
            progress: arrival::progress(notes::newer(note, told), deliveries, SystemTime::now()),
            receipt: Receipt { sequence, token: token.into() },
            lease_ends_at,
            standing: if already_done { Standing::Done } else { Standing::Exhausted },
        })))
    }

    fn is_done(&self, position: &Position) -> bool {
        self.record.look_up(self.source, std::iter::once(position.message())).iter().any(|(is_done, _)| *is_done)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_was_heard_of_a_consumer_stays_until_it_was_taken() {
        let advisory: Advisory = serde_json::from_str(
            r#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","stream":"S","consumer":"c","stream_seq":7,"deliveries":3}"#,
        )
        .unwrap();
        let exhausted = Exhausted::default();
        assert!(exhausted.first("S", "c", 10).is_empty());
        exhausted.note("S", "c", &advisory);
        exhausted.note("S", "c", &Advisory { stream_seq: 5, deliveries: 3 });
        exhausted.note("S", "other", &Advisory { stream_seq: 1, deliveries: 3 });
        assert_eq!(exhausted.first("S", "c", 1), [(5, 3)]);
        assert_eq!(exhausted.first("S", "c", 10), [(5, 3), (7, 3)]);
        exhausted.taken("S", "c", [5, 7].into_iter());
        assert!(exhausted.first("S", "c", 10).is_empty());
        assert_eq!(exhausted.first("S", "other", 10), [(1, 3)]);
    }
}
