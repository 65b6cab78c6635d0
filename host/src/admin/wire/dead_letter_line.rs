//! A dead letter as a line of a file: all of it, to be brought in again as it was.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Headers;
use crate::settle::dead_letter::{DeadLetter, DeadLetterRecord};

/// A dead letter, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterLine {
    /// All that is known of it, as its store keeps it.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub record: DeadLetterRecord,
    /// The original headers, where all are text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The original headers with their values in Base64, where one is not text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw_headers: Vec<(String, String)>,
    /// The body where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// A line of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ExportLine {
    /// A dead letter.
    Letter(Box<DeadLetterLine>),
    /// The last line: how many there were. Where it is missing, the export was cut off.
    End(ExportEnd),
}

/// How an export ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportEnd {
    /// How many dead letters were in it.
    pub exported: u64,
}

/// What became of dead letters that were brought in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportSummary {
    /// Those that were stored.
    pub imported: u64,
    /// Those that were there already, and are as they were.
    pub present: u64,
}

impl DeadLetterLine {
    /// A dead letter as a line.
    #[must_use]
    pub fn new(letter: DeadLetter) -> Self {
        let DeadLetter { record, headers, body } = letter;
        let as_text = |headers: &Headers| {
            let text = |value: &bytes::Bytes| std::str::from_utf8(value).ok().map(str::to_owned);
            headers.iter().map(|header| Some((header.name.clone(), text(&header.value)?))).collect::<Option<Vec<_>>>()
        };
        let raw = |headers: &Headers| {
            headers.iter().map(|header| (header.name.clone(), STANDARD.encode(&header.value))).collect()
        };
        let (headers, raw_headers) = match as_text(&headers) {
            Some(text) => (text, Vec::new()),
            None => (Vec::new(), raw(&headers)),
        };
        let (body, body_base64) = match std::str::from_utf8(&body) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&body))),
        };
        Self { record, headers, raw_headers, body, body_base64 }
    }

    /// The dead letter of a line.
    ///
    /// # Errors
    /// When a part of it is no base64, or its id is none that a host makes.
    pub fn into_letter(self) -> Result<DeadLetter, String> {
        let id = &self.record.id.0;
        if ulid::Ulid::from_string(id).is_err() {
            return Err(format!("`{}` is no id of a dead letter", id.chars().take(40).collect::<String>()));
        }
        let mut headers = Headers::default();
        for (name, value) in self.headers {
            headers.push(name, value);
        }
        for (name, value) in self.raw_headers {
            headers.push(name, STANDARD.decode(value).map_err(|error| format!("`raw_headers`: {error}"))?);
        }
        let body = match (self.body, self.body_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|error| format!("`body_base64`: {error}"))?,
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => return Err("a dead letter has one of `body` and `body_base64`".to_owned()),
        };
        Ok(DeadLetter { record: self.record, headers, body: body.into() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use crate::settle::dead_letter::DeadLetterId;

    #[test]
    fn a_dead_letter_comes_back_as_it_went_out() {
        for (header, body) in [(b"text".as_slice(), b"body".as_slice()), (b"\xff", b"\x00\xff")] {
            let id = DeadLetterId("01HF7YAT00000000000000000A".to_owned());
            let mut headers = Headers::default();
            headers.push("A", header.to_vec());
            headers.push("A", "b");
            let record = DeadLetterRecord::bare(id, "timeout", "it took too long");
            let letter = DeadLetter { record, headers, body: body.to_vec().into() };
            let text =
                serde_json::to_string(&ExportLine::Letter(Box::new(DeadLetterLine::new(letter.clone())))).unwrap();
            let ExportLine::Letter(line) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
            assert_eq!(line.into_letter().unwrap(), letter);
        }
        let end: ExportLine = serde_json::from_str(r#"{"exported":3}"#).unwrap();
        assert_eq!(end, ExportLine::End(ExportEnd { exported: 3 }));
        let record = DeadLetterRecord::bare(DeadLetterId("../x".to_owned()), "", "");
        let line = DeadLetterLine::new(DeadLetter { record, headers: Headers::default(), body: "".into() });
        assert!(line.into_letter().is_err());
    }
}
