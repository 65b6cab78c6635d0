//! A case out of a JSON object.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::check::Injected;
use super::expect::Expectation;
use super::keys::{Keys, meant};
use crate::broker::subject::check_subject;
use crate::config::{parse_duration, parse_size};
use crate::message::Headers;

/// Every key of a case.
const KEYS: [&str; 18] = [
    "name",
    "subject",
    "id",
    "headers",
    "headers_base64",
    "body",
    "json",
    "body_base64",
    "body_file",
    "sequence",
    "published_at",
    "subscription",
    "attempt",
    "max_attempts",
    "previous_failure",
    "limits",
    "faults",
    "expect",
];
/// The limits that a case can lower.
const LIMITS: [&str; 3] = ["fuel", "timeout", "memory"];

/// A message, how it is handed over, and how its run must end.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file, and the case's number in it.
    pub place: String,
    /// What it shows, in its author's words.
    pub name: Option<String>,
    /// How it must end; `None`: however it ends.
    pub expect: Option<Expectation>,
    pub(super) subject: String,
    pub(super) id: Option<String>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
    pub(super) sequence: u64,
    pub(super) published_at: Option<SystemTime>,
    pub(super) subscription: Option<String>,
    pub(super) attempt: u32,
    pub(super) max_attempts: Option<u32>,
    pub(super) previous_failure: Option<String>,
    pub(super) lowered: Lowered,
    pub(super) faults: BTreeSet<Injected>,
}

/// The limits that are lower than the handler's own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lowered {
    pub(super) fuel: Option<NonZeroU64>,
    pub(super) timeout: Option<Duration>,
    pub(super) memory: Option<usize>,
}

/// Headers by their names; or in their order, where names repeat.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Named {
    Map(BTreeMap<String, String>),
    List(Vec<(String, String)>),
}

impl Case {
    /// A case out of an object. Files that it names are in `folder`, and have at most so many bytes.
    pub(super) fn parse(
        place: &str,
        object: BTreeMap<String, &RawValue>,
        folder: &Path,
        most: u64,
    ) -> Result<Self, String> {
        let mut keys = Keys::new(object, &KEYS)?;
        let subject: String = keys.take("subject")?.ok_or("it has no `subject`")?;
        check_subject(&subject).map_err(|error| error.to_string())?;
        let attempt = keys.take::<u32>("attempt")?.unwrap_or(1);
        if attempt == 0 {
            return Err("`attempt`: the first is 1".to_owned());
        }
        let max_attempts: Option<u32> = keys.take("max_attempts")?;
        if let Some(max) = max_attempts.filter(|max| *max < attempt) {
            return Err(format!("`attempt` is {attempt}, and `max_attempts` is {max}: the last one there will be"));
        }
        let (headers, body) = (headers(&mut keys)?, body(&mut keys, folder, most)?);
        Ok(Self {
            place: place.to_owned(),
            name: keys.take("name")?,
            subject,
            id: keys.take("id")?,
            headers,
            body,
            sequence: keys.take("sequence")?.unwrap_or(1),
            published_at: keys.parsed("published_at", moment)?,
            subscription: keys.take("subscription")?,
            attempt,
            max_attempts,
            previous_failure: keys.take("previous_failure")?,
            lowered: lowered(&mut keys)?,
            faults: faults(&mut keys)?,
            expect: keys.raw("expect").map(|expect| Expectation::parse(expect, folder)).transpose()?,
        })
    }

    /// What it is found by: the file with its number, and its name.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.place),
            None => self.place.clone(),
        }
    }
}

fn moment(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text).map_err(|_| "expected a time in UTC such as 2027-01-01T00:00:00Z".to_owned())
}

fn headers(keys: &mut Keys<'_>) -> Result<Headers, String> {
    let form = |_: String| "`headers`: expected an object of texts, or a list of [name, value]".to_owned();
    let pairs = match keys.take::<Named>("headers").map_err(form)? {
        None => Vec::new(),
        Some(Named::Map(map)) => map.into_iter().collect(),
        Some(Named::List(list)) => list,
    };
    let mut headers = Headers::default();
    for (name, value) in pairs {
        headers.push(name, value);
    }
    for (name, value) in keys.take::<Vec<(String, String)>>("headers_base64")?.unwrap_or_default() {
        headers.push(name, STANDARD.decode(value).map_err(|error| format!("`headers_base64`: {error}"))?);
    }
    Ok(headers)
}

/// The body: one of the ways to write it.
fn body(keys: &mut Keys<'_>, folder: &Path, most: u64) -> Result<Bytes, String> {
    let (text, json): (Option<String>, _) = (keys.take("body")?, keys.raw("json"));
    let (base64, file): (Option<String>, Option<String>) = (keys.take("body_base64")?, keys.take("body_file")?);
    Ok(match (text, json, base64, file) {
        (None, None, None, None) => Bytes::new(),
        (Some(text), None, None, None) => text.into(),
        // As it is written: numbers and the order of keys are the message's.
        (None, Some(json), None, None) => json.get().to_owned().into(),
        (None, None, Some(text), None) => {
            STANDARD.decode(text).map_err(|error| format!("`body_base64`: {error}"))?.into()
        }
        (None, None, None, Some(file)) => body_file(folder, &file, most)?,
        _ => return Err("a message has one of `body`, `json`, `body_base64` and `body_file`".to_owned()),
    })
}

