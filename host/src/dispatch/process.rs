//! The process stage: runs the handler on what stands in line, and decides.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::broker::Standing;
use crate::dispatch::circuit::{Ended, Sign, sign};
use crate::dispatch::decided::{Decided, Verdict};
use crate::dispatch::in_flight::InFlight;
use crate::dispatch::shadow::{Copied, Ran};
use crate::dispatch::shared::Shared;
use crate::dispatch::traced;
use crate::dispatch::trial::Pick;
use crate::dispatch::turns::Place;
use crate::handler::{Call, Effects, Run};
use crate::outcome::{Fault, FaultKind, Outcome, ReasonCode, Usage};
use crate::settle::decide::{Admission, Decision, Situation, admit, decide, spare};
use crate::settle::outputs::{Routed, resolve};
use crate::settle::policy::jitter;
use crate::telemetry::{Ending, logs, says_something};

/// Runs one message after the other until the line is closed and empty, or there are more workers than are wanted. As
/// many of these run as handlers may run at once. When it is dropped in mid-run, the message stands in the table undecided, and the drain returns it.
pub(crate) async fn process(
    shared: Arc<Shared>,
    line: async_channel::Receiver<Arc<InFlight>>,
    settle: mpsc::Sender<Decided>,
    seed: u64,
) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut place = shared.seat.place();
    while let Some(entry) = next(&shared, &line).await {
        // The line does not take part in tokio's cooperation; this does, so that timers and sockets get their turn.
        tokio::task::coop::consume_budget().await;
        if shared.rests() {
            entry.mark_decided();
            hand_over(&shared, &settle, Decided::paused(&shared, &entry));
            continue;
        }
        let decided = match AssertUnwindSafe(process_one(&shared, &mut place, &entry, rng.f64())).catch_unwind().await {
            Ok(decided) => decided,
            Err(_panic) => {
                tracing::error!(
                    subscription = %shared.setup.identity.subscription,
                    sequence = entry.sequence(),
                    "the host panicked while it processed a message; it stays with the broker"
                );
                Decided::abandoned(Arc::clone(&entry))
            }
        };
        entry.mark_decided();
        hand_over(&shared, &settle, decided);
    }
}

/// The channel holds as much as can be in flight, so it refuses only when the settle stage is gone; the message then stays
/// with the broker.
fn hand_over(shared: &Shared, settle: &mpsc::Sender<Decided>, decided: Decided) {
    if settle.try_send(decided).is_err() {
        tracing::error!(subscription = %shared.setup.identity.subscription, "the settle stage is gone");
    }
}

/// The next message in line; `None` when this worker is to end.
async fn next(shared: &Shared, line: &async_channel::Receiver<Arc<InFlight>>) -> Option<Arc<InFlight>> {
    loop {
        let resized = shared.crew.resized();
        if shared.crew.leave() {
            return None;
        }
        if let Ok(entry) = line.try_recv() {
            return Some(entry);
        }
        tokio::select! {
            biased;
            entry = line.recv() => return entry.ok(),
            () = resized => {}
        }
    }
}

