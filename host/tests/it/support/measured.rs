//! The metrics that a real OTLP receiver took, as it printed them.

use std::collections::BTreeMap;

use super::receiver::{Receiver, attribute};

/// One point of a metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Point {
    pub(crate) metric: String,
    pub(crate) description: String,
    pub(crate) unit: String,
    /// `Sum`, `Gauge` or `Histogram`.
    pub(crate) kind: String,
    pub(crate) is_monotonic: bool,
    pub(crate) temporality: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) start: u64,
    pub(crate) at: u64,
    pub(crate) value: f64,
    /// Of a histogram: how many values, their sum, the bounds, and the counts between them.
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) bounds: Vec<f64>,
    pub(crate) buckets: Vec<u64>,
    /// What is said of who says it.
    pub(crate) resource: BTreeMap<String, String>,
}

impl Receiver {
    /// All points that it took so far, in their order.
    pub(crate) fn points(&self) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        let (mut resource, mut about, mut metric) = (BTreeMap::new(), "", Point::default());
        for line in self.output().lines() {
            let (name, value) = line.trim().split_once(':').map_or((line.trim(), ""), |(n, v)| (n.trim(), v.trim()));
            if line.starts_with("ResourceMetrics #") {
                (resource, about) = (BTreeMap::new(), "resource");
            } else if line.starts_with("ResourceSpans #") {
                about = "spans";
            } else if line.starts_with("Metric #") {
                (metric, about) = (Point { resource: resource.clone(), ..Point::default() }, "metric");
            } else if line.starts_with("NumberDataPoints #") || line.starts_with("HistogramDataPoints #") {
                points.push(metric.clone());
                about = "point";
            } else if about == "resource" {
                resource.extend(attribute(line));
            } else if about == "metric" {
                metric.describe(name, value);
            } else if let Some(point) = points.last_mut().filter(|_| about == "point") {
                point.read(line, name, value);
            }
        }
        // The newest may be there by half.
        let newest = points.pop();
        points.extend(newest.filter(|point| point.at > 0));
        points
    }

    /// The points of a metric that have some attribute, in their order.
    pub(crate) fn points_of(&self, metric: &str, attribute: (&str, &str)) -> Vec<Point> {
        let has = |point: &Point| point.attributes.get(attribute.0).is_some_and(|value| value == attribute.1);
        self.points().into_iter().filter(|point| point.metric == metric && has(point)).collect()
    }
}

impl Point {
    fn describe(&mut self, name: &str, value: &str) {
        match name {
            "-> Name" => value.clone_into(&mut self.metric),
            "-> Description" => value.clone_into(&mut self.description),
            "-> Unit" => value.clone_into(&mut self.unit),
            "-> DataType" => value.clone_into(&mut self.kind),
            "-> IsMonotonic" => self.is_monotonic = value == "true",
            "-> AggregationTemporality" => value.clone_into(&mut self.temporality),
            _ => {}
        }
    }

    fn read(&mut self, line: &str, name: &str, value: &str) {
        match name {
            "StartTimestamp" => self.start = value.parse().unwrap(),
            "Timestamp" => self.at = value.parse().unwrap(),
            "Value" => self.value = value.parse().unwrap(),
            "Count" => self.count = value.parse().unwrap(),
            "Sum" => self.sum = value.parse().unwrap(),
            bound if bound.starts_with("ExplicitBounds #") => self.bounds.push(value.parse().unwrap()),
            // `Buckets #0, Count: 1`.
            bucket if bucket.starts_with("Buckets #") => self.buckets.push(value.parse().unwrap()),
            _ => self.attributes.extend(attribute(line)),
        }
    }
}
