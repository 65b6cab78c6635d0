//! The port between dispatch and sandbox: one call of a handler, and what came of it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::broker::lease::Lease;
use crate::message::Message;
use crate::outcome::{Outcome, Usage};

/// Something that handles messages: a version of a handler in the sandbox, or a script in a simulation.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Runs the handler on one message. Always gives a value: whatever the guest does is an outcome.
    ///
    /// Dropping the future stops the run and discards what it did.
    async fn handle(&self, call: Call<'_>) -> Run;

    /// The sha256 of the module that runs, in hex.
    fn digest(&self) -> &str;

    /// It gets messages from now on: it may keep something ready for the next one.
    fn serve(&self) {}

    /// It gets no more messages for now: what it kept ready is dropped. Runs that go on are not disturbed.
    fn rest(&self) {}
}

/// What a handler is told of the message it runs on.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The message.
    pub message: &'a Message,
    /// The subscription that received it.
    pub subscription: &'a str,
    /// The counted run that this is: 1 the first time.
    pub attempt: u32,
    /// The last attempt there will be; `None`: unlimited.
    pub max_attempts: Option<u32>,
    /// What the run before came to.
    pub previous_failure: Option<&'a str>,
    /// The lease on the message, which ends the run when it ends.
    pub lease: &'a Lease,
    /// What becomes of what it changes in mid-run, by its grants.
    pub effects: Effects,
    /// Whether somebody may look at the spans that it makes; else none are kept, and nothing of them is copied.
    pub keeps_spans: bool,
}

/// What becomes of what a run changes elsewhere before it has ended: in a bucket, or at a host that it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effects {
    /// It is done, at once.
    Real,
    /// It is recorded in [`Run::effects`], and nothing is done: what is written to a bucket is seen by this run alone, and
    /// no host is asked.
    Suppressed,
}

/// Something that a run would have done, had its effects been real.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum Effect {
    /// It set a value.
    Set {
        /// The bucket, by the name that the handler uses.
        bucket: String,
        /// The key.
        key: String,
        /// The size of the value.
        bytes: u64,
    },
    /// It removed a value.
    Deleted {
        /// The bucket, by the name that the handler uses.
        bucket: String,
        /// The key.
        key: String,
    },
    /// It added to a number.
    Incremented {
        /// The bucket, by the name that the handler uses.
        bucket: String,
        /// The key.
        key: String,
        /// How much.
        by: i64,
    },
    /// It asked a host.
    Requested {
        /// The method.
        method: String,
        /// Of what, without the query.
        url: String,
    },
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { bucket, key, bytes } => write!(f, "would set {key} in bucket {bucket} to {bytes} bytes"),
            Self::Deleted { bucket, key } => write!(f, "would delete {key} in bucket {bucket}"),
            Self::Incremented { bucket, key, by } => write!(f, "would add {by} to {key} in bucket {bucket}"),
            Self::Requested { method, url } => write!(f, "would send {method} {url}"),
        }
    }
}

impl Effect {
    /// What its texts take.
    #[must_use]
    pub const fn text_bytes(&self) -> usize {
        match self {
            Self::Set { bucket, key, .. } | Self::Deleted { bucket, key } | Self::Incremented { bucket, key, .. } => {
                bucket.len() + key.len()
            }
            Self::Requested { method, url } => method.len() + url.len(),
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone)]
#[must_use]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used, whichever way it ended.
    pub usage: Usage,
    /// What the handler logged, and what it wrote to stdout and stderr, in order; within the limits.
    pub logs: Vec<LogLine>,
    /// What the handler measured, in order; within the limits.
    pub measurements: Vec<Measurement>,
    /// What it would have done elsewhere, in order, where its effects were suppressed; within the limits.
    pub effects: Vec<Effect>,
    /// The spans that it made, where they are kept.
    pub spans: Spans,
}

impl Run {
    /// A run that ended before it began, with no usage.
    pub fn without_usage(outcome: Outcome) -> Self {
        let (logs, measurements, effects) = (Vec::new(), Vec::new(), Vec::new());
        Self { outcome, usage: Usage::default(), logs, measurements, effects, spans: Spans::default() }
    }
}

/// One line of a handler's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: LogLevel,
    /// What was said.
    pub text: String,
    /// Named values.
    pub fields: Vec<(String, String)>,
    /// When, counted from the start of the run.
    pub at: Duration,
    /// The innermost span that was open then, by its place among those that are kept.
    pub span: Option<usize>,
}

/// The spans of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans {
    /// Those that are kept, in the order of their starts: each stands behind the one that it is in.
    pub kept: Vec<Span>,
    /// How many more there were.
    pub dropped: u64,
    /// How often one was ended that was not open.
    pub stray_ends: u64,
}

/// A span that the handler made: a step of its run. Its texts are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub name: String,
    /// Named values.
    pub attributes: Vec<(String, String)>,
    /// How many more there were.
    pub attributes_dropped: usize,
    /// The span that it is in, by its place among those that are kept; `None`: it is in none.
    pub parent: Option<usize>,
    /// When it started, counted from the start of the run.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub end: SpanEnd,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanEnd {
    /// The handler ended it.
    Ended,
    /// The handler ended it and said what had failed.
    Failed(String),
    /// It was open when the one around it was ended.
    WithOuter,
    /// It was open when the run ended.
    WithRun,
}

/// The level of a handler's log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// The finest.
    Trace,
    /// For whoever mends the handler.
    Debug,
    /// What happens when all is well; stdout lines are of this level.
    Info,
    /// Recovered by itself; stderr lines are of this level.
    Warn,
    /// Needs a person.
    Error,
}

impl LogLevel {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One measurement of a handler's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// What was measured.
    pub value: MeasuredValue,
}

/// The value of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MeasuredValue {
    /// Added to a counter.
    Count(u64),
    /// One value of a distribution.
    Value(f64),
}
