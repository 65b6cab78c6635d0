//! The spans that a handler made, as they are shown.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::show::{indented, micros, write_values};
use crate::cli::table::duration;
use crate::handler::{Span, SpanEnd, Spans};

/// The words of a trace for what ended a span in its handler's place.
const OUTER: &str = "outer";
const RUN: &str = "run";

/// All of a run's.
#[derive(Debug, Serialize)]
pub(super) struct ShownSpans {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spans: Vec<ShownSpan>,
    /// How many more there were.
    #[serde(rename = "spans_dropped", skip_serializing_if = "is_none")]
    dropped: u64,
    /// How often one was ended that was not open.
    #[serde(rename = "stray_span_ends", skip_serializing_if = "is_none")]
    stray_ends: u64,
}

#[derive(Debug, Serialize)]
struct ShownSpan {
    name: String,
    /// The span that it is in, by its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<usize>,
    #[serde(skip)]
    depth: usize,
    at_us: u64,
    took_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// What it ended with, when the handler did not end it: in the words of its trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<(String, String)>,
    /// How many more there were.
    #[serde(skip_serializing_if = "is_zero")]
    attributes_dropped: usize,
}

impl ShownSpans {
    pub(super) fn new(spans: &Spans) -> Self {
        let mut shown: Vec<ShownSpan> = Vec::with_capacity(spans.kept.len());
        for span in &spans.kept {
            let outer = span.parent.and_then(|parent| shown.get(parent));
            let depth = outer.map_or(0, |outer| outer.depth + 1);
            shown.push(ShownSpan::new(span, depth));
        }
        Self { spans: shown, dropped: spans.dropped, stray_ends: spans.stray_ends }
    }

    /// A line each, those below it that are inside it.
    pub(super) fn write(&self, out: &mut String) -> std::fmt::Result {
        for span in &self.spans {
            let (at, took) = (Duration::from_micros(span.at_us), Duration::from_micros(span.took_us));
            let name = if span.name.is_empty() { "(unnamed)".to_owned() } else { indented(&span.name) };
            write!(
                out,
                "span      {:indent$}{name} {} at {}",
                "",
                duration(took),
                duration(at),
                indent = 2 * span.depth
            )?;
            write_values(out, &span.attributes)?;
            if span.attributes_dropped > 0 {
                write!(out, " and {} attributes more", span.attributes_dropped)?;
            }
            match span.ended_by {
                Some(RUN) => write!(out, ", open to the end of the run")?,
                Some(_outer) => write!(out, ", ended with the one around it")?,
                None => {}
            }
            match span.failure.as_deref() {
                Some("") => write!(out, ", failed")?,
                Some(failure) => write!(out, ", failed: {}", indented(failure))?,
                None => {}
            }
            writeln!(out)?;
        }
        if self.dropped > 0 {
            writeln!(out, "          and {} spans more, which are not kept", self.dropped)?;
        }
        if self.stray_ends > 0 {
            writeln!(out, "          spans that were not open were ended {} times", self.stray_ends)?;
        }
        Ok(())
    }
}

impl ShownSpan {
    fn new(span: &Span, depth: usize) -> Self {
        let (failure, ended_by) = match &span.end {
            SpanEnd::Ended => (None, None),
            SpanEnd::Failed(failure) => (Some(failure.clone()), None),
            SpanEnd::WithOuter => (None, Some(OUTER)),
            SpanEnd::WithRun => (None, Some(RUN)),
        };
        let Span { name, attributes, attributes_dropped, parent, at, took, end: _ } = span.clone();
        let (at_us, took_us) = (micros(at), micros(took));
        Self { name, parent, depth, at_us, took_us, failure, ended_by, attributes, attributes_dropped }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_span_without_a_name_is_seen_and_so_is_what_is_not_kept_of_it() {
        let span = Span {
            name: String::new(),
            attributes: vec![("order".to_owned(), "7".to_owned())],
            attributes_dropped: 3,
            parent: None,
            at: Duration::ZERO,
            took: Duration::ZERO,
            end: SpanEnd::Failed(String::new()),
        };
        let shown = ShownSpans::new(&Spans { kept: vec![span], ..Spans::default() });
        let mut text = String::new();
        shown.write(&mut text).unwrap();
        assert!(text.starts_with("span      (unnamed) "), "{text}");
        assert!(text.ends_with(" order=7 and 3 attributes more, failed\n"), "{text}");
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["spans"][0]["attributes_dropped"], 3);
    }
}
