//! A subscription's end of JetStream: pulls, hands out under a lease, extends, counts what waits.
//!
//! Invariants:
//! - A message is handed out at most once at a time by this host: one that comes again while its lease here holds is
//!   held back, and its settlement settles both.
//! - Nothing more is asked for on a consumer that somebody changed so that messages would be lost.
//! - What comes while nobody receives is kept for the next `receive`, its lease counted from its arrival.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::JetStream;
use super::counters::Counters;
use super::dead::DeadLetterStore;
use super::exhausted::Exhausted;
use super::held::Held;
use super::link::Link;
use super::losses::Losses;
use super::notes::{Notes, Place};
use super::options::lease_margin;
use super::past;
use super::publish::Publisher;
use super::pull::{Arrived, Pulls, Request, Trouble};
use super::pump::Inboxes;
use super::session::Session;
use super::setup::Bound;
use super::unreadable::Breaks;
use super::upsets::Upsets;
use crate::broker::done::{DoneRecord, SourceId, SourceIdentity};
use crate::broker::{
    Backlog, Delivery, Demand, PastError, PastPage, PastQuery, Receipt, ReceiveError, Settle, SettleError, Source,
    SubscriptionSpec,
};

/// How long `receive` waits for a connection before it says that there is none.
const WAIT_FOR_SESSION: Duration = Duration::from_secs(1);
/// How long `receive` waits for messages before it answers with none. The pull stays with the server meanwhile.
const WAIT_FOR_MESSAGES: Duration = Duration::from_secs(5);
/// Connections that end within so many leases of each other end one soon after the other. What cannot be read comes again
/// when its lease ends, and to any of the hosts of the subscription: ten of them still notice.
const SOON: u32 = 10;

/// A subscription on a stream.
#[derive(Debug)]
pub(super) struct JetStreamSource {
    pub(super) spec: SubscriptionSpec,
    pub(super) link: Arc<Link>,
    pub(super) record: Arc<DoneRecord>,
    pub(super) source: SourceId,
    /// What the hosts of the subscription tell each other.
    pub(super) notes: Arc<Notes>,
    pub(super) place: Place,
    pub(super) publisher: Arc<Publisher>,
    pub(super) dead: Arc<DeadLetterStore>,
    pub(super) losses: Arc<Losses>,
    pub(super) counters: Arc<Counters>,
    /// What the server gave up.
    pub(super) exhausted: Arc<Exhausted>,
    pub(super) bound: Bound,
    /// The inboxes of the present session. Locked for the length of a `receive`.
    pub(super) inboxes: tokio::sync::Mutex<Option<Inboxes>>,
    /// Their pulls, for whoever has no turn.
    latest: Mutex<Weak<Mutex<Pulls>>>,
    /// What is handed out.
    pub(super) held: Held,
    /// When the server was away, beside what the connection and its pulls show.
    pub(super) upsets: Arc<Upsets>,
    /// Whether connections end over what comes on them.
    breaks: Mutex<Breaks>,
    /// Outputs that were stored already, until somebody asks.
    pub(super) duplicates: AtomicU64,
    /// Why nothing is received: somebody changed the consumer so that messages would be lost.
    pub(super) endangered: Mutex<Option<String>>,
}

/// What `receive` does next.
enum Step {
    HandOut(Vec<Arrived>),
    Trouble(Trouble),
    Nothing,
    Ask(Request),
    Wait(Option<Instant>),
}

impl JetStreamSource {
    pub(super) fn new(spec: SubscriptionSpec, bound: Bound, broker: &JetStream) -> Self {
        let identity = SourceIdentity {
            stream: bound.stream.clone(),
            stream_created: bound.stream_created.clone(),
            consumer: spec.name.clone(),
            consumer_created: bound.consumer_created.clone(),
        };
        let source = broker.record.source(&identity);
        let place = Place::of(&identity, lease_duration(&spec));
        Self {
            spec,
            link: Arc::clone(&broker.link),
            record: Arc::clone(&broker.record),
            source,
            notes: Arc::clone(&broker.notes),
            place,
            publisher: Arc::clone(&broker.publisher),
            dead: Arc::clone(&broker.dead),
            losses: Arc::clone(&broker.losses),
            counters: Arc::clone(&broker.counters),
            exhausted: Arc::clone(&broker.exhausted),
            bound,
            inboxes: tokio::sync::Mutex::new(None),
            latest: Mutex::default(),
            held: Held::default(),
            upsets: Arc::default(),
            breaks: Mutex::default(),
            duplicates: AtomicU64::new(0),
            endangered: Mutex::default(),
        }
    }

