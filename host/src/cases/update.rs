//! Expect what came: the values of `expect` in files of cases, put in anew with nothing else of the files changed.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::expect::{Expectation, ExpectedBody, ExpectedOutput, log_line, texts};
use super::read::{Found, Source};
use crate::handler::Run;
use crate::outcome::{Outcome, Output};

/// Room over what a run took, where a budget of fuel was too small: a tenth.
const ROOM: u64 = 10;

/// A file that was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The file.
    pub file: Arc<Path>,
    /// How many of its cases expect something else now.
    pub cases: usize,
}

/// Puts what came in the place of what was expected. The files are as they were read, or nothing of them is changed.
///
/// # Errors
/// When a file cannot be written, or is another one than it was.
pub fn rewrite<'a>(
    ran: impl IntoIterator<Item = (&'a Found, &'a Run)>,
) -> Result<Vec<Rewritten>, (Arc<Path>, io::Error)> {
    let mut files: BTreeMap<Arc<Path>, Vec<(&Source, String)>> = BTreeMap::new();
    for (found, run) in ran {
        let value = expected(found.case.expect.as_ref(), run);
        let source = &found.source;
        let value = value_text(source, &value).map_err(|error| (Arc::clone(&source.file), error.into()))?;
        files.entry(Arc::clone(&source.file)).or_default().push((source, value));
    }
    let mut written = Vec::new();
    for (file, mut changes) in files {
        changes.sort_by_key(|(source, _)| std::cmp::Reverse(source.object.start));
        let Some(before) = changes.first().map(|(source, _)| Arc::clone(&source.text)) else { continue };
        let mut text = before.to_string();
        for (source, value) in &changes {
            let (range, value) = place(source, value);
            text.replace_range(range, &value);
        }
        put(&file, &before, &text).map_err(|error| (Arc::clone(&file), error))?;
        written.push(Rewritten { file, cases: changes.len() });
    }
    Ok(written)
}

