//! What is kept of one delivery for its spans: little, and all of it bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::context::SpanId;
use super::tracer::{Place, Trace};
use crate::handler::{LogLevel, LogLine, Span, SpanEnd, Spans};
use crate::message::Headers;
use crate::outcome::{Outcome, ReasonCode, Usage};
use crate::telemetry::Ending;

/// So much of a text is kept, in bytes: ids and subjects are shorter, and of what was said the beginning tells most.
const TEXT_BYTES: usize = 256;
/// So many lines of a handler's log are kept: the last ones, as they stand nearest to how the run ended.
const LINES: usize = 32;
/// So many named values of a line are kept.
const FIELDS: usize = 8;
/// So many outputs of a run have a span. Each has its context all the same.
const OUTPUTS: usize = 64;

/// All that the spans of one delivery are made of.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) place: Arc<Place>,
    pub(crate) trace: Trace,
    pub(crate) message: Message,
    /// Its run; `None`: it was given up without one.
    pub(crate) ran: Option<Box<Ran>>,
    /// How it was settled; `None`: nothing was.
    pub(crate) settled: Option<Settled>,
}

/// What is told of the message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) body_size: usize,
    pub(crate) sequence: u64,
    pub(crate) attempt: u32,
    pub(crate) deliveries: u32,
    /// Its attributes as a CloudEvent, by their names in the conventions.
    pub(crate) event: Vec<(&'static str, String)>,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) started: SystemTime,
    pub(crate) took: Duration,
    pub(crate) outcome: ReasonCode,
    /// Whether something is to be looked into: a fault, a reject, a retry.
    pub(crate) is_failure: bool,
    /// Whether that is worth keeping where the trace is not recorded.
    pub(crate) is_grave: bool,
    pub(crate) detail: Option<String>,
    pub(crate) usage: Usage,
    pub(crate) digest: String,
    pub(crate) version: u64,
    pub(crate) lines: Vec<Line>,
    /// How many lines are not kept, by the span that they were written in.
    pub(crate) lines_dropped: BTreeMap<Option<usize>, usize>,
    /// What the handler made, within bounds already.
    pub(crate) spans: Spans,
    pub(crate) sent: Vec<Sent>,
}

/// A line of the handler's log.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) level: LogLevel,
    pub(crate) text: String,
    pub(crate) fields: Vec<(String, String)>,
    /// From when the handler began.
    pub(crate) at: Duration,
    /// The handler's span that it was written in, by its place; `None`: in none.
    pub(crate) span: Option<usize>,
}

/// An output.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) span: SpanId,
    pub(crate) system: &'static str,
    /// The broker's name.
    pub(crate) broker: Arc<str>,
    /// What is granted, which says where it goes in few words.
    pub(crate) template: String,
    pub(crate) subject: String,
    pub(crate) id: Option<String>,
    pub(crate) body_size: usize,
}

/// A settlement that was confirmed, or given up.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) ending: Ending,
    pub(crate) reason: ReasonCode,
    pub(crate) started: SystemTime,
    pub(crate) took: Duration,
    pub(crate) dead_letter: Option<String>,
}

impl Message {
    pub(crate) fn of(message: &crate::message::Message, attempt: u32, deliveries: u32) -> Self {
        Self {
            id: cut(&message.id),
            subject: cut(&message.subject),
            body_size: message.body.len(),
            sequence: message.sequence,
            attempt,
            deliveries,
            event: event(&message.headers),
        }
    }
}

impl Ran {
    pub(crate) fn new(
        (started, took): (SystemTime, Duration),
        outcome: &Outcome,
        usage: Usage,
        logs: &[LogLine],
        spans: Spans,
    ) -> Self {
        let (is_failure, is_grave) = gravity(outcome);
        let (dropped, lines) = logs.split_at(logs.len().saturating_sub(LINES));
        let mut lines_dropped = BTreeMap::new();
        for line in dropped {
            *lines_dropped.entry(line.span).or_default() += 1;
        }
        Self {
            started,
            took,
            outcome: outcome.code(),
            is_failure,
            is_grave,
            detail: outcome.detail().map(|detail| cut(&detail)),
            usage,
            digest: String::new(),
            version: 0,
            lines: lines.iter().map(Line::of).collect(),
            lines_dropped,
            spans,
            sent: Vec::new(),
        }
    }

    /// When the handler began, by which its lines and spans count. Before it, its message waited for its turn.
    pub(crate) fn began(&self) -> SystemTime {
        self.started + self.took.saturating_sub(self.usage.duration)
    }

    /// Takes an output in, while there is room.
    pub(crate) fn sends(&mut self, sent: impl FnOnce() -> Sent) {
        if self.sent.len() < OUTPUTS {
            self.sent.push(sent());
        }
    }
}

