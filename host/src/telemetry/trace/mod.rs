//! Traces: what becomes of a message, from its publisher through each attempt to where its outputs and its dead letter go.
//!
//! ```text
//! publisher --traceparent--> process (one an attempt) --+--> send (one an output) --traceparent--> whoever is next
//!                                                       |--> what the handler made, nested as it was
//!                                                       '--> ack | nak | dead-letter
//! ```
//!
//! Invariants:
//! - Nothing of a message waits for its trace: a record is handed over without waiting, or dropped and counted.
//! - All attempts of a message are in one trace, on whichever host they are, whether or not its publisher began one.
//! - A message whose trace is not recorded has an id of its trace all the same: in the log, its dead letter, its outputs.
//! - What is kept of a delivery is bounded, and so is what waits to be exported.
//! - No body is in a span.

mod context;
mod made;
mod record;
mod sampler;
mod sink;
mod spans;
mod tracer;

pub use context::{Given, SpanContext, SpanId, TraceId};
pub(crate) use record::{Message, Ran, Record, Sent, Settled};
pub use sampler::Sampler;
pub(crate) use sink::sink;
pub use sink::{Queue, Sink};
pub(crate) use spans::{Event, Kind, Span, Value, spans};
pub(crate) use tracer::system;
pub use tracer::{Place, Trace, Tracer, Traces};
