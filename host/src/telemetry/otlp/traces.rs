//! Spans as OTLP has them: `ExportTraceServiceRequest`, field by field.

use super::Resource;
use super::common::{attributes, nanos, resource, scope};
use super::wire::Writer;
use crate::telemetry::trace::{Event, Kind, Record, Span, spans};

/// Says in a span's flags that it is known whether the parent is elsewhere.
const HAS_IS_REMOTE: u32 = 0x100;
/// Says that it is.
const IS_REMOTE: u32 = 0x200;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// A request with the spans of all of these.
pub(super) fn request(of: &Resource, records: &[Record]) -> Vec<u8> {
    let mut request = Writer::default();
    request.message(1, |resource_spans| {
        resource(resource_spans, of);
        resource_spans.message(2, |scope_spans| {
            scope(scope_spans);
            for span in records.iter().flat_map(spans) {
                scope_spans.message(2, |out| write(out, &span));
            }
        });
    });
    request.into_bytes()
}

fn write(out: &mut Writer, span: &Span<'_>) {
    out.bytes(1, &span.context.trace.bits().to_be_bytes());
    out.bytes(2, &span.context.span.bits().to_be_bytes());
    out.text(3, span.state.unwrap_or_default());
    if let Some(parent) = span.parent {
        out.bytes(4, &parent.bits().to_be_bytes());
    }
    out.text(5, &span.name);
    out.number(6, kind(span.kind));
    out.fixed64(7, nanos(span.start));
    out.fixed64(8, nanos(span.end));
    attributes(out, 9, &span.attributes);
    out.number(10, span.attributes_dropped as u64);
    for event in &span.events {
        out.message(11, |out| write_event(out, event));
    }
    out.number(12, span.events_dropped as u64);
    for link in &span.links {
        out.message(13, |out| {
            out.bytes(1, &link.trace.bits().to_be_bytes());
            out.bytes(2, &link.span.bits().to_be_bytes());
            out.fixed32(6, link.flags().into());
        });
    }
    if let Some(error) = span.error {
        out.message(15, |status| {
            status.text(2, error);
            status.number(3, ERROR);
        });
    }
    let remote = if span.has_remote_parent { IS_REMOTE } else { 0 };
    out.fixed32(16, u32::from(span.context.flags()) | HAS_IS_REMOTE | remote);
}

fn write_event(out: &mut Writer, event: &Event<'_>) {
    out.fixed64(1, nanos(event.at));
    out.text(2, event.name);
    attributes(out, 3, &event.attributes);
}

const fn kind(kind: Kind) -> u64 {
    match kind {
        Kind::Internal => 1,
        Kind::Client => 3,
        Kind::Producer => 4,
        Kind::Consumer => 5,
    }
}
