//! Every row of the outcome table, and the properties that hold over all of them.

#![allow(clippy::unwrap_used, reason = "tests say what went wrong by failing")]

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::outcome::{Reason, TrapCode};
use crate::settle::progress::AttemptRecord;

fn progress(deliveries: u32, uncounted: u32) -> Progress {
    let failures = deliveries.saturating_sub(uncounted).saturating_sub(1);
    Progress { deliveries, uncounted, failures, ..Progress::first(SystemTime::UNIX_EPOCH) }
}

fn reason() -> Reason {
    Reason { code: "gateway-down".into(), detail: None }
}

fn fault(kind: FaultKind, fingerprint: u64) -> Outcome {
    Outcome::Fault(Fault { kind, detail: String::new(), fingerprint, backtrace: Vec::new() })
}

fn after(outcome: &Outcome, progress: &Progress) -> Decision {
    let policy = RetryPolicy::standard();
    decide(outcome, &Situation { progress, policy: &policy, age: Duration::ZERO, roll: 0.5 })
}

/// Every kind of fault; a new one does not compile until it is listed.
fn fault_kinds() -> Vec<FaultKind> {
    let named = |kind| match kind {
        FaultKind::Trap(_)
        | FaultKind::OutOfFuel
        | FaultKind::Timeout
        | FaultKind::MemoryLimit
        | FaultKind::OutputLimit
        | FaultKind::InvalidResult
        | FaultKind::Denied
        | FaultKind::InvalidMessage
        | FaultKind::NoHandler
        | FaultKind::Interrupted => kind,
    };
    [
        FaultKind::Trap(TrapCode::Unreachable),
        FaultKind::Trap(TrapCode::StackOverflow),
        FaultKind::Trap(TrapCode::OutOfBounds),
        FaultKind::Trap(TrapCode::DivisionByZero),
        FaultKind::Trap(TrapCode::IntegerOverflow),
        FaultKind::Trap(TrapCode::IndirectCall),
        FaultKind::Trap(TrapCode::Other),
        FaultKind::OutOfFuel,
        FaultKind::Timeout,
        FaultKind::MemoryLimit,
        FaultKind::OutputLimit,
        FaultKind::InvalidResult,
        FaultKind::Denied,
        FaultKind::InvalidMessage,
        FaultKind::NoHandler,
        FaultKind::Interrupted,
    ]
    .map(named)
    .to_vec()
}

#[test]
fn the_outcome_table_holds_row_by_row() {
    let second = Duration::from_secs(1);
    let back = |delay, counted, reason| Decision::Return { delay, counted, reason: ReasonCode(reason) };
    let dead = |reason| Decision::DeadLetter { reason: ReasonCode(reason) };
    let rows = [
        (Outcome::Completed(Vec::new()), Decision::Acknowledge),
        (Outcome::Skipped(reason()), Decision::Acknowledge),
        (Outcome::Rejected(reason()), dead("handler-rejected")),
        (Outcome::Retry { after: None, reason: reason() }, back(second, true, "handler-retry")),
        (Outcome::Retry { after: Some(second * 7), reason: reason() }, back(second * 7, true, "handler-retry")),
        (
            Outcome::Retry { after: Some(second * 1_000_000), reason: reason() },
            back(second * 86_400, true, "handler-retry"),
        ),
        (Outcome::Defer { after: second * 9, reason: reason() }, back(second * 9, false, "deferred")),
        (fault(FaultKind::Trap(TrapCode::Unreachable), 1), back(second, true, "trap:unreachable")),
        (fault(FaultKind::OutOfFuel, 1), back(second, true, "out-of-fuel")),
        (fault(FaultKind::MemoryLimit, 1), back(second, true, "memory-limit")),
        (fault(FaultKind::OutputLimit, 1), back(second, true, "output-limit")),
        (fault(FaultKind::InvalidResult, 1), back(second, true, "invalid-result")),
        (fault(FaultKind::Timeout, 1), back(second, true, "timeout")),
        (fault(FaultKind::Denied, 1), dead("denied")),
        (fault(FaultKind::InvalidMessage, 1), dead("invalid-message")),
        (fault(FaultKind::NoHandler, 1), back(second * 35 / 2, false, "no-handler")),
        (fault(FaultKind::Interrupted, 1), back(Duration::ZERO, false, "interrupted")),
    ];
    for (outcome, expected) in rows {
        assert_eq!(after(&outcome, &progress(1, 0)), expected, "{outcome:?}");
    }
}

