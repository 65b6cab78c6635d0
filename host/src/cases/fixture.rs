//! A case out of a dead letter: its message as it was handed over last, and how that run ended.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::admin::wire::DeadLetterLine;
use crate::outcome::ReasonCode;

/// The longest reason that is expected: a history keeps 80 bytes of what was said.
const LONGEST_REASON: usize = 64;

/// A case, as it is written. The keys are those of a case.
#[derive(Debug, Serialize)]
pub struct Fixture {
    name: String,
    subject: String,
    id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers_base64: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    sequence: u64,
    published_at: String,
    subscription: String,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_failure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Expect>,
}

#[derive(Debug, Serialize)]
struct Expect {
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Fixture {
    /// The case of a dead letter. What ended by no run (it was too old, or no version could run) expects nothing.
    #[must_use]
    pub fn new(letter: DeadLetterLine) -> Self {
        let DeadLetterLine { record, headers, raw_headers, body, body_base64 } = letter;
        // What the message was given up for may be how often it was tried; the last failure says how that ended.
        let last = record.history.last();
        let (outcome, error) = last.map_or((&record.reason, &record.error), |last| (&last.reason, &last.error));
        let ended = ReasonCode::ALL.iter().any(|code| code.0 == *outcome && code.ends_a_run());
        let expect = ended.then(|| Expect { outcome: outcome.clone(), reason: reason(outcome, error) });
        let previous_failure = record.previous_failure();
        let (body, json) = as_json(body);
        let attempt = record.attempts.max(1);
        Self {
            // What came, and not how it ended: that is what is mended, and the name stays.
            name: format!("{} {}", record.subject, record.message_id),
            subject: record.subject,
            id: record.message_id,
            headers,
            headers_base64: raw_headers,
            body,
            json,
            body_base64,
            sequence: record.sequence,
            published_at: humantime::format_rfc3339_millis(record.published_at).to_string(),
            subscription: record.subscription,
            attempt,
            max_attempts: record.max_attempts.filter(|max| *max >= attempt),
            previous_failure,
            expect,
        }
    }
}

/// The handler's own reason, which is the first word of what it said.
fn reason(outcome: &str, error: &str) -> Option<String> {
    let own = ["handler-retry", "handler-rejected", "deferred", "skipped"].contains(&outcome);
    let word = error.split(": ").next().unwrap_or(error);
    // What is longer is no word, or was cut within it.
    (own && !word.is_empty() && word.len() <= LONGEST_REASON).then(|| word.to_owned())
}

/// A body that is a JSON object or a list on one line reads better as such. What would be written otherwise than it came
/// stays text: the handler gets the same bytes.
fn as_json(body: Option<String>) -> (Option<String>, Option<Box<RawValue>>) {
    let Some(text) = body else { return (None, None) };
    if !text.starts_with(['{', '[']) {
        return (Some(text), None);
    }
    match RawValue::from_string(text.clone()) {
        Ok(json) if json.get() == text => (None, Some(json)),
        Ok(_) | Err(_) => (Some(text), None),
    }
}

/// The name of the file for a dead letter: its id, without what a file system may not want.
#[must_use]
pub fn file_name(letter: &DeadLetterLine) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let id: String = letter.record.id.0.chars().map(plain).collect();
    format!("{id}.json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use std::time::{Duration, SystemTime};

    use super::super::{Most, read};
    use super::*;
    use crate::settle::dead_letter::{DeadLetterId, DeadLetterRecord};
    use crate::settle::progress::AttemptRecord;

    fn letter(reason: &str, failures: &[(&str, &str)], body: Option<&str>) -> DeadLetterLine {
        let id = DeadLetterId("01HF7YAT00000000000000000A".to_owned());
        let mut record = DeadLetterRecord::bare(id, reason, "said");
        record.subject = "orders.eu".into();
        record.message_id = "m-1".into();
        record.attempts = 2;
        record.max_attempts = Some(2);
        record.published_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_001);
        let failure = |(reason, error): &(&str, &str)| AttemptRecord {
            attempt: 1,
            at: SystemTime::UNIX_EPOCH,
            run_ms: 1,
            reason: (*reason).to_owned(),
            error: (*error).to_owned(),
            fingerprint: None,
            digest: String::new(),
        };
        record.history = failures.iter().map(failure).collect();
        DeadLetterLine {
            record,
            headers: vec![("A".into(), "1".into()), ("A".into(), "2".into())],
            raw_headers: Vec::new(),
            body: body.map(str::to_owned),
            body_base64: body.is_none().then(|| "/w==".to_owned()),
        }
    }

    /// Written and read again.
    fn case(letter: DeadLetterLine) -> super::super::Case {
        let folder = tempfile::tempdir().unwrap();
        let text = serde_json::to_string_pretty(&Fixture::new(letter)).unwrap();
        std::fs::write(folder.path().join("a.json"), text).unwrap();
        read(folder.path(), Most { cases: 1, bytes: 10_000 }).unwrap().remove(0).case
    }

    #[test]
    fn the_message_comes_back_as_it_was_handed_over_last() {
        let failures = [("timeout", "too long"), ("handler-retry", "busy: come again")];
        for body in [Some("{\"n\": 1.10}\n"), Some("{\"n\": 1.10}"), Some("text"), Some(""), None] {
            let case = case(letter("attempts-exhausted", &failures, body));
            assert_eq!(case.body, body.map_or(vec![0xff], |text| text.as_bytes().to_vec()));
            assert_eq!(
                (case.subject.as_str(), case.id.as_deref(), case.headers.0.len()),
                ("orders.eu", Some("m-1"), 2)
            );
            assert_eq!((case.attempt, case.max_attempts), (2, Some(2)));
            assert_eq!(case.previous_failure.as_deref(), Some("timeout: too long"));
            let expect = case.expect.unwrap();
            assert_eq!((expect.outcome.as_str(), expect.reason.as_deref()), ("handler-retry", Some("busy")));
            let at = case.published_at.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(at.as_millis(), 1_767_225_600_001);
        }
    }

    /// A name that said how it ended was wrong as soon as the handler was mended.
    #[test]
    fn a_case_is_named_by_what_came() {
        let named = case(letter("handler-rejected", &[("handler-rejected", "free-order: 8")], Some("x")));
        assert_eq!(named.name.as_deref(), Some("orders.eu m-1"));
    }

    #[test]
    fn what_ended_by_no_run_expects_nothing() {
        for reason in ["expired", "no-handler", "host-crash-suspect", "interrupted"] {
            assert!(case(letter(reason, &[], Some("x"))).expect.is_none(), "{reason}");
        }
        let trapped = case(letter("trap:unreachable", &[], Some("x"))).expect.unwrap();
        assert_eq!((trapped.outcome.as_str(), trapped.reason), ("trap:unreachable", None));
    }

    #[test]
    fn the_file_is_named_by_the_id() {
        let mut letter = letter("expired", &[], None);
        assert_eq!(file_name(&letter), "01HF7YAT00000000000000000A.json");
        letter.record.id = DeadLetterId("../x".into());
        assert_eq!(file_name(&letter), "___x.json");
    }
}
