//! The spans that a handler made, below the span of its run.
//!
//! Invariant: what a handler says of its spans stands under no name that the host speaks by, and no name stands twice.

use std::borrow::Cow;

use super::record::{Ran, Record};
use super::spans::{Kind, Parent, Span, Value, events, events_dropped, span, text};
use crate::handler::{Span as Made, SpanEnd};

/// The namespaces that the host speaks in. Whoever reads a trace is to know who said what.
const HOST_S_OWN: [&str; 4] = ["messaging.", "tidegate.", "cloudevents.", "faas."];
/// The attribute that says what kind of error it was.
const ERROR_TYPE: &str = "error.type";

/// The spans of a run that its handler made, in the order of their starts.
pub(super) fn made<'a>(record: &'a Record, ran: &'a Ran) -> impl Iterator<Item = Span<'a>> {
    ran.spans.kept.iter().enumerate().map(|(index, made)| one(record, ran, index, made))
}

fn one<'a>(record: &'a Record, ran: &'a Ran, index: usize, made: &'a Made) -> Span<'a> {
    let trace = &record.trace;
    let mut attributes = vec![
        text("tidegate.subscription", &record.place.subscription),
        text("tidegate.handler", &record.place.handler),
    ];
    attributes.extend(ended_by(&made.end).map(|whom| text("tidegate.ended_by", whom)));
    for (name, value) in &made.attributes {
        let name = own(name);
        let is_there = name.is_empty() || attributes.iter().any(|(other, _)| *other == name);
        if !is_there {
            attributes.push((name, Value::Text(Cow::Borrowed(value))));
        }
    }
    let error = error(ran, made);
    if made.end == SpanEnd::WithRun && error.is_some() && !attributes.iter().any(|(name, _)| name == ERROR_TYPE) {
        attributes.push(text(ERROR_TYPE, ran.outcome.0));
    }
    let parent = Parent::Here(made.parent.map_or(trace.own.span, |parent| trace.step(parent)));
    let name = if made.name.is_empty() { "unnamed" } else { &made.name };
    Span {
        kind: Kind::Internal,
        attributes_dropped: made.attributes_dropped,
        events: events(ran, Some(index)),
        events_dropped: events_dropped(ran, Some(index)),
        error,
        ..span(trace, trace.step(index), parent, name, ran.began() + made.at, made.took, attributes)
    }
}

/// What ended a span in its handler's place.
const fn ended_by(end: &SpanEnd) -> Option<&'static str> {
    match end {
        SpanEnd::Ended | SpanEnd::Failed(_) => None,
        SpanEnd::WithOuter => Some("outer"),
        SpanEnd::WithRun => Some("run"),
    }
}

/// What went wrong in a span: what its handler says, or what the run failed at while it was open.
fn error<'a>(ran: &'a Ran, made: &'a Made) -> Option<&'a str> {
    match &made.end {
        SpanEnd::Ended | SpanEnd::WithOuter => None,
        SpanEnd::Failed(failure) => Some(failure),
        SpanEnd::WithRun => ran.is_failure.then(|| ran.detail.as_deref().unwrap_or_default()),
    }
}

/// The name of an attribute of the handler's.
fn own(name: &str) -> Cow<'_, str> {
    if HOST_S_OWN.iter().any(|namespace| name.starts_with(namespace)) {
        Cow::Owned(format!("handler.{name}"))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_speaks_under_no_name_of_the_hosts() {
        for (said, stands_as) in [
            ("messaging.system", "handler.messaging.system"),
            ("tidegate.handler", "handler.tidegate.handler"),
            ("cloudevents.event_id", "handler.cloudevents.event_id"),
            ("faas.trigger", "handler.faas.trigger"),
            ("db.system", "db.system"),
            ("messagingly", "messagingly"),
            ("error.type", "error.type"),
        ] {
            assert_eq!(own(said), stands_as);
        }
    }
}
