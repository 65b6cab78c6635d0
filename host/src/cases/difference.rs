//! How something is not as expected: a sentence, and where it helps the lines that differ. Pure.

use serde::Serialize;
use serde_json::Value;

/// So many lines of one difference are shown: what does not fit is another document, and not a change of one.
const MOST_LINES: usize = 20;
/// What is said of JSON: its lines tell the rest.
pub(super) const OTHER_JSON: &str = "expected other JSON";
/// A value on one line, in characters.
const WIDTH: usize = 200;

/// One thing that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What: `outcome`, `output 2`, `logs`, `fuel`.
    pub what: String,
    /// What was expected, and what came, in a sentence without its subject.
    pub text: String,
    /// Line by line: what was expected begins with `-`, what came with `+`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Difference {
    /// A difference that a sentence tells.
    pub(super) fn new(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { what: what.into(), text: text.into(), lines: Vec::new() }
    }

    /// Two short texts.
    pub(super) fn of(what: impl Into<String>, of: &str, expected: &str, came: &str) -> Self {
        Self::new(what, format!("expected the {of} `{}`, and it is `{}`", cut(expected), cut(came)))
    }

    pub(super) fn with(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }

    /// The same, in a run of which this is to be said first.
    pub(super) fn under(mut self, run: &str) -> Self {
        self.what = format!("{run}: {}", self.what);
        self
    }

    /// On one line, with the first lines that differ where the sentence does not tell.
    #[must_use]
    pub fn on_one_line(&self) -> String {
        let text = if self.what == "outcome" { self.text.clone() } else { format!("{}: {}", self.what, self.text) };
        match self.lines.get(..2.min(self.lines.len())) {
            Some(first @ [_, ..]) if self.text == OTHER_JSON => format!("{text}: {}", first.join(", ")),
            Some(_) | None => text,
        }
    }
}

/// Bodies that are JSON, value by value.
pub(super) fn of_json(expected: &Value, came: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    walk("", Some(expected), Some(came), &mut lines);
    bounded(lines)
}

/// What differs at a path and below. `None`: there is nothing.
fn walk(path: &str, expected: Option<&Value>, came: Option<&Value>, lines: &mut Vec<String>) {
    match (expected, came) {
        (Some(Value::Object(expected)), Some(Value::Object(came))) => {
            let added = came.keys().filter(|key| !expected.contains_key(*key));
            for key in expected.keys().chain(added) {
                walk(&below(path, key), expected.get(key), came.get(key), lines);
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(came))) => {
            for index in 0..expected.len().max(came.len()) {
                walk(&format!("{path}[{index}]"), expected.get(index), came.get(index), lines);
            }
        }
        (expected, came) if expected == came => {}
        (expected, came) => {
            let path = if path.is_empty() { "." } else { path };
            lines.extend(expected.map(|value| cut(&format!("- {path}: {value}"))));
            lines.extend(came.map(|value| cut(&format!("+ {path}: {value}"))));
        }
    }
}

/// A key below a path; one that is no plain word is quoted.
fn below(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { format!("{path}.{key}") } else { format!("{path}.{}", Value::from(key)) }
}

/// Lists of lines: those at both ends that are the same are left out.
pub(super) fn of_lines<'a>(expected: &[&'a str], came: &[&'a str], same: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let front = expected.iter().zip(came).take_while(|(one, other)| same(one, other)).count();
    let (one, other) = (expected.get(front..).unwrap_or_default(), came.get(front..).unwrap_or_default());
    let back = one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| same(one, other)).count();
    let middle = |lines: &[&'a str], sign: char| -> Vec<String> {
        let lines = lines.get(..lines.len() - back).unwrap_or_default();
        lines.iter().map(|line| cut(&format!("{sign} {line}"))).collect()
    };
    bounded([middle(one, '-'), middle(other, '+')].concat())
}

/// Bodies that are text, line by line; of others, from which byte on they differ.
pub(super) fn of_bodies(expected: &[u8], came: &[u8]) -> Vec<String> {
    match (std::str::from_utf8(expected), std::str::from_utf8(came)) {
        (Ok(expected), Ok(came)) => {
            let (expected, came): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), came.lines().collect());
            of_lines(&expected, &came, |one, other| one == other)
        }
        _ => {
            let same = expected.iter().zip(came).take_while(|(one, other)| one == other).count();
            let shown = |bytes: &[u8], sign: char| {
                let rest = bytes.get(same..).unwrap_or_default();
                let part = hex::encode(rest.get(..rest.len().min(32)).unwrap_or_default());
                format!("{sign} {} bytes, from byte {same} on: {part}", bytes.len())
            };
            vec![shown(expected, '-'), shown(came, '+')]
        }
    }
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_LINES);
    if more > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("... and {more} more"));
    }
    lines
}

pub(super) fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(WIDTH).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_compared_value_by_value() {
        let expected = json!({"id": 7, "lines": [1, 2], "to": {"a b": true}, "gone": null});
        let came = json!({"id": 8, "lines": [1, 2, 3], "to": {"a b": "yes"}, "new": {"x": []}});
        let lines = [
            "- .gone: null",
            "- .id: 7",
            "+ .id: 8",
            "+ .lines[2]: 3",
            "- .to.\"a b\": true",
            "+ .to.\"a b\": \"yes\"",
            "+ .new: {\"x\":[]}",
        ];
        assert_eq!(of_json(&expected, &came), lines);
        assert_eq!(of_json(&json!(1), &json!([1])), ["- .: 1", "+ .: [1]"]);
        assert!(of_json(&expected, &expected).is_empty());
        let long = of_json(&json!([]), &Value::from((0..50).collect::<Vec<i32>>()));
        assert_eq!((long.len(), long.last().map(String::as_str)), (21, Some("... and 30 more")));
    }

    #[test]
    fn text_is_compared_by_its_lines_and_other_bodies_by_their_bytes() {
        assert_eq!(of_bodies(b"a\nb\nc", b"a\nx\ny\nc"), ["- b", "+ x", "+ y"]);
        assert_eq!(of_bodies(b"a", b"a\nb"), ["+ b"]);
        let bytes = of_bodies(&[1, 0xff], &[1, 2, 3]);
        assert_eq!(bytes, ["- 2 bytes, from byte 1 on: ff", "+ 3 bytes, from byte 1 on: 0203"]);
    }

    #[test]
    fn it_is_told_on_one_line() {
        let outcome = Difference::new("outcome", "expected `a`, and it ended `b`");
        assert_eq!(outcome.on_one_line(), "expected `a`, and it ended `b`");
        let body = Difference::of("output 1", "body", "2", "1").under("duplicate");
        assert_eq!(body.on_one_line(), "duplicate: output 1: expected the body `2`, and it is `1`");
    }
}
