//! What the host offers to a handler in mid-run: the imports of the contract in a module, a recorder in a native test.

#[cfg(target_family = "wasm")]
mod imports;
#[cfg(not(target_family = "wasm"))]
mod recorder;

#[cfg(target_family = "wasm")]
pub(crate) use imports::{count, end_span, extend, log, previous_failure, record_value, remaining_ms, start_span};
#[cfg(not(target_family = "wasm"))]
pub(crate) use recorder::{
    Recorder, count, end_span, extend, log, previous_failure, record, record_value, remaining_ms, start_span,
};
