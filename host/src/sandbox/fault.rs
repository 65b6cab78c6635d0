//! Why a run ended without a value: the only place where traps and errors of the engine become faults.
//!
//! Invariants:
//! - Every error that a run can end with has exactly one kind; what is not known to be anything else broke the
//!   contract, and is an invalid result.
//! - The fingerprint depends on the module, the kind and the guest's place, and on nothing that changes between runs.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::outcome::{Fault, FaultKind, TrapCode};

/// The most frames that are kept of a guest's backtrace.
pub const FRAMES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);
/// The most bytes of a fault's detail: what a dead-letter record holds of it.
const DETAIL_BYTES: usize = 4 << 10;

/// How the host stops a run. The resource limiter, the imports and the clock return it through the engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    /// The run's own deadline.
    #[error("ran longer than {} ms", limit.as_millis())]
    Timeout {
        /// How long it could have run, extensions included.
        limit: Duration,
    },
    /// The lease on the message ended first.
    #[error("the lease on the message ended while the handler ran")]
    LeaseOver,
    /// Memories and tables together.
    #[error("memory and tables were to grow to {wanted} bytes, the limit is {limit}")]
    Memory {
        /// What the guest asked for, with what it had.
        wanted: u64,
        /// The limit.
        limit: u64,
    },
    /// Something that is counted.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What is counted, in the plural.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A capability that was not granted.
    #[error("used {capability}, which is not granted to handlers")]
    Denied {
        /// The capability.
        capability: &'static str,
    },
    /// A body that is larger than the handler takes.
    #[error("the body has {size} bytes and the handler takes {limit}")]
    Payload {
        /// The body's size.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

impl Stop {
    const fn kind(&self) -> FaultKind {
        match self {
            Self::Timeout { .. } => FaultKind::Timeout,
            Self::LeaseOver => FaultKind::Interrupted,
            Self::Memory { .. } => FaultKind::MemoryLimit,
            Self::TooMany { .. } => FaultKind::OutputLimit,
            Self::Denied { .. } => FaultKind::Denied,
            Self::Payload { .. } => FaultKind::InvalidMessage,
        }
    }
}

/// What is said of running out of fuel needs the limit, which the engine does not tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    /// The module's digest.
    pub(super) digest: &'a str,
    /// The fuel of the run.
    pub(super) fuel_limit: u64,
    /// The outputs' limit in bytes.
    pub(super) output_bytes: usize,
}

/// A fault that the host found by itself, outside the guest.
pub(super) fn stopped(stop: &Stop, circumstances: &Circumstances<'_>) -> Fault {
    fault(stop.kind(), stop.to_string(), None, circumstances.digest)
}

/// A fault from the error that a call ended with.
pub(super) fn classify(error: &wasmtime::Error, circumstances: &Circumstances<'_>) -> Fault {
    let (kind, detail) = if let Some(stop) = error.downcast_ref::<Stop>() {
        (stop.kind(), stop.to_string())
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        trapped(*trap, circumstances)
    } else if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        (FaultKind::InvalidResult, format!("exited with status {status} instead of returning a result"))
    } else if is_transfer_limit(error) {
        (FaultKind::OutputLimit, format!("handed over more than {} bytes at once", circumstances.output_bytes))
    } else {
        (FaultKind::InvalidResult, format!("broke the contract: {}", error.root_cause()))
    };
    fault(kind, detail, error.downcast_ref::<WasmBacktrace>(), circumstances.digest)
}

/// The engine's own limit on what a guest hands over has a private type, so its text has to do. The version is pinned
/// and the row `outputs that share one body` of the outcome table fails when the text changes.
fn is_transfer_limit(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted")
}

fn trapped(trap: Trap, circumstances: &Circumstances<'_>) -> (FaultKind, String) {
    let code = match trap {
        Trap::OutOfFuel => {
            return (FaultKind::OutOfFuel, format!("used up its fuel of {}", circumstances.fuel_limit));
        }
        Trap::UnreachableCodeReached => TrapCode::Unreachable,
        Trap::StackOverflow => TrapCode::StackOverflow,
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned | Trap::ArrayOutOfBounds => TrapCode::OutOfBounds,
        Trap::IntegerDivisionByZero => TrapCode::DivisionByZero,
        Trap::IntegerOverflow | Trap::BadConversionToInteger => TrapCode::IntegerOverflow,
        Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature => TrapCode::IndirectCall,
        Trap::Interrupt
        | Trap::AtomicWaitNonSharedMemory
        | Trap::NullReference
        | Trap::AllocationTooLarge
        | Trap::CastFailure
        | Trap::UnhandledTag
        | Trap::ContinuationAlreadyConsumed
        | Trap::DisabledOpcode => TrapCode::Other,
        // All others are rules of the component model, and the enum is open: a rule that a later version adds is one
        // that the guest broke.
        _ => return (FaultKind::InvalidResult, format!("broke the component model's rules: {}", sentence(trap))),
    };
    (FaultKind::Trap(code), sentence(trap))
}

fn sentence(trap: Trap) -> String {
    let text = trap.to_string();
    text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
}

fn fault(kind: FaultKind, mut detail: String, backtrace: Option<&WasmBacktrace>, digest: &str) -> Fault {
    let mut hash = Sha256::new();
    hash.update(digest.as_bytes());
    hash.update(kind.code().0.as_bytes());
    let mut frames = Vec::new();
    for frame in backtrace.map(WasmBacktrace::frames).unwrap_or_default().iter().take(FRAMES.get()) {
        hash.update(frame.func_index().to_le_bytes());
        hash.update(frame.func_offset().unwrap_or(usize::MAX).to_le_bytes());
        frames.push(frame_name(frame));
    }
    truncate(&mut detail, DETAIL_BYTES);
    let fingerprint = hash.finalize().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    Fault { kind, detail, fingerprint, backtrace: frames }
}

/// Names are long where generics are deep; a backtrace of 16 stays under 4 KiB.
fn frame_name(frame: &wasmtime::FrameInfo) -> String {
    let mut name = String::new();
    match frame.func_name() {
        Some(mangled) => name += &demangled(mangled),
        None => drop(write!(name, "function {}", frame.func_index())),
    }
    truncate(&mut name, DETAIL_BYTES / FRAMES.get());
    name
}

/// A function's name as its author wrote it. The alternate form leaves out the hash, which changes with every build.
pub(super) fn demangled(mangled: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(mangled))
}

/// Cuts a text at a character's end.
pub(super) fn truncate(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
}
