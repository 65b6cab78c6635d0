//! Golden messages: what a handler is known to do with some messages, tried on a version before it runs.
//!
//! A golden message is a JSON object as `tidegate publish` takes it, in a file that ends in `.json`, `.jsonl` or `.ndjson`;
//! `expect` beside the other keys says how it must end: an outcome code, or an object with `outcome` and `outputs`.
//!
//! Invariant: a run on a golden message has no effect: nothing is published, logged or measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::report::GoldenRun;
use crate::admin::wire::PublishLine;
use crate::broker::lease::Lease;
use crate::broker::subject::check_subject;
use crate::dispatch::Deployed;
use crate::handler::Call;
use crate::message::Message;
use crate::outcome::{Outcome, Output, ReasonCode};
use crate::settle::outputs::route;

/// More is a load test, and a deploy waits for it: a thousand runs of a millisecond are a second.
const MOST_MESSAGES: usize = 1_000;
/// All files together: a thousand messages of 64 KiB.
const MOST_BYTES: u64 = 64 << 20;
/// What a run may take beside its own limit: waiting for an instance.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message and how it must end.
#[derive(Debug)]
pub(super) struct Golden {
    place: String,
    message: Message,
    expect: Option<Expectation>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Expectation {
    Outcome(String),
    Whole(Expected),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    outcome: String,
    #[serde(default)]
    outputs: Option<Vec<ExpectedOutput>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedOutput {
    /// Not said: any. What a module of another contract publishes has no name, and is told by its subject.
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    json: Option<Value>,
}

/// What a run came to.
struct Ran {
    code: ReasonCode,
    fuel: u64,
    detail: Option<String>,
    outputs: Vec<Output>,
}

/// Reads the golden messages of a folder, the files in the order of their names.
pub(super) fn read(folder: &Path) -> Result<Vec<Golden>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("could not read {}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_golden(path)).collect();
    files.sort();
    let mut all = Vec::new();
    let mut bytes = 0;
    for path in files {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        bytes += size;
        if bytes > MOST_BYTES {
            return Err(format!("{} has more than {MOST_BYTES} bytes of them", folder.display()));
        }
        let text = std::fs::read(&path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let objects = serde_json::Deserializer::from_slice(&text).into_iter::<BTreeMap<String, Box<RawValue>>>();
        for (index, object) in objects.enumerate() {
            let place = format!("{name}:{}", index + 1);
            let golden = object.map_err(|error| error.to_string()).and_then(|object| golden(&place, object));
            all.push(golden.map_err(|error| format!("{place}: {error}"))?);
            if all.len() > MOST_MESSAGES {
                return Err(format!("{} has more than {MOST_MESSAGES} of them", folder.display()));
            }
        }
    }
    Ok(all)
}

fn is_golden(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "json" || end == "jsonl" || end == "ndjson")
}

fn golden(place: &str, mut object: BTreeMap<String, Box<RawValue>>) -> Result<Golden, String> {
    let said = |error: serde_json::Error| error.to_string();
    let expect = object.remove("expect").map(|expect| serde_json::from_str(expect.get()));
    let expect: Option<Expectation> = expect.transpose().map_err(|error| format!("`expect`: {error}"))?;
    let line = serde_json::to_string(&object).map_err(said)?;
    let publish = serde_json::from_str::<PublishLine>(&line).map_err(said)?.into_publish()?;
    check_subject(&publish.subject).map_err(|error| error.to_string())?;
    if let Some(expect) = &expect
        && !ReasonCode::ALL.iter().any(|code| code.0 == expect.outcome())
    {
        return Err(format!("`expect`: there is no outcome `{}`", expect.outcome()));
    }
    let message = Message {
        id: publish.id.unwrap_or_else(|| place.to_owned()),
        subject: publish.subject,
        headers: publish.headers,
        body: publish.body,
        sequence: 1,
        published_at: SystemTime::now(),
    };
    Ok(Golden { place: place.to_owned(), message, expect })
}

/// Runs all of them on a version, and on the one before it when there is one.
pub(super) async fn run(golden: &[Golden], version: &Deployed, before: Option<&Deployed>) -> Vec<GoldenRun> {
    let mut runs = Vec::with_capacity(golden.len());
    for one in golden {
        let ran = run_one(&one.message, version).await;
        let old = match before {
            Some(before) => Some(run_one(&one.message, before).await),
            None => None,
        };
        runs.push(GoldenRun {
            place: one.place.clone(),
            outcome: ran.code.to_string(),
            fuel: ran.fuel,
            outcome_before: old.as_ref().map(|old| old.code.to_string()),
            fuel_before: old.as_ref().map(|old| old.fuel),
            unexpected: one.expect.as_ref().and_then(|expect| expect.unmet(&ran)),
        });
    }
    runs
}

async fn run_one(message: &Message, version: &Deployed) -> Ran {
    let lease = Lease::until(Instant::now() + version.max_run + PATIENCE);
    let call =
        Call { message, subscription: "golden", attempt: 1, max_attempts: None, previous_failure: None, lease: &lease };
    let run = version.handler.handle(call).await;
    let outcome = match run.outcome {
        Outcome::Completed(outputs) => match route(outputs.clone(), &version.grants, "golden", &message.id) {
            Ok(_) => Outcome::Completed(outputs),
            Err(fault) => Outcome::Fault(fault),
        },
        other => other,
    };
    let (code, detail) = (outcome.code(), outcome.detail());
    let outputs = if let Outcome::Completed(outputs) = outcome { outputs } else { Vec::new() };
    Ran { code, fuel: run.usage.fuel, detail, outputs }
}

impl Expectation {
    fn outcome(&self) -> &str {
        match self {
            Self::Outcome(outcome) => outcome,
            Self::Whole(expected) => &expected.outcome,
        }
    }

    /// How a run is not as expected.
    fn unmet(&self, ran: &Ran) -> Option<String> {
        if self.outcome() != ran.code.0 {
            let detail = ran.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            return Some(format!("expected `{}`, and it ended `{}`{detail}", self.outcome(), ran.code));
        }
        let Self::Whole(Expected { outputs: Some(expected), .. }) = self else { return None };
        if expected.len() != ran.outputs.len() {
            return Some(format!("expected {} outputs, and there are {}", expected.len(), ran.outputs.len()));
        }
        let pairs = expected.iter().zip(&ran.outputs).enumerate();
        pairs.map(|(index, (expected, output))| expected.unmet(index + 1, output)).find_map(|unmet| unmet)
    }
}

impl ExpectedOutput {
    fn unmet(&self, number: usize, output: &Output) -> Option<String> {
        let differs = |what: &str, expected: &str, found: &str| {
            Some(format!("output {number}: expected the {what} `{expected}`, and it is `{}`", cut(found)))
        };
        let to = output.to.as_deref().unwrap_or_default();
        if let Some(expected) = self.to.as_deref().filter(|expected| *expected != to) {
            return differs("output", expected, to);
        }
        let subject = output.subject.as_deref().unwrap_or_default();
        if let Some(expected) = self.subject.as_deref().filter(|expected| *expected != subject) {
            return differs("subject", expected, subject);
        }
        let body = String::from_utf8_lossy(&output.body);
        if let Some(expected) = self.body.as_deref().filter(|expected| expected.as_bytes() != output.body) {
            return differs("body", &cut(expected), &body);
        }
        let json = self.json.as_ref()?;
        let same = serde_json::from_slice::<Value>(&output.body).is_ok_and(|found| found == *json);
        if same { None } else { differs("JSON", &cut(&json.to_string()), &body) }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;
    use crate::message::Headers;

    fn ran(code: &'static str, body: &'static str) -> Ran {
        let output = Output {
            to: Some("out".into()),
            subject: None,
            id: None,
            headers: Headers::default(),
            body: body.as_bytes().into(),
        };
        Ran { code: ReasonCode(code), fuel: 1, detail: None, outputs: vec![output] }
    }

    #[test]
    fn a_folder_is_read_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("b.jsonl", "{\"subject\":\"b\",\"body\":\"1\"}\n{\"subject\":\"c\",\"expect\":\"completed\"}\n");
        write("a.json", "{\n  \"subject\": \"a\",\n  \"json\": {\"n\": 1.10},\n  \"id\": \"7\"\n}\n");
        write("README.md", "not one of them");
        let golden = read(folder.path()).unwrap();
        let places: Vec<&str> = golden.iter().map(|one| one.place.as_str()).collect();
        assert_eq!(places, ["a.json:1", "b.jsonl:1", "b.jsonl:2"]);
        assert_eq!(
            (golden[0].message.id.as_str(), golden[0].message.body.as_ref()),
            ("7", b"{\"n\": 1.10}".as_slice())
        );
        assert!(golden[1].expect.is_none() && golden[2].expect.is_some());
        for (text, expected) in [
            ("{\"subject\":\"a\",\"expect\":\"compleated\"}", "c.json:1: `expect`: there is no outcome `compleated`"),
            ("{\"subject\":\"a b\"}", "c.json:1: `a b` is not a subject"),
            ("{\"subject\":", "c.json:1: EOF"),
            ("{\"subjct\":\"a\"}", "c.json:1: unknown field `subjct`"),
        ] {
            write("c.json", text);
            let error = read(folder.path()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(read(&folder.path().join("gone")).unwrap_err().contains("could not read"));
    }

    #[test]
    fn an_expectation_is_met_or_says_why_not() {
        let expect = |text: &str| serde_json::from_str::<Expectation>(text).unwrap();
        let rows = [
            (r#""completed""#, ran("completed", "1"), None),
            (r#""skipped""#, ran("completed", "1"), Some("expected `skipped`, and it ended `completed`")),
            (
                r#"{"outcome":"completed","outputs":[]}"#,
                ran("completed", "1"),
                Some("expected 0 outputs, and there are 1"),
            ),
            (r#"{"outcome":"completed","outputs":[{"to":"out","body":"1"}]}"#, ran("completed", "1"), None),
            (
                r#"{"outcome":"completed","outputs":[{"to":"out","body":"2"}]}"#,
                ran("completed", "1"),
                Some("output 1: expected the body `2`, and it is `1`"),
            ),
            (
                r#"{"outcome":"completed","outputs":[{"to":"out","json":{"a":1,"b":2}}]}"#,
                ran("completed", "{\"b\":2, \"a\":1}"),
                None,
            ),
            (
                r#"{"outcome":"completed","outputs":[{"to":"in"}]}"#,
                ran("completed", "1"),
                Some("output 1: expected the output `in`, and it is `out`"),
            ),
        ];
        for (text, ran, expected) in rows {
            assert_eq!(expect(text).unmet(&ran).as_deref(), expected, "{text}");
        }
    }
}
