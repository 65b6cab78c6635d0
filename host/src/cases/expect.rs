//! How a run must end, and how one is not as expected. Pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::difference::{Difference, OTHER_JSON, cut, of_bodies, of_json, of_lines};
use super::keys::{Keys, meant, plain};
use super::parse::body_file;
use crate::config::parse_duration;
use crate::handler::{LogLine, Run};
use crate::message::Headers;
use crate::outcome::{Outcome, Output, ReasonCode};

const KEYS: [&str; 8] = ["outcome", "reason", "text", "after", "outputs", "effects", "logs", "fuel"];
const OUTPUT_KEYS: [&str; 8] = ["to", "subject", "id", "headers", "body", "json", "body_base64", "body_file"];
/// A body that is expected may lie in a file of this size: what a broker takes at the very most.
const LARGEST_BODY: u64 = 64 << 20;

/// How a run must end. What is not said may be anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// The outcome code.
    pub(super) outcome: String,
    /// The handler's own reason.
    pub(super) reason: Option<String>,
    /// Stands in what is said about it.
    pub(super) text: Option<String>,
    /// When the handler wants the message again.
    pub(super) after: Option<Duration>,
    /// All outputs, in their order.
    pub(super) outputs: Option<Vec<ExpectedOutput>>,
    /// All that it would have done elsewhere, in their order; each has what stands here in it.
    pub(super) effects: Option<Vec<String>>,
    /// All log lines, in their order; each has what stands here in it.
    pub(super) logs: Option<Vec<String>>,
    /// At most so much fuel.
    pub(super) fuel: Option<u64>,
    /// Whether only the outcome's code was written, without an object.
    pub(super) short: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ExpectedOutput {
    /// Not said: any. What a module of another contract publishes has no name, and is told by its subject.
    pub(super) to: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) id: Option<String>,
    /// Each is there with this value; others may be too.
    pub(super) headers: Option<BTreeMap<String, String>>,
    pub(super) body: Option<ExpectedBody>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ExpectedBody {
    /// These very bytes.
    Bytes(Bytes),
    /// This value, however it is written.
    Json(Value),
    /// These very bytes, in a file of this name.
    File(String, Bytes),
}

impl Expectation {
    /// An expectation as it is written; files that it names are in `folder`.
    pub(super) fn parse(raw: &RawValue, folder: &Path) -> Result<Self, String> {
        let parsed = if raw.get().starts_with('"') {
            serde_json::from_str(raw.get()).map_err(plain).and_then(|outcome| Self::short(outcome, true))
        } else {
            Self::whole(raw, folder)
        };
        parsed.map_err(|error| format!("`expect`: {error}"))
    }

    fn short(outcome: String, short: bool) -> Result<Self, String> {
        if !ReasonCode::ALL.iter().any(|code| code.0 == outcome && code.ends_a_run()) {
            let known: Vec<&str> = ReasonCode::ALL.iter().filter(|code| code.ends_a_run()).map(|code| code.0).collect();
            if ReasonCode::ALL.iter().any(|code| code.0 == outcome) {
                return Err(format!("no run ends `{outcome}`: it is what the host decides about a message"));
            }
            return Err(format!("there is no outcome `{outcome}`{}", meant(&outcome, &known)));
        }
        let (reason, text, after) = (None, None, None);
        Ok(Self { outcome, reason, text, after, outputs: None, effects: None, logs: None, fuel: None, short })
    }

    fn whole(raw: &RawValue, folder: &Path) -> Result<Self, String> {
        let mut keys = Keys::of(raw, &KEYS)?;
        let outcome = keys.take("outcome")?.ok_or("it has no `outcome`")?;
        let outputs: Option<Vec<&RawValue>> = keys
            .raw("outputs")
            .map(|list| serde_json::from_str(list.get()))
            .transpose()
            .map_err(|error| format!("`outputs`: {}", plain(error)))?;
        let output = |(index, raw): (usize, &&RawValue)| {
            ExpectedOutput::parse(raw, folder).map_err(|error| format!("output {}: {error}", index + 1))
        };
        let outputs = outputs.map(|list| list.iter().enumerate().map(output).collect::<Result<_, _>>());
        Ok(Self {
            reason: keys.take("reason")?,
            text: keys.take("text")?,
            after: keys.parsed("after", parse_duration)?,
            outputs: outputs.transpose()?,
            effects: keys.take("effects")?,
            logs: keys.take("logs")?,
            fuel: keys.take("fuel")?,
            ..Self::short(outcome, false)?
        })
    }

