//! A handler's own measurements, exported by the host under the handler's name.
//!
//! The host bounds how many series a handler may create, so labels take few values: a country, not a customer.

use crate::host;

/// Adds to a counter.
///
/// ```
/// tidegate_sdk::metrics::count("orders", 1, &[("country", "NO")]);
/// ```
pub fn count(name: &str, value: u64, labels: &[(&str, &str)]) {
    host::count(name, value, &owned(labels));
}

/// Records one value of a distribution.
///
/// ```
/// tidegate_sdk::metrics::record("order_cents", 1999.0, &[]);
/// ```
pub fn record(name: &str, value: f64, labels: &[(&str, &str)]) {
    host::record_value(name, value, &owned(labels));
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
