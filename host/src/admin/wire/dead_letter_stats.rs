//! Counts of dead letters as they go over the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dead_letter::time;
use crate::broker::{Group, OverTime};
use crate::settle::dead_letter::DeadLetterRecord;

/// How many dead letters there are of each kind; those that were sent back are not counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterStats {
    /// The largest groups, the largest first; by age, the youngest first.
    pub groups: Vec<DeadLetterGroup>,
    /// Dead letters in none of these groups.
    pub others: u64,
    /// Groups that are not among them.
    pub other_groups: u64,
    /// Whether there are more of these than are counted apart, and it is a lower bound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_groups_at_least: bool,
    /// All that match what was asked for.
    pub matched: u64,
    /// All that were looked at.
    pub examined: u64,
    /// Whether there are older ones that were not looked at: a broker that cannot count by itself shows the newest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// How many these are. Which of them match is not known: a broker tells them apart by their subscription and reason alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// How many of those that match failed in a version that their handler still runs here: sent back, they are likely to fail again.
    /// Nothing where no handlers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_version: Option<u64>,
    /// Those were counted that had died before this time. Given as `until` to what follows, it means these and none that died since.
    #[serde(default)]
    pub until: String,
    /// How many more would match, but that they died at a time that is yet to come: the clock of the host that gave them up is ahead.
    /// They are counted when it has come.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead: u64,
    /// When those died that match; nothing when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deaths: Option<DeathsOverTime>,
}

/// How many died in each step of the span in which those died that match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeathsOverTime {
    /// When the first step begins.
    pub from: String,
    /// How long each step is.
    pub step_seconds: u64,
    /// How many died in each: at most 64 steps.
    pub letters: Vec<u64>,
}

impl DeathsOverTime {
    /// A count over time.
    #[must_use]
    pub fn new(deaths: OverTime) -> Self {
        Self { from: time(deaths.from), step_seconds: deaths.step.as_secs(), letters: deaths.counts }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
pub(super) const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Dead letters that have something in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterGroup {
    /// What they have in common: the fingerprint, the handler, the first 12 digits of the module's digest, the reason code,
    /// the subscription, or how long ago they died.
    pub key: String,
    /// How many there are.
    pub letters: u64,
    /// When the oldest died.
    pub first_dead_at: String,
    /// When the newest died.
    pub last_dead_at: String,
    /// The newest; nothing when it went while they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<DeadLetterSample>,
}

/// One dead letter of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterSample {
    /// Its id.
    pub id: String,
    /// The broker that keeps it.
    pub broker: String,
    /// The subscription that gave it up.
    pub subscription: String,
    /// The handler.
    pub handler: String,
    /// The number of the version that ran last, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The module that ran last.
    pub digest: String,
    /// The reason code.
    pub reason: String,
    /// What was said.
    pub error: String,
}

impl DeadLetterGroup {
    /// A group, with its newest.
    #[must_use]
    pub fn new(group: Group, newest: Option<DeadLetterSample>) -> Self {
        Self {
            key: group.key,
            letters: group.letters,
            first_dead_at: time(group.first),
            last_dead_at: time(group.last),
            newest,
        }
    }
}

impl DeadLetterSample {
    /// What a record says.
    #[must_use]
    pub fn new(record: DeadLetterRecord, broker: &str) -> Self {
        Self {
            id: record.id.0,
            broker: broker.to_owned(),
            subscription: record.subscription,
            handler: record.handler,
            version: record.version,
            digest: record.digest,
            reason: record.reason,
            error: record.error,
        }
    }
}
