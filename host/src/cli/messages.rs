//! Messages out of files: a file a message, or a line a message, in our own form or picked out of any JSON objects.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::value::RawValue;

use crate::admin::wire::PublishLine;
use crate::broker::subject::check_subject;
use crate::message::{Headers, Publish};

/// What stands for standard input.
const STDIN: &str = "-";
/// A line or a file may not be longer: what a broker takes at the very most is 64 MiB, a third more as base64.
const LONGEST: u64 = 96 << 20;

/// What is read is a body, and nothing says where it goes.
const NO_SUBJECT: &str =
    "say the subject with --subject; or, where every line is a whole message with its subject, --lines";

/// How messages are made of what is read.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct MessageArguments {
    /// The subject of every message: what is read are bodies. Without it a line is a whole message, such as
    /// `{"subject": "orders.eu", "json": {"id": 7}}`
    #[arg(long, short)]
    pub(super) subject: Option<String>,
    /// The message id, for de-duplication; for a single message
    #[arg(long)]
    pub(super) id: Option<String>,
    /// A header of every message
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    pub(super) headers: Vec<(String, String)>,
    /// Every line is a message; so it is without this for files that end in .jsonl or .ndjson
    #[arg(long)]
    pub(super) lines: bool,
    /// Lines are JSON objects, and this key has the subject
    #[arg(long, value_name = "KEY")]
    pub(super) subject_field: Option<String>,
    /// Goes before the subject that --subject-field finds
    #[arg(long, value_name = "TEXT", requires = "subject_field")]
    pub(super) subject_prefix: Option<String>,
    /// Lines are JSON objects, and this key has the message id
    #[arg(long, value_name = "KEY")]
    pub(super) id_field: Option<String>,
    /// Lines are JSON objects, and this key has the body
    #[arg(long, value_name = "KEY")]
    pub(super) body_field: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

/// A message and where it was read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) publish: Publish,
    /// `file:line`, or the file.
    pub(super) place: String,
    /// How many bytes of the input it took.
    pub(super) bytes: u64,
}

impl MessageArguments {
    /// Whether what is read are bodies, whole as they stand there.
    pub(super) const fn takes_bodies(&self) -> bool {
        self.subject.is_some() && self.subject_field.is_none() && self.id_field.is_none() && self.body_field.is_none()
    }

    /// Whether a file is read line by line.
    fn is_lines(&self, path: &Path) -> bool {
        let picks = self.subject_field.is_some() || self.id_field.is_some() || self.body_field.is_some();
        let named = path.extension().is_some_and(|end| end == "jsonl" || end == "ndjson");
        self.lines || picks || named
    }

    /// The messages of a file, or of standard input, one after the other.
    pub(super) fn read<'a>(
        &'a self,
        path: &'a Path,
    ) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Found>> + 'a>> {
        let named = if path == Path::new(STDIN) { "standard input".to_owned() } else { path.display().to_string() };
        let mut input: Box<dyn BufRead> = if path == Path::new(STDIN) {
            Box::new(BufReader::new(io::stdin()))
        } else {
            Box::new(BufReader::new(File::open(path).with_context(|| format!("opening {named}"))?))
        };
        if !self.is_lines(path) {
            let mut body = Vec::new();
            let read = input.by_ref().take(LONGEST + 1).read_to_end(&mut body);
            read.with_context(|| format!("reading {named}"))?;
            let bytes = body.len() as u64;
            if bytes > LONGEST {
                bail!("{named} is too large for one message; with --lines every line is a message");
            }
            let found = self.whole(body).with_context(|| named.clone());
            return Ok(Box::new(std::iter::once(found.map(|publish| Found { publish, place: named, bytes }))));
        }
        let mut number = 0;
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                let line = match next_line(&mut input) {
                    Ok(Some(line)) => line,
                    Ok(None) => return None,
                    Err(error) => return Some(Err(error.context(format!("reading {named}")))),
                };
                number += 1;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let place = format!("{named}:{number}");
                let found = self.line(&line).with_context(|| place.clone());
                return Some(found.map(|publish| Found { publish, place, bytes: line.len() as u64 }));
            }
        })))
    }

    fn whole(&self, body: Vec<u8>) -> anyhow::Result<Publish> {
        let subject = self.subject.clone().ok_or_else(|| anyhow!(NO_SUBJECT))?;
        self.finished(Publish { subject, id: self.id.clone(), headers: Headers::default(), body: body.into() })
    }

    fn line(&self, line: &[u8]) -> anyhow::Result<Publish> {
        let picks = self.subject_field.is_some() || self.id_field.is_some() || self.body_field.is_some();
        if !picks && self.subject.is_none() {
            let line: PublishLine = serde_json::from_slice(line)?;
            return self.finished(line.into_publish().map_err(|error| anyhow!(error))?);
        }
        if !picks {
            return self.whole(line.trim_ascii_end().to_vec());
        }
        let object: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(line).context("expected a JSON object")?;
        let field = |key: &str| {
            let keys = || object.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            object.get(key).map(|value| value.get()).ok_or_else(|| anyhow!("it has no `{key}`; it has: {}", keys()))
        };
        let subject = match &self.subject_field {
            Some(key) => self.subject_prefix.clone().unwrap_or_default() + &word(key, field(key)?)?,
            None => self.subject.clone().ok_or_else(|| anyhow!("say the subject with --subject or --subject-field"))?,
        };
        let id = match &self.id_field {
            Some(key) => Some(word(key, field(key)?)?),
            None => self.id.clone(),
        };
        let body = match &self.body_field {
            Some(key) => body(field(key)?)?,
            None => line.trim_ascii_end().to_vec(),
        };
        self.finished(Publish { subject, id, headers: Headers::default(), body: body.into() })
    }

    fn finished(&self, mut publish: Publish) -> anyhow::Result<Publish> {
        for (name, value) in &self.headers {
            publish.headers.push(name.clone(), value.clone());
        }
        check_subject(&publish.subject)?;
        Ok(publish)
    }
}

