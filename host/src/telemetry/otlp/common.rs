//! What requests for traces and for metrics have in common: who says it, attributes, times.

use std::time::SystemTime;

use super::Resource;
use super::wire::Writer;
use crate::telemetry::trace::Value;

/// `Resource`, the first field of what it stands in.
pub(super) fn resource(out: &mut Writer, resource: &Resource) {
    out.message(1, |out| {
        for (name, value) in &resource.0 {
            attribute(out, 1, name, &Value::Text(value.into()));
        }
    });
}

/// `InstrumentationScope`, the first field of what it stands in.
pub(super) fn scope(out: &mut Writer) {
    out.message(1, |scope| {
        scope.text(1, env!("CARGO_PKG_NAME"));
        scope.text(2, env!("CARGO_PKG_VERSION"));
    });
}

/// `KeyValue`s.
pub(super) fn attributes<'a>(
    out: &mut Writer,
    field: u32,
    attributes: impl IntoIterator<Item = &'a (std::borrow::Cow<'a, str>, Value<'a>)>,
) {
    for (name, value) in attributes {
        attribute(out, field, name, value);
    }
}

/// `KeyValue`.
pub(super) fn attribute(out: &mut Writer, field: u32, name: &str, value: &Value<'_>) {
    out.message(field, |out| {
        out.text(1, name);
        out.message(2, |out| match value {
            Value::Text(text) => out.present(1, text.as_bytes()),
            Value::Number(number) => out.variant(3, *number),
        });
    });
}

/// Nanoseconds since 1970; times before it count as it.
pub(super) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
