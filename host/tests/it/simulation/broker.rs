//! A broker in memory that misbehaves: it is away, loses replies, gives settled messages back, refuses dead letters.
//!
//! It does not fence, as JetStream does not: a settle with an old receipt is applied to the message as it stands. So it
//! can see what a host must never do: settle after its lease on the broker's own clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate::broker::{
    Backlog, Broker, DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery, DeadLetters, Delivery, Demand,
    PublishError, Published, Receipt, ReceiveError, SendBack, Settle, SettleError, Settlement, Source, Standing,
    Status, SubscribeError, SubscriptionSpec, Tally,
};
use tidegate::clock::Clock;
use tidegate::dispatch::{Drained, Subscription};
use tidegate::message::{Headers, Message, Publish};
use tidegate::settle::dead_letter::{DeadLetter, DeadLetterId, StoredDeadLetter};
use tidegate::settle::policy::RetryPolicy;
use tidegate::settle::progress::Progress;
use tokio::time::Instant;

use super::script::Script;

/// How often things go wrong, from 0 to 1 a call.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub away: f64,
    pub reply_lost: f64,
    pub not_applied: f64,
    pub dlq_refuses: f64,
    pub extend_fails: f64,
    /// How often a settled message is handed out once more, as a server does that was killed.
    pub gives_back: f64,
    pub gone: f64,
}

impl Faults {
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        let mut draw = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        Self {
            away: draw(0.4),
            reply_lost: draw(0.3),
            not_applied: draw(0.3),
            dlq_refuses: draw(0.9),
            extend_fails: draw(0.5),
            gives_back: draw(0.2),
            gone: draw(0.05),
        }
    }

    pub const NONE: Self = Self {
        away: 0.0,
        reply_lost: 0.0,
        not_applied: 0.0,
        dlq_refuses: 0.0,
        extend_fails: 0.0,
        gives_back: 0.0,
        gone: 0.0,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Leased { token: u64, until: Instant },
    Waiting { until: Instant },
    Acked,
    Dead,
}

struct Kept {
    message: Message,
    place: Place,
    progress: Progress,
    /// Settled once, whatever happened since.
    done: bool,
}

struct State {
    rng: fastrand::Rng,
    faults: Faults,
    messages: BTreeMap<u64, Kept>,
    tokens: u64,
    /// Published outputs by id, with their bodies; and how often an id came.
    outputs: BTreeMap<String, (Bytes, u32)>,
    dead: BTreeMap<u64, Vec<String>>,
    acked: BTreeSet<u64>,
}

pub struct SimBroker {
    me: Weak<Self>,
    clock: Clock,
    state: Mutex<State>,
}

const ACK_WAIT: Duration = Duration::from_secs(30);
/// The host's clock ends a lease this much before the broker does.
const MARGIN: Duration = Duration::from_secs(3);

