//! The spans that a record becomes, by OpenTelemetry's conventions for messaging and our own names beside them.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::context::{SpanContext, SpanId};
use super::made::made;
use super::record::{Line, Ran, Record, Sent, Settled};
use super::tracer::{Place, Trace};
use crate::telemetry::Ending;

/// A span.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span<'a> {
    pub(crate) context: SpanContext,
    pub(crate) state: Option<&'a str>,
    pub(crate) parent: Option<SpanId>,
    /// Whether the parent is elsewhere: the span in which the message was made.
    pub(crate) has_remote_parent: bool,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) start: SystemTime,
    pub(crate) end: SystemTime,
    pub(crate) attributes: Vec<Attribute<'a>>,
    pub(crate) attributes_dropped: usize,
    pub(crate) events: Vec<Event<'a>>,
    pub(crate) events_dropped: usize,
    pub(crate) links: Vec<SpanContext>,
    /// What went wrong, if something did.
    pub(crate) error: Option<&'a str>,
}

/// A name and what it says.
pub(crate) type Attribute<'a> = (Cow<'a, str>, Value<'a>);

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(i64),
}

/// Which side of what a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None: it is a step within another span.
    Internal,
    /// It asks another system.
    Client,
    /// It sends a message.
    Producer,
    /// It handles one.
    Consumer,
}

/// Something that happened in a span: a line that the handler logged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event<'a> {
    pub(crate) at: SystemTime,
    pub(crate) name: &'static str,
    pub(crate) attributes: Vec<Attribute<'a>>,
}

/// The spans of a record, the run's first.
pub(crate) fn spans(record: &Record) -> Vec<Span<'_>> {
    let mut spans = Vec::with_capacity(2);
    if let Some(ran) = &record.ran {
        spans.push(process(record, ran));
        spans.extend(made(record, ran));
        if let Some(settled) = record.settled.as_ref().filter(|_| record.is_sent()) {
            spans.extend(ran.sent.iter().map(|sent| send(record, settled, sent)));
        }
    }
    spans.extend(record.settled.as_ref().map(|settled| settle(record, settled)));
    spans
}

fn process<'a>(record: &'a Record, ran: &'a Ran) -> Span<'a> {
    let Record { trace, message, .. } = record;
    let mut attributes = common(record, "process", "process");
    attributes.extend(message.event.iter().map(|(name, value)| text(name, value)));
    attributes.extend([
        text("faas.trigger", "pubsub"),
        number("messaging.message.body.size", message.body_size as u64),
        text("tidegate.outcome", ran.outcome.0),
        number("tidegate.fuel", ran.usage.fuel),
        number("tidegate.memory_peak", ran.usage.memory_peak),
    ]);
    if !ran.digest.is_empty() {
        attributes.push(text("tidegate.module.digest", &ran.digest));
    }
    if ran.version > 0 {
        attributes.push(number("tidegate.version", ran.version));
    }
    if let Some(settled) = &record.settled {
        attributes.push(text("tidegate.settled", settled.ending.name()));
    }
    if ran.is_failure {
        attributes.push(text("error.type", ran.outcome.0));
    }
    let made = [("tidegate.spans.dropped", ran.spans.dropped), ("tidegate.spans.stray_ends", ran.spans.stray_ends)];
    attributes.extend(made.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| number(name, count)));
    Span {
        kind: Kind::Consumer,
        events: events(ran, None),
        events_dropped: events_dropped(ran, None),
        links: links(trace),
        error: ran.is_failure.then(|| ran.detail.as_deref().unwrap_or_default()),
        ..span(trace, trace.own.span, parent(trace), &name("process", &record.place), ran.started, ran.took, attributes)
    }
}

/// The span in which the message was made, and the attempt before. The first is its parent too: whoever looks at links
/// alone finds it all the same.
fn links(trace: &Trace) -> Vec<SpanContext> {
    let previous = trace.previous.map(|previous| trace.own.with_span(previous));
    trace.parent.into_iter().chain(previous).collect()
}

fn send<'a>(record: &'a Record, settled: &Settled, sent: &'a Sent) -> Span<'a> {
    let trace = &record.trace;
    let mut attributes = vec![
        text("messaging.system", sent.system),
        text("messaging.operation.name", "send"),
        text("messaging.operation.type", "send"),
        text("messaging.destination.template", &sent.template),
        number("messaging.message.body.size", sent.body_size as u64),
        text("tidegate.broker", &sent.broker),
        text("tidegate.subject", &sent.subject),
    ];
    attributes.extend(sent.id.as_deref().map(|id| text("messaging.message.id", id)));
    let parent = Parent::Here(trace.own.span);
    Span {
        kind: Kind::Producer,
        ..span(trace, sent.span, parent, &format!("send {}", sent.template), settled.started, settled.took, attributes)
    }
}

