//! Limits that are a little too low for a run, and what must hold under them: the run is stopped, and its message is not
//! done by it. Pure.

use std::iter::successors;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::difference::{Difference, cut};
use crate::handler::Run;
use crate::outcome::{FaultKind, Outcome};
use crate::sandbox::limits::Limits;
use crate::settle::decide::{Decision, Situation, decide};
use crate::settle::policy::RetryPolicy;
use crate::settle::progress::Progress;

/// A limit below what a run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tightened {
    Fuel(NonZeroU64),
    Memory(usize),
}

/// A run that was stopped by a limit, as it has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Which limit: `fuel` or `memory`.
    limit: &'static str,
    /// What it was.
    at: u64,
    /// The outcome's code.
    outcome: &'static str,
    /// What the host would do with the message.
    verdict: Verdict,
}

/// What becomes of a message whose run was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// It comes again, as the next attempt.
    Retry,
    /// It is given up.
    DeadLetter,
}

/// Which attempt a run was, and the last there will be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempts {
    pub(super) this: u32,
    pub(super) last: Option<u32>,
}

impl Tightened {
    /// One less than a run took, so that it is stopped as near to its end as can be; then half of that, and so on, for a run
    /// that gets away: the engine looks at the fuel at calls and at turns of loops, and what comes after the last of them
    /// is not stopped. Empty where no fuel is counted.
    pub(super) fn fuel(taken: u64) -> impl Iterator<Item = Self> {
        let first = NonZeroU64::new(taken.saturating_sub(1));
        successors(first, |fuel| NonZeroU64::new(fuel.get() / 2)).map(Self::Fuel)
    }

    /// One byte less than a run held at once; `None`: it held nothing, as where it did not begin.
    pub(super) fn memory(taken: u64) -> Option<Self> {
        let less = taken.checked_sub(1)?;
        Some(Self::Memory(usize::try_from(less).unwrap_or(usize::MAX)))
    }

    pub(super) fn apply(self, limits: &mut Limits) {
        match self {
            Self::Fuel(fuel) => limits.fuel = Some(fuel),
            Self::Memory(memory) => limits.memory = memory,
        }
    }

    /// How a run under it was stopped, or how it was not as it has to be. One that ended by a fault without it may do so again.
    pub(super) fn judge(self, run: &Run, without: &Outcome, attempts: Attempts) -> Result<Stopped, Difference> {
        let (code, kind) = (run.outcome.code(), self.kind());
        let is_as_without = matches!(without, Outcome::Fault(_)) && code == without.code();
        if code != kind.code() && !is_as_without {
            let detail = run.outcome.detail().map(|detail| format!(" ({})", cut(&detail))).unwrap_or_default();
            let text = format!("expected `{}` with {self}, and it ended `{code}`{detail}", kind.code());
            return Err(Difference::new("outcome", text));
        }
        let (limit, at, taken) = match self {
            Self::Fuel(fuel) => ("fuel", fuel.get(), run.usage.fuel),
            Self::Memory(memory) => ("memory", memory as u64, run.usage.memory_peak),
        };
        if taken > at {
            return Err(Difference::new("usage", format!("it had {self}, and took {taken}")));
        }
        let verdict = verdict(&run.outcome, attempts).map_err(|text| Difference::new("verdict", text))?;
        Ok(Stopped { limit, at, outcome: code.0, verdict })
    }

    const fn kind(self) -> FaultKind {
        match self {
            Self::Fuel(_) => FaultKind::OutOfFuel,
            Self::Memory(_) => FaultKind::MemoryLimit,
        }
    }
}

impl std::fmt::Display for Tightened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fuel(fuel) => write!(f, "a fuel of {fuel}"),
            Self::Memory(memory) => write!(f, "a memory of {memory} bytes"),
        }
    }
}

