//! The counts of a subscription at one moment: what `/v1/status` answers, and what a progress display reads.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts since the host started, and what holds now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionCounts {
    /// Deliveries by the broker.
    pub consumed: u64,
    /// Messages that were handled and acknowledged.
    pub completed: u64,
    /// Messages that were acknowledged as worthless.
    pub skipped: u64,
    /// Returns after a run that counts.
    pub retried: u64,
    /// Returns that cost no attempt.
    pub returned: u64,
    /// Messages that went to the dead-letter queue.
    pub dead_lettered: u64,
    /// Deliveries whose lease was over before they could be settled.
    pub abandoned: u64,
    /// Settlements by reason code.
    pub reasons: BTreeMap<String, u64>,
    /// Runs of the handler.
    pub runs: u64,
    /// How long the runs took; nothing before the first.
    pub run_seconds: Option<Latency>,
    /// Fuel of all runs.
    pub fuel: u64,
    /// The most memory that one run held.
    pub memory_peak_bytes: u64,
    /// Messages that the handler sent.
    pub outputs: u64,
    /// Deliveries of messages that were done already.
    pub duplicates: u64,
    /// Messages that are held now.
    pub in_flight: u64,
    /// Bytes of the messages that are held now.
    pub in_flight_bytes: u64,
    /// How many messages may be handled at once.
    pub concurrency: u64,
    /// Messages that were never handed out.
    pub ready: u64,
    /// Messages that were handed out and are not settled.
    pub pending: u64,
    /// The age of the oldest message that is not settled.
    pub oldest_age_seconds: f64,
}

/// How long runs took, in seconds, interpolated within the buckets of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Half took no longer.
    pub p50: f64,
    /// Nine of ten took no longer.
    pub p90: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
}
