//! What came of the copies: counts, and the last differences in full, as far as they are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Copied, Ran};
use crate::message::{Header, Headers};
use crate::outcome::{ReasonCode, Usage};
use crate::settle::outputs::Routed;
use crate::telemetry::{CopyFate, ShadowCounts, ShadowFigures};

/// Differences that are kept: as many as a person looks at. Each takes 80 KiB at the very most, all of them 1.3 MiB.
const LAST: usize = 16;
/// Of a message's body, so many bytes are kept: a webhook's beginning says which it is.
const MESSAGE_BYTES: usize = 4 << 10;
/// Outputs of a run that are kept.
const OUTPUTS: usize = 8;
/// Of an output's body, so many bytes are kept.
const OUTPUT_BYTES: usize = 1 << 10;
/// Of an output's headers, names and values, so many bytes are kept, in whole headers.
const HEADER_BYTES: usize = 1 << 10;
/// Words of a handler or of the host, and names that a stranger gave, are cut to so many characters.
const WORDS: usize = 500;

/// What came of the copies of a shadow.
#[derive(Debug, Default)]
pub struct Books {
    figures: Arc<ShadowFigures>,
    last: Mutex<VecDeque<Arc<Difference>>>,
}

/// A message on which the two versions differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// When it was seen.
    pub at: SystemTime,
    /// The subscription that received the message.
    pub subscription: Arc<str>,
    /// The message's id; cut to 500 characters.
    pub message_id: String,
    /// Its subject; cut to 500 characters.
    pub subject: String,
    /// The size of its body in bytes.
    pub body_size: usize,
    /// How its body begins: 4 KiB at the most.
    pub body_start: Bytes,
    /// By what they differ.
    pub by: CopyFate,
    /// How, on one line; nothing of a header or a body is in it.
    pub told: String,
    /// What the active version did.
    pub stable: Did,
    /// What the candidate would have done.
    pub candidate: Did,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq)]
pub struct Did {
    /// The reason code of its outcome.
    pub outcome: ReasonCode,
    /// The handler's reason, or the host's sentence on a fault; cut to 500 characters.
    pub detail: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// How many outputs it had.
    pub outputs_count: usize,
    /// The first 8 of them.
    pub outputs: Vec<WouldSend>,
}

/// An output of a run, sent or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WouldSend {
    /// The broker.
    pub broker: Arc<str>,
    /// The subject; cut to 500 characters.
    pub subject: String,
    /// Its headers: the first of them that are a kilobyte together.
    pub headers: Headers,
    /// The size of its body in bytes.
    pub size: usize,
    /// The sha256 of its body, in hex.
    pub digest: String,
    /// How its body begins: a kilobyte at the most.
    pub start: Bytes,
}

impl Books {
    /// The counts, for the metrics.
    #[must_use]
    pub const fn figures(&self) -> &Arc<ShadowFigures> {
        &self.figures
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> ShadowCounts {
        self.figures.counts()
    }

    /// The last differences, the latest first; 16 at the most.
    #[must_use]
    pub fn last(&self) -> Vec<Arc<Difference>> {
        self.lock().iter().cloned().collect()
    }

    /// Counts a copy of which there is nothing more to say.
    pub(super) fn count(&self, fate: CopyFate) {
        self.figures.add(fate);
    }

    /// Counts a copy that ran to another end, and keeps how.
    pub(super) fn differs(&self, difference: Difference) {
        self.figures.add(difference.by);
        let mut last = self.lock();
        last.truncate(LAST - 1);
        last.push_front(Arc::new(difference));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Difference>>> {
        // Changed in single steps: it is whole even if a holder died.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Difference {
    /// What is kept of one.
    pub(super) fn new(copied: &Copied, candidate: &Ran, by: CopyFate, told: String) -> Self {
        let Copied { message, subscription, stable, attempt: _, max_attempts: _ } = copied;
        Self {
            at: SystemTime::now(),
            subscription: Arc::clone(subscription),
            message_id: cut(&message.id),
            subject: cut(&message.subject),
            body_size: message.body.len(),
            body_start: start(&message.body, MESSAGE_BYTES),
            by,
            told: cut(&told),
            stable: Did::new(stable),
            candidate: Did::new(candidate),
        }
    }
}

impl Did {
    fn new(ran: &Ran) -> Self {
        Self {
            outcome: ran.outcome.code(),
            detail: ran.outcome.detail().map(|detail| cut(&detail)),
            usage: ran.usage,
            outputs_count: ran.outputs.len(),
            outputs: ran.outputs.iter().take(OUTPUTS).map(WouldSend::new).collect(),
        }
    }
}

impl WouldSend {
    fn new(routed: &Routed) -> Self {
        let publish = &routed.publish;
        Self {
            broker: Arc::clone(&routed.broker),
            subject: cut(&publish.subject),
            headers: first_headers(&publish.headers),
            size: publish.body.len(),
            digest: hex::encode(Sha256::digest(&publish.body)),
            start: start(&publish.body, OUTPUT_BYTES),
        }
    }
}

/// A copy: a slice would keep all of it.
fn start(body: &Bytes, most: usize) -> Bytes {
    Bytes::copy_from_slice(body.get(..most).unwrap_or(body))
}

fn first_headers(headers: &Headers) -> Headers {
    let mut sum = 0usize;
    let fits = |header: &&Header| {
        sum = sum.saturating_add(header.name.len()).saturating_add(header.value.len());
        sum <= HEADER_BYTES
    };
    let copied = |header: &Header| Header::new(header.name.clone(), Bytes::copy_from_slice(&header.value));
    Headers(headers.iter().take_while(fits).map(copied).collect())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WORDS) {
        Some((end, _)) => text.get(..end).unwrap_or(text).to_owned(),
        None => text.to_owned(),
    }
}
