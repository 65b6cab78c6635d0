//! A decision in the words of a broker: what to remember with a message that is returned, what to record of one that is
//! given up. Pure: time and the new id are passed in.

use std::sync::Arc;
use std::time::SystemTime;

use crate::broker::{Delivery, Settlement};
use crate::handler::LogLine;
use crate::message::Publish;
use crate::outcome::{FaultKind, Outcome, ReasonCode, Usage};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, MAX_ERROR_BYTES, MAX_LOG_BYTES};
use crate::settle::decide::Decision;
use crate::settle::fingerprint::{self, fingerprint};
use crate::settle::progress::{AttemptRecord, Progress};
use crate::telemetry::trace::SpanContext;

/// Who is deciding: goes into the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The subscription's name.
    pub subscription: Arc<str>,
    /// The broker's name in the configuration.
    pub broker: Arc<str>,
    /// The stream, where the broker has named ones.
    pub stream: Option<Arc<str>>,
    /// The handler's name.
    pub handler: Arc<str>,
    /// The host's name.
    pub host: Arc<str>,
}

/// What is known when a decision is written down.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Who is deciding.
    pub identity: &'a Identity,
    /// The message and its earlier deliveries.
    pub delivery: &'a Delivery,
    /// How the run ended, when there was one.
    pub outcome: Option<&'a Outcome>,
    /// What is to be said, when the outcome does not say it.
    pub detail: Option<&'a str>,
    /// What the run used.
    pub usage: Usage,
    /// The last attempt that there will be.
    pub max_attempts: u32,
    /// What the run logged.
    pub logs: &'a [LogLine],
    /// The span of this delivery; `None`: traces are off.
    pub span: Option<SpanContext>,
    /// The module that ran, in hex; empty when none did.
    pub digest: &'a str,
    /// The number of its version.
    pub version: Option<u64>,
    /// The wall clock.
    pub now: SystemTime,
}

/// Writes a decision down as a settlement. `id` is used for a dead letter only.
pub fn settlement(
    decision: &Decision,
    evidence: &Evidence<'_>,
    outputs: Vec<Publish>,
    id: impl FnOnce() -> DeadLetterId,
) -> Settlement {
    match decision {
        Decision::Acknowledge => Settlement::Ack { outputs },
        Decision::Return { delay, counted, reason } => {
            let progress = remembered(evidence, *counted, *reason);
            Settlement::Return { delay: *delay, progress: Box::new(progress) }
        }
        Decision::DeadLetter { reason } => Settlement::DeadLetter(Box::new(dead_letter(evidence, *reason, id()))),
    }
}

/// What is remembered of a message that is returned.
fn remembered(evidence: &Evidence<'_>, counted: bool, reason: ReasonCode) -> Progress {
    let progress = &evidence.delivery.progress;
    let has_failed = counted || evidence.outcome.is_some_and(failed);
    let mut next = progress.returned(counted, has_failed.then(|| attempt_record(evidence, reason)));
    if matches!(evidence.outcome, Some(Outcome::Defer { .. })) {
        next.defers = next.defers.saturating_add(1);
    }
    if timed_out(evidence.outcome) {
        next.timeouts = next.timeouts.saturating_add(1);
    }
    next
}

/// Whether an outcome is a failure, counted or not.
const fn failed(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Completed(_) | Outcome::Skipped(_) | Outcome::Rejected(_) | Outcome::Defer { .. } => false,
        Outcome::Retry { .. } => true,
        Outcome::Fault(fault) => fault.kind.is_of_the_version(),
    }
}

