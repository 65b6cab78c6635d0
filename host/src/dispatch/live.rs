//! What becomes of messages, seen while it happens by whoever looks. Nothing waits for those who look.
//!
//! Invariants:
//! - While nobody looks, a message costs one look at a counter.
//! - Whoever looks too slowly misses what was oldest, and is told how much it was.
//! - What is kept for those who look is bounded: so many endings of about a kilobyte, and so many accounts of about
//!   150 KiB.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio_util::sync::CancellationToken;

use crate::broker::Settlement;
use crate::dispatch::decided::Decided;
use crate::dispatch::shared::Shared;
use crate::handler::LogLine;
use crate::message::Message;
use crate::outcome::{Outcome, ReasonCode, Usage};
use crate::settle::dead_letter::DeadLetterId;
use crate::settle::outputs::Routed;
use crate::settle::verdict::Identity;
use crate::telemetry::Ending;

/// Endings that wait for the slowest: 4,096 of a kilobyte are 4 MiB, and 40 ms of 100,000 messages a second.
const ENDINGS: usize = 4096;
/// Endings with their accounts: 256 of 150 KiB are 38 MiB at the very most.
const ACCOUNTS: usize = 256;
/// So many may look at once: some terminals, and a command that follows in each.
const LOOKERS: usize = 32;
/// A detail is cut to so many characters.
const DETAIL_CHARS: usize = 500;
/// Of the lines that a run logged, at most so many bytes are in its account.
const LOG_BYTES: usize = 64 << 10;
/// A larger message is not in an account: a webhook's body has some 20 KiB.
const MESSAGE_BYTES: usize = 64 << 10;
/// Outputs in an account.
const OUTPUTS: usize = 16;
/// Of an output's body, so many bytes are in an account.
const OUTPUT_BYTES: usize = 1 << 10;

/// What became of one delivery.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it ended.
    pub at: SystemTime,
    /// The subscription, its broker and its handler.
    pub identity: Identity,
    /// The number of the version that ran; 0: none did, or it has none.
    pub version: u64,
    /// The message's id.
    pub message_id: String,
    /// Its position in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Which counted run it was.
    pub attempt: u32,
    /// What it was settled as.
    pub settled_as: Ending,
    /// The reason code.
    pub reason: ReasonCode,
    /// What was said about it, for a person; at most 500 characters.
    pub detail: Option<String>,
    /// When it comes again, from [`at`](Self::at).
    pub again_in: Option<Duration>,
    /// Its dead letter.
    pub dead_letter: Option<DeadLetterId>,
    /// What the run used.
    pub usage: Usage,
    /// The rest of it, for those who asked for it.
    pub account: Option<Account>,
}

/// What a run did, as far as it is kept for those who look.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// What it logged; the first 64 KiB.
    pub logs: Vec<LogLine>,
    /// What it published; the first 16.
    pub outputs: Vec<Sent>,
    /// The message itself, unless it is larger than 64 KiB.
    pub message: Option<Message>,
}

/// Something that a run published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The broker.
    pub broker: Arc<str>,
    /// The subject.
    pub subject: String,
    /// The size of the body in bytes.
    pub size: usize,
    /// How the body begins: its first kilobyte.
    pub start: bytes::Bytes,
}

/// What is kept of a run from its end until its settlement is confirmed.
#[derive(Debug, Default)]
pub(crate) struct Note {
    detail: Option<String>,
    account: Option<Account>,
}

/// Passes on what becomes of messages.
#[derive(Debug)]
pub struct Live {
    endings: Stage,
    accounts: Stage,
    closing: CancellationToken,
}

#[derive(Debug)]
struct Stage {
    lookers: Arc<AtomicUsize>,
    capacity: usize,
    /// Made by the first who looks.
    sender: OnceLock<broadcast::Sender<Arc<Seen>>>,
}

/// As many look already as may.
#[derive(Debug, thiserror::Error)]
#[error("{LOOKERS} look at what happens already; end one of them first")]
pub struct TooManyLook;

/// What was seen next.
#[derive(Debug, Clone)]
pub enum Glimpse {
    /// What became of a delivery.
    Seen(Arc<Seen>),
    /// So many were missed: the reader was too slow.
    Missed(u64),
}

/// Looks at what becomes of messages, from the moment that it was made on.
#[derive(Debug)]
pub struct Look {
    receiver: broadcast::Receiver<Arc<Seen>>,
    closing: CancellationToken,
    lookers: Arc<AtomicUsize>,
}