impl Sent {
    pub(crate) fn new(
        span: SpanId,
        system: &'static str,
        broker: &Arc<str>,
        template: &str,
        publish: &crate::message::Publish,
    ) -> Self {
        Self {
            span,
            system,
            broker: Arc::clone(broker),
            template: cut(template),
            subject: cut(&publish.subject),
            id: publish.id.as_deref().map(cut),
            body_size: publish.body.len(),
        }
    }
}

impl Line {
    fn of(line: &LogLine) -> Self {
        let fields = line.fields.iter().take(FIELDS).map(|(name, value)| (cut(name), cut(value))).collect();
        Self { level: line.level, text: cut(&line.text), fields, at: line.at, span: line.span }
    }

    fn size(&self) -> usize {
        self.text.len() + self.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

impl Record {
    /// How many spans it becomes.
    pub(crate) fn spans(&self) -> u64 {
        let sent = |ran: &Ran| if self.is_sent() { ran.sent.len() } else { 0 };
        let of_run = self.ran.as_ref().map_or(0, |ran| 1 + ran.spans.kept.len() + sent(ran));
        of_run as u64 + u64::from(self.settled.is_some())
    }

    /// Whether the outputs were confirmed.
    pub(crate) fn is_sent(&self) -> bool {
        self.settled.as_ref().is_some_and(|settled| settled.ending == Ending::Completed)
    }

    /// What it takes in memory, in bytes: what was chosen by others, and a round sum for the rest.
    pub(crate) fn size(&self) -> usize {
        const FIXED: usize = 768;
        let message = self.message.id.len() + self.message.subject.len();
        let event: usize = self.message.event.iter().map(|(_, value)| value.len()).sum();
        let ran = self.ran.as_ref().map_or(0, |ran| {
            let sent = ran.sent.iter().map(|sent| 192 + sent.subject.len() + sent.template.len());
            ran.detail.as_ref().map_or(0, String::len)
                + ran.lines.iter().map(|line| 64 + line.size()).sum::<usize>()
                + ran.spans.kept.iter().map(made_size).sum::<usize>()
                + sent.sum::<usize>()
        });
        FIXED + message + event + ran
    }
}

/// What a span of the handler takes in memory, in bytes.
fn made_size(span: &Span) -> usize {
    let attributes: usize = span.attributes.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
    let failure = match &span.end {
        SpanEnd::Failed(failure) => failure.len(),
        SpanEnd::Ended | SpanEnd::WithOuter | SpanEnd::WithRun => 0,
    };
    192 + span.name.len() + attributes + failure
}

/// Whether a run failed, and whether that is kept by itself. A retry is what a handler asks for when it knows what it does;
/// it is told when it was the last one.
fn gravity(outcome: &Outcome) -> (bool, bool) {
    match outcome {
        Outcome::Completed(_) | Outcome::Skipped(_) | Outcome::Defer { .. } => (false, false),
        Outcome::Retry { .. } => (true, false),
        Outcome::Rejected(_) => (true, true),
        Outcome::Fault(fault) => (true, fault.kind.is_of_the_version()),
    }
}

/// The attributes of a CloudEvent, where the message is one whose attributes are headers.
fn event(headers: &Headers) -> Vec<(&'static str, String)> {
    let rows = [
        ("ce-id", "cloudevents.event_id"),
        ("ce-source", "cloudevents.event_source"),
        ("ce-type", "cloudevents.event_type"),
    ];
    rows.into_iter().filter_map(|(header, name)| Some((name, cut(headers.text(header)?)))).collect()
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_run_is_bounded() {
        let long = "ü".repeat(10_000);
        let line = LogLine {
            level: LogLevel::Info,
            text: long.clone(),
            fields: vec![(long.clone(), long.clone()); 50],
            at: Duration::ZERO,
            span: None,
        };
        let reason = crate::outcome::Reason { code: long.clone(), detail: None };
        let mut logs = vec![line; 1000];
        logs.iter_mut().take(10).for_each(|line| line.span = Some(3));
        let times = (SystemTime::UNIX_EPOCH, Duration::ZERO);
        let ran = Ran::new(times, &Outcome::Rejected(reason), Usage::default(), &logs, Spans::default());
        assert_eq!(ran.lines.len(), LINES);
        assert_eq!(ran.lines_dropped, BTreeMap::from([(None, 1000 - 10 - LINES), (Some(3), 10)]), "by their spans");
        assert!(ran.lines.iter().all(|line| line.size() <= TEXT_BYTES * (1 + 2 * FIELDS)));
        assert!(ran.detail.is_some_and(|detail| detail.len() <= TEXT_BYTES));
    }
}
