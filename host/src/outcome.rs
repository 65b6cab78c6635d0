//! What running a handler came to, and what it cost: the word between the sandbox and settling.

use std::fmt;
use std::time::Duration;

use crate::message::Headers;
use bytes::Bytes;

/// What a handler gave back, or the fault that the host found. Every way a run can end is one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The handler is done; its outputs are to be published, then the message acknowledged.
    Completed(Vec<Output>),
    /// Transient: run it again, after the handler's delay or the policy's.
    Retry {
        /// The handler's own delay, when it gave one.
        after: Option<Duration>,
        /// Why.
        reason: Reason,
    },
    /// Not now and nobody's fault: come back after a delay, without costing an attempt.
    Defer {
        /// The handler's delay.
        after: Duration,
        /// Why.
        reason: Reason,
    },
    /// Permanent: to the dead-letter queue.
    Rejected(Reason),
    /// Permanent and worthless: acknowledged and counted as skipped.
    Skipped(Reason),
    /// The handler did not return a value; the host says why.
    Fault(Fault),
}

/// A message that the handler wants published, before the host has resolved where `to` leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The name of an output that the configuration grants; `None`: whichever of them covers the subject, for contracts
    /// that know subjects only.
    pub to: Option<String>,
    /// The subject, when not the output's own.
    pub subject: Option<String>,
    /// The id, when not derived from the message.
    pub id: Option<String>,
    /// Headers, key and media type among them.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

/// A handler's reason for not being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Short and stable, for grouping.
    pub code: String,
    /// For a person to read.
    pub detail: Option<String>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// Why a run ended without a value from the handler, or was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which fault.
    pub kind: FaultKind,
    /// One sentence for a person: what happened, with which limit; at most 4 KiB.
    pub detail: String,
    /// The same for the same fault at the same place of the same module: a hash over the module's digest, the
    /// kind and the guest's backtrace. Twice the same in a row ends in the dead-letter queue.
    pub fingerprint: u64,
    /// The guest's frames, innermost first, when there were any; at most 16.
    pub backtrace: Vec<String>,
}

impl Fault {
    /// There is no version of this handler that a message could run on.
    #[must_use]
    pub fn no_handler(handler: &str) -> Self {
        let detail = format!("handler `{handler}` has no version that could run; deploy one");
        Self { kind: FaultKind::NoHandler, detail, fingerprint: 0, backtrace: Vec::new() }
    }
}

/// The faults that the host tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The guest trapped: unreachable (a panic), out of bounds, stack exhausted, division by zero, and the like.
    Trap(TrapCode),
    /// The fuel of this run was used up.
    OutOfFuel,
    /// The wall clock of this run was used up.
    Timeout,
    /// A memory or a table was to grow past the limit.
    MemoryLimit,
    /// Outputs, log lines, metrics or host calls past their limit.
    OutputLimit,
    /// What the guest gave back is not what the contract says, or it broke the component model's rules.
    InvalidResult,
    /// The guest named an output that is not granted, or used a capability that is not.
    Denied,
    /// The message itself is not acceptable (too large for the handler, not decodable); the handler did not run.
    InvalidMessage,
    /// There is no version of the handler that can run.
    NoHandler,
    /// The host stopped the run for its own reasons (drain, reload).
    Interrupted,
}

/// Why a guest trapped, in the words of the WebAssembly specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrapCode {
    /// `unreachable` was executed; a panic ends here.
    Unreachable,
    /// The call stack was exhausted.
    StackOverflow,
    /// A memory access out of bounds.
    OutOfBounds,
    /// An integer division by zero.
    DivisionByZero,
    /// An integer overflow, in a division or a conversion.
    IntegerOverflow,
    /// A call through a table to a null or mistyped entry, or past its end.
    IndirectCall,
    /// Any other trap.
    Other,
}

impl TrapCode {
    /// The name in reason codes and metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::StackOverflow => "stack-overflow",
            Self::OutOfBounds => "out-of-bounds",
            Self::DivisionByZero => "division-by-zero",
            Self::IntegerOverflow => "integer-overflow",
            Self::IndirectCall => "indirect-call",
            Self::Other => "other",
        }
    }
}

/// What a run used, whichever way it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel that was used, in wasmtime's units.
    pub fuel: u64,
    /// The fuel that the run was given.
    pub fuel_limit: u64,
    /// The most linear memory and table space that was held at once, in bytes.
    pub memory_peak: u64,
    /// Wall clock from the call to its end.
    pub duration: Duration,
    /// How long its instance took to start; `None` when it ran in one that had run before.
    pub start: Option<Duration>,
}

/// The code of an outcome: spelled the same in logs, metric labels, dead-letter headers and the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReasonCode(pub &'static str);

