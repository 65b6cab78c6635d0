//! The decision: from an outcome to what is to become of the message. Pure: time and chance are passed in.
//!
//! Invariants:
//! - Every outcome has a decision, spelled out by name.
//! - A message that keeps failing ends: by attempts, by deliveries, by age, or by the same fault twice.
//! - While a circuit is open no run counts as an attempt, and deliveries and age bound a message all the same.
//! - Only the host's own faults (no handler, a drain) return a message without any bound.

use std::time::Duration;

use crate::outcome::{Fault, FaultKind, Outcome, ReasonCode};
use crate::settle::policy::{RetryPolicy, jitter};
use crate::settle::progress::Progress;

/// How many deliveries may end without a word before a message is suspected of killing the host, and runs alone.
pub const CRASH_SUSPECT_AFTER: u32 = 3;

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Publish the outputs, then acknowledge.
    Acknowledge,
    /// Give it back, to come again after a delay.
    Return {
        /// From now.
        delay: Duration,
        /// Whether this run counts as an attempt.
        counted: bool,
        /// Why.
        reason: ReasonCode,
    },
    /// Give it up.
    DeadLetter {
        /// Why.
        reason: ReasonCode,
    },
}

/// What a decision rests on, beside the outcome.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What is known of earlier deliveries.
    pub progress: &'a Progress,
    /// How the subscription retries.
    pub policy: &'a RetryPolicy,
    /// The time since the message was published.
    pub age: Duration,
    /// A random number from 0 up to 1, for jitter.
    pub roll: f64,
}

/// What to do with a message before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// Run it.
    Run,
    /// Run it, but alone: it may be what killed the host.
    Quarantine,
    /// Give it up without a run.
    DeadLetter(ReasonCode),
}

/// Decides what to do with a message before it runs: deliveries that ended without a word count, so that a message
/// which kills the host is bounded too.
pub fn admit(progress: &Progress, policy: &RetryPolicy) -> Admission {
    let suspect = progress.unexplained() >= CRASH_SUSPECT_AFTER;
    if progress.attempt() > policy.max_attempts.get() {
        return Admission::DeadLetter(if suspect { ReasonCode::HOST_CRASH_SUSPECT } else { ReasonCode::ATTEMPTS });
    }
    if progress.deliveries > policy.max_deliveries.get() {
        return Admission::DeadLetter(ReasonCode::DELIVERIES);
    }
    if suspect { Admission::Quarantine } else { Admission::Run }
}

/// Decides what becomes of a message whose run has ended.
pub fn decide(outcome: &Outcome, situation: &Situation<'_>) -> Decision {
    match outcome {
        Outcome::Completed(_) | Outcome::Skipped(_) => Decision::Acknowledge,
        Outcome::Rejected(_) => Decision::DeadLetter { reason: outcome.code() },
        Outcome::Retry { after, .. } => {
            let delay = after.map(|delay| delay.min(situation.policy.retry_after_max));
            counted_return(outcome.code(), delay, situation)
        }
        Outcome::Defer { after, .. } => {
            uncounted_return(outcome.code(), (*after).min(situation.policy.retry_after_max), situation)
        }
        Outcome::Fault(fault) => decide_fault(fault, situation),
    }
}

fn decide_fault(fault: &Fault, situation: &Situation<'_>) -> Decision {
    let reason = fault.kind.code();
    match fault.kind {
        // Deterministic as long as the module is the same: the second time proves it.
        FaultKind::Trap(_)
        | FaultKind::OutOfFuel
        | FaultKind::MemoryLimit
        | FaultKind::OutputLimit
        | FaultKind::InvalidResult => {
            let seen = situation.progress.history.iter().any(|past| past.fingerprint == Some(fault.fingerprint));
            if seen { Decision::DeadLetter { reason } } else { counted_return(reason, None, situation) }
        }
        FaultKind::Timeout => counted_return(reason, None, situation),
        FaultKind::Denied | FaultKind::InvalidMessage => Decision::DeadLetter { reason },
        // Between 5 and 30 seconds, spread, so that the messages of a handler that comes back do not all come at once.
        FaultKind::NoHandler => {
            let delay = Duration::from_secs(5) + Duration::from_secs(25).mul_f64(situation.roll.clamp(0.0, 1.0));
            Decision::Return { delay, counted: false, reason }
        }
        FaultKind::Interrupted => Decision::Return { delay: Duration::ZERO, counted: false, reason },
    }
}

/// A run that counts: comes back unless attempts, deliveries or age are used up.
fn counted_return(reason: ReasonCode, delay: Option<Duration>, situation: &Situation<'_>) -> Decision {
    let attempt = situation.progress.attempt();
    if attempt >= situation.policy.max_attempts.get() {
        return Decision::DeadLetter { reason: ReasonCode::ATTEMPTS };
    }
    if let Some(reason) = worn_out(situation) {
        return Decision::DeadLetter { reason };
    }
    let delay = delay.unwrap_or_else(|| jitter(situation.policy.backoff.delay(attempt), situation.roll));
    Decision::Return { delay, counted: true, reason }
}

/// A return that is nobody's fault: comes back unless deliveries or age are used up.
pub fn uncounted_return(reason: ReasonCode, delay: Duration, situation: &Situation<'_>) -> Decision {
    match worn_out(situation) {
        Some(reason) => Decision::DeadLetter { reason },
        None => Decision::Return { delay, counted: false, reason },
    }
}

/// What becomes of a message whose run failed while most runs do, so that this one says little of the message: it does not
/// count, and the message comes back after `aside` at least. A message that is given up for another reason than its attempts
/// (its deliveries, its age, the same fault twice) is given up all the same.
pub fn spare(decision: Decision, reason: ReasonCode, aside: Duration, situation: &Situation<'_>) -> Decision {
    match decision {
        Decision::Return { delay, counted: true, .. } => uncounted_return(reason, delay.max(aside), situation),
        Decision::DeadLetter { reason: given_up } if given_up == ReasonCode::ATTEMPTS => {
            uncounted_return(reason, aside, situation)
        }
        Decision::Acknowledge | Decision::DeadLetter { .. } | Decision::Return { counted: false, .. } => decision,
    }
}

fn worn_out(situation: &Situation<'_>) -> Option<ReasonCode> {
    if situation.progress.deliveries >= situation.policy.max_deliveries.get() {
        Some(ReasonCode::DELIVERIES)
    } else if situation.age >= situation.policy.max_age {
        Some(ReasonCode::EXPIRED)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
