//! A run as it is shown: for people, and as JSON.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::spans::ShownSpans;
use crate::cli::table::{duration, harmless, number, size};
use crate::handler::{Effect, Handler, LogLine, MeasuredValue, Measurement, Run};
use crate::message::Message;
use crate::outcome::{Outcome, Output};
use crate::sandbox::Version;

/// Everything that came of a run.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Shown {
    module: Module,
    message: ShownMessage,
    outcome: ShownOutcome,
    usage: ShownUsage,
    outputs: Vec<ShownOutput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    effects: Vec<Effect>,
    #[serde(flatten)]
    spans: ShownSpans,
    logs: Vec<ShownLog>,
    measurements: Vec<ShownMeasurement>,
}

#[derive(Debug, Serialize)]
struct Module {
    path: String,
    digest: String,
    size: usize,
    contract: &'static str,
    imports: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownMessage {
    id: String,
    subject: String,
    body_size: usize,
}

#[derive(Debug, Serialize)]
struct ShownOutcome {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backtrace: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownUsage {
    fuel: u64,
    /// `None`: unmetered.
    fuel_limit: Option<u64>,
    memory_peak_bytes: u64,
    memory_limit_bytes: usize,
    duration_us: u64,
    timeout_ms: u64,
}

#[derive(Debug, Serialize)]
struct ShownOutput {
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownLog {
    at_us: u64,
    level: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<(String, String)>,
    /// The span that it was written in, by its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<usize>,
}

#[derive(Debug, Serialize)]
struct ShownMeasurement {
    name: String,
    kind: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<(String, String)>,
}

impl Shown {
    pub(in crate::cli) fn new(path: &str, version: &Version, message: &Message, run: &Run) -> Self {
        let limits = version.limits();
        let outputs: &[Output] = match &run.outcome {
            Outcome::Completed(outputs) => outputs,
            Outcome::Retry { .. }
            | Outcome::Defer { .. }
            | Outcome::Rejected(_)
            | Outcome::Skipped(_)
            | Outcome::Fault(_) => &[],
        };
        Self {
            module: Module {
                path: path.to_owned(),
                digest: version.digest().to_owned(),
                size: version.size(),
                contract: version.contract().export(),
                imports: version.imports().map(str::to_owned).collect(),
            },
            message: ShownMessage {
                id: message.id.clone(),
                subject: message.subject.clone(),
                body_size: message.body.len(),
            },
            outcome: outcome(&run.outcome),
            usage: ShownUsage {
                fuel: run.usage.fuel,
                fuel_limit: limits.fuel.map(std::num::NonZeroU64::get),
                memory_peak_bytes: run.usage.memory_peak,
                memory_limit_bytes: limits.memory,
                duration_us: micros(run.usage.duration),
                timeout_ms: u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX),
            },
            outputs: outputs.iter().map(output).collect(),
            effects: run.effects.clone(),
            spans: ShownSpans::new(&run.spans),
            logs: run.logs.iter().map(log).collect(),
            measurements: run.measurements.iter().map(measurement).collect(),
        }
    }

    pub(in crate::cli) fn for_people(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { module, message, outcome, usage, .. } = self;
        let digest = module.digest.get(..12).unwrap_or(&module.digest);
        writeln!(out, "module    {} ({digest}, {})", module.path, size(module.size as u64))?;
        writeln!(out, "contract  {}", module.contract)?;
        let (id, subject) = (indented(&message.id), indented(&message.subject));
        writeln!(out, "message   {id} on {subject}, {}", size(message.body_size as u64))?;
        write!(out, "outcome   {}", outcome.code)?;
        if let Some(after) = outcome.after_ms {
            write!(out, " after {}", duration(std::time::Duration::from_millis(after)))?;
        }
        writeln!(out)?;
        if let Some(detail) = &outcome.detail {
            writeln!(out, "          {}", indented(detail))?;
        }
        for frame in &outcome.backtrace {
            writeln!(out, "          at {}", indented(frame))?;
        }
        match usage.fuel_limit {
            Some(limit) => writeln!(out, "fuel      {} of {}", number(usage.fuel), number(limit))?,
            None => writeln!(out, "fuel      unmetered")?,
        }
        let (took, timeout) = (std::time::Duration::from_micros(usage.duration_us), usage.timeout_ms);
        writeln!(out, "time      {} of {}", duration(took), duration(std::time::Duration::from_millis(timeout)))?;
        let (peak, limit) = (size(usage.memory_peak_bytes), size(usage.memory_limit_bytes as u64));
        writeln!(out, "memory    {peak} of {limit}")?;
        self.write_lists(out)
    }

