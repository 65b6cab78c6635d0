//! The settle stage: carries decisions out in groups, and ends what is confirmed.
//!
//! While one group waits for its confirmation, the next one gathers: under load groups grow, and a single message on a
//! quiet subscription waits for nobody.
//!
//! Invariants:
//! - Before each try the lease is asked (I2); when it is over, nothing is sent.
//! - Outputs for other brokers are confirmed before the settlement is sent (I1).
//! - A delivery leaves the table only when its settlement is confirmed, or when nothing more will be sent for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::broker::{Settle, SettleError, Settlement};
use crate::dispatch::decided::{Decided, Verdict};
use crate::dispatch::elsewhere::publish_elsewhere;
use crate::dispatch::gate::Pause;
use crate::dispatch::in_flight::{Fate, Successor};
use crate::dispatch::receive::Line;
use crate::dispatch::shared::Shared;
use crate::dispatch::traced;
use crate::outcome::ReasonCode;
use crate::settle::decide::{Decision, Situation, uncounted_return};
use crate::settle::recover::{Next, PAUSE, after_failure};
use crate::telemetry::{Ending, Operation};

/// Messages in one group at most: what one confirmation vouches for. Larger groups gained nothing when measured.
const GROUP: usize = 512;
/// Groups under way at once: one on the wire, one being confirmed, and two so that neither ever waits for us.
const GROUPS_AT_ONCE: usize = 4;

/// After so many failed tries of one settlement, a second and a half, somebody should know.
const TELL_AFTER_TRIES: u32 = 5;

/// What the loop saw next.
enum Event {
    Decided(Vec<Decided>),
    Tried(Vec<(Decided, Result<(), SettleError>)>),
    Due,
    LastOne,
}

/// Settles until the process stage is gone and everything that it handed over has ended.
pub(crate) async fn settle(shared: Arc<Shared>, mut decided: mpsc::Receiver<Decided>, line: Line) {
    let mut groups = FuturesUnordered::new();
    let mut later: Vec<(Instant, Decided)> = Vec::new();
    let mut open = true;
    loop {
        let due = later.iter().map(|(at, _)| *at).min();
        let idle = groups.is_empty() && due.is_none();
        if !open && idle {
            return;
        }
        let room = open && groups.len() < GROUPS_AT_ONCE;
        let event = tokio::select! {
            biased;
            Some(tried) = groups.next(), if !groups.is_empty() => Event::Tried(tried),
            () = sleep_until(due), if due.is_some() => Event::Due,
            group = gather(&mut decided), if room => group.map_or(Event::LastOne, Event::Decided),
        };
        match event {
            Event::Decided(group) => groups.push(try_group(&shared, group)),
            Event::Tried(tried) => conclude(&shared, tried, &mut later, &line),
            Event::Due => {
                let now = Instant::now();
                let group = later.extract_if(.., |(at, _)| *at <= now).map(|(_, decided)| decided).collect();
                groups.push(try_group(&shared, group));
            }
            Event::LastOne => open = false,
        }
    }
}

