//! Metrics as OTLP has them: `ExportMetricsServiceRequest`, field by field, under the names that OpenTelemetry has for them.

use std::time::SystemTime;

use super::Resource;
use super::common::{attribute, nanos, resource, scope};
use super::openmetrics::{Family, Kind, Series, Value, families};
use super::wire::Writer;
use crate::telemetry::names::{self, Unit};
use crate::telemetry::trace::Value as Said;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: each value counts from the start of the host.
const CUMULATIVE: u64 = 2;
/// A request has no more points than this. A histogram's has about 500 bytes, so that is half of the 4 MiB which some
/// receivers take at the most.
const POINTS: usize = 4096;

/// A request, and how many points it has.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) body: Vec<u8>,
    pub(super) points: u64,
}

/// From when to when something was counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// When the counters were zero.
    pub(super) since: SystemTime,
    pub(super) until: SystemTime,
}

/// The series of a family, or some of them.
type Part<'a> = (&'a Family, &'a [Series]);

/// Requests with all that a text for Prometheus shows.
pub(super) fn requests(of: &Resource, text: &str, counted: Counted) -> Vec<Request> {
    let families = families(text);
    parts(&families, POINTS).iter().map(|parts| request(of, parts, counted)).collect()
}

/// All series, so many in each part.
fn parts(families: &[Family], points: usize) -> Vec<Vec<Part<'_>>> {
    let mut parts: Vec<Vec<Part<'_>>> = Vec::new();
    let mut room = 0;
    for family in families {
        let mut left = family.series.as_slice();
        while !left.is_empty() {
            if room == 0 {
                parts.push(Vec::new());
                room = points;
            }
            let (now, later) = left.split_at_checked(room).unwrap_or((left, &[]));
            if let Some(part) = parts.last_mut() {
                part.push((family, now));
            }
            room -= now.len();
            left = later;
        }
    }
    parts
}

fn request(of: &Resource, parts: &[Part<'_>], counted: Counted) -> Request {
    let mut request = Writer::default();
    request.message(1, |resource_metrics| {
        resource(resource_metrics, of);
        resource_metrics.message(2, |scope_metrics| {
            scope(scope_metrics);
            for part in parts {
                scope_metrics.message(2, |out| write(out, *part, counted));
            }
        });
    });
    let points = parts.iter().map(|(_, series)| series.len() as u64).sum();
    Request { body: request.into_bytes(), points }
}

fn write(out: &mut Writer, (family, series): Part<'_>, counted: Counted) {
    let known = names::all().find(|name| name.prometheus() == family.name);
    // What handlers measure themselves has no other name than the one that it is shown under, and no unit that is known.
    out.text(1, known.map_or(family.name.as_str(), |name| name.dotted));
    out.text(2, &family.help);
    out.text(3, &known.map(|name| name.unit).map(Unit::ucum).unwrap_or_default());
    match family.kind {
        Kind::Gauge => out.message(5, |gauge| points(gauge, series, counted)),
        Kind::Counter => out.message(7, |sum| {
            points(sum, series, counted);
            sum.number(2, CUMULATIVE);
            sum.number(3, 1);
        }),
        Kind::Histogram => out.message(9, |histogram| {
            points(histogram, series, counted);
            histogram.number(2, CUMULATIVE);
        }),
    }
}

fn points(out: &mut Writer, series: &[Series], counted: Counted) {
    for series in series {
        out.message(1, |point| write_point(point, series, counted));
    }
}

fn write_point(point: &mut Writer, series: &Series, counted: Counted) {
    point.fixed64(2, nanos(counted.since));
    point.fixed64(3, nanos(counted.until));
    match &series.value {
        Value::Whole(number) => {
            labels(point, 7, series);
            point.fixed64(6, number.cast_unsigned());
        }
        Value::Fraction(number) => {
            labels(point, 7, series);
            point.fixed64(4, number.to_bits());
        }
        Value::Distribution { bounds, counts, sum, count } => {
            labels(point, 9, series);
            point.fixed64(4, *count);
            point.fixed64(5, sum.to_bits());
            point.bytes(6, &packed(counts.iter().copied()));
            point.bytes(7, &packed(bounds.iter().map(|bound| bound.to_bits())));
        }
    }
}

/// Numbers of eight bytes, one behind the other.
fn packed(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    numbers.flat_map(u64::to_le_bytes).collect()
}

fn labels(point: &mut Writer, field: u32, series: &Series) {
    for (name, value) in &series.labels {
        attribute(point, field, dotted(name), &Said::Text(value.into()));
    }
}

/// The name of a label in OpenTelemetry's conventions, where they have one.
fn dotted(label: &str) -> &str {
    match label {
        "messaging_system" => "messaging.system",
        "error_type" => "error.type",
        ours => ours,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn all_series_are_in_one_request_each_and_none_has_too_many() {
        let family = |name: &str, count: usize| Family {
            name: name.to_owned(),
            help: String::new(),
            kind: Kind::Counter,
            series: (0..count).map(|n| Series { labels: vec![], value: Value::Whole(n as i64) }).collect(),
        };
        let families = [family("a", 2), family("b", 7), family("c", 1), family("d", 3)];
        let parts = parts(&families, 4);
        let sizes: Vec<Vec<(&str, usize)>> =
            parts.iter().map(|part| part.iter().map(|(f, series)| (f.name.as_str(), series.len())).collect()).collect();
        assert_eq!(
            sizes,
            [vec![("a", 2), ("b", 2)], vec![("b", 4)], vec![("b", 1), ("c", 1), ("d", 2)], vec![("d", 1)]]
        );
        let b: Vec<&Series> =
            parts.iter().flatten().filter(|(f, _)| f.name == "b").flat_map(|(_, series)| *series).collect();
        assert_eq!(b, families.get(1).unwrap().series.iter().collect::<Vec<_>>());
        assert!(super::parts(&[], 4).is_empty());
    }
}