    /// The stream that it reads.
    pub(super) fn stream(&self) -> &str {
        &self.bound.stream
    }

    /// Opens inboxes on a session, when the consumer is still the one that was subscribed to.
    async fn open_inboxes(&self, session: Arc<Session>) -> Result<Inboxes, ReceiveError> {
        self.look_at_consumer(&session).await?;
        self.losses.look(&session, None).await;
        let standstill = lease_margin(self.spec.ack_wait) / 2;
        let opened = Inboxes::open(session, self.bound.limits, standstill).await;
        let inboxes = opened.map_err(|error| ReceiveError::Away(error.to_string()))?;
        self.listen_for_exhausted(&inboxes).await?;
        self.listen_for_advisories(&inboxes).await?;
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(inboxes.shared_pulls());
        Ok(inboxes)
    }

    fn next_step(&self, inboxes: &Inboxes, demand: Demand) -> Step {
        let now = Instant::now();
        let mut pulls = inboxes.pulls();
        let silent = pulls.give_up_silent(now);
        if silent > 0 {
            self.counters.silent_pulls.fetch_add(silent, Ordering::Relaxed);
            tracing::warn!(subscription = self.spec.name, "no sign of life from the server on a pull; asking anew");
        }
        let out = pulls.hand_out(demand);
        if !out.is_empty() {
            return Step::HandOut(out);
        }
        if let Some(trouble) = pulls.take_trouble() {
            return Step::Trouble(trouble);
        }
        if std::mem::take(&mut pulls.ended_empty) {
            return Step::Nothing;
        }
        match pulls.next_request(demand, now) {
            Some(request) => Step::Ask(request),
            None => Step::Wait(pulls.next_deadline()),
        }
    }

    /// What there is to hand out before anything is asked for; the error says why nothing may be.
    async fn before_asking(&self, session: &Session, most: usize) -> Result<Vec<Delivery>, ReceiveError> {
        let exhausted = self.find_exhausted(session, most).await?;
        if !exhausted.is_empty() {
            return Ok(exhausted);
        }
        let is_endangered = self.endangered().is_some();
        if is_endangered {
            self.look_at_consumer(session).await?;
        }
        if self.breaks().to_look() { self.find_unreadable(session, most).await } else { Ok(Vec::new()) }
    }

    async fn ask(&self, inboxes: &Inboxes, request: Request) -> Result<(), ReceiveError> {
        // Dropped before it was sent, the request is taken back: the server owes nothing.
        let mut asking = Asking { inboxes, request, sent: false };
        let request = &asking.request;
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mut question = json!({
            "batch": request.batch,
            "expires": nanos(request.expires),
            "idle_heartbeat": nanos(request.heartbeat),
        });
        if request.max_bytes > 0
            && let Some(fields) = question.as_object_mut()
        {
            fields.insert("max_bytes".to_owned(), json!(request.max_bytes));
        }
        let session = &inboxes.session;
        let subject = session.api_subject(&format!("CONSUMER.MSG.NEXT.{}.{}", self.bound.stream, self.spec.name));
        let prefix = inboxes.prefixes.get(request.slot).map_or("", String::as_str);
        let reply = format!("{prefix}.{}", request.number);
        let payload = Bytes::from(question.to_string());
        let result = session.send_with_reply(subject, reply, payload).await;
        asking.sent = result.is_ok();
        result.map_err(|error| ReceiveError::Away(error.to_string()))
    }

    /// When the last upset was noticed, one among them that shows only now.
    pub(super) fn last_upset(&self) -> Option<Instant> {
        let pulls = self.latest.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let of_pulls =
            pulls.and_then(|pulls| pulls.lock().unwrap_or_else(PoisonError::into_inner).last_upset(Instant::now()));
        self.upsets.last().max(of_pulls)
    }