async fn process_one(shared: &Shared, place: &mut Place, entry: &Arc<InFlight>, roll: f64) -> Decided {
    let delivery = &entry.delivery;
    if entry.lease.is_over(Instant::now()) {
        return Decided::abandoned(Arc::clone(entry));
    }
    traced::begin(shared, entry);
    match &delivery.standing {
        Standing::Due => {}
        Standing::Done => {
            let verdict = Verdict { settled_as: Ending::AlreadyDone, reason: ReasonCode::ALREADY_DONE };
            return Decided::acknowledged(Arc::clone(entry), verdict);
        }
        Standing::ForAnother => {
            let verdict = Verdict { settled_as: Ending::Skipped, reason: ReasonCode::REDRIVEN_ELSEWHERE };
            return Decided::acknowledged(Arc::clone(entry), verdict);
        }
        Standing::Unreadable(problem) => {
            return Decided::without_run(shared, entry, FaultKind::InvalidMessage.code(), Some(problem));
        }
        Standing::Exhausted => {
            let why = "the server hands it out no more: somebody set `max_deliver` on the consumer while the host ran";
            return Decided::without_run(shared, entry, ReasonCode::DELIVERIES, Some(why));
        }
    }
    match admit(&delivery.progress, &shared.policy()) {
        Admission::DeadLetter(reason) => return Decided::without_run(shared, entry, reason, None),
        Admission::Run => {}
        Admission::Quarantine => {
            tracing::warn!(
                subscription = %shared.setup.identity.subscription,
                sequence = entry.sequence(),
                deliveries = delivery.progress.deliveries,
                trace_id = entry.trace_id(),
                "earlier deliveries of this message ended without a word; it runs alone"
            );
            // The semaphore is never closed; if it were, the message would run beside others.
            let _alone = shared.quarantine.acquire().await;
            if shared.rests() {
                return Decided::paused(shared, entry);
            }
            return run(shared, place, entry, roll).await;
        }
    }
    run(shared, place, entry, roll).await
}

async fn run(shared: &Shared, place: &mut Place, entry: &Arc<InFlight>, roll: f64) -> Decided {
    let message = &entry.delivery.message;
    // From here to its end the message is of this version, whatever comes into the slot meanwhile.
    let pick = shared.slot.pick(message).map(|pick| entry.run_on(pick));
    let watch = traced::watch(shared);
    let run = match pick {
        Some(pick) => call(shared, place, entry, pick).await,
        // Receiving waits for a version, so a message finds none only when the last one went after it came.
        None => Run::without_usage(Outcome::Fault(Fault::no_handler(&shared.setup.identity.handler))),
    };
    let Run { outcome, usage, logs, measurements: _recorded, effects: _real, spans } = run;
    let (outcome, routed) = match pick {
        Some(pick) => resolve(outcome, &pick.version.grants, &shared.setup.identity.subscription, &message.id),
        None => (outcome, Vec::new()),
    };
    if let Some(pick) = pick {
        pick.ran(entry.delivery.progress.deliveries == 1, &outcome, &usage);
    }
    // What is done is told by its counts; of what may be given up the last lines go into the record.
    let last_words = if says_well(&outcome) { Vec::new() } else { logs.clone() };
    let mut ran = traced::ran(entry, watch, pick, (&outcome, usage, &logs), spans);
    let note = shared.live.note(&outcome, logs, &routed);
    // I2: what a run did after its lease was over has no effect.
    if entry.lease.is_over(Instant::now()) {
        return Decided::abandoned(Arc::clone(entry)).noted(note).traced(ran);
    }
    let now = shared.setup.clock.now();
    let policy = shared.policy();
    let situation = Situation {
        progress: &entry.delivery.progress,
        policy: &policy,
        age: now.duration_since(message.published_at).unwrap_or_default(),
        roll,
    };
    let decision = weigh(shared, entry, pick, &outcome, decide(&outcome, &situation), &situation);
    say(shared, entry, &outcome, &decision);
    if let Some(pick) = pick {
        copy(shared, entry, pick, &outcome, &routed, usage);
    }
    // After the copy: what a shadow would have sent is compared without it.
    let routed = traced::send(shared, entry, pick, routed, ran.as_deref_mut());
    Decided::after_run(shared, entry, &outcome, &decision, routed, usage, &last_words).noted(note).traced(ran)
}

/// Whether a run left nothing to be looked into.
fn says_well(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Completed(_) | Outcome::Skipped(_) => true,
        Outcome::Retry { .. } | Outcome::Defer { .. } | Outcome::Rejected(_) | Outcome::Fault(_) => false,
    }
}

