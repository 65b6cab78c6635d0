//! How long something took that is measured where no metrics are known: counted there, and shown from here.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;

use super::histogram::{Histogram, SECONDS};
use super::metrics::Labels;
use super::names::Name;

/// How long something took, each time. Clones share the counts; recording takes no lock.
#[derive(Debug, Clone)]
pub struct Timings(Histogram);

impl Default for Timings {
    fn default() -> Self {
        Self(Histogram::new(SECONDS))
    }
}

impl Timings {
    /// It took so long.
    pub fn record(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// Timings under one name, by their labels.
#[derive(Debug)]
pub(super) struct Timed {
    name: Name,
    series: Mutex<BTreeMap<Labels, Timings>>,
}

impl Timed {
    pub(super) fn new(name: Name) -> Self {
        Self { name, series: Mutex::default() }
    }

    /// Shows these from now on.
    pub(super) fn show(&self, labels: &Labels, timings: &Timings) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.insert(labels.clone(), timings.clone());
    }
}

impl Collector for Timed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return Ok(());
        }
        let (name, help) = (self.name.prometheus(), format!("{}.", self.name.sentence));
        let mut family = encoder.encode_descriptor(&name, &help, None, MetricType::Histogram)?;
        for (labels, Timings(histogram)) in series.iter() {
            histogram.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}
