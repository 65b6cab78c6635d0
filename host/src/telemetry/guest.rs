//! What handlers measure themselves, under names and labels of their own choice: bounded, and kept apart from ours.
//!
//! A measurement `orders` of handler `bill` is exposed as `handler_orders_total{handler="bill"}`. Invariants:
//! - A handler has at most so many series as its limit says; what comes beyond is counted and dropped.
//! - A name is of one kind on the whole host: the first use decides.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};

use super::histogram::{ANY, Histogram};
use crate::handler::{MeasuredValue, Measurement};

/// More labels than this on one series is a mistake: a series is looked at by a person.
const MAX_LABELS: usize = 8;
/// A label value is a word or two; an id or a text would make a series of every message.
const MAX_VALUE_BYTES: usize = 128;
/// Prometheus has no limit; a longer name fits no dashboard.
const MAX_NAME_BYTES: usize = 64;

type Labels = Vec<(String, String)>;

/// The series of all handlers.
#[derive(Debug, Default)]
pub(super) struct GuestSeries(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    metrics: BTreeMap<String, Series>,
    /// How many series each handler has.
    used: BTreeMap<String, u32>,
}

#[derive(Debug)]
enum Series {
    Counts(BTreeMap<Labels, u64>),
    Values(BTreeMap<Labels, Histogram>),
}

/// A handler's own measurements.
#[derive(Debug, Clone)]
pub struct HandlerMetrics {
    series: Arc<GuestSeries>,
    handler: String,
    max_series: u32,
    dropped: Counter,
}

impl HandlerMetrics {
    pub(super) fn new(series: Arc<GuestSeries>, handler: &str, max_series: u32, dropped: Counter) -> Self {
        Self { series, handler: handler.to_owned(), max_series, dropped }
    }

    /// Takes in what a run measured. What cannot be taken is counted as dropped.
    pub fn record(&self, measurements: &[Measurement]) {
        if measurements.is_empty() {
            return;
        }
        let mut state = self.series.0.lock().unwrap_or_else(PoisonError::into_inner);
        for measurement in measurements {
            if state.take(&self.handler, self.max_series, measurement).is_none() {
                self.dropped.inc();
            }
        }
    }
}

impl State {
    /// `None` when it was dropped.
    fn take(&mut self, handler: &str, max_series: u32, measurement: &Measurement) -> Option<()> {
        let name = metric_name(&measurement.name)?;
        let labels = labels(handler, &measurement.labels)?;
        let used = self.used.entry(handler.to_owned()).or_default();
        let room = *used < max_series;
        let fresh = || match measurement.value {
            MeasuredValue::Count(_) => Series::Counts(BTreeMap::new()),
            MeasuredValue::Value(_) => Series::Values(BTreeMap::new()),
        };
        let series = match self.metrics.entry(name) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if room => entry.insert(fresh()),
            Entry::Vacant(_) => return None,
        };
        let added = match (series, measurement.value) {
            (Series::Counts(counts), MeasuredValue::Count(count)) => {
                let (total, added) = place(counts, labels, room, || 0)?;
                *total = total.saturating_add(count);
                added
            }
            (Series::Values(values), MeasuredValue::Value(value)) if value.is_finite() => {
                let (histogram, added) = place(values, labels, room, || Histogram::new(ANY))?;
                histogram.observe(value);
                added
            }
            (Series::Counts(_) | Series::Values(_), MeasuredValue::Count(_) | MeasuredValue::Value(_)) => return None,
        };
        *used += u32::from(added);
        Some(())
    }
}

/// The value of a series, made when there is room for it; with whether it was made now.
fn place<V>(
    series: &mut BTreeMap<Labels, V>,
    labels: Labels,
    room: bool,
    fresh: impl FnOnce() -> V,
) -> Option<(&mut V, bool)> {
    match series.entry(labels) {
        Entry::Occupied(entry) => Some((entry.into_mut(), false)),
        Entry::Vacant(entry) if room => Some((entry.insert(fresh()), true)),
        Entry::Vacant(_) => None,
    }
}

/// The name as Prometheus takes it; `None` when nothing is left of it.
fn metric_name(name: &str) -> Option<String> {
    let plain = plain(name.strip_suffix("_total").unwrap_or(name))?;
    Some(format!("handler_{plain}"))
}

fn labels(handler: &str, given: &[(String, String)]) -> Option<Labels> {
    if given.len() > MAX_LABELS {
        return None;
    }
    let mut labels = vec![("handler".to_owned(), handler.to_owned())];
    for (key, value) in given {
        let mut key = plain(key)?;
        // `handler` is ours, and `le` is a histogram's.
        if matches!(key.as_str(), "handler" | "le") || key.starts_with(|c: char| c.is_ascii_digit()) {
            key.insert_str(0, "label_");
        }
        if labels.iter().any(|(taken, _)| *taken == key) {
            return None;
        }
        let value = value.get(..value.floor_char_boundary(MAX_VALUE_BYTES)).unwrap_or_default();
        labels.push((key, value.to_owned()));
    }
    labels.sort();
    Some(labels)
}

/// Letters, digits and underscores, in lower case; `None` when it is empty or too long.
fn plain(name: &str) -> Option<String> {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    (1..=MAX_NAME_BYTES).contains(&name.len()).then(|| name.chars().map(fits).collect())
}

impl Collector for GuestSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        const HELP: &str = "Measured by the handler itself.";
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, series) in &state.metrics {
            match series {
                Series::Counts(counts) => {
                    let mut family = encoder.encode_descriptor(name, HELP, None, MetricType::Counter)?;
                    for (labels, total) in counts {
                        ConstCounter::new(*total).encode(family.encode_family(labels)?)?;
                    }
                }
                Series::Values(values) => {
                    let mut family = encoder.encode_descriptor(name, HELP, None, MetricType::Histogram)?;
                    for (labels, histogram) in values {
                        histogram.encode(family.encode_family(labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}
