//! The last hour, as it goes over the wire: a list a figure, because a chart wants them so and they are short so.

use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::telemetry::Ending;
use crate::telemetry::history::Point;

/// The answer of `/v1/history`: a point every ten seconds for the last hour, the oldest first. Every list has one value a point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Of which subscription; nothing when of all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// When the point ended, in seconds since 1970 by the host's clock.
    pub at: Vec<u64>,
    /// How long it was, in seconds: what is counted by it is a rate.
    pub seconds: Vec<f32>,
    /// Messages that were handled and acknowledged.
    pub completed: Vec<u32>,
    /// Messages that were acknowledged as worthless.
    pub skipped: Vec<u32>,
    /// Returns after a run that counts.
    pub retried: Vec<u32>,
    /// Returns that cost no attempt.
    pub returned: Vec<u32>,
    /// Messages that went to the dead-letter queue.
    pub dead_lettered: Vec<u32>,
    /// Deliveries of messages that were done already.
    pub duplicates: Vec<u32>,
    /// Deliveries whose lease was over before they could be settled.
    pub abandoned: Vec<u32>,
    /// Runs of handlers.
    pub runs: Vec<u32>,
    /// Fuel of these runs.
    pub fuel: Vec<u64>,
    /// Half of these runs took no longer, in seconds; nothing where there were none.
    pub p50_seconds: Vec<Option<f32>>,
    /// 99 of 100 of these runs took no longer, in seconds; nothing where there were none.
    pub p99_seconds: Vec<Option<f32>>,
    /// Messages that were held at its end.
    pub in_flight: Vec<u32>,
    /// How many could have been handled at once.
    pub concurrency: Vec<u32>,
    /// Messages that had never been handed out.
    pub ready: Vec<u64>,
    /// The age of the oldest message that was not settled, in seconds.
    pub oldest_age_seconds: Vec<f32>,
}

impl Series {
    /// The points of a subscription, or of all together.
    #[must_use]
    pub fn new(subscription: Option<String>, points: &[Point]) -> Self {
        let ended = |ending: Ending| {
            let of = move |point: &Point| point.ended.get(ending as usize).copied().unwrap_or_default();
            points.iter().map(of).collect()
        };
        Self {
            subscription,
            at: points.iter().map(|point| unix(point.at)).collect(),
            seconds: points.iter().map(|point| point.seconds).collect(),
            completed: ended(Ending::Completed),
            skipped: ended(Ending::Skipped),
            retried: ended(Ending::Retried),
            returned: ended(Ending::Returned),
            dead_lettered: ended(Ending::DeadLettered),
            duplicates: ended(Ending::AlreadyDone),
            abandoned: ended(Ending::Abandoned),
            runs: points.iter().map(|point| point.runs).collect(),
            fuel: points.iter().map(|point| point.fuel).collect(),
            p50_seconds: points.iter().map(|point| point.p50).collect(),
            p99_seconds: points.iter().map(|point| point.p99).collect(),
            in_flight: points.iter().map(|point| point.in_flight).collect(),
            concurrency: points.iter().map(|point| point.concurrency).collect(),
            ready: points.iter().map(|point| point.ready).collect(),
            oldest_age_seconds: points.iter().map(|point| point.oldest_age).collect(),
        }
    }
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