/// What has been decided by now, as one group; `None` when there will be no more. Cancel-safe: nothing is taken from
/// the channel unless it is returned.
async fn gather(decided: &mut mpsc::Receiver<Decided>) -> Option<Vec<Decided>> {
    let mut group = Vec::new();
    (decided.recv_many(&mut group, GROUP).await > 0).then_some(group)
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// Tries to carry a group out. Dropped in the middle, it leaves the unknown with the broker.
async fn try_group(shared: &Shared, group: Vec<Decided>) -> Vec<(Decided, Result<(), SettleError>)> {
    let mut tried = Vec::with_capacity(group.len());
    let group = publish_elsewhere(shared, group, &mut tried).await;
    let now = Instant::now();
    let mut sent = Vec::with_capacity(group.len());
    let mut settles = Vec::with_capacity(group.len());
    for mut decided in group {
        let lease_ends_at = decided.entry.lease.ends_at();
        match &decided.settlement {
            Some(settlement) if now < lease_ends_at => {
                let receipt = decided.entry.receipt().clone();
                settles.push(Settle { receipt, settlement: settlement.clone(), lease_ends_at });
                decided.sent_at.get_or_insert(now);
                sent.push(decided);
            }
            Some(_) | None => tried.push((decided, Err(SettleError::LeaseLost))),
        }
    }
    if !settles.is_empty() {
        let (source, began) = (shared.source(), Instant::now());
        let results = source.settle(settles).await;
        shared.metrics.operation(Operation::Settle, began.elapsed());
        shared.metrics.outputs(0, source.take_duplicates());
        tried.extend(sent.into_iter().zip(results));
    }
    tried
}

/// Ends what is confirmed or given over to the broker; what is neither is tried again later.
fn conclude(
    shared: &Shared,
    tried: Vec<(Decided, Result<(), SettleError>)>,
    later: &mut Vec<(Instant, Decided)>,
    line: &Line,
) {
    let now = Instant::now();
    let wall = shared.setup.clock.now();
    let mut ended = Vec::with_capacity(tried.len());
    for (mut decided, result) in tried {
        match result {
            Ok(()) => {}
            Err(error) => match recover(shared, &mut decided, &error, now) {
                Some(at) => {
                    later.push((at, decided));
                    continue;
                }
                None => decided.abandon(),
            },
        }
        if decided.tries > 0 {
            shared.refused.remove(decided.entry.sequence());
        }
        count(shared, &decided, wall, now);
        shared.live.ended(shared, &decided, wall);
        traced::ended(shared, &mut decided, wall, now);
        let fate = match decided.verdict.settled_as {
            Ending::Completed | Ending::Skipped | Ending::AlreadyDone | Ending::DeadLettered => Fate::Done,
            Ending::Retried | Ending::Returned => Fate::Returned { due: decided.due(now) },
            Ending::Abandoned => Fate::Abandoned,
        };
        ended.push((decided.entry, fate));
    }
    for successor in shared.table.finish(&ended, now) {
        match successor {
            // When the line is closed for a drain, the drain finds the entry in the table.
            Successor::Run(entry) => drop(line.try_send(entry)),
            Successor::Acknowledge(entry) => {
                entry.mark_decided();
                let verdict = Verdict { settled_as: Ending::AlreadyDone, reason: ReasonCode::ALREADY_DONE };
                later.push((now, Decided::acknowledged(entry, verdict)));
            }
        }
    }
}

/// What to do about a failed try: when to try again, or `None` to leave the message with the broker.
fn recover(shared: &Shared, decided: &mut Decided, error: &SettleError, now: Instant) -> Option<Instant> {
    decided.settlement.as_ref()?;
    decided.tries += 1;
    let failing_since = *decided.failing_since.get_or_insert(now);
    let subscription = &shared.setup.identity.subscription;
    let (sequence, trace_id) = (decided.entry.sequence(), decided.entry.trace_id());
    let error_text = chain(error);
    if let SettleError::DeadLetter(why) = error {
        shared.metrics.dead_letter_refused();
        shared.refused.add(sequence, why);
    }
    tracing::debug!(%subscription, sequence, trace_id, tries = decided.tries, error = error_text, "a settlement failed");
    // A person should see a trouble that goes on, and not a line a message of it.
    if decided.tries == TELL_AFTER_TRIES && shared.may_warn(now) {
        tracing::warn!(%subscription, sequence, trace_id, error = error_text, "settling fails, and is tried again");
    }
    match after_failure(error, decided.tries, now.duration_since(failing_since)) {
        Next::Again(delay) => Some(now + delay),
        Next::Abandon => None,
        Next::DeadLetter(reason) => {
            decided.decide_again(shared, &Decision::DeadLetter { reason }, Some(&error_text));
            Some(now)
        }
        Next::ReturnAndPause(reason) => {
            let pause = Pause { reason, until: now + PAUSE };
            if shared.gate.close(pause, now) {
                tracing::warn!(%subscription, %reason, error = error_text, "takes nothing new for {PAUSE:?}");
            }
            shared.refused.remove(sequence);
            let decision = return_after_pause(shared, decided, reason);
            decided.decide_again(shared, &decision, Some(&error_text));
            Some(now)
        }
    }
}

/// A return that is bounded by deliveries and age, unless the dead-letter queue is what is missing.
fn return_after_pause(shared: &Shared, decided: &Decided, reason: ReasonCode) -> Decision {
    if reason == ReasonCode::DLQ_UNAVAILABLE {
        return Decision::Return { delay: PAUSE, counted: false, reason };
    }
    let delivery = &decided.entry.delivery;
    let age = shared.setup.clock.now().duration_since(delivery.message.published_at).unwrap_or(Duration::ZERO);
    let situation = Situation { progress: &delivery.progress, policy: &shared.policy(), age, roll: 0.5 };
    uncounted_return(reason, PAUSE, &situation)
}

fn count(shared: &Shared, decided: &Decided, wall: SystemTime, now: Instant) {
    let Verdict { settled_as, reason } = decided.verdict;
    let delivery = &decided.entry.delivery;
    let age = wall.duration_since(delivery.message.published_at).unwrap_or_default();
    if let Some(Settlement::Ack { outputs }) = &decided.settlement
        && !outputs.is_empty()
    {
        shared.metrics.outputs(outputs.len(), 0);
    }
    shared.metrics.settled(settled_as, reason, delivery.progress.attempt(), age);
    if let Some(pick) = decided.entry.runs_on() {
        pick.settled(settled_as);
    }
    let subscription = &shared.setup.identity.subscription;
    let (sequence, trace_id) = (decided.entry.sequence(), decided.entry.trace_id());
    let id = delivery.message.id.as_str();
    match settled_as {
        Ending::Abandoned => {
            shared.metrics.lease_lost();
            tracing::warn!(
                %subscription, sequence, trace_id, id, %reason,
                "nothing was settled; the broker hands the message over again"
            );
        }
        Ending::Completed
        | Ending::Skipped
        | Ending::AlreadyDone
        | Ending::Retried
        | Ending::Returned
        | Ending::DeadLettered => {
            shared.metrics.lease_left(decided.entry.lease.remaining(now));
            let settled = settled_as.name();
            tracing::debug!(%subscription, sequence, trace_id, id, %reason, settled, "settled");
        }
    }
}

/// An error with its causes, for a record.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
