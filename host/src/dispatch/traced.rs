//! The trace of a message on its way: begun, put into its outputs, and handed over when the message has ended.
//!
//! Where traces are off all of this is one look at an option, and one at the headers of a message that has outputs. Where a
//! trace is not recorded, its ids are known all the same, and nothing is kept of the run unless it failed.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::broker::Settlement;
use crate::dispatch::decided::Decided;
use crate::dispatch::in_flight::InFlight;
use crate::dispatch::shared::Shared;
use crate::dispatch::trial::Pick;
use crate::handler::{LogLine, Spans};
use crate::outcome::{Outcome, Usage};
use crate::settle::outputs::{Grants, Routed};
use crate::telemetry::Ending;
use crate::telemetry::trace::{Given, Message, Ran, Record, Sent, Settled, system};

/// When a run began, by both clocks: the one that a span shows, and the one that does not jump.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    wall: SystemTime,
    began: Instant,
}

/// Begins the trace of a delivery.
pub(crate) fn begin(shared: &Shared, entry: &InFlight) {
    if let Some(tracer) = &shared.tracer {
        let delivery = &entry.delivery;
        entry.trace_as(|| tracer.begin(&delivery.message, delivery.progress.deliveries));
    }
}

/// Looks at the clocks before a run; `None`: traces are off.
pub(crate) fn watch(shared: &Shared) -> Option<Watch> {
    shared.tracer.as_ref().map(|_| Watch { wall: shared.setup.clock.now(), began: Instant::now() })
}

/// Whether the spans that a handler makes may be recorded. Whether its run fails is known when it has ended.
pub(crate) fn keeps_spans(shared: &Shared, entry: &InFlight) -> bool {
    let (Some(tracer), Some(trace)) = (&shared.tracer, entry.trace()) else { return false };
    trace.own.is_sampled() || tracer.keeps_failures()
}

/// What is kept of a run; `None`: its trace is not recorded, and nothing went wrong.
pub(crate) fn ran(
    entry: &InFlight,
    watch: Option<Watch>,
    pick: Option<&Pick>,
    (outcome, usage, logs): (&Outcome, Usage, &[LogLine]),
    spans: Spans,
) -> Option<Box<Ran>> {
    let (watch, trace) = (watch?, entry.trace()?);
    let may_be_kept = match outcome {
        Outcome::Retry { .. } | Outcome::Rejected(_) | Outcome::Fault(_) => true,
        Outcome::Completed(_) | Outcome::Skipped(_) | Outcome::Defer { .. } => trace.own.is_sampled(),
    };
    may_be_kept.then(|| {
        let mut ran = Ran::new((watch.wall, watch.began.elapsed()), outcome, usage, logs, spans);
        if let Some(Pick { version, .. }) = pick {
            version.handler.digest().clone_into(&mut ran.digest);
            ran.version = version.number;
        }
        Box::new(ran)
    })
}

/// Puts the context of a span of its own into each output; where traces are off, the publisher's.
pub(crate) fn send(
    shared: &Shared,
    entry: &InFlight,
    pick: Option<&Pick>,
    mut routed: Vec<Routed>,
    mut ran: Option<&mut Ran>,
) -> Vec<Routed> {
    if routed.is_empty() {
        return routed;
    }
    let Some(trace) = entry.trace() else {
        let given = Given::of(&entry.delivery.message.headers);
        routed.iter_mut().for_each(|output| given.pass_on(&mut output.publish.headers));
        return routed;
    };
    for (index, output) in routed.iter_mut().enumerate() {
        let span = trace.output(index);
        trace.inject(span, &mut output.publish.headers);
        if let (Some(ran), Some(pick)) = (ran.as_deref_mut().filter(|_| trace.own.is_sampled()), pick) {
            let template = template(&pick.version.grants, output);
            let kind = shared.brokers.get(&output.broker).map_or("", |named| named.kind);
            ran.sends(|| Sent::new(span, system(kind), &output.broker, template, &output.publish));
        }
    }
    routed
}

/// What is granted that covers an output: there are as many as the configuration has, whatever subjects a handler names.
fn template<'a>(grants: &'a Grants, output: &Routed) -> &'a str {
    let subject = output.publish.subject.as_str();
    let covering = grants.values().filter(|grant| grant.broker == output.broker && grant.covers(subject));
    covering.map(|grant| grant.subject.as_str()).max_by_key(|granted| granted.len()).unwrap_or_default()
}

/// Hands over what a delivery has come to, when it is to be recorded.
pub(crate) fn ended(shared: &Shared, decided: &mut Decided, wall: SystemTime, now: Instant) {
    let Some(tracer) = &shared.tracer else { return };
    let Some(trace) = decided.entry.trace() else { return };
    let ran = decided.ran.take();
    let ending = decided.verdict.settled_as;
    let is_dead = ending == Ending::DeadLettered;
    // A message that did not run and is not given up either was only passed by.
    if ran.is_none() && !is_dead {
        return;
    }
    let is_grave = is_dead || ran.as_ref().is_some_and(|ran| ran.is_grave);
    let is_recorded = trace.own.is_sampled() || (is_grave && tracer.keeps_failure(wall));
    if !is_recorded {
        return;
    }
    let delivery = &decided.entry.delivery;
    tracer.give(Record {
        place: std::sync::Arc::clone(tracer.place()),
        trace: trace.clone(),
        message: Message::of(&delivery.message, delivery.progress.attempt(), delivery.progress.deliveries),
        ran,
        settled: settled(decided, wall, now),
    });
}

fn settled(decided: &Decided, wall: SystemTime, now: Instant) -> Option<Settled> {
    let settlement = decided.settlement.as_ref()?;
    let dead_letter = match settlement {
        Settlement::DeadLetter(letter) => Some(letter.record.id.to_string()),
        Settlement::Ack { .. } | Settlement::Return { .. } => None,
    };
    let took = now.saturating_duration_since(decided.sent_at.unwrap_or(now));
    let started = wall.checked_sub(took).unwrap_or(wall);
    let (ending, reason) = (decided.verdict.settled_as, decided.verdict.reason);
    Some(Settled { ending, reason, started, took, dead_letter })
}