impl SimBroker {
    pub fn new(rng: fastrand::Rng, clock: Clock, faults: Faults) -> Arc<Self> {
        let state = State {
            rng,
            faults,
            messages: BTreeMap::new(),
            tokens: 0,
            outputs: BTreeMap::new(),
            dead: BTreeMap::new(),
            acked: BTreeSet::new(),
        };
        Arc::new_cyclic(|me| Self { me: me.clone(), clock, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn seed_message(&self, number: u64, size: usize) {
        let now = self.clock.now();
        let message = Message {
            id: format!("m{number}"),
            subject: format!("in.{}", number % 5),
            headers: Headers::default(),
            body: Bytes::from(vec![b'x'; size]),
            sequence: number,
            published_at: now,
        };
        let progress = Progress { deliveries: 0, ..Progress::first(now) };
        self.lock().messages.insert(number, Kept { message, place: Place::Ready, progress, done: false });
    }

    /// From now on nothing goes wrong any more.
    pub fn calm(&self) {
        self.lock().faults = Faults::NONE;
    }

    pub fn unsettled(&self) -> usize {
        let state = self.lock();
        state.messages.values().filter(|kept| !matches!(kept.place, Place::Acked | Place::Dead)).count()
    }

    /// Waits until the host holds nothing any more.
    pub async fn quiesce(&self, subscription: &Subscription) {
        let deadline = Instant::now() + Duration::from_secs(3600);
        while subscription.held() != (0, 0) {
            assert!(Instant::now() < deadline, "the host holds {:?} though all is settled", subscription.held());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub fn check_drained(&self, drained: &Drained, faults: Faults) {
        let trouble = faults.away + faults.reply_lost + faults.not_applied + faults.dlq_refuses + faults.gives_back;
        if trouble == 0.0 {
            assert_eq!(drained.left, 0, "a drain on a healthy broker gives everything back");
            let state = self.lock();
            let leased = state.messages.values().filter(|kept| matches!(kept.place, Place::Leased { .. })).count();
            // What was on its way to the host when it stopped is the only thing that may be leased.
            assert!(leased <= 40, "{leased} are still leased after a drain");
        }
    }

    /// Published = acknowledged + dead; nothing is both without a redelivery; outputs are there, once, for what is
    /// acknowledged as completed.
    pub fn check_books(&self, published: u64, policy: &RetryPolicy, there: &Self, script: &Script, faults: Faults) {
        let state = self.lock();
        let elsewhere = there.lock();
        assert_eq!(state.messages.len() as u64, published);
        for (sequence, kept) in &state.messages {
            let runs = script.runs(*sequence);
            let story = format!("message {sequence}, runs {runs:?}, place {:?}, dead {:?}", kept.place, state.dead);
            let acked = state.acked.contains(sequence);
            let dead = state.dead.contains_key(sequence);
            assert!(acked || dead, "lost: {story}");
            if faults.gives_back == 0.0 && faults.reply_lost == 0.0 {
                assert!(acked != dead, "settled twice: {story}");
            }
            let good = runs.iter().any(|code| matches!(*code, "completed" | "skipped"));
            // A second delivery of a message that is dead is acknowledged too.
            assert!(!acked || good || dead, "acknowledged without a reason: {story}");
            if acked && runs.contains(&"completed") && !runs.contains(&"skipped") && !dead {
                for index in 0..(*sequence % 4) {
                    let body = Bytes::from(format!("{sequence}:{index}"));
                    let outputs = if index % 2 == 0 { &state.outputs } else { &elsewhere.outputs };
                    let copies = outputs.values().filter(|(one, _)| *one == body).count();
                    assert_eq!(copies, 1, "output {index} stands {copies} times: {story}");
                }
            }
            assert!(runs.len() as u32 <= policy.max_deliveries.get() * 2, "unbounded: {story}");
        }
    }
}

impl State {
    fn chance(&mut self, of: impl Fn(&Faults) -> f64) -> bool {
        let of = of(&self.faults);
        of > 0.0 && self.rng.f64() < of
    }

    fn lag(&mut self) -> Duration {
        Duration::from_millis(if self.rng.u32(0..10) == 0 { self.rng.u64(1..1500) } else { self.rng.u64(0..3) })
    }

    fn publish(&mut self, publish: &Publish) -> Published {
        let id = publish.id.clone().unwrap();
        let slot = self.outputs.entry(id).or_insert_with(|| (publish.body.clone(), 0));
        assert_eq!(slot.0, publish.body, "two outputs share an id");
        slot.1 += 1;
        Published { sequence: 1, duplicate: slot.1 > 1 }
    }

    fn settle(&mut self, settle: &Settle, clock: Clock) -> Result<(), SettleError> {
        let now = Instant::now();
        assert!(now < settle.lease_ends_at + MARGIN, "something was sent for a delivery after its lease");
        if self.chance(|faults| faults.not_applied) {
            return Err(SettleError::Unconfirmed("not applied".into()));
        }
        match &settle.settlement {
            Settlement::Ack { outputs } => {
                if !outputs.is_empty() && self.chance(|faults| faults.away) {
                    return Err(SettleError::Output(PublishError::Unavailable("away".into())));
                }
                for output in outputs {
                    self.publish(output);
                }
                self.acked.insert(settle.receipt.sequence);
                self.place(settle, Place::Acked);
            }
            Settlement::Return { delay, progress } => {
                let until = now + *delay;
                if let Some(kept) = self.messages.get_mut(&settle.receipt.sequence)
                    && !kept.done
                {
                    kept.progress = (**progress).clone();
                }
                self.place(settle, Place::Waiting { until });
            }
            Settlement::DeadLetter(letter) => {
                if self.chance(|faults| faults.dlq_refuses) {
                    return Err(SettleError::DeadLetter("refused".into()));
                }
                assert!(letter.record.dead_at <= clock.now());
                let record = &letter.record;
                assert_eq!(record.sequence, settle.receipt.sequence);
                self.dead.entry(record.sequence).or_default().push(record.reason.clone());
                self.place(settle, Place::Dead);
            }
        }
        if self.chance(|faults| faults.reply_lost) {
            return Err(SettleError::Unconfirmed("the reply was lost".into()));
        }
        Ok(())
    }

    fn place(&mut self, settle: &Settle, place: Place) {
        let back = self.chance(|faults| faults.gives_back);
        let Some(kept) = self.messages.get_mut(&settle.receipt.sequence) else { return };
        // What is done stays done on a broker that works: a late return does not bring it back.
        if matches!(kept.place, Place::Acked | Place::Dead) {
            return;
        }
        let ends = matches!(place, Place::Acked | Place::Dead);
        kept.done |= ends;
        kept.place = if ends && back { Place::Ready } else { place };
    }
}

#[async_trait]
impl Broker for SimBroker {
    async fn check(&self, _: &SubscriptionSpec) -> Result<(), SubscribeError> {
        Ok(())
    }

    async fn subscribe(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Source>, SubscribeError> {
        if self.lock().chance(|faults| faults.away) {
            return Err(SubscribeError::Away { subscription: spec.name.clone(), detail: "away".into() });
        }
        Ok(Arc::new(SimSource(self.me.upgrade().unwrap())))
    }

    async fn publish(&self, messages: Vec<Publish>) -> Vec<Result<Published, PublishError>> {
        let lag = self.lock().lag();
        tokio::time::sleep(lag).await;
        let mut state = self.lock();
        let mut one = |message: &Publish| {
            if state.chance(|faults| faults.away) {
                return Err(PublishError::Unavailable("away".into()));
            }
            let published = state.publish(message);
            if state.chance(|faults| faults.reply_lost) {
                return Err(PublishError::Unavailable("the reply was lost".into()));
            }
            Ok(published)
        };
        messages.iter().map(&mut one).collect()
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(NoDeadLetters)
    }

    fn status(&self) -> Status {
        Status::Connected
    }

    async fn close(&self) {}
}

struct SimSource(Arc<SimBroker>);

impl SimSource {
    /// When something becomes available again by itself.
    fn next_due(&self) -> Instant {
        let state = self.0.lock();
        let due = state.messages.values().filter_map(|kept| match kept.place {
            Place::Leased { until, .. } | Place::Waiting { until } => Some(until),
            Place::Ready | Place::Acked | Place::Dead => None,
        });
        due.min().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    /// Takes what is available, under a lease.
    fn take(&self, demand: Demand) -> Vec<Delivery> {
        let now = Instant::now();
        let mut state = self.0.lock();
        let state = &mut *state;
        let mut taken = Vec::new();
        let mut bytes = 0;
        for kept in state.messages.values_mut() {
            match kept.place {
                Place::Leased { until, .. } | Place::Waiting { until } if until <= now => kept.place = Place::Ready,
                Place::Leased { .. } | Place::Waiting { .. } | Place::Acked | Place::Dead | Place::Ready => {}
            }
            if kept.place != Place::Ready || taken.len() == demand.messages {
                continue;
            }
            let size = kept.message.size();
            if !taken.is_empty() && bytes + size > demand.bytes {
                break;
            }
            bytes += size;
            state.tokens += 1;
            kept.place = Place::Leased { token: state.tokens, until: now + ACK_WAIT };
            kept.progress.deliveries += 1;
            taken.push(Delivery {
                message: kept.message.clone(),
                progress: kept.progress.clone(),
                receipt: Receipt {
                    sequence: kept.message.sequence,
                    token: Bytes::copy_from_slice(&state.tokens.to_be_bytes()),
                },
                lease_ends_at: now + ACK_WAIT - MARGIN,
                standing: if kept.done && state.rng.bool() { Standing::Done } else { Standing::Due },
            });
        }
        taken
    }
}

#[async_trait]
impl Source for SimSource {
    async fn receive(&self, demand: Demand) -> Result<Vec<Delivery>, ReceiveError> {
        assert!(demand.messages > 0 && demand.bytes > 0, "{demand:?}");
        let lag = self.0.lock().lag();
        tokio::time::sleep(lag).await;
        {
            let mut state = self.0.lock();
            if state.chance(|faults| faults.gone) {
                return Err(ReceiveError::Gone("deleted".into()));
            }
            if state.chance(|faults| faults.away) {
                return Err(ReceiveError::Away("away".into()));
            }
        }
        let taken = self.take(demand);
        if !taken.is_empty() {
            return Ok(taken);
        }
        let next = self.next_due().min(Instant::now() + Duration::from_secs(20));
        tokio::time::sleep_until(next).await;
        Ok(self.take(demand))
    }

    async fn settle(&self, group: Vec<Settle>) -> Vec<Result<(), SettleError>> {
        let lag = self.0.lock().lag();
        tokio::time::sleep(lag).await;
        let (results, lag) = {
            let mut state = self.0.lock();
            (group.iter().map(|settle| state.settle(settle, self.0.clock)).collect(), state.lag())
        };
        tokio::time::sleep(lag).await;
        results
    }

    async fn extend(&self, receipts: &[Receipt]) -> Vec<Option<Instant>> {
        let sent = Instant::now();
        let lag = self.0.lock().lag();
        tokio::time::sleep(lag).await;
        let mut state = self.0.lock();
        let state = &mut *state;
        let mut one = |receipt: &Receipt| {
            if state.faults.extend_fails > 0.0 && state.rng.f64() < state.faults.extend_fails {
                return None;
            }
            match &mut state.messages.get_mut(&receipt.sequence)?.place {
                Place::Leased { token, until } if token.to_be_bytes() == receipt.token[..] => {
                    *until = Instant::now() + ACK_WAIT;
                    Some(sent + ACK_WAIT - MARGIN)
                }
                Place::Leased { .. } | Place::Ready | Place::Waiting { .. } | Place::Acked | Place::Dead => None,
            }
        };
        receipts.iter().map(&mut one).collect()
    }

    async fn backlog(&self) -> Result<Backlog, ReceiveError> {
        Ok(Backlog::default())
    }

    fn lease_duration(&self) -> Duration {
        ACK_WAIT - MARGIN
    }
}

/// The simulation looks into the broker itself.
struct NoDeadLetters;

#[async_trait]
impl DeadLetters for NoDeadLetters {
    async fn list(&self, _: &DeadLetterQuery) -> Result<DeadLetterPage, DeadLetterError> {
        Ok(DeadLetterPage::default())
    }

    async fn tally(&self, _: &DeadLetterFilter, tally: Tally) -> Result<Tally, DeadLetterError> {
        Ok(tally)
    }

    async fn get(&self, id: &DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        Err(DeadLetterError::NotFound(id.to_string()))
    }

    async fn send_back(&self, id: &DeadLetterId, _: &SendBack) -> Result<Published, DeadLetterError> {
        Err(DeadLetterError::NotFound(id.to_string()))
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), DeadLetterError> {
        Err(DeadLetterError::NotFound(id.to_string()))
    }

    async fn restore(&self, _: DeadLetter) -> Result<bool, DeadLetterError> {
        Ok(false)
    }

    async fn is_writable(&self) -> Result<(), DeadLetterError> {
        Ok(())
    }

    async fn forget_redriven(&self, _before: std::time::SystemTime, _at_most: usize) -> Result<usize, DeadLetterError> {
        Ok(0)
    }

    async fn depth(&self) -> Result<u64, DeadLetterError> {
        Ok(0)
    }

    async fn oldest(&self) -> Result<Option<std::time::SystemTime>, DeadLetterError> {
        Ok(None)
    }
}