    pub(super) fn breaks(&self) -> MutexGuard<'_, Breaks> {
        self.breaks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a lease lasts on our clock.
fn lease_duration(spec: &SubscriptionSpec) -> Duration {
    spec.ack_wait.saturating_sub(lease_margin(spec.ack_wait))
}

/// A request that is being sent.
struct Asking<'a> {
    inboxes: &'a Inboxes,
    request: Request,
    sent: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.sent {
            self.inboxes.pulls().take_back(&self.request);
        }
    }
}

#[async_trait]
impl Source for JetStreamSource {
    async fn receive(&self, demand: Demand) -> Result<Vec<Delivery>, ReceiveError> {
        if self.link.is_closed() {
            return Err(ReceiveError::Closed);
        }
        let until = Instant::now() + WAIT_FOR_MESSAGES;
        // Dropped while waiting for a turn or for messages: nothing is taken out yet. What came stays in the inboxes.
        let mut turn = self.inboxes.lock().await;
        let session = self.link.wait(WAIT_FOR_SESSION).await.map_err(ReceiveError::Away)?;
        if turn.as_ref().is_none_or(|inboxes| inboxes.session.number != session.number) {
            if turn.take().is_some_and(|before| before.pulls().are_outstanding()) {
                self.breaks().note(Instant::now(), self.spec.ack_wait * SOON);
            }
            *turn = Some(self.open_inboxes(session).await?);
        }
        let Some(inboxes) = turn.as_ref() else {
            return Err(ReceiveError::Away("the inboxes were not opened".to_owned()));
        };
        let found = self.before_asking(&inboxes.session, demand.messages).await?;
        if !found.is_empty() {
            return Ok(found);
        }
        loop {
            let wake_at = match self.next_step(inboxes, demand) {
                Step::HandOut(arrived) => {
                    let deliveries = self.hand_out(inboxes, arrived).await;
                    if !deliveries.is_empty() {
                        return Ok(deliveries);
                    }
                    continue;
                }
                Step::Trouble(Trouble::NoResponders) => {
                    self.look_at_consumer(&inboxes.session).await?;
                    return Err(Trouble::NoResponders.into_error());
                }
                Step::Trouble(trouble @ (Trouble::Gone(_) | Trouble::Away(_))) => return Err(trouble.into_error()),
                Step::Nothing => return Ok(Vec::new()),
                Step::Ask(request) => {
                    self.ask(inboxes, request).await?;
                    continue;
                }
                Step::Wait(deadline) => deadline.map_or(until, |deadline| deadline.min(until)),
            };
            tokio::select! {
                () = inboxes.arrived().notified() => {
                    let exhausted = self.find_exhausted(&inboxes.session, demand.messages).await?;
                    if !exhausted.is_empty() {
                        return Ok(exhausted);
                    }
                }
                () = tokio::time::sleep_until(wake_at) => {
                    if Instant::now() >= until {
                        return Ok(Vec::new());
                    }
                }
                () = inboxes.session.ended() => {
                    return Err(ReceiveError::Away("the connection ended".to_owned()));
                }
                () = self.link.closing().cancelled() => return Err(ReceiveError::Closed),
            }
        }
    }

    async fn leftover(&self) -> Vec<Delivery> {
        super::leftover::leftover(self).await
    }

    fn still_owed(&self) -> Duration {
        let pulls = self.latest.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        pulls.map_or(Duration::ZERO, |pulls| {
            pulls.lock().unwrap_or_else(PoisonError::into_inner).owed_for(Instant::now())
        })
    }

    async fn settle(&self, group: Vec<Settle>) -> Vec<Result<(), SettleError>> {
        super::settle::settle(self, group).await
    }

    fn take_duplicates(&self) -> u64 {
        self.duplicates.swap(0, Ordering::Relaxed)
    }

    async fn extend(&self, receipts: &[Receipt]) -> Vec<Option<Instant>> {
        self.extend_all(receipts).await
    }

    async fn backlog(&self) -> Result<Backlog, ReceiveError> {
        super::backlog::count(self).await
    }

    async fn past(&self, query: &PastQuery) -> Result<PastPage, PastError> {
        let session = self.link.wait(WAIT_FOR_SESSION).await.map_err(PastError::Away)?;
        past::page(&session, &self.bound.stream, &self.spec, query).await
    }

    fn lease_duration(&self) -> Duration {
        lease_duration(&self.spec)
    }
}