    fn write_lists(&self, out: &mut String) -> std::fmt::Result {
        for output in &self.outputs {
            write!(out, "output    {}", output.to.as_deref().map_or("by its subject".into(), indented))?;
            if let Some(subject) = &output.subject {
                write!(out, " subject {}", indented(subject))?;
            }
            if let Some(id) = &output.id {
                write!(out, " id {}", indented(id))?;
            }
            writeln!(out, ", {}", size(output.size as u64))?;
            for (name, value) in &output.headers {
                writeln!(out, "          {}: {}", indented(name), indented(value))?;
            }
            match (&output.body, &output.body_base64) {
                (Some(body), _) if !body.is_empty() => writeln!(out, "          {}", indented(body))?,
                (None, Some(body)) => writeln!(out, "          base64 {body}")?,
                (Some(_) | None, _) => {}
            }
        }
        for effect in &self.effects {
            writeln!(out, "effect    {}", indented(&effect.to_string()))?;
        }
        self.spans.write(out)?;
        for line in &self.logs {
            let at = duration(std::time::Duration::from_micros(line.at_us));
            write!(out, "log       {at} {} {}", line.level, indented(&line.text))?;
            write_values(out, &line.fields)?;
            writeln!(out)?;
        }
        for measurement in &self.measurements {
            write!(out, "measured  {} {} {}", measurement.kind, indented(&measurement.name), measurement.value)?;
            write_values(out, &measurement.labels)?;
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Named values, behind what they are of.
pub(super) fn write_values(out: &mut String, values: &[(String, String)]) -> std::fmt::Result {
    values.iter().try_for_each(|(name, value)| write!(out, " {}={}", indented(name), indented(value)))
}

/// A text of several lines, each under the first: what a stranger wrote begins no line as ours begin.
pub(super) fn indented(text: &str) -> String {
    harmless(text.trim_end()).replace('\n', "\n          ")
}

fn outcome(outcome: &Outcome) -> ShownOutcome {
    let millis = |delay: std::time::Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let (after_ms, backtrace) = match outcome {
        Outcome::Retry { after, .. } => (after.map(millis), Vec::new()),
        Outcome::Defer { after, .. } => (Some(millis(*after)), Vec::new()),
        Outcome::Fault(fault) => (None, fault.backtrace.clone()),
        Outcome::Completed(_) | Outcome::Rejected(_) | Outcome::Skipped(_) => (None, Vec::new()),
    };
    ShownOutcome { code: outcome.code().0, detail: outcome.detail(), after_ms, backtrace }
}

fn output(output: &Output) -> ShownOutput {
    let (body, body_base64) = match std::str::from_utf8(&output.body) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(&output.body))),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    ShownOutput {
        to: output.to.clone(),
        subject: output.subject.clone(),
        id: output.id.clone(),
        headers: output.headers.iter().map(|header| (header.name.clone(), text(&header.value))).collect(),
        size: output.body.len(),
        body,
        body_base64,
    }
}

fn log(line: &LogLine) -> ShownLog {
    let LogLine { level, text, fields, at, span } = line;
    ShownLog { at_us: micros(*at), level: level.name(), text: text.clone(), fields: fields.clone(), span: *span }
}

fn measurement(measurement: &Measurement) -> ShownMeasurement {
    #[expect(clippy::cast_precision_loss, reason = "a count above 2^53 may lose its last digits where it is shown")]
    let (kind, value) = match measurement.value {
        MeasuredValue::Count(count) => ("count", count as f64),
        MeasuredValue::Value(value) => ("value", value),
    };
    ShownMeasurement { name: measurement.name.clone(), kind, value, labels: measurement.labels.clone() }
}

pub(super) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{Span, SpanEnd, Spans};

    fn shown(forged: &str) -> Shown {
        let text = || forged.to_owned();
        let values = || vec![(text(), text())];
        let span = Span {
            name: text(),
            attributes: values(),
            attributes_dropped: 0,
            parent: None,
            at: std::time::Duration::ZERO,
            took: std::time::Duration::ZERO,
            end: SpanEnd::Failed(text()),
        };
        let output = ShownOutput {
            to: Some(text()),
            subject: Some(text()),
            id: Some(text()),
            headers: values(),
            size: 0,
            body: Some(text()),
            body_base64: None,
        };
        Shown {
            module: Module { path: "m".to_owned(), digest: String::new(), size: 0, contract: "", imports: Vec::new() },
            message: ShownMessage { id: text(), subject: text(), body_size: 0 },
            outcome: ShownOutcome { code: "skipped", detail: Some(text()), after_ms: None, backtrace: vec![text()] },
            usage: ShownUsage {
                fuel: 0,
                fuel_limit: None,
                memory_peak_bytes: 0,
                memory_limit_bytes: 0,
                duration_us: 0,
                timeout_ms: 0,
            },
            outputs: vec![output],
            effects: Vec::new(),
            spans: ShownSpans::new(&Spans { kept: vec![span], ..Spans::default() }),
            logs: vec![ShownLog { at_us: 0, level: "info", text: text(), fields: values(), span: None }],
            measurements: vec![ShownMeasurement { name: text(), kind: "count", value: 1.0, labels: values() }],
        }
    }

    #[test]
    fn nothing_that_a_message_or_its_handler_says_begins_a_line_as_the_hosts_own_do() {
        let text = shown("x\noutcome   completed").for_people();
        assert!(text.matches("outcome   completed").count() >= 15, "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("outcome")).collect::<Vec<_>>(), ["outcome   skipped"]);
        assert!(text.lines().all(|line| !line.starts_with("outcome   completed")), "{text}");
    }
}