/// Whether a body has what a whole message has: a subject, and a body of its own.
pub(super) fn is_whole_message(body: &[u8]) -> bool {
    let has_body = |line: &PublishLine| line.body.is_some() || line.json.is_some() || line.body_base64.is_some();
    serde_json::from_slice::<PublishLine>(body).is_ok_and(|line| has_body(&line))
}

/// A text or a number, as a subject or an id takes it.
fn word(key: &str, raw: &str) -> anyhow::Result<String> {
    match serde_json::from_str(raw)? {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        _ => bail!("`{key}` is neither text nor a number"),
    }
}

/// A body: a text by what it says, all else as the JSON that was written.
fn body(raw: &str) -> anyhow::Result<Vec<u8>> {
    if raw.starts_with('"') {
        Ok(serde_json::from_str::<String>(raw)?.into_bytes())
    } else {
        Ok(raw.as_bytes().to_vec())
    }
}

fn next_line(input: &mut dyn BufRead) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(LONGEST + 1).read_until(b'\n', &mut line)?;
    if read as u64 > LONGEST {
        bail!("a line is longer than {LONGEST} bytes");
    }
    Ok((read > 0).then_some(line))
}

/// The files to read: those that are named, or standard input.
pub(super) fn inputs(files: &[PathBuf]) -> Vec<PathBuf> {
    if files.is_empty() { vec![PathBuf::from(STDIN)] } else { files.to_vec() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    fn read(arguments: &MessageArguments, name: &str, content: &str) -> Vec<Result<Publish, String>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let found = arguments.read(&path).unwrap();
        let shown = |error: anyhow::Error| format!("{error:#}").replace(directory.path().to_str().unwrap(), "DIR");
        found.map(|found| found.map(|found| found.publish).map_err(shown)).collect()
    }

    #[test]
    fn a_file_is_a_message() {
        let arguments = MessageArguments {
            subject: Some("a.b".into()),
            id: Some("i".into()),
            headers: vec![("Kind".into(), "x=y".into())],
            ..MessageArguments::default()
        };
        let messages = read(&arguments, "body.json", "{\n}\n");
        let message = messages[0].as_ref().unwrap();
        assert_eq!((message.subject.as_str(), message.id.as_deref()), ("a.b", Some("i")));
        assert_eq!((message.body.as_ref(), message.headers.text("kind")), (b"{\n}\n".as_slice(), Some("x=y")));
    }

    #[test]
    fn fields_are_picked_out_of_lines() {
        let arguments = MessageArguments {
            subject_field: Some("event".into()),
            subject_prefix: Some("github.".into()),
            id_field: Some("delivery".into()),
            body_field: Some("payload".into()),
            ..MessageArguments::default()
        };
        let feed = "{\"event\":\"push\",\"delivery\":7,\"payload\":{\"n\": 1.10}}\n\n{\"event\":\"a b\",\"delivery\":\"x\",\
                    \"payload\":\"t\"}\n{\"event\":\"ping\"}\n[]\n";
        let messages = read(&arguments, "feed", feed);
        let first = messages[0].as_ref().unwrap();
        assert_eq!((first.subject.as_str(), first.id.as_deref()), ("github.push", Some("7")));
        assert_eq!(first.body.as_ref(), b"{\"n\": 1.10}", "JSON stays as it was written");
        assert!(messages[1].as_ref().unwrap_err().starts_with("DIR/feed:3: `github.a b` is not a subject"));
        assert_eq!(messages[2].as_ref().unwrap_err(), "DIR/feed:4: it has no `delivery`; it has: event");
        assert!(messages[3].as_ref().unwrap_err().starts_with("DIR/feed:5: expected a JSON object"));
    }

    #[test]
    fn lines_are_in_the_form_of_the_api_or_bodies() {
        let ours =
            read(&MessageArguments::default(), "m.jsonl", "{\"subject\":\"a\",\"json\":[1]}\n{\"subjct\":\"a\"}");
        assert_eq!(ours[0].as_ref().unwrap().body.as_ref(), b"[1]");
        assert!(ours[1].as_ref().unwrap_err().contains("unknown field `subjct`"));
        let bodies = MessageArguments { subject: Some("a".into()), lines: true, ..MessageArguments::default() };
        let bodies = read(&bodies, "m.txt", "one\ntwo");
        let bodies: Vec<&[u8]> = bodies.iter().map(|message| message.as_ref().unwrap().body.as_ref()).collect();
        assert_eq!(bodies, [b"one".as_slice(), b"two"]);
        let neither = read(&MessageArguments::default(), "m.txt", "{\"subject\":\"a\",\"json\":[1]}");
        let told = neither[0].as_ref().unwrap_err();
        assert!(told.contains("--subject") && told.contains("--lines"), "{told}");
    }

    #[test]
    fn a_body_that_was_meant_as_a_message_is_known() {
        let rows = [
            ("{\"subject\":\"a\",\"json\":{\"id\":7}}", true),
            ("{\"subject\":\"a\",\"id\":\"7\",\"body\":\"x\"}", true),
            // An order may have a subject.
            ("{\"subject\":\"a\",\"id\":7}", false),
            ("{\"subject\":\"a\",\"json\":1,\"cents\":5}", false),
            ("{\"id\":7}", false),
            ("x", false),
        ];
        for (body, expected) in rows {
            assert_eq!(is_whole_message(body.as_bytes()), expected, "{body}");
        }
    }
}