impl Default for Live {
    fn default() -> Self {
        Self { endings: Stage::new(ENDINGS), accounts: Stage::new(ACCOUNTS), closing: CancellationToken::new() }
    }
}

impl Live {
    /// Begins to look. `with_accounts`: what the runs logged and published, and their messages, are wanted too.
    ///
    /// # Errors
    /// When too many look already.
    pub fn look(&self, with_accounts: bool) -> Result<Look, TooManyLook> {
        let all = self.endings.count().saturating_add(self.accounts.count());
        if all >= LOOKERS {
            return Err(TooManyLook);
        }
        let stage = if with_accounts { &self.accounts } else { &self.endings };
        Ok(stage.look(&self.closing))
    }

    /// Ends all looks, after what has happened by now.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// What is to be kept of a run; nothing when nobody looks.
    pub(crate) fn note(&self, outcome: &Outcome, logs: Vec<LogLine>, routed: &[Routed]) -> Option<Box<Note>> {
        if !self.is_watched() {
            return None;
        }
        let account = (self.accounts.count() > 0).then(|| Account {
            logs: within(logs, LOG_BYTES),
            outputs: routed.iter().take(OUTPUTS).map(Sent::from).collect(),
            message: None,
        });
        Some(Box::new(Note { detail: outcome.detail().map(|detail| cut(&detail)), account }))
    }

    /// Tells those who look what a delivery came to.
    pub(crate) fn ended(&self, shared: &Shared, decided: &Decided, at: SystemTime) {
        if !self.is_watched() {
            return;
        }
        let seen = seen(shared, decided, at);
        if self.endings.count() > 0 {
            self.endings.send(Seen { account: None, ..seen.clone() });
        }
        if self.accounts.count() > 0 {
            let message = &decided.entry.delivery.message;
            let mut account = decided.note.as_ref().and_then(|note| note.account.clone()).unwrap_or_default();
            account.message = (message.size() <= MESSAGE_BYTES).then(|| message.clone());
            self.accounts.send(Seen { account: Some(account), ..seen });
        }
    }

    /// Tells those who look that a message ended so, with nothing else about it.
    #[cfg(test)]
    pub(crate) fn tell(&self, subscription: &str, message_id: &str, settled_as: Ending) {
        let mut seen = tests::ending(0);
        seen.identity.subscription = Arc::from(subscription);
        (seen.message_id, seen.settled_as) = (message_id.to_owned(), settled_as);
        self.endings.send(seen);
    }

    fn is_watched(&self) -> bool {
        self.endings.count() > 0 || self.accounts.count() > 0
    }
}

impl Stage {
    fn new(capacity: usize) -> Self {
        Self { lookers: Arc::default(), capacity, sender: OnceLock::new() }
    }

    fn count(&self) -> usize {
        self.lookers.load(Ordering::Relaxed)
    }

    fn look(&self, closing: &CancellationToken) -> Look {
        let sender = self.sender.get_or_init(|| broadcast::channel(self.capacity).0);
        let receiver = sender.subscribe();
        self.lookers.fetch_add(1, Ordering::Relaxed);
        Look { receiver, closing: closing.clone(), lookers: Arc::clone(&self.lookers) }
    }

    fn send(&self, seen: Seen) {
        if let Some(sender) = self.sender.get() {
            // An error says that the last one has gone just now.
            let _ = sender.send(Arc::new(seen));
        }
    }
}

