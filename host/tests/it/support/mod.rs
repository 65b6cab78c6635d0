//! What the tests share.

pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod exposition;
pub(crate) mod guests;
pub(crate) mod measured;
pub(crate) mod modules;
pub(crate) mod nats;
pub(crate) mod nats_cluster;
pub(crate) mod openapi;
pub(crate) mod ports;
pub(crate) mod receiver;
pub(crate) mod registry;
pub(crate) mod web;

use std::time::{Duration, Instant};

/// Asks again and again until something holds.
pub(crate) fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "gave up after {patience:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
