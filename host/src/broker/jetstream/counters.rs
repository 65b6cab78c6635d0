//! What happens seldom and should be seen: plain counts, for metrics.

use std::sync::atomic::AtomicU64;

use super::advisories::Told;

/// Counts of one broker, since it was connected first.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Deliveries of messages that the record says are done.
    pub(super) already_done: AtomicU64,
    /// Deliveries of messages that were being worked on here.
    pub(super) held_back: AtomicU64,
    /// Deliveries whose lease was over before they could be handed out.
    pub(super) stale: AtomicU64,
    /// Pulls that were given up as there was no sign of life.
    pub(super) silent_pulls: AtomicU64,
    /// Messages that cannot be read from the wire.
    pub(super) unreadable: AtomicU64,
    /// What the server told of consumers.
    pub(super) told: Told,
}

/// What a broker counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were made after another one had ended.
    pub reconnects: u64,
    /// Deliveries of messages that the record says are done; they were acknowledged without a run.
    pub already_done: u64,
    /// Deliveries of messages that were being worked on here; the settlement of the first settles both.
    pub held_back: u64,
    /// Deliveries whose lease was over before they could be handed out (this process stood still).
    pub stale: u64,
    /// Pulls that were given up as the server gave no sign of life on them.
    pub silent_pulls: u64,
    /// Messages that cannot be read from the wire, found and handed out as such.
    pub unreadable: u64,
    /// Times that the client library dropped messages because they came faster than they were taken.
    pub slow_consumer: u64,
    /// Errors that servers sent.
    pub server_errors: u64,
}