#[test]
fn the_same_fault_twice_is_given_up_and_another_one_is_not() {
    let mut known = progress(2, 0);
    known.history.push(AttemptRecord {
        attempt: 1,
        at: SystemTime::UNIX_EPOCH,
        run_ms: 1,
        reason: "trap:unreachable".into(),
        error: String::new(),
        fingerprint: Some(7),
        digest: "abc".into(),
    });
    let trap = FaultKind::Trap(TrapCode::Unreachable);
    assert_eq!(after(&fault(trap, 7), &known), Decision::DeadLetter { reason: trap.code() });
    assert!(matches!(after(&fault(trap, 8), &known), Decision::Return { counted: true, .. }));
    // A timeout may be the neighbours' load: it takes the normal way, however often.
    assert!(matches!(after(&fault(FaultKind::Timeout, 7), &known), Decision::Return { counted: true, .. }));
}

#[test]
fn the_last_attempt_ends_in_the_dead_letter_queue() {
    let retry = Outcome::Retry { after: None, reason: reason() };
    assert_eq!(after(&retry, &progress(10, 0)), Decision::DeadLetter { reason: ReasonCode::ATTEMPTS });
    // Returns that did not count do not use attempts up.
    assert!(matches!(after(&retry, &progress(10, 3)), Decision::Return { counted: true, .. }));
    let defer = Outcome::Defer { after: Duration::ZERO, reason: reason() };
    assert!(matches!(after(&defer, &progress(99, 98)), Decision::Return { counted: false, .. }));
    assert_eq!(after(&defer, &progress(100, 99)), Decision::DeadLetter { reason: ReasonCode::DELIVERIES });
}

#[test]
fn an_old_message_is_given_up_only_once_it_has_failed() {
    let policy = RetryPolicy::standard();
    let progress = progress(1, 0);
    let situation = Situation { progress: &progress, policy: &policy, age: policy.max_age, roll: 0.0 };
    assert_eq!(decide(&Outcome::Completed(Vec::new()), &situation), Decision::Acknowledge);
    let retry = Outcome::Retry { after: None, reason: reason() };
    assert_eq!(decide(&retry, &situation), Decision::DeadLetter { reason: ReasonCode::EXPIRED });
}

#[test]
fn a_message_that_kills_the_host_runs_alone_and_then_no_more() {
    let policy = RetryPolicy::standard();
    let silent = |deliveries| Progress { deliveries, ..Progress::first(SystemTime::UNIX_EPOCH) };
    assert_eq!(admit(&silent(1), &policy), Admission::Run);
    assert_eq!(admit(&silent(3), &policy), Admission::Run);
    assert_eq!(admit(&silent(4), &policy), Admission::Quarantine);
    assert_eq!(admit(&silent(10), &policy), Admission::Quarantine);
    assert_eq!(admit(&silent(11), &policy), Admission::DeadLetter(ReasonCode::HOST_CRASH_SUSPECT));
    // Failures that were recorded are no sign of a crash.
    assert_eq!(admit(&progress(8, 0), &policy), Admission::Run);
    assert_eq!(admit(&progress(11, 0), &policy), Admission::DeadLetter(ReasonCode::ATTEMPTS));
}

