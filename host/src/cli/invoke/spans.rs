//! The spans that a handler made, as they are shown.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::show::{indented, micros};
use crate::cli::table::{duration, harmless};
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
            let name = indented(&span.name);
            write!(
                out,
                "span      {:indent$}{name} {} at {}",
                "",
                duration(took),
                duration(at),
                indent = 2 * span.depth
            )?;
            for (name, value) in &span.attributes {
                write!(out, " {}={}", harmless(name), harmless(value))?;
            }
            match span.ended_by {
                Some(RUN) => write!(out, ", open to the end of the run")?,
                Some(_outer) => write!(out, ", ended with the one around it")?,
                None => {}
            }
            if let Some(failure) = &span.failure {
                write!(out, ", failed: {}", indented(failure))?;
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
        let Span { name, attributes, parent, at, took, .. } = span.clone();
        Self { name, parent, depth, at_us: micros(at), took_us: micros(took), failure, ended_by, attributes }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}