/// A body in a file, relative to the case's.
pub(super) fn body_file(folder: &Path, name: &str, most: u64) -> Result<Bytes, String> {
    let path = folder.join(name);
    let wrong = |error: String| format!("`body_file`: could not read {}: {error}", path.display());
    let size = path.metadata().map_err(|error| wrong(error.to_string()))?.len();
    if size > most {
        return Err(wrong(format!("it has {size} bytes, and all cases together may have {most}")));
    }
    std::fs::read(&path).map(Bytes::from).map_err(|error| wrong(error.to_string()))
}

fn lowered(keys: &mut Keys<'_>) -> Result<Lowered, String> {
    let Some(limits) = keys.raw("limits") else { return Ok(Lowered::default()) };
    let read = || {
        let mut keys = Keys::of(limits, &LIMITS)?;
        let memory = keys.parsed("memory", parse_size)?;
        Ok(Lowered {
            fuel: keys.take("fuel")?,
            timeout: keys.parsed("timeout", parse_duration)?,
            memory: memory.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        })
    };
    read().map_err(|error: String| format!("`limits`: {error}"))
}

fn faults(keys: &mut Keys<'_>) -> Result<BTreeSet<Injected>, String> {
    let words: Vec<String> = keys.take("faults")?.unwrap_or_default();
    let known = Injected::ALL.map(Injected::name);
    let fault = |word: String| {
        let found = Injected::ALL.into_iter().find(|fault| fault.name() == word);
        found.ok_or_else(|| format!("`faults`: there is no fault `{word}`{}", meant(&word, &known)))
    };
    words.into_iter().map(fault).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parse(text: &str) -> Result<Case, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("body.bin"), [0, 255]).unwrap();
        let case = Case::parse("a.json:1", serde_json::from_str(text).unwrap(), folder.path(), 100);
        case.map_err(|error| error.replace(folder.path().to_str().unwrap(), "DIR"))
    }

    #[test]
    fn a_body_is_what_is_written_in_one_of_four_ways() {
        let rows: [(&str, &[u8]); 5] = [
            (r#"{"subject":"a"}"#, b""),
            (r#"{"subject":"a","body":"text"}"#, b"text"),
            (r#"{"subject":"a","json":{"b": 1.10, "a":[]}}"#, br#"{"b": 1.10, "a":[]}"#),
            (r#"{"subject":"a","body_base64":"AP8="}"#, &[0, 255]),
            (r#"{"subject":"a","body_file":"body.bin"}"#, &[0, 255]),
        ];
        for (text, body) in rows {
            assert_eq!(parse(text).unwrap().body, body, "{text}");
        }
    }

    #[test]
    fn headers_are_an_object_or_in_their_order() {
        let names = |text: &str| {
            let headers = parse(text).unwrap().headers;
            headers.iter().map(|header| (header.name.clone(), header.value.to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(names(r#"{"subject":"a","headers":{"B":"1"}}"#), [("B".to_owned(), b"1".to_vec())]);
        let repeated = r#"{"subject":"a","headers":[["B","1"],["B","2"]],"headers_base64":[["C","/w=="]]}"#;
        let pair = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        assert_eq!(names(repeated), [pair("B", b"1"), pair("B", b"2"), pair("C", b"\xff")]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let rows = [
            (r#"{}"#, "it has no `subject`"),
            (r#"{"subjct":"a"}"#, "unknown key `subjct`: did you mean `subject`?"),
            (r#"{"subject":"a b"}"#, "`a b` is not a subject"),
            (r#"{"subject":"a","json":1,"body":""}"#, "a message has one of `body`, `json`"),
            (r#"{"subject":"a","body_file":"none"}"#, "`body_file`: could not read DIR/none: No such file"),
            (r#"{"subject":"a","attempt":0}"#, "`attempt`: the first is 1"),
            (r#"{"subject":"a","attempt":3,"max_attempts":2}"#, "`attempt` is 3, and `max_attempts` is 2"),
            (r#"{"subject":"a","attempt":"x"}"#, "`attempt`: invalid type: string \"x\", expected u32"),
            (r#"{"subject":"a","limits":{"feul":1}}"#, "`limits`: unknown key `feul`: did you mean `fuel`?"),
            (r#"{"subject":"a","limits":{"timeout":"5"}}"#, "`limits`: `timeout`: expected a duration with its unit"),
            (r#"{"subject":"a","limits":{"fuel":0}}"#, "`limits`: `fuel`: invalid value: integer `0`"),
            (r#"{"subject":"a","faults":["duplicat"]}"#, "`faults`: there is no fault `duplicat`: did you mean `dup"),
            (r#"{"subject":"a","faults":["x"]}"#, "`faults`: there is no fault `x`; there is: duplicate, redel"),
            (r#"{"subject":"a","published_at":"noon"}"#, "`published_at`: expected a time in UTC"),
            (r#"{"subject":"a","headers":{"a":1}}"#, "`headers`: expected an object of texts"),
            (r#"{"subject":"a","headers_base64":[["a","!"]]}"#, "`headers_base64`: Invalid"),
        ];
        for (text, expected) in rows {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
