//! What a connection tells that is the answer to nothing: its end, messages that were dropped, requests that are not permitted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_nats::{Event, ServerError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How many refusals of the server are remembered: as many as there may be requests that wait for an answer in vain.
const REFUSALS: usize = 64;

/// Events of the connection that no request is told of by itself.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Messages that came faster than they were taken, and were dropped; they come back when their lease ends.
    pub(super) slow_consumer: AtomicU64,
    /// Errors that the server sent, such as a missing permission.
    pub(super) server_errors: AtomicU64,
    /// What it said of the last requests that it did not permit, the newest last.
    refusals: Mutex<VecDeque<String>>,
    /// Another one came.
    refused: Notify,
}

impl Events {
    fn note_refusal(&self, text: &str) {
        // Of a subscription that is refused nobody asks here.
        if !text.to_lowercase().contains("for publish") {
            return;
        }
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() == REFUSALS {
            refusals.pop_front();
        }
        refusals.push_back(text.to_owned());
        drop(refusals);
        self.refused.notify_waiters();
    }

    /// What the server said of a request on a subject. It drops one for which a permission is missing, and names its subject in
    /// an error of the connection; nobody answers the request.
    pub(super) fn said_of(&self, subject: &str) -> Option<String> {
        let quoted = format!("\"{}\"", subject.to_lowercase());
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let place = refusals.iter().rposition(|text| text.to_lowercase().contains(&quoted))?;
        refusals.remove(place)
    }

    /// Waits until the server says that a request on a subject is not permitted.
    pub(super) async fn until_refused(&self, subject: &str) {
        let mut another = std::pin::pin!(self.refused.notified());
        loop {
            // Before the look: what comes behind it is not missed.
            another.as_mut().enable();
            if self.said_of(subject).is_some() {
                return;
            }
            another.as_mut().await;
            another.set(self.refused.notified());
        }
    }
}

/// Takes down what the client library tells of a connection.
pub(super) fn note_event(event: &Event, events: &Events, ended: &CancellationToken) {
    match event {
        Event::Disconnected | Event::Closed => ended.cancel(),
        Event::SlowConsumer(_) => {
            events.slow_consumer.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("messages came faster than they were taken; they come back when their lease ends");
        }
        Event::ServerError(error) => {
            events.server_errors.fetch_add(1, Ordering::Relaxed);
            if let ServerError::Other(text) = error {
                events.note_refusal(text);
            }
            tracing::warn!(%error, "the NATS server sent an error");
        }
        Event::LameDuckMode => tracing::info!("the NATS server is about to shut down; it will send us away"),
        Event::Connected | Event::Draining | Event::ClientError(_) => {}
    }
}
