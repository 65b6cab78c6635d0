//! What is asked of the server and what has come of it, as plain data: pulls, arrivals, and what a status means.
//!
//! Invariants:
//! - Never more is asked for than the caller can take: what is outstanding and what waits here are subtracted first.
//! - At most [`SLOTS`] pulls are outstanding; each has its own inbox, so that what it still owes is known exactly.
//! - A pull that the server ended is outstanding until all that was sent on it is here: a replicated consumer sends a message
//!   when its copies have noted it, and the word that the pull is over may overtake it.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use tokio::time::Instant;

use super::reply::{self, Position};
use crate::broker::{Demand, ReceiveError};

/// Pulls that may be outstanding: while one runs out, the next is on its way.
pub(super) const SLOTS: usize = 2;
/// The most that one pull asks for: a few milliseconds of work at full speed. What a crash leaves to be handed out
/// again is bounded by it.
const LARGEST_BATCH: usize = 8192;
/// The most bytes that one pull asks for; what is more is as good as no limit, and fits every server's numbers.
const MOST_BYTES: usize = 1 << 40;
/// How long the server keeps a pull. Shorter means more questions of idle hosts, longer nothing gained.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server gives a sign of life on a pull that has nothing to deliver.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What of a pull the server has not sent, in the word that ends it.
const PENDING_MESSAGES: &str = "Nats-Pending-Messages";
const PENDING_BYTES: &str = "Nats-Pending-Bytes";

/// How long messages of a pull that is over are waited for. Copies note them in milliseconds; a leader that goes drops them.
const REST_WITHIN: Duration = Duration::from_secs(5);

/// How much later than on our clock a pull may end on the server's: as long as the question was under way.
const LATE: Duration = Duration::from_secs(1);

/// Limits that the consumer sets on pulls; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PullLimits {
    pub(super) max_batch: usize,
    pub(super) max_bytes: usize,
    pub(super) max_expires: Duration,
}

/// One pull, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) slot: usize,
    pub(super) number: u64,
    pub(super) batch: usize,
    /// 0: without a limit.
    pub(super) max_bytes: usize,
    pub(super) expires: Duration,
    pub(super) heartbeat: Duration,
}

/// A message that came, and when it came at the latest on the server's side of our clock.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) message: Message,
    /// Where it stands, by its reply subject; `None`: that is none of a delivery.
    pub(super) position: Option<Position>,
    /// The lease is counted from here.
    pub(super) at: Instant,
}

/// All pulls of a source on one session.
#[derive(Debug)]
pub(super) struct Pulls {
    limits: PullLimits,
    slots: [Option<Outstanding>; SLOTS],
    next_number: u64,
    waiting: VecDeque<Arrived>,
    waiting_bytes: usize,
    /// The next message is larger than what was asked for in bytes: ask for it alone.
    oversize: bool,
    /// What went wrong, for the next `receive`.
    trouble: Option<Trouble>,
    /// When the last trouble came, or a pull was given up.
    upset_at: Option<Instant>,
    /// A pull ended without a message: `receive` may answer with nothing.
    pub(super) ended_empty: bool,
}

#[derive(Debug)]
struct Outstanding {
    number: u64,
    messages: usize,
    bytes: usize,
    delivered: bool,
    last_sign: Instant,
    heartbeat: Duration,
    ends_at: Instant,
    /// The server has ended it: until when the rest is waited for.
    rest_until: Option<Instant>,
}

/// Trouble that a status told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody answers: the consumer is gone, or JetStream is not up yet. To be looked into.
    NoResponders,
    /// The consumer is gone for good.
    Gone(String),
    /// It may pass.
    Away(String),
}

impl Trouble {
    /// As the error of `receive`.
    pub(super) fn into_error(self) -> ReceiveError {
        match self {
            Self::NoResponders => ReceiveError::Away("nobody answers for the consumer".to_owned()),
            Self::Gone(detail) => ReceiveError::Gone(detail),
            Self::Away(detail) => ReceiveError::Away(detail),
        }
    }
}

impl Pulls {
    pub(super) fn new(limits: PullLimits) -> Self {
        Self {
            limits,
            slots: [const { None }; SLOTS],
            next_number: 1,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            oversize: false,
            trouble: None,
            upset_at: None,
            ended_empty: false,
        }
    }

