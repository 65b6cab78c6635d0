//! What a handler did in a test, with checks that say what it did when they fail.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::TestSpan;
use super::message::fail;
use crate::host::Recorder;
use crate::log::Level;
use crate::{Failure, FailureKind, Output};

/// What a handler did: what it returned, and what it told the host on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    outcome: Result<Vec<TestOutput>, Failure>,
    logs: Vec<LogLine>,
    metrics: Vec<Measurement>,
    spans: Vec<TestSpan>,
}

/// An output, readable.
#[derive(Debug, Clone, PartialEq)]
pub struct TestOutput(Output);

/// One line of the handler's log. Displayed as `info charged cents=5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: Level,
    /// What was said.
    pub text: String,
    /// Named values, in their order.
    pub fields: Vec<(String, String)>,
}

/// One measurement. Displayed as `orders{country="NO"} +1` for a counter, `cents 5` for a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Its name.
    pub name: String,
    /// What was measured.
    pub value: Measured,
    /// Its labels, in their order.
    pub labels: Vec<(String, String)>,
}

/// The value of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measured {
    /// Added to a counter.
    Count(u64),
    /// One value of a distribution.
    Value(f64),
}

impl Ran {
    pub(super) fn new(result: Result<Vec<Output>, Failure>, recorder: Recorder) -> Self {
        let outcome = result.map(|outputs| outputs.into_iter().map(TestOutput).collect());
        let Recorder { logs, metrics, spans, .. } = recorder;
        Self { outcome, logs, metrics, spans }
    }

    /// What the handler returned: its outputs, or its failure.
    pub fn outcome(&self) -> &Result<Vec<TestOutput>, Failure> {
        &self.outcome
    }

    /// The outputs of a handler that is done.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn outputs(&self) -> &[TestOutput] {
        match &self.outcome {
            Ok(outputs) => outputs,
            Err(failure) => fail(&format!("expected the handler to be done, and it returned: {failure}")),
        }
    }

    /// The one output of a handler that is done.
    ///
    /// # Panics
    /// When it failed, or returned no output or several.
    #[track_caller]
    pub fn output(&self) -> &TestOutput {
        match self.outputs() {
            [output] => output,
            outputs => fail(&format!("expected one output, and there are {}: {outputs:?}", outputs.len())),
        }
    }

    /// The failure of a handler that is not done.
    ///
    /// # Panics
    /// When it is done.
    #[track_caller]
    pub fn failure(&self) -> &Failure {
        match &self.outcome {
            Err(failure) => failure,
            Ok(outputs) => fail(&format!("expected a failure, and the handler is done with {outputs:?}")),
        }
    }

    /// Checks that it asked for a retry with this code, and gives back the delay that it asked for.
    ///
    /// # Panics
    /// When it did something else.
    #[track_caller]
    pub fn retried(&self, code: &str) -> Option<Duration> {
        match self.failed_with(code, "retry") {
            FailureKind::Retry { after } => after,
            FailureKind::Defer { .. } | FailureKind::Reject | FailureKind::Skip => self.not_the("retry", code),
        }
    }

    /// Checks that it asked to come back later with this code, and gives back the delay.
    ///
    /// # Panics
    /// When it did something else.
    #[track_caller]
    pub fn deferred(&self, code: &str) -> Duration {
        match self.failed_with(code, "defer") {
            FailureKind::Defer { after } => after,
            FailureKind::Retry { .. } | FailureKind::Reject | FailureKind::Skip => self.not_the("defer", code),
        }
    }

    /// Checks that it rejected the message with this code, and gives back the detail (empty: none).
    ///
    /// # Panics
    /// When it did something else.
    #[track_caller]
    pub fn rejected(&self, code: &str) -> &str {
        match self.failed_with(code, "reject") {
            FailureKind::Reject => self.failure().detail_text().unwrap_or_default(),
            FailureKind::Retry { .. } | FailureKind::Defer { .. } | FailureKind::Skip => self.not_the("reject", code),
        }
    }

    /// Checks that it skipped the message with this code, and gives back the detail (empty: none).
    ///
    /// # Panics
    /// When it did something else.
    #[track_caller]
    pub fn skipped(&self, code: &str) -> &str {
        match self.failed_with(code, "skip") {
            FailureKind::Skip => self.failure().detail_text().unwrap_or_default(),
            FailureKind::Retry { .. } | FailureKind::Defer { .. } | FailureKind::Reject => self.not_the("skip", code),
        }
    }

    /// What the handler logged, in order.
    #[must_use]
    pub fn logs(&self) -> &[LogLine] {
        &self.logs
    }

    /// What the handler measured, in order.
    #[must_use]
    pub fn metrics(&self) -> &[Measurement] {
        &self.metrics
    }

    /// What the handler logged, a line each: `info charged cents=5`.
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        self.logs.iter().map(ToString::to_string).collect()
    }

    /// What the handler measured, a line each: `orders{country="NO"} +1` or `cents 5`.
    #[must_use]
    pub fn metric_lines(&self) -> Vec<String> {
        self.metrics.iter().map(ToString::to_string).collect()
    }

    /// The spans that the handler made, in the order of their starts.
    #[must_use]
    pub fn spans(&self) -> &[TestSpan] {
        &self.spans
    }

    /// The spans that the handler made, a line each, indented by what they are in: `order id=7`, then `  price: failed: no rate`.
    #[must_use]
    pub fn span_lines(&self) -> Vec<String> {
        self.spans.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn failed_with(&self, code: &str, kind: &str) -> FailureKind {
        match &self.outcome {
            Err(failure) if failure.code() == code => failure.kind(),
            Err(_) | Ok(_) => self.not_the(kind, code),
        }
    }

    #[track_caller]
    fn not_the(&self, kind: &str, code: &str) -> ! {
        match &self.outcome {
            Err(failure) => fail(&format!("expected {kind} {code}, and the handler returned: {failure}")),
            Ok(outputs) => fail(&format!("expected {kind} {code}, and the handler is done with {outputs:?}")),
        }
    }
}

impl TestOutput {
    /// The name of the output that it goes to.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.0.raw.to
    }

    /// The subject, when not the output's own.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.raw.subject.as_deref()
    }

    /// The ordering key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.0.raw.key.as_deref()
    }

    /// The media type of the body.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.0.raw.content_type.as_deref()
    }

    /// The message id, when the handler set one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.0.raw.id.as_deref()
    }

    /// The first value under a header's name, when it is UTF-8. Names are compared without regard to ASCII case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.0.raw.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(&header.value).ok()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.raw.body
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        match std::str::from_utf8(self.body()) {
            Ok(text) => text,
            Err(error) => fail(&format!("the output's body is not text: {error}")),
        }
    }

    /// The body, parsed as JSON.
    ///
    /// # Panics
    /// When it does not parse.
    #[must_use]
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(self.body()) {
            Ok(value) => value,
            Err(error) => fail(&format!("the output's body does not parse: {error}: {}", self.text())),
        }
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        write!(f, "{level} {}", self.text)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.labels.is_empty() {
            let labels: Vec<_> = self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            write!(f, "{{{}}}", labels.join(","))?;
        }
        match self.value {
            Measured::Count(by) => write!(f, " +{by}"),
            Measured::Value(value) => write!(f, " {value}"),
        }
    }
}