impl Look {
    /// What happens next; `None` when the host has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Glimpse> {
        let received = tokio::select! {
            biased;
            received = self.receiver.recv() => received,
            () = self.closing.cancelled() => match self.receiver.try_recv() {
                Ok(seen) => Ok(seen),
                Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => Err(RecvError::Closed),
            },
        };
        match received {
            Ok(seen) => Some(Glimpse::Seen(seen)),
            Err(RecvError::Lagged(missed)) => Some(Glimpse::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.lookers.fetch_sub(1, Ordering::Relaxed);
    }
}

fn seen(shared: &Shared, decided: &Decided, at: SystemTime) -> Seen {
    let delivery = &decided.entry.delivery;
    let (again_in, dead_letter) = match &decided.settlement {
        Some(Settlement::Return { delay, .. }) => (Some(*delay), None),
        Some(Settlement::DeadLetter(letter)) => (None, Some(letter)),
        Some(Settlement::Ack { .. }) | None => (None, None),
    };
    // A message that was given up without a run, or for another reason than the run's, says why in its dead letter.
    let detail = match dead_letter {
        Some(letter) => Some(cut(&letter.record.error)).filter(|error| !error.is_empty()),
        None => decided.note.as_ref().and_then(|note| note.detail.clone()),
    };
    Seen {
        at,
        identity: shared.setup.identity.clone(),
        version: decided.entry.runs_on().map_or(0, |pick| pick.version.number),
        message_id: delivery.message.id.clone(),
        sequence: delivery.message.sequence,
        subject: delivery.message.subject.clone(),
        attempt: delivery.progress.attempt(),
        settled_as: decided.verdict.settled_as,
        reason: decided.verdict.reason,
        detail,
        again_in,
        dead_letter: dead_letter.map(|letter| letter.record.id.clone()),
        usage: decided.usage(),
        account: None,
    }
}

/// The first lines, up to so many bytes.
fn within(mut logs: Vec<LogLine>, bytes: usize) -> Vec<LogLine> {
    let mut sum = 0usize;
    let fits = |line: &LogLine| {
        let fields: usize = line.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        sum = sum.saturating_add(line.text.len()).saturating_add(fields);
        sum <= bytes
    };
    let count = logs.iter().map(fits).take_while(|fits| *fits).count();
    logs.truncate(count);
    logs
}

impl From<&Routed> for Sent {
    fn from(routed: &Routed) -> Self {
        let body = &routed.publish.body;
        Self {
            broker: Arc::clone(&routed.broker),
            subject: routed.publish.subject.clone(),
            size: body.len(),
            // A copy: a slice would keep all of the body.
            start: bytes::Bytes::copy_from_slice(body.get(..OUTPUT_BYTES).unwrap_or(body)),
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or(text).to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use crate::handler::LogLevel;

    pub(super) fn ending(sequence: u64) -> Seen {
        let name = || Arc::from("n");
        Seen {
            at: SystemTime::UNIX_EPOCH,
            identity: Identity { subscription: name(), broker: name(), stream: None, handler: name(), host: name() },
            version: 1,
            message_id: String::new(),
            sequence,
            subject: String::new(),
            attempt: 1,
            settled_as: Ending::Completed,
            reason: Outcome::Completed(Vec::new()).code(),
            detail: None,
            again_in: None,
            dead_letter: None,
            usage: Usage::default(),
            account: None,
        }
    }

    #[tokio::test]
    async fn whoever_is_too_slow_is_told_what_was_missed_and_an_end_comes_after_all_that_happened() {
        let live = Live::default();
        let mut look = live.look(false).unwrap();
        let all = ENDINGS as u64 + 10;
        for sequence in 0..all {
            live.endings.send(ending(sequence));
        }
        live.close();
        let Some(Glimpse::Missed(missed)) = look.next().await else { panic!("something was missed") };
        let mut seen = 0;
        while let Some(glimpse) = look.next().await {
            let Glimpse::Seen(ending) = glimpse else { panic!("nothing more was missed") };
            assert_eq!(ending.sequence, missed + seen);
            seen += 1;
        }
        assert_eq!(missed + seen, all);
    }

    #[test]
    fn nothing_is_kept_while_nobody_looks_and_accounts_only_for_those_who_want_them() {
        let live = Live::default();
        let skipped = Outcome::Completed(Vec::new());
        let line =
            LogLine { level: LogLevel::Info, text: "x".repeat(10), fields: Vec::new(), at: Duration::ZERO, span: None };
        let note = |live: &Live| live.note(&skipped, vec![line.clone(); 2], &[]);
        assert!(note(&live).is_none());
        let endings = live.look(false).unwrap();
        assert!(note(&live).unwrap().account.is_none());
        let accounts = live.look(true).unwrap();
        assert_eq!(note(&live).unwrap().account.unwrap().logs.len(), 2);
        drop((endings, accounts));
        assert!(note(&live).is_none());
        let looks: Vec<Look> = (0..LOOKERS).map(|n| live.look(n % 2 == 0).unwrap()).collect();
        assert!(live.look(false).is_err());
        drop(looks);
        assert!(live.look(true).is_ok());
    }

    #[test]
    fn logs_are_cut_at_a_line_and_details_at_a_character() {
        let line =
            LogLine { level: LogLevel::Info, text: "12345".into(), fields: vec![], at: Duration::ZERO, span: None };
        assert_eq!(within(vec![line; 5], 14).len(), 2);
        let long = "ü".repeat(DETAIL_CHARS + 1);
        assert_eq!(cut(&long).chars().count(), DETAIL_CHARS);
        assert_eq!(cut("short"), "short");
    }
}