    /// Takes a message or a status that came on a slot's inbox.
    pub(super) fn take_in(&mut self, slot: usize, message: Message, at: Instant) {
        // A publisher may have put a status into the headers of a message; that one has a reply subject.
        if let Some(status) = message.status
            && message.reply.is_none()
        {
            self.take_status(slot, status, &message, at);
            return;
        }
        let bytes = size(&message);
        if let Some(Some(pull)) = self.slots.get_mut(slot) {
            pull.messages = pull.messages.saturating_sub(1);
            pull.bytes = pull.bytes.saturating_sub(bytes);
            pull.delivered = true;
            pull.last_sign = at;
            if pull.messages == 0 {
                self.end(slot);
            }
        }
        let position = message.reply.as_ref().and_then(|reply| reply::parse(reply));
        self.waiting_bytes += bytes;
        self.waiting.push_back(Arrived { message, position, at });
    }

    fn take_status(&mut self, slot: usize, status: StatusCode, message: &Message, at: Instant) {
        let number = message.subject.rsplit('.').next().and_then(|token| token.parse::<u64>().ok());
        let Some(Some(pull)) = self.slots.get_mut(slot) else { return };
        if number != Some(pull.number) {
            // Of a pull that was given up.
            return;
        }
        match meaning(status, message.description.as_deref().unwrap_or("")) {
            Meaning::Alive => pull.last_sign = at,
            Meaning::Ended => {
                if !pull.awaits_the_rest(message, at) {
                    self.ended_empty |= !pull.delivered;
                    self.end(slot);
                }
            }
            Meaning::Oversize => {
                if !pull.awaits_the_rest(message, at) {
                    // After others it only means that the bytes are used up.
                    self.oversize |= !pull.delivered;
                    self.end(slot);
                }
            }
            Meaning::Trouble(trouble) => {
                self.end(slot);
                self.trouble = Some(trouble);
                self.upset_at = Some(at);
            }
        }
    }

    fn end(&mut self, slot: usize) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = None;
        }
    }

    /// Gives up pulls that gave no sign of life for twice the heartbeat, or are long past their end. Gives back how
    /// many.
    pub(super) fn give_up_silent(&mut self, now: Instant) -> u64 {
        let mut given_up = 0;
        for place in &mut self.slots {
            let silent = place.as_ref().is_some_and(|pull| now >= pull.deadline());
            if silent {
                *place = None;
                given_up += 1;
                self.upset_at = Some(now);
            }
        }
        given_up
    }

    /// Whether the server owed something when the connection ended.
    pub(super) fn are_outstanding(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }

    /// When something showed last that the server was away: a trouble, or a pull without a sign of life, one that has none now
    /// among them.
    pub(super) fn last_upset(&self, now: Instant) -> Option<Instant> {
        let is_silent = self.slots.iter().flatten().any(|pull| now >= pull.deadline());
        if is_silent { Some(now) } else { self.upset_at }
    }

    /// When `give_up_silent` has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.slots.iter().flatten().map(Outstanding::deadline).min()
    }

    /// For how long the server may still deliver on what is outstanding, its own clock on the pull included.
    pub(super) fn owed_for(&self, now: Instant) -> Duration {
        let ends = self.slots.iter().flatten().map(|pull| pull.ends_at + LATE);
        ends.max().map_or(Duration::ZERO, |ends_at| ends_at.saturating_duration_since(now))
    }

    /// What went wrong, once.
    pub(super) fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Hands out what waits, within the demand; a first message that is too large comes alone.
    pub(super) fn hand_out(&mut self, demand: Demand) -> Vec<Arrived> {
        let mut out = Vec::with_capacity(demand.messages.min(self.waiting.len()));
        let mut bytes = 0usize;
        while out.len() < demand.messages {
            let Some(next) = self.waiting.front() else { break };
            let size = size(&next.message);
            if !out.is_empty() && bytes.saturating_add(size) > demand.bytes {
                break;
            }
            bytes = bytes.saturating_add(size);
            self.waiting_bytes = self.waiting_bytes.saturating_sub(size);
            out.extend(self.waiting.pop_front());
        }
        out
    }

    /// Puts back what was handed out last, in its order.
    pub(super) fn put_back(&mut self, arrived: Vec<Arrived>) {
        for arrived in arrived.into_iter().rev() {
            self.waiting_bytes += size(&arrived.message);
            self.waiting.push_front(arrived);
        }
    }

    /// What to ask for next, if anything: when what is outstanding and waiting is less than half of the demand.
    pub(super) fn next_request(&mut self, demand: Demand, now: Instant) -> Option<Request> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let owed: usize = self.slots.iter().flatten().map(|pull| pull.messages).sum();
        let owed_bytes: usize = self.slots.iter().flatten().map(|pull| pull.bytes).sum();
        let expected = owed + self.waiting.len();
        let (batch, max_bytes) = if self.oversize {
            if expected > 0 {
                return None;
            }
            self.oversize = false;
            (1, 0)
        } else {
            let wanted = demand.messages.saturating_sub(expected);
            let room = demand.bytes.saturating_sub(owed_bytes).saturating_sub(self.waiting_bytes);
            if wanted == 0 || expected >= wanted || (expected > 0 && room < demand.bytes / 4) {
                return None;
            }
            // Half of the bytes at first, so that there are some for the pull that overlaps with it.
            let bytes = if expected == 0 { room / 2 } else { room };
            (wanted.min(LARGEST_BATCH), bytes.clamp(1, MOST_BYTES))
        };
        Some(self.enter(slot, batch, max_bytes, now))
    }

    fn enter(&mut self, slot: usize, batch: usize, max_bytes: usize, now: Instant) -> Request {
        let limits = self.limits;
        let batch = if limits.max_batch > 0 { batch.min(limits.max_batch) } else { batch };
        let max_bytes = match (max_bytes, limits.max_bytes) {
            (0, limit) => limit,
            (wanted, 0) => wanted,
            (wanted, limit) => wanted.min(limit),
        };
        let expires = if limits.max_expires.is_zero() { EXPIRES } else { EXPIRES.min(limits.max_expires) };
        // The server takes a heartbeat of at most half of the expiry.
        let heartbeat = HEARTBEAT.min(expires.mul_f64(0.4));
        let number = self.next_number;
        self.next_number += 1;
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(Outstanding {
                number,
                messages: batch,
                bytes: if max_bytes == 0 { 0 } else { max_bytes },
                delivered: false,
                last_sign: now,
                heartbeat,
                ends_at: now + expires,
                rest_until: None,
            });
        }
        Request { slot, number, batch, max_bytes, expires, heartbeat }
    }

    /// Takes a request back that could not be sent.
    pub(super) fn take_back(&mut self, request: &Request) {
        let same = |pull: &Outstanding| pull.number == request.number;
        if self.slots.get(request.slot).and_then(Option::as_ref).is_some_and(same) {
            self.end(request.slot);
        }
    }
}