/// Writes a file beside the old one and puts it in its place.
fn put(file: &Path, before: &str, text: &str) -> io::Result<()> {
    let file = file.canonicalize()?;
    if std::fs::read(&file)? != before.as_bytes() {
        return Err(io::Error::other("it was changed meanwhile"));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::write(&draft, text)
        .and_then(|()| std::fs::set_permissions(&draft, file.metadata()?.permissions()))
        .and_then(|()| std::fs::rename(&draft, &file));
    if written.is_err() {
        // Only what this call made.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

/// What is replaced, and by what: the value that is there; else a key before the closing brace.
fn place(source: &Source, value: &str) -> (Range<usize>, String) {
    if let Some(range) = &source.expect {
        return (range.clone(), value.to_owned());
    }
    let object = source.text.get(source.object.clone()).unwrap_or_default();
    let inside = object.strip_suffix('}').unwrap_or(object).trim_end();
    let end = source.object.start + inside.len();
    let comma = if inside == "{" { "" } else { "," };
    let space = if is_set_out(source) { "\n  " } else { " " };
    (end..end, format!("{comma}{space}\"expect\": {value}"))
}

/// Whether an object stands on several lines.
fn is_set_out(source: &Source) -> bool {
    source.text.get(source.object.clone()).is_some_and(|object| object.contains('\n'))
}

/// A value as it is written into its object: set out as that is.
fn value_text(source: &Source, value: &Written) -> Result<String, serde_json::Error> {
    if is_set_out(source) {
        serde_json::to_string_pretty(value).map(|text| text.replace('\n', "\n  "))
    } else {
        serde_json::to_string(value)
    }
}

/// What is expected from now on, in the order in which a person would write it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Written {
    Outcome(&'static str),
    Whole(Box<Whole>),
}

#[derive(Debug, Default, Serialize)]
struct Whole {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Vec<WrittenOutput>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effects: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
struct WrittenOutput {
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_file: Option<String>,
}

/// What came, in the words of what was expected: keys that were there are there again, with what they have to say now.
fn expected(before: Option<&Expectation>, run: &Run) -> Written {
    let code = run.outcome.code().0;
    if before.is_some_and(|before| before.short) {
        return Written::Outcome(code);
    }
    let did = Expectation::of(run);
    let detail = run.outcome.detail().unwrap_or_default();
    // Of another outcome nothing that was said holds: all of it is new.
    let same = before.filter(|before| before.outcome == code);
    let outputs: Option<&[Output]> = match &run.outcome {
        Outcome::Completed(outputs) if same.is_none_or(|before| before.outputs.is_some()) => Some(outputs),
        Outcome::Completed(_)
        | Outcome::Retry { .. }
        | Outcome::Defer { .. }
        | Outcome::Rejected(_)
        | Outcome::Skipped(_)
        | Outcome::Fault(_) => None,
    };
    let outputs_before = same.and_then(|before| before.outputs.as_deref()).unwrap_or_default();
    let spelled = |after| humantime::format_duration(after).to_string();
    let used = run.usage.fuel;
    Written::Whole(Box::new(Whole {
        outcome: code,
        reason: did.reason.filter(|_| same.is_none_or(|before| before.reason.is_some())),
        text: same
            .and_then(|before| before.text.as_ref())
            .map(|text| if detail.contains(text) { text.clone() } else { detail.clone() }),
        after: did.after.filter(|_| same.is_some_and(|before| before.after.is_some())).map(spelled),
        outputs: outputs.map(|outputs| {
            let each = outputs.iter().enumerate();
            each.map(|(index, output)| WrittenOutput::new(outputs_before.get(index), output)).collect()
        }),
        effects: did.effects.filter(|effects| same.map_or(!effects.is_empty(), |before| before.effects.is_some())),
        logs: before.and_then(|before| before.logs.as_ref()).map(|_| run.logs.iter().map(log_line).collect()),
        fuel: before.and_then(|before| before.fuel).map(|most| if used > most { used + used / ROOM } else { most }),
    }))
}

impl WrittenOutput {
    /// An output; of what is new, where it goes and its body.
    fn new(before: Option<&ExpectedOutput>, output: &Output) -> Self {
        let headers = before.and_then(|before| before.headers.as_ref()).map(|known| {
            let named = |name: &String| known.keys().any(|known| known.eq_ignore_ascii_case(name));
            texts(&output.headers).into_iter().filter(|(name, _)| named(name)).collect()
        });
        let written = Self {
            to: output.to.clone().filter(|_| before.is_none_or(|before| before.to.is_some())),
            subject: output.subject.clone().filter(|_| before.is_none_or(|before| before.subject.is_some())),
            id: output.id.clone().filter(|_| before.is_some_and(|before| before.id.is_some())),
            headers,
            ..Self::default()
        };
        let body = before.map(|before| before.body.as_ref());
        match (body, std::str::from_utf8(&output.body)) {
            (Some(None), _) => written,
            (Some(Some(ExpectedBody::File(name, bytes))), _) if *bytes == output.body => {
                Self { body_file: Some(name.clone()), ..written }
            }
            (_, Err(_)) => Self { body_base64: Some(STANDARD.encode(&output.body)), ..written },
            (Some(Some(ExpectedBody::Bytes(_))), Ok(text)) => Self { body: Some(text.to_owned()), ..written },
            // As it came: the order of its keys is the handler's.
            (_, Ok(text)) => match RawValue::from_string(text.trim().to_owned()) {
                Ok(json) if json.get().starts_with(['{', '[']) => Self { json: Some(json), ..written },
                Ok(_) | Err(_) => Self { body: Some(text.to_owned()), ..written },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::{Most, read};
    use super::*;
    use crate::message::Headers;
    use crate::outcome::{Reason, Usage};

    fn run(outcome: Outcome) -> Run {
        let usage = Usage { fuel: 1000, ..Usage::default() };
        Run { usage, ..Run::without_usage(outcome) }
    }

    fn output(body: &'static [u8]) -> Output {
        Output {
            to: Some("out".into()),
            subject: None,
            id: Some("i".into()),
            headers: Headers::default(),
            body: body.into(),
        }
    }

    /// The file after all of its cases came to that.
    fn rewritten(text: &str, run: &Run) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.jsonl");
        std::fs::write(&file, text).unwrap();
        let most = Most { cases: 10, bytes: 10_000 };
        let found = read(&file, most).unwrap();
        let written = rewrite(found.iter().map(|found| (found, run))).unwrap();
        assert_eq!(written.first().map(|one| one.cases), Some(found.len()));
        for found in read(&file, most).unwrap() {
            assert!(found.case.expect.unwrap().unmet(run).is_empty(), "what was written is met");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        std::fs::read_to_string(&file).unwrap()
    }

    #[test]
    fn what_is_expected_is_put_in_and_nothing_else_is_changed() {
        let completed = run(Outcome::Completed(vec![output(b"{\"b\":1}")]));
        let rows = [
            (
                "{\"subject\":\"a\", \"json\":{\"n\": 1.10}}\n\n{\"expect\" : \"skipped\",\"subject\":\"b\"}\n",
                "{\"subject\":\"a\", \"json\":{\"n\": 1.10}, \"expect\": {\"outcome\":\"completed\",\"outputs\":[{\"to\":\"out\",\"json\":{\"b\":1}}]}}\n\n{\"expect\" : \"completed\",\"subject\":\"b\"}\n",
            ),
            (
                "{\n  \"subject\": \"a\"\n}\n",
                "{\n  \"subject\": \"a\",\n  \"expect\": {\n    \"outcome\": \"completed\",\n    \"outputs\": [\n      {\n        \"to\": \"out\",\n        \"json\": {\"b\":1}\n      }\n    ]\n  }\n}\n",
            ),
            (
                "{\"subject\":\"a\",\"expect\":{\"outcome\":\"completed\",\"outputs\":[{\"id\":\"x\",\"body\":\"y\"}],\"fuel\":10}}",
                "{\"subject\":\"a\",\"expect\":{\"outcome\":\"completed\",\"outputs\":[{\"id\":\"i\",\"body\":\"{\\\"b\\\":1}\"}],\"fuel\":1100}}",
            ),
            (
                "{\"subject\":\"a\",\"expect\":{\"outcome\":\"completed\",\"fuel\":2000}}",
                "{\"subject\":\"a\",\"expect\":{\"outcome\":\"completed\",\"fuel\":2000}}",
            ),
        ];
        for (before, after) in rows {
            assert_eq!(rewritten(before, &completed), after);
        }
    }

    #[test]
    fn of_another_outcome_all_is_new() {
        let reason = Reason { code: "free".into(), detail: Some("order 8".into()) };
        let rejected = run(Outcome::Rejected(reason));
        let before = "{\"subject\":\"a\",\"expect\":{\"outcome\":\"completed\",\"outputs\":[]}}";
        let after = "{\"subject\":\"a\",\"expect\":{\"outcome\":\"handler-rejected\",\"reason\":\"free\"}}";
        assert_eq!(rewritten(before, &rejected), after);
        let before = "{\"subject\":\"a\",\"expect\":{\"outcome\":\"handler-rejected\",\"text\":\"order 9\"}}";
        let after = "{\"subject\":\"a\",\"expect\":{\"outcome\":\"handler-rejected\",\"text\":\"free: order 8\"}}";
        assert_eq!(rewritten(before, &rejected), after);
    }

    #[test]
    fn bytes_are_written_as_base64_and_a_file_that_changed_is_left() {
        let bytes = run(Outcome::Completed(vec![output(&[0xff])]));
        let after = rewritten("{\"subject\":\"a\"}", &bytes);
        assert!(after.contains("\"body_base64\":\"/w==\""), "{after}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        std::fs::write(&file, "{\"subject\":\"a\"}").unwrap();
        let found = read(&file, Most { cases: 1, bytes: 100 }).unwrap();
        std::fs::write(&file, "{\"subject\":\"b\"}").unwrap();
        let (_, error) = rewrite(found.iter().map(|found| (found, &bytes))).unwrap_err();
        assert_eq!(error.to_string(), "it was changed meanwhile");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"subject\":\"b\"}");
    }
}