    /// All that a run did.
    pub(super) fn of(run: &Run) -> Self {
        let outputs = match &run.outcome {
            Outcome::Completed(outputs) => Some(outputs.iter().map(ExpectedOutput::whole).collect()),
            Outcome::Retry { .. }
            | Outcome::Defer { .. }
            | Outcome::Rejected(_)
            | Outcome::Skipped(_)
            | Outcome::Fault(_) => None,
        };
        Self {
            outcome: run.outcome.code().0.to_owned(),
            reason: reason(&run.outcome).map(str::to_owned),
            text: None,
            after: after(&run.outcome),
            outputs,
            effects: Some(run.effects.iter().map(ToString::to_string).collect()),
            logs: None,
            fuel: None,
            short: false,
        }
    }

    /// How a run is not as expected.
    pub(super) fn unmet(&self, run: &Run) -> Vec<Difference> {
        let (code, detail) = (run.outcome.code(), run.outcome.detail().unwrap_or_default());
        let mut unmet = Vec::new();
        if self.outcome != code.0 {
            let detail = if detail.is_empty() { detail } else { format!(" ({})", cut(&detail)) };
            let text = format!("expected `{}`, and it ended `{code}`{detail}", self.outcome);
            unmet.push(Difference::new("outcome", text));
        } else {
            unmet.extend(self.unmet_words(&run.outcome, &detail));
            unmet.extend(self.unmet_outputs(&run.outcome));
        }
        let effects = run.effects.iter().map(ToString::to_string);
        unmet.extend(self.effects.as_deref().and_then(|all| unmet_lines("effects", all, effects.collect())));
        let logs = run.logs.iter().map(log_line);
        unmet.extend(self.logs.as_deref().and_then(|all| unmet_lines("logs", all, logs.collect())));
        if let Some(most) = self.fuel.filter(|most| run.usage.fuel > *most) {
            let text = format!("expected {most} at the most, and it took {}", run.usage.fuel);
            unmet.push(Difference::new("fuel", text));
        }
        unmet
    }

    fn unmet_words(&self, outcome: &Outcome, detail: &str) -> Vec<Difference> {
        let mut unmet = Vec::new();
        let came = reason(outcome).unwrap_or_default();
        if let Some(expected) = self.reason.as_deref().filter(|expected| *expected != came) {
            unmet.push(Difference::of("reason", "reason", expected, came));
        }
        if let Some(text) = self.text.as_deref().filter(|text| !detail.contains(text)) {
            let said = format!("expected `{}` in what is said, and it is `{}`", cut(text), cut(detail));
            unmet.push(Difference::new("text", said));
        }
        if let Some(expected) = self.after.filter(|expected| after(outcome) != Some(*expected)) {
            let spelled = |delay: Duration| humantime::format_duration(delay).to_string();
            let came = after(outcome).map_or("as the subscription says".to_owned(), spelled);
            unmet.push(Difference::of("after", "delay", &spelled(expected), &came));
        }
        unmet
    }

    fn unmet_outputs(&self, outcome: &Outcome) -> Vec<Difference> {
        let outputs: &[Output] = if let Outcome::Completed(outputs) = outcome { outputs } else { &[] };
        let Some(expected) = &self.outputs else { return Vec::new() };
        if expected.len() != outputs.len() {
            let text = format!("expected {} outputs, and there are {}", expected.len(), outputs.len());
            let lines = |sign: char, all: Vec<String>| all.into_iter().map(move |line| format!("{sign} {line}"));
            let expected = lines('-', expected.iter().map(ExpectedOutput::in_short).collect());
            let came = lines('+', outputs.iter().map(|output| ExpectedOutput::whole(output).in_short()).collect());
            return vec![Difference::new("outputs", text).with(expected.chain(came).collect())];
        }
        let pairs = expected.iter().zip(outputs).enumerate();
        pairs.flat_map(|(index, (expected, output))| expected.unmet(index + 1, output)).collect()
    }
}

/// Lines that are expected, each of which has to stand in the one at its place.
fn unmet_lines(what: &str, expected: &[String], came: Vec<String>) -> Option<Difference> {
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let came: Vec<&str> = came.iter().map(String::as_str).collect();
    let has = |expected: &str, came: &str| came.contains(expected);
    if expected.len() == came.len() && expected.iter().zip(&came).all(|(expected, came)| has(expected, came)) {
        return None;
    }
    let text = format!("expected {} lines, and there are {}", expected.len(), came.len());
    let text = if expected.len() == came.len() { "expected other lines".to_owned() } else { text };
    Some(Difference::new(what, text).with(of_lines(&expected, &came, has)))
}