fn dead_letter(evidence: &Evidence<'_>, reason: ReasonCode, id: DeadLetterId) -> DeadLetter {
    let Evidence { identity, delivery, outcome, usage, max_attempts, logs, span, digest, version, now, .. } = *evidence;
    let message = &delivery.message;
    let mut progress = delivery.progress.clone();
    if outcome.is_some() {
        progress.record(attempt_record(evidence, outcome.map_or(reason, Outcome::code)));
    }
    let backtrace = match outcome {
        Some(Outcome::Fault(fault)) => fault.backtrace.clone(),
        _ => Vec::new(),
    };
    let error = error_text(evidence, reason);
    let record = DeadLetterRecord {
        id,
        reason: reason.0.to_owned(),
        fingerprint: fingerprint(&fingerprint::Error {
            handler: &identity.handler,
            reason: reason.0,
            outcome: outcome.map_or("", |outcome| outcome.code().0),
            text: &error,
            // Where fuel or time ran out is chance.
            frames: if trapped(outcome) { &backtrace } else { &[] },
        }),
        error: cut(&error, MAX_ERROR_BYTES),
        subscription: identity.subscription.to_string(),
        broker: identity.broker.to_string(),
        stream: identity.stream.as_deref().map(str::to_owned),
        subject: message.subject.clone(),
        sequence: message.sequence,
        published_at: message.published_at,
        message_id: message.id.clone(),
        attempts: progress.attempt(),
        max_attempts: Some(max_attempts),
        deliveries: progress.deliveries,
        defers: progress.defers,
        timeouts: progress.timeouts + u32::from(timed_out(outcome)),
        first_seen: progress.first_seen,
        dead_at: now,
        handler: identity.handler.to_string(),
        digest: digest.to_owned(),
        version,
        host: identity.host.to_string(),
        fuel_used: usage.fuel,
        fuel_limit: usage.fuel_limit,
        memory_peak: usage.memory_peak,
        run_ms: millis(usage),
        backtrace,
        logs: last_lines(logs),
        history: progress.history,
        redrives: message.redrives(),
        traceparent: span.map(|span| span.to_string()),
    };
    DeadLetter { record, headers: message.headers.clone(), body: message.body.clone() }
}

fn attempt_record(evidence: &Evidence<'_>, reason: ReasonCode) -> AttemptRecord {
    let fingerprint = match evidence.outcome {
        Some(Outcome::Fault(fault)) => Some(fault.fingerprint),
        _ => None,
    };
    AttemptRecord {
        attempt: evidence.delivery.progress.attempt(),
        at: evidence.now,
        run_ms: millis(evidence.usage),
        reason: reason.0.to_owned(),
        error: cut(&error_text(evidence, reason), 80),
        fingerprint,
        digest: evidence.digest.chars().take(12).collect(),
    }
}

fn error_text(evidence: &Evidence<'_>, reason: ReasonCode) -> String {
    let said = evidence.detail.map(str::to_owned).or_else(|| evidence.outcome.and_then(Outcome::detail));
    said.unwrap_or_else(|| without_words(reason, &evidence.delivery.progress))
}

/// What to say of a message that is given up without a run.
fn without_words(reason: ReasonCode, progress: &Progress) -> String {
    if reason == ReasonCode::HOST_CRASH_SUSPECT {
        return format!(
            "{} of {} deliveries ended without a word: the host was killed, or the broker crashed, while the message ran",
            progress.unexplained(),
            progress.deliveries
        );
    }
    match progress.history.last() {
        Some(last) => {
            format!("given up after {} attempts; the last ended in {}: {}", last.attempt, last.reason, last.error)
        }
        None => format!("given up after {} deliveries, none of which left a word", progress.deliveries),
    }
}

/// The last lines of a log that fit into a record. One that alone is too long is cut.
fn last_lines(logs: &[LogLine]) -> Vec<String> {
    let mut room = MAX_LOG_BYTES;
    let mut lines = Vec::new();
    for line in logs.iter().rev() {
        let mut text = format!("{} {}", line.level.name(), line.text);
        for (name, value) in &line.fields {
            text.push_str(&format!(" {name}={value}"));
        }
        if text.len() > room && lines.is_empty() {
            text = cut(&text, room);
        }
        let Some(left) = room.checked_sub(text.len()) else { break };
        room = left;
        lines.push(text);
    }
    lines.reverse();
    lines
}

fn trapped(outcome: Option<&Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Fault(fault)) if matches!(fault.kind, FaultKind::Trap(_)))
}

fn timed_out(outcome: Option<&Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Fault(fault)) if fault.kind == FaultKind::Timeout)
}

fn millis(usage: Usage) -> u64 {
    u64::try_from(usage.duration.as_millis()).unwrap_or(u64::MAX)
}

/// Cuts a text to at most so many bytes, at a character's border.
fn cut(text: &str, bytes: usize) -> String {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default().to_owned()
}