/// What the host would do with the message: it has to come again, counted; or to be given up, when it was the last attempt or
/// the fault is one that ends it.
fn verdict(outcome: &Outcome, attempts: Attempts) -> Result<Verdict, String> {
    let Attempts { this, last } = attempts;
    let policy = RetryPolicy {
        max_attempts: last.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX),
        // How often it was delivered without a run is nothing that a case says.
        max_deliveries: NonZeroU32::MAX,
        ..RetryPolicy::standard()
    };
    let first = Progress::first(SystemTime::UNIX_EPOCH);
    let progress = Progress { deliveries: this, failures: this.saturating_sub(1), ..first };
    let situation = Situation { progress: &progress, policy: &policy, age: Duration::ZERO, roll: 0.0 };
    let other = match decide(outcome, &situation) {
        Decision::Return { counted: true, .. } => return Ok(Verdict::Retry),
        Decision::DeadLetter { .. } => return Ok(Verdict::DeadLetter),
        Decision::Return { counted: false, .. } => "would come again as the same attempt, without an end",
        Decision::Acknowledge => "would be acknowledged",
    };
    Err(format!("expected another attempt or a dead letter, and the message {other}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::outcome::{Fault, Reason, Usage};

    fn fault(kind: FaultKind) -> Outcome {
        Outcome::Fault(Fault { kind, detail: "said".to_owned(), fingerprint: 7, backtrace: Vec::new() })
    }

    /// How a run is not stopped as it has to be; nothing when it is.
    fn unmet(tightened: Tightened, outcome: Outcome, without: &Outcome) -> String {
        let usage = Usage { fuel: 9, memory_peak: 9, ..Usage::default() };
        let run = Run { usage, ..Run::without_usage(outcome) };
        let judged = tightened.judge(&run, without, Attempts { this: 1, last: None });
        judged.map_or_else(|Difference { what, text, .. }| format!("{what}: {text}"), |_stopped| String::new())
    }

    #[test]
    fn limits_go_below_what_a_run_took() {
        let fuel = |taken| Tightened::fuel(taken).map(|one| one.to_string()).collect::<Vec<_>>();
        assert_eq!(fuel(10), ["a fuel of 9", "a fuel of 4", "a fuel of 2", "a fuel of 1"]);
        assert!(fuel(0).is_empty() && fuel(1).is_empty(), "no fuel is counted, or there is none to take away");
        assert_eq!(Tightened::memory(65_536), Some(Tightened::Memory(65_535)));
        assert_eq!(Tightened::memory(0), None);
        let mut limits = Limits::default();
        Tightened::Memory(5).apply(&mut limits);
        Tightened::Fuel(NonZeroU64::MIN).apply(&mut limits);
        assert_eq!((limits.memory, limits.fuel), (5, Some(NonZeroU64::MIN)));
    }

    #[test]
    fn a_run_has_to_be_stopped_within_its_limit() {
        let (fuel, memory) = (Tightened::Fuel(NonZeroU64::new(9).unwrap()), Tightened::Memory(9));
        let done = || Outcome::Completed(Vec::new());
        let rejected = || Outcome::Rejected(Reason { code: "too-big".to_owned(), detail: None });
        let timeout = || fault(FaultKind::Timeout);
        let rows = [
            (fuel, fault(FaultKind::OutOfFuel), done(), ""),
            (memory, fault(FaultKind::MemoryLimit), rejected(), ""),
            (fuel, timeout(), timeout(), ""),
            (
                fuel,
                timeout(),
                done(),
                "outcome: expected `out-of-fuel` with a fuel of 9, and it ended `timeout` (said)",
            ),
            (fuel, done(), done(), "outcome: expected `out-of-fuel` with a fuel of 9, and it ended `completed`"),
            (
                memory,
                rejected(),
                rejected(),
                "outcome: expected `memory-limit` with a memory of 9 bytes, and it ended `handler-rejected` (too-big)",
            ),
            (
                Tightened::Memory(8),
                fault(FaultKind::MemoryLimit),
                done(),
                "usage: it had a memory of 8 bytes, and took 9",
            ),
            (
                fuel,
                fault(FaultKind::Interrupted),
                fault(FaultKind::Interrupted),
                "verdict: expected another attempt or a dead letter, and the message would come again as the same attempt, \
                 without an end",
            ),
        ];
        for (tightened, outcome, without, expected) in rows {
            let of = format!("{tightened} {outcome:?}");
            assert_eq!(unmet(tightened, outcome, &without), expected, "{of}");
        }
    }

    #[test]
    fn its_message_comes_again_or_is_a_dead_letter() {
        let told = |outcome: &Outcome, this, last| verdict(outcome, Attempts { this, last });
        for kind in [FaultKind::OutOfFuel, FaultKind::MemoryLimit] {
            assert_eq!(told(&fault(kind), 1, None), Ok(Verdict::Retry));
            assert_eq!(told(&fault(kind), 2, Some(3)), Ok(Verdict::Retry));
            assert_eq!(told(&fault(kind), 3, Some(3)), Ok(Verdict::DeadLetter));
        }
        let acknowledged = told(&Outcome::Completed(Vec::new()), 1, None).unwrap_err();
        assert!(acknowledged.ends_with("and the message would be acknowledged"), "{acknowledged}");
    }
}
