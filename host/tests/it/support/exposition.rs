//! What `/metrics` of a host shows.

use std::fmt::Debug;
use std::str::FromStr;

/// The values of the series of a name whose labels have all of these words, in the order in which they are shown.
pub(crate) fn series<T: FromStr<Err: Debug>>(metrics: &str, name: &str, labels: &[&str]) -> Vec<T> {
    let is_it =
        |line: &&str| line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label));
    metrics.lines().filter(is_it).map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}