#[test]
fn every_code_a_fault_can_have_is_listed() {
    for kind in fault_kinds() {
        assert!(ReasonCode::ALL.contains(&kind.code()), "{} is not listed", kind.code());
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let kinds = fault_kinds();
    prop_oneof![
        Just(Outcome::Completed(Vec::new())),
        Just(Outcome::Skipped(reason())),
        Just(Outcome::Rejected(reason())),
        proptest::option::of(0u64..1_000_000_000)
            .prop_map(|ms| Outcome::Retry { after: ms.map(Duration::from_millis), reason: reason() }),
        (0u64..1_000_000_000).prop_map(|ms| Outcome::Defer { after: Duration::from_millis(ms), reason: reason() }),
        (0..kinds.len(), 0u64..4).prop_map(move |(index, print)| fault(*kinds.get(index).unwrap(), print)),
    ]
}

proptest! {
    /// I3: whatever a handler does, a message ends within the bounds of its policy.
    #[test]
    fn every_message_ends_within_its_bounds(
        outcomes in proptest::collection::vec(any_outcome(), 1..200),
        attempts in 1u32..12,
        roll in 0.0f64..1.0,
    ) {
        let mut policy = RetryPolicy::standard();
        policy.max_attempts = std::num::NonZeroU32::new(attempts).unwrap();
        policy.max_deliveries = policy.max_attempts.saturating_mul(std::num::NonZeroU32::new(10).unwrap());
        let mut known = Progress::first(SystemTime::UNIX_EPOCH);
        // The host's own faults are not bounded by deliveries; every other way is.
        let mut by_the_host = 0;
        for outcome in outcomes.iter().cycle().take(2_000) {
            let unbounded = matches!(
                outcome,
                Outcome::Fault(Fault { kind: FaultKind::NoHandler | FaultKind::Interrupted, .. })
            );
            if unbounded {
                by_the_host += 1;
                continue;
            }
            if let Admission::DeadLetter(_) = admit(&known, &policy) {
                return Ok(());
            }
            let situation = Situation { progress: &known, policy: &policy, age: Duration::ZERO, roll };
            match decide(outcome, &situation) {
                Decision::Acknowledge | Decision::DeadLetter { .. } => return Ok(()),
                Decision::Return { counted, delay, reason } => {
                    prop_assert!(delay <= Duration::from_secs(7 * 24 * 3600).mul_f64(1.2));
                    known = known.returned(counted, Some(AttemptRecord {
                        attempt: known.attempt(),
                        at: SystemTime::UNIX_EPOCH,
                        run_ms: 0,
                        reason: reason.to_string(),
                        error: String::new(),
                        fingerprint: None,
                        digest: String::new(),
                    }));
                    known.deliveries += 1;
                    prop_assert!(known.attempt() <= attempts);
                    prop_assert!(known.deliveries <= policy.max_deliveries.get());
                }
            }
        }
        prop_assert_eq!(by_the_host, 2_000, "a message went round 2,000 times");
    }

    /// Deciding again on the same facts gives the same decision: nothing hidden takes part.
    #[test]
    fn a_decision_depends_on_its_arguments_only(outcome in any_outcome(), deliveries in 1u32..120, roll in 0.0f64..1.0) {
        let policy = RetryPolicy::patient();
        let known = progress(deliveries, 0);
        let situation = Situation { progress: &known, policy: &policy, age: Duration::from_secs(1), roll };
        prop_assert_eq!(decide(&outcome, &situation), decide(&outcome, &situation));
    }

    /// Backoff grows, and jitter stays within a fifth.
    #[test]
    fn backoff_grows_and_jitter_stays_near(failures in 1u32..60, roll in 0.0f64..=1.0) {
        use crate::settle::policy::Backoff;
        for backoff in [Backoff::Quick, Backoff::Standard, Backoff::Patient] {
            prop_assert!(backoff.delay(failures + 1) >= backoff.delay(failures));
            let delay = backoff.delay(failures);
            let spread = jitter(delay, roll);
            prop_assert!(spread >= delay.mul_f64(0.799) && spread <= delay.mul_f64(1.201));
        }
    }
}

#[test]
fn what_fails_while_a_circuit_is_open_does_not_count_and_is_bounded_all_the_same() {
    let policy = RetryPolicy::standard();
    let aside = Duration::from_secs(60);
    let code = ReasonCode("handler-retry");
    let spared = |decision, progress: &Progress, age| {
        spare(decision, code, aside, &Situation { progress, policy: &policy, age, roll: 0.5 })
    };
    let counted = |delay| Decision::Return { delay, counted: true, reason: code };
    let back = |delay| Decision::Return { delay, counted: false, reason: code };
    let young = Duration::ZERO;
    assert_eq!(spared(counted(Duration::from_secs(1)), &progress(1, 0), young), back(aside));
    assert_eq!(spared(counted(aside * 2), &progress(1, 0), young), back(aside * 2), "a longer wait holds");
    let exhausted = Decision::DeadLetter { reason: ReasonCode::ATTEMPTS };
    assert_eq!(spared(exhausted, &progress(10, 0), young), back(aside));
    // Neither deliveries nor age go on without end, and what is proven is proven.
    let worn_out = Decision::DeadLetter { reason: ReasonCode::DELIVERIES };
    assert_eq!(spared(exhausted, &progress(100, 90), young), worn_out);
    let expired = Decision::DeadLetter { reason: ReasonCode::EXPIRED };
    assert_eq!(spared(counted(aside), &progress(2, 0), policy.max_age), expired);
    for other in [Decision::Acknowledge, Decision::DeadLetter { reason: ReasonCode("trap:unreachable") }, back(young)] {
        assert_eq!(spared(other, &progress(10, 0), young), other);
    }
}