impl Outstanding {
    /// Whether messages are still on their way when the server ends the pull: fewer came than it says it has sent. It is
    /// outstanding for those alone from then on.
    fn awaits_the_rest(&mut self, ended: &Message, at: Instant) -> bool {
        let number = |name: &str| ended.headers.as_ref()?.get(name)?.as_str().parse::<usize>().ok();
        let rest = number(PENDING_MESSAGES).map_or(0, |unsent| self.messages.saturating_sub(unsent));
        if rest > 0 {
            self.messages = rest;
            self.bytes = self.bytes.saturating_sub(number(PENDING_BYTES).unwrap_or(0));
            self.delivered = true;
            (self.ends_at, self.rest_until) = (at, Some(at + REST_WITHIN));
        }
        rest > 0
    }

    fn deadline(&self) -> Instant {
        self.rest_until.unwrap_or((self.last_sign + self.heartbeat * 2).min(self.ends_at + self.heartbeat))
    }
}

/// What a message takes of a byte budget, as the server counts it.
fn size(message: &Message) -> usize {
    // The length of what came on the wire: subject, reply subject, headers and body.
    message.length
}

/// What a status says.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// The pull stands.
    Alive,
    /// The pull is over, and that is all.
    Ended,
    /// The next message is larger than the pull allows.
    Oversize,
    /// Something is wrong.
    Trouble(Trouble),
}

/// Reads a status. Codes as of the server's pull protocol; what is not known by name is taken for trouble that passes.
fn meaning(status: StatusCode, description: &str) -> Meaning {
    let said = description.to_ascii_lowercase();
    let trouble = |text: &str| Meaning::Trouble(Trouble::Away(text.to_owned()));
    match status.as_u16() {
        100 => Meaning::Alive,
        // 404: no messages; 408: the time is over.
        404 | 408 => Meaning::Ended,
        409 if said.contains("message size exceeds") => Meaning::Oversize,
        409 if said.contains("batch completed") => Meaning::Ended,
        // The consumer has moved or its server goes: asked again after a pause, the next one answers.
        409 if said.contains("leadership change") || said.contains("server shutdown") => {
            trouble("the consumer is moving to another server")
        }
        409 if said.contains("consumer deleted") => Meaning::Trouble(Trouble::Gone("the consumer was deleted".into())),
        409 if said.contains("consumer is push based") => {
            Meaning::Trouble(Trouble::Gone("the consumer is now a push consumer".into()))
        }
        423 => Meaning::Trouble(Trouble::Gone("the consumer is pinned to another client".into())),
        503 => Meaning::Trouble(Trouble::NoResponders),
        other => trouble(&format!("the server ended the pull: {other} {description}")),
    }
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