impl ReasonCode {
    /// The handler wants none of the message.
    pub const SKIPPED: Self = Self("skipped");
    /// There is no version of the handler that can run.
    pub const NO_HANDLER: Self = Self("no-handler");
    /// The host stopped before the message was done.
    pub const INTERRUPTED: Self = Self("interrupted");
    /// The subscription is paused or its circuit is open, and the message had not begun.
    pub const PAUSED: Self = Self("paused");
    /// Every counted run was used up.
    pub const ATTEMPTS: Self = Self("attempts-exhausted");
    /// Every delivery was used up, counted or not.
    pub const DELIVERIES: Self = Self("deliveries-exhausted");
    /// The message is older than the subscription's maximum age.
    pub const EXPIRED: Self = Self("expired");
    /// Deliveries of this message ended without a word, again and again: it may kill the host.
    pub const HOST_CRASH_SUSPECT: Self = Self("host-crash-suspect");
    /// An output could not be published for now.
    pub const OUTPUT_UNAVAILABLE: Self = Self("output-unavailable");
    /// An output will never be taken by its broker.
    pub const OUTPUT_REFUSED: Self = Self("output-refused");
    /// The dead-letter queue did not take the record for now.
    pub const DLQ_UNAVAILABLE: Self = Self("dlq-unavailable");
    /// The lease was over before the message could be settled; the broker hands it over again.
    pub const LEASE_LOST: Self = Self("lease-lost");
    /// The message had been settled before and was given back by its broker; it was acknowledged without a run.
    pub const ALREADY_DONE: Self = Self("already-done");
    /// The message was sent back from the dead-letter queue for another subscription; it was acknowledged without a run.
    pub const REDRIVEN_ELSEWHERE: Self = Self("redriven-elsewhere");

    /// Whether the run of a handler can end like that; else it is what the host says of a message that it did not run to
    /// an end, or gave up on.
    #[must_use]
    pub fn ends_a_run(self) -> bool {
        ![
            Self::NO_HANDLER,
            Self::INTERRUPTED,
            Self::PAUSED,
            Self::ATTEMPTS,
            Self::DELIVERIES,
            Self::EXPIRED,
            Self::HOST_CRASH_SUSPECT,
            Self::OUTPUT_UNAVAILABLE,
            Self::OUTPUT_REFUSED,
            Self::DLQ_UNAVAILABLE,
            Self::LEASE_LOST,
            Self::ALREADY_DONE,
            Self::REDRIVEN_ELSEWHERE,
        ]
        .contains(&self)
    }

    /// Every reason code there is, each with its page under `docs/outcomes/`.
    pub const ALL: &'static [Self] = &[
        Self("completed"),
        Self("handler-retry"),
        Self("deferred"),
        Self("handler-rejected"),
        Self::SKIPPED,
        Self("trap:unreachable"),
        Self("trap:stack-overflow"),
        Self("trap:out-of-bounds"),
        Self("trap:division-by-zero"),
        Self("trap:integer-overflow"),
        Self("trap:indirect-call"),
        Self("trap:other"),
        Self("out-of-fuel"),
        Self("timeout"),
        Self("memory-limit"),
        Self("output-limit"),
        Self("invalid-result"),
        Self("denied"),
        Self("invalid-message"),
        Self::NO_HANDLER,
        Self::INTERRUPTED,
        Self::PAUSED,
        Self::ATTEMPTS,
        Self::DELIVERIES,
        Self::EXPIRED,
        Self::HOST_CRASH_SUSPECT,
        Self::OUTPUT_UNAVAILABLE,
        Self::OUTPUT_REFUSED,
        Self::DLQ_UNAVAILABLE,
        Self::LEASE_LOST,
        Self::ALREADY_DONE,
        Self::REDRIVEN_ELSEWHERE,
    ];
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FaultKind {
    /// Whether the version that was to run came to it, by what it is or by its limits; else there was nothing to run, or the host
    /// had reasons of its own.
    #[must_use]
    pub const fn is_of_the_version(self) -> bool {
        match self {
            Self::Trap(_)
            | Self::OutOfFuel
            | Self::Timeout
            | Self::MemoryLimit
            | Self::OutputLimit
            | Self::InvalidResult
            | Self::Denied
            // A message that is too large is so by the version's own limit.
            | Self::InvalidMessage => true,
            Self::NoHandler | Self::Interrupted => false,
        }
    }

    /// The reason code of this fault.
    #[must_use]
    pub const fn code(self) -> ReasonCode {
        ReasonCode(match self {
            Self::Trap(code) => match code {
                TrapCode::Unreachable => "trap:unreachable",
                TrapCode::StackOverflow => "trap:stack-overflow",
                TrapCode::OutOfBounds => "trap:out-of-bounds",
                TrapCode::DivisionByZero => "trap:division-by-zero",
                TrapCode::IntegerOverflow => "trap:integer-overflow",
                TrapCode::IndirectCall => "trap:indirect-call",
                TrapCode::Other => "trap:other",
            },
            Self::OutOfFuel => "out-of-fuel",
            Self::Timeout => "timeout",
            Self::MemoryLimit => "memory-limit",
            Self::OutputLimit => "output-limit",
            Self::InvalidResult => "invalid-result",
            Self::Denied => "denied",
            Self::InvalidMessage => "invalid-message",
            Self::NoHandler => ReasonCode::NO_HANDLER.0,
            Self::Interrupted => ReasonCode::INTERRUPTED.0,
        })
    }
}

impl Outcome {
    /// The reason code of this outcome.
    #[must_use]
    pub const fn code(&self) -> ReasonCode {
        match self {
            Self::Completed(_) => ReasonCode("completed"),
            Self::Retry { .. } => ReasonCode("handler-retry"),
            Self::Defer { .. } => ReasonCode("deferred"),
            Self::Rejected(_) => ReasonCode("handler-rejected"),
            Self::Skipped(_) => ReasonCode::SKIPPED,
            Self::Fault(fault) => fault.kind.code(),
        }
    }

    /// What a person should read about it: the handler's reason or the host's sentence.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Completed(_) => None,
            Self::Retry { reason, .. }
            | Self::Defer { reason, .. }
            | Self::Rejected(reason)
            | Self::Skipped(reason) => Some(reason.to_string()),
            Self::Fault(fault) => Some(fault.detail.clone()),
        }
    }
}