/// A line of a log, as the SDK's tests write it: level, text, fields.
pub(super) fn log_line(line: &LogLine) -> String {
    let fields: String = line.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{} {}{fields}", line.level.name(), line.text)
}

/// The handler's own reason.
fn reason(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Retry { reason, .. }
        | Outcome::Defer { reason, .. }
        | Outcome::Rejected(reason)
        | Outcome::Skipped(reason) => Some(&reason.code),
        Outcome::Completed(_) | Outcome::Fault(_) => None,
    }
}

/// When the handler wants the message again.
fn after(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Retry { after, .. } => *after,
        Outcome::Defer { after, .. } => Some(*after),
        Outcome::Completed(_) | Outcome::Rejected(_) | Outcome::Skipped(_) | Outcome::Fault(_) => None,
    }
}

impl ExpectedOutput {
    fn parse(raw: &RawValue, folder: &Path) -> Result<Self, String> {
        let mut keys = Keys::of(raw, &OUTPUT_KEYS)?;
        let (text, json): (Option<String>, Option<Value>) = (keys.take("body")?, keys.take("json")?);
        let (base64, file): (Option<String>, Option<String>) = (keys.take("body_base64")?, keys.take("body_file")?);
        let body = match (text, json, base64, file) {
            (None, None, None, None) => None,
            (Some(text), None, None, None) => Some(ExpectedBody::Bytes(text.into())),
            (None, Some(json), None, None) => Some(ExpectedBody::Json(json)),
            (None, None, Some(text), None) => {
                let bytes = STANDARD.decode(text).map_err(|error| format!("`body_base64`: {error}"))?;
                Some(ExpectedBody::Bytes(bytes.into()))
            }
            (None, None, None, Some(file)) => {
                let bytes = body_file(folder, &file, LARGEST_BODY)?;
                Some(ExpectedBody::File(file, bytes))
            }
            _ => return Err("an output has one of `body`, `json`, `body_base64` and `body_file`".to_owned()),
        };
        Ok(Self {
            to: keys.take("to")?,
            subject: keys.take("subject")?,
            id: keys.take("id")?,
            headers: keys.take("headers")?,
            body,
        })
    }

    /// All of an output, the bytes of its body as they are.
    fn whole(output: &Output) -> Self {
        Self {
            to: output.to.clone(),
            subject: output.subject.clone(),
            id: output.id.clone(),
            headers: Some(texts(&output.headers)),
            body: Some(ExpectedBody::Bytes(output.body.clone())),
        }
    }

    fn in_short(&self) -> String {
        let place = [&self.to, &self.subject].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        let body = match &self.body {
            None => String::new(),
            Some(ExpectedBody::Bytes(bytes) | ExpectedBody::File(_, bytes)) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            Some(ExpectedBody::Json(json)) => json.to_string(),
        };
        cut(&format!("{place}: {}", body.replace('\n', " ")))
    }

    fn unmet(&self, number: usize, output: &Output) -> Vec<Difference> {
        let what = || format!("output {number}");
        let mut unmet = Vec::new();
        let words = [
            ("output", &self.to, &output.to),
            ("subject", &self.subject, &output.subject),
            ("id", &self.id, &output.id),
        ];
        for (of, expected, came) in words {
            let came = came.as_deref().unwrap_or_default();
            if let Some(expected) = expected.as_deref().filter(|expected| *expected != came) {
                unmet.push(Difference::of(what(), of, expected, came));
            }
        }
        for (name, expected) in self.headers.iter().flatten() {
            match output.headers.get(name) {
                Some(came) if *came == expected.as_bytes() => {}
                Some(came) => {
                    let (of, came) = (format!("header `{name}`"), String::from_utf8_lossy(came));
                    unmet.push(Difference::of(what(), &of, expected, &came));
                }
                None => unmet.push(Difference::new(what(), format!("expected a header `{name}`, and there is none"))),
            }
        }
        unmet.extend(self.body.as_ref().and_then(|body| body.unmet(&what(), &output.body)));
        unmet
    }
}