/// Tells the circuit how the run ended. While it is not closed a failure does not count, and its message stands aside.
fn weigh(
    shared: &Shared,
    entry: &InFlight,
    pick: Option<&Pick>,
    outcome: &Outcome,
    decision: Decision,
    situation: &Situation<'_>,
) -> Decision {
    let reason = outcome.code();
    // What a canary's candidate fails at is judged there.
    let sign = if pick.is_some_and(|pick| !pick.is_canary()) { sign(outcome) } else { Sign::Nothing };
    let is_proven_bad = sign == Sign::Bad && decision == Decision::DeadLetter { reason };
    let ended = Ended { message: entry.sequence(), sign, is_proven_bad };
    let wall = shared.setup.clock.now();
    let Some(pause) = shared.circuit.ran(ended, reason.0, Instant::now(), wall) else { return decision };
    // By how often it came, so that others get their turn as probes; and no earlier than the next probe.
    let backoff = situation.policy.backoff.delay(situation.progress.deliveries);
    let aside = jitter(backoff, situation.roll).min(shared.circuit.aside()).max(pause);
    spare(decision, reason, aside, situation)
}

async fn call(shared: &Shared, place: &mut Place, entry: &InFlight, pick: &Pick) -> Run {
    let delivery = &entry.delivery;
    let previous_failure = delivery.progress.previous_failure();
    let call = Call {
        message: &delivery.message,
        subscription: &shared.setup.identity.subscription,
        attempt: delivery.progress.attempt(),
        max_attempts: Some(shared.policy().max_attempts.get()),
        previous_failure: previous_failure.as_deref(),
        lease: &entry.lease,
        effects: Effects::Real,
        keeps_spans: traced::keeps_spans(shared, entry),
    };
    let run = place.run(pick.version.handler.handle(call)).await;
    shared.pace.record(run.usage.duration);
    shared.metrics.ran(run.outcome.code(), &run.usage);
    pick.version.measurements.record(&run.measurements);
    let identity = &shared.setup.identity;
    let trace = entry.trace().map(|trace| trace.own.trace);
    logs::pass_on(&identity.handler, &identity.subscription, &delivery.message.id, trace, &run.logs);
    run
}

/// Gives a copy to the shadow that is to see the message, if one is: at its first delivery only, so that it runs there once,
/// and never when it may be what killed the host.
fn copy(shared: &Shared, entry: &InFlight, pick: &Pick, outcome: &Outcome, routed: &[Routed], usage: Usage) {
    let delivery = &entry.delivery;
    let message = &delivery.message;
    if delivery.progress.deliveries != 1 || !says_something(outcome) {
        return;
    }
    let Some(shadow) = pick.shadow(&message.id) else { return };
    let size = message.size() + routed.iter().map(|routed| routed.publish.size()).sum::<usize>();
    shadow.offer(size, || Copied {
        message: message.clone(),
        subscription: Arc::clone(&shared.setup.identity.subscription),
        attempt: delivery.progress.attempt(),
        max_attempts: shared.policy().max_attempts.get(),
        stable: Ran { outcome: outcome.clone(), outputs: routed.to_vec(), usage, effects: None },
    });
}

fn say(shared: &Shared, entry: &InFlight, outcome: &Outcome, decision: &Decision) {
    let subscription = &shared.setup.identity.subscription;
    let (sequence, trace_id) = (entry.sequence(), entry.trace_id());
    match decision {
        Decision::Acknowledge => {
            tracing::debug!(%subscription, sequence, trace_id, outcome = %outcome.code(), "the run ended");
        }
        Decision::Return { delay, counted, reason } => {
            let detail = outcome.detail();
            tracing::debug!(%subscription, sequence, trace_id, %reason, ?delay, counted, detail, "the message comes again");
        }
        Decision::DeadLetter { reason } => {
            let detail = outcome.detail();
            tracing::info!(
                %subscription, sequence, trace_id, %reason, detail, subject = %entry.delivery.message.subject,
                "the message goes to the dead-letter queue"
            );
        }
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
