//! A message that was run once more, as it goes over the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LogView;
use crate::deploy::Replay;
use crate::dispatch::told_of_record;
use crate::handler::{Effect, MeasuredValue, Measurement};
use crate::outcome::Outcome;
use crate::settle::dead_letter::DeadLetterRecord;
use crate::settle::outputs::Routed;

/// What came of the message of a dead letter when it was run once more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Replay")]
pub struct ReplayView {
    /// The handler.
    pub handler: String,
    /// The version that it ran on.
    pub version: u64,
    /// Its module.
    pub digest: String,
    /// The attempt that the handler was told it is: the last one that is recorded.
    pub attempt: u32,
    /// How the last run ended that the dead letter tells of.
    pub recorded: RecordedRun,
    /// How it ended now.
    pub replayed: ReplayedRun,
    /// How the two differ, in a few words; empty: they ended alike.
    pub difference: String,
}

/// How the last run ended that a dead letter tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecordedRun {
    /// The outcome code.
    pub outcome: String,
    /// What was said.
    pub error: String,
    /// Fuel that it used.
    pub fuel: u64,
    /// The most memory that it held.
    pub memory_peak_bytes: u64,
    /// How long it took.
    pub run_ms: u64,
}

/// A run that had no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayedRun {
    /// The outcome code.
    pub outcome: String,
    /// What was said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The delay that the handler asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// The guest's frames at a fault, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
    /// Fuel that it used.
    pub fuel: u64,
    /// The fuel that it was given; nothing: it is unmetered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel_limit: Option<u64>,
    /// The most memory that it held.
    pub memory_peak_bytes: u64,
    /// The most that it may hold.
    pub memory_limit_bytes: u64,
    /// How long it took, without what it waited for messages to go first.
    pub run_us: u64,
    /// How long it may take.
    pub timeout_ms: u64,
    /// What it would have sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputView>,
    /// What it would have changed in buckets or asked of hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// What it logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogView>,
    /// What it measured; it was counted nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<MeasurementView>,
}

/// Something that a run would have sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputView {
    /// The broker.
    pub broker: String,
    /// The subject.
    pub subject: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its headers; values that are not text have their foreign bytes replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The size of the body.
    pub body_size: u64,
    /// The body where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// Something that a handler measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Measurement")]
pub struct MeasurementView {
    /// Its name.
    pub name: String,
    /// `count`: added to a counter; `value`: one value of a distribution.
    pub kind: String,
    /// How much.
    pub value: f64,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
}

impl ReplayView {
    /// What came of it, beside what is recorded.
    #[must_use]
    pub fn new(record: &DeadLetterRecord, replay: Replay) -> Self {
        let recorded = RecordedRun::new(record);
        let difference = told_of_record(&recorded.outcome, &replay.run.outcome);
        Self {
            handler: record.handler.clone(),
            version: replay.version.number,
            digest: replay.version.digest.to_string(),
            attempt: replay.attempt,
            recorded,
            difference,
            replayed: ReplayedRun::new(replay),
        }
    }
}

impl RecordedRun {
    fn new(record: &DeadLetterRecord) -> Self {
        // What the message was given up for may be how often it was tried; the last failure says how that ended.
        let outcome = record.history.last().map_or(&record.reason, |last| &last.reason).clone();
        Self {
            outcome,
            error: record.error.clone(),
            fuel: record.fuel_used,
            memory_peak_bytes: record.memory_peak,
            run_ms: record.run_ms,
        }
    }
}

impl ReplayedRun {
    fn new(replay: Replay) -> Self {
        let Replay { version, run, outputs, attempt: _ } = replay;
        let limits = &version.settings.limits;
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (after_ms, backtrace) = match &run.outcome {
            Outcome::Retry { after, .. } => (after.map(millis), Vec::new()),
            Outcome::Defer { after, .. } => (Some(millis(*after)), Vec::new()),
            Outcome::Fault(fault) => (None, fault.backtrace.clone()),
            Outcome::Completed(_) | Outcome::Rejected(_) | Outcome::Skipped(_) => (None, Vec::new()),
        };
        Self {
            outcome: run.outcome.code().0.to_owned(),
            detail: run.outcome.detail(),
            after_ms,
            backtrace,
            fuel: run.usage.fuel,
            fuel_limit: limits.fuel.map(std::num::NonZeroU64::get),
            memory_peak_bytes: run.usage.memory_peak,
            memory_limit_bytes: limits.memory as u64,
            run_us: u64::try_from(run.usage.duration.as_micros()).unwrap_or(u64::MAX),
            timeout_ms: millis(limits.timeout),
            outputs: outputs.into_iter().map(OutputView::new).collect(),
            effects: run.effects,
            logs: run.logs.into_iter().map(LogView::new).collect(),
            measurements: run.measurements.into_iter().map(MeasurementView::new).collect(),
        }
    }
}

impl OutputView {
    fn new(routed: Routed) -> Self {
        let Routed { broker, publish } = routed;
        let (body, body_base64) = match std::str::from_utf8(&publish.body) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&publish.body))),
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Self {
            broker: broker.to_string(),
            subject: publish.subject,
            id: publish.id,
            headers: publish.headers.iter().map(|header| (header.name.clone(), text(&header.value))).collect(),
            body_size: publish.body.len() as u64,
            body,
            body_base64,
        }
    }
}

impl MeasurementView {
    fn new(measurement: Measurement) -> Self {
        let Measurement { name, labels, value } = measurement;
        #[expect(clippy::cast_precision_loss, reason = "a count above 2^53 may lose its last digits where it is shown")]
        let (kind, value) = match value {
            MeasuredValue::Count(count) => ("count", count as f64),
            MeasuredValue::Value(value) => ("value", value),
        };
        Self { name, kind: kind.to_owned(), value, labels }
    }
}
