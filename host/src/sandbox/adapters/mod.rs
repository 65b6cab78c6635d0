//! Modules of other contracts, run as if they spoke ours.
//!
//! Those contracts publish in mid-run and know one kind of failure. So:
//! - what a module publishes is kept until it says that it is done, and is then what a handler of ours returns: outputs,
//!   within the same grants and limits, published before the message is acknowledged. A run that fails publishes
//!   nothing, and a second run publishes under the same ids;
//! - a failure is a retry by the subscription's policy, with its text as the detail;
//! - what has no counterpart (asking somebody and waiting for the answer, answering) is refused by the contract's own
//!   error, which the module can handle.

pub(super) mod outbox;
pub(super) mod wasi_logging;
pub(super) mod wasi_messaging;
pub(super) mod wasmcloud;

/// What is said where a module asks for an answer, or gives one.
const NO_ANSWERS: &str = "this host hands over messages from queues, where nobody waits for an answer: publish instead";