impl ExpectedBody {
    fn unmet(&self, what: &str, came: &[u8]) -> Option<Difference> {
        let text = || String::from_utf8_lossy(came);
        match self {
            Self::Bytes(expected) | Self::File(_, expected) if expected == came => None,
            Self::Bytes(expected) | Self::File(_, expected) => {
                let difference = Difference::of(what, "body", &String::from_utf8_lossy(expected), &text());
                Some(difference.with(of_bodies(expected, came)))
            }
            Self::Json(expected) => match serde_json::from_slice::<Value>(came) {
                Ok(found) if found == *expected => None,
                Ok(found) => Some(Difference::new(what, OTHER_JSON).with(of_json(expected, &found))),
                Err(error) => {
                    let text = format!("expected JSON, and it is `{}`: {error}", cut(&text()));
                    Some(Difference::new(what, text))
                }
            },
        }
    }
}

/// Headers whose values are text, by their names.
pub(super) fn texts(headers: &Headers) -> BTreeMap<String, String> {
    let text = |value: &Bytes| std::str::from_utf8(value).ok().map(str::to_owned);
    headers.iter().filter_map(|header| Some((header.name.clone(), text(&header.value)?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::handler::{Effect, LogLevel};
    use crate::outcome::{Fault, FaultKind, Reason, Usage};

    fn expect(text: &str) -> Result<Expectation, String> {
        Expectation::parse(&serde_json::from_str::<Box<RawValue>>(text).unwrap(), Path::new("."))
    }

    fn ran(outcome: Outcome) -> Run {
        let usage = Usage { fuel: 1000, ..Usage::default() };
        Run { usage, ..Run::without_usage(outcome) }
    }

    fn completed(body: &'static [u8]) -> Run {
        let mut headers = Headers::default();
        headers.push("Kind", "a");
        let output = Output { to: Some("out".into()), subject: None, id: Some("i".into()), headers, body: body.into() };
        ran(Outcome::Completed(vec![output]))
    }

    fn reason(code: &str) -> Reason {
        Reason { code: code.to_owned(), detail: Some("order 8 costs nothing".to_owned()) }
    }

    fn unmet(text: &str, run: &Run) -> Vec<String> {
        let unmet = expect(text).unwrap().unmet(run);
        unmet.iter().flat_map(|one| std::iter::once(one.on_one_line()).chain(one.lines.clone())).collect()
    }

    #[test]
    fn an_expectation_is_met_or_says_why_not() {
        let rows: [(&str, Run, &[&str]); 14] = [
            (r#""completed""#, completed(b"1"), &[]),
            (r#""skipped""#, completed(b"1"), &["expected `skipped`, and it ended `completed`"]),
            (
                r#"{"outcome":"completed","outputs":[]}"#,
                completed(b"1"),
                &["outputs: expected 0 outputs, and there are 1", "+ out: 1"],
            ),
            (r#"{"outcome":"completed","outputs":[{"to":"out","body":"1"}]}"#, completed(b"1"), &[]),
            (
                r#"{"outcome":"completed","outputs":[{"to":"out","body":"2"}]}"#,
                completed(b"1"),
                &["output 1: expected the body `2`, and it is `1`", "- 2", "+ 1"],
            ),
            (r#"{"outcome":"completed","outputs":[{"json":{"a":1,"b":2}}]}"#, completed(b"{\"b\":2, \"a\":1}"), &[]),
            (
                r#"{"outcome":"completed","outputs":[{"json":{"a":1}}]}"#,
                completed(b"{\"a\":2}"),
                &["output 1: expected other JSON: - .a: 1, + .a: 2", "- .a: 1", "+ .a: 2"],
            ),
            (
                r#"{"outcome":"completed","outputs":[{"json":1}]}"#,
                completed(b"x"),
                &["output 1: expected JSON, and it is `x`: expected value at line 1 column 1"],
            ),
            (
                r#"{"outcome":"completed","outputs":[{"to":"in","headers":{"kind":"b","Of":"c"}}]}"#,
                completed(b"1"),
                &[
                    "output 1: expected the output `in`, and it is `out`",
                    "output 1: expected a header `Of`, and there is none",
                    "output 1: expected the header `kind` `b`, and it is `a`",
                ],
            ),
            (
                r#"{"outcome":"handler-rejected","reason":"free","text":"order 8"}"#,
                ran(Outcome::Rejected(reason("free"))),
                &[],
            ),
            (
                r#"{"outcome":"handler-rejected","reason":"dear","text":"order 9"}"#,
                ran(Outcome::Rejected(reason("free"))),
                &[
                    "reason: expected the reason `dear`, and it is `free`",
                    "text: expected `order 9` in what is said, and it is `free: order 8 costs nothing`",
                ],
            ),
            (
                r#"{"outcome":"handler-retry","after":"2s"}"#,
                ran(Outcome::Retry { after: None, reason: reason("busy") }),
                &["after: expected the delay `2s`, and it is `as the subscription says`"],
            ),
            (
                r#"{"outcome":"timeout","fuel":999}"#,
                ran(Outcome::Fault(Fault {
                    kind: FaultKind::Timeout,
                    detail: "ran longer".into(),
                    fingerprint: 1,
                    backtrace: Vec::new(),
                })),
                &["fuel: expected 999 at the most, and it took 1000"],
            ),
            (
                r#""completed""#,
                ran(Outcome::Rejected(reason("free"))),
                &["expected `completed`, and it ended `handler-rejected` (free: order 8 costs nothing)"],
            ),
        ];
        for (text, run, expected) in rows {
            assert_eq!(unmet(text, &run), expected, "{text}");
        }
    }

    #[test]
    fn log_lines_are_all_there_are_and_each_has_what_is_expected_in_it() {
        let line = |text: &str| LogLine {
            level: LogLevel::Info,
            text: text.to_owned(),
            fields: vec![("n".to_owned(), "1".to_owned())],
            at: Duration::ZERO,
            span: None,
        };
        let run = Run { logs: vec![line("came"), line("went")], ..completed(b"") };
        assert!(unmet(r#"{"outcome":"completed","logs":["info came n=1","went"]}"#, &run).is_empty());
        let missing = unmet(r#"{"outcome":"completed","logs":["came","stayed","went"]}"#, &run);
        assert_eq!(missing, ["logs: expected 3 lines, and there are 2", "- stayed"]);
        let other = unmet(r#"{"outcome":"completed","logs":["came","stayed"]}"#, &run);
        assert_eq!(other, ["logs: expected other lines", "- stayed", "+ info went n=1"]);
    }

    #[test]
    fn what_a_run_would_have_done_is_expected_line_by_line() {
        let set = |key: &str| Effect::Set { bucket: "seen".to_owned(), key: key.to_owned(), bytes: 2 };
        let run = Run { effects: vec![set("7"), set("8")], ..completed(b"") };
        assert!(unmet(r#"{"outcome":"completed"}"#, &run).is_empty());
        assert!(unmet(r#"{"outcome":"completed","effects":["set 7 in bucket seen","set 8"]}"#, &run).is_empty());
        let other = unmet(r#"{"outcome":"completed","effects":["set 7","delete 8"]}"#, &run);
        assert_eq!(other, ["effects: expected other lines", "- delete 8", "+ would set 8 in bucket seen to 2 bytes"]);
        let none = unmet(r#"{"outcome":"completed","effects":[]}"#, &run);
        assert_eq!(none.first().map(String::as_str), Some("effects: expected 0 lines, and there are 2"));
        assert!(!Expectation::of(&run).unmet(&completed(b"")).is_empty(), "another run has to do it again");
    }

    #[test]
    fn what_a_run_did_is_met_by_a_run_that_did_the_same() {
        let run = completed(b"1");
        assert!(Expectation::of(&run).unmet(&run).is_empty());
        assert!(!Expectation::of(&run).unmet(&completed(b"2")).is_empty());
    }

    #[test]
    fn what_is_wrong_with_an_expectation_is_told() {
        let rows = [
            (r#""compleated""#, "`expect`: there is no outcome `compleated`: did you mean `completed`?"),
            (r#""expired""#, "`expect`: no run ends `expired`"),
            (r#"{}"#, "`expect`: it has no `outcome`"),
            (r#"3"#, "`expect`: invalid type: integer `3`"),
            (r#"{"outcome":"completed","output":[]}"#, "`expect`: unknown key `output`: did you mean `out"),
            (r#"{"outcome":"completed","outputs":{}}"#, "`expect`: `outputs`: invalid type: map"),
            (r#"{"outcome":"completed","outputs":[{"too":"x"}]}"#, "`expect`: output 1: unknown key `too`"),
            (r#"{"outcome":"completed","outputs":[{"json":1,"body":""}]}"#, "`expect`: output 1: an output has one of"),
            (r#"{"outcome":"completed","after":"soon"}"#, "`expect`: `after`: expected a duration"),
        ];
        for (text, expected) in rows {
            let error = expect(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