fn settle<'a>(record: &'a Record, settled: &'a Settled) -> Span<'a> {
    let trace = &record.trace;
    let word = match settled.ending {
        Ending::Completed | Ending::Skipped | Ending::AlreadyDone => "ack",
        Ending::Retried | Ending::Returned | Ending::Abandoned => "nak",
        Ending::DeadLettered => "dead-letter",
    };
    let mut attributes = common(record, word, "settle");
    attributes.push(text("tidegate.reason", settled.reason.0));
    attributes.extend(settled.dead_letter.as_deref().map(|id| text("tidegate.dead_letter.id", id)));
    // Without a run there is no span of it.
    let parent = if record.ran.is_some() { Parent::Here(trace.own.span) } else { parent(trace) };
    Span {
        links: if record.ran.is_some() { Vec::new() } else { links(trace) },
        ..span(trace, trace.settlement(), parent, &name(word, &record.place), settled.started, settled.took, attributes)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Parent {
    Here(SpanId),
    Elsewhere(SpanId),
    None,
}

fn parent(trace: &Trace) -> Parent {
    trace.parent.map_or(Parent::None, |parent| Parent::Elsewhere(parent.span))
}

/// A span of which nothing is said but these, and that asks another system.
pub(super) fn span<'a>(
    trace: &'a Trace,
    id: SpanId,
    parent: Parent,
    name: &str,
    start: SystemTime,
    took: Duration,
    attributes: Vec<Attribute<'a>>,
) -> Span<'a> {
    let (parent, has_remote_parent) = match parent {
        Parent::Here(span) => (Some(span), false),
        Parent::Elsewhere(span) => (Some(span), true),
        Parent::None => (None, false),
    };
    Span {
        context: trace.own.with_span(id),
        state: trace.state.as_deref(),
        parent,
        has_remote_parent,
        name: name.to_owned(),
        kind: Kind::Client,
        start,
        end: start + took,
        attributes,
        attributes_dropped: 0,
        events: Vec::new(),
        events_dropped: 0,
        links: Vec::new(),
        error: None,
    }
}

/// What is done and where, in few words: whatever comes, there are few names.
fn name(operation: &str, place: &Place) -> String {
    format!("{operation} {}", place.template.as_ref().unwrap_or(&place.destination))
}

/// What is said of the message in each of its spans here.
fn common<'a>(record: &'a Record, operation: &'static str, kind: &'static str) -> Vec<Attribute<'a>> {
    let Record { place, message, .. } = record;
    let mut attributes = vec![
        text("messaging.system", place.system),
        text("messaging.operation.name", operation),
        text("messaging.operation.type", kind),
        text("messaging.destination.name", &place.destination),
        text("messaging.consumer.group.name", &place.subscription),
        text("messaging.message.id", &message.id),
        text("tidegate.subscription", &place.subscription),
        text("tidegate.handler", &place.handler),
        text("tidegate.subject", &message.subject),
        number("tidegate.sequence", message.sequence),
        number("tidegate.attempt", message.attempt.into()),
        number("tidegate.deliveries", message.deliveries.into()),
    ];
    attributes.extend(place.template.as_deref().map(|template| text("messaging.destination.template", template)));
    attributes
}

/// The lines that were logged in a span of the handler's; `None`: in none of them.
pub(super) fn events(ran: &Ran, span: Option<usize>) -> Vec<Event<'_>> {
    ran.lines.iter().filter(|line| line.span == span).map(|line| event(line, ran.began())).collect()
}

/// How many more there were.
pub(super) fn events_dropped(ran: &Ran, span: Option<usize>) -> usize {
    ran.lines_dropped.get(&span).copied().unwrap_or_default()
}

fn event<'a>(line: &'a Line, began: SystemTime) -> Event<'a> {
    let mut attributes = vec![text("log.severity", line.level.name()), text("log.message", &line.text)];
    let field = |(name, value): &'a (String, String)| {
        (Cow::Owned(format!("handler.{name}")), Value::Text(Cow::Borrowed(value.as_str())))
    };
    attributes.extend(line.fields.iter().map(field));
    Event { at: began + line.at, name: "log", attributes }
}

pub(super) fn text<'a>(name: &'a str, value: &'a str) -> Attribute<'a> {
    (Cow::Borrowed(name), Value::Text(Cow::Borrowed(value)))
}

fn number(name: &str, value: u64) -> Attribute<'_> {
    (Cow::Borrowed(name), Value::Number(i64::try_from(value).unwrap_or(i64::MAX)))
}
