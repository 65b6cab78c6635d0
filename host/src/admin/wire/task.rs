//! Tasks over dead letters as they go over the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dead_letter::time;
use super::dead_letter_stats::is_zero;
use crate::tasks::{Record, Standing};

/// The tasks of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskList {
    /// Those that go on and the last ones that ended, the newest first.
    pub tasks: Vec<TaskView>,
}

/// A task over dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskView {
    /// Its id.
    pub id: String,
    /// What it does with each: `redrive`, `discard`.
    pub action: String,
    /// The subject that they are sent to, where it is not the one that they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who ordered it.
    pub by: String,
    /// Since when.
    pub begun_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// `running`, `paused`, `done`, `cancelled` or `aborted`.
    pub standing: String,
    /// Who paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// Why it was aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it waits for, while it cannot go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// How many there were when it began; nothing when they were more than are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Sent back, or removed.
    pub done: u64,
    /// Gone before it was their turn: somebody else sent them back or removed them.
    pub gone: u64,
    /// Gone when the host came back after it was killed: this task sent them back or removed them and could not write it down
    /// any more, or others did meanwhile.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown: u64,
    /// Held back, as they came back too often.
    pub held_back: u64,
    /// Passed over, as they failed in a version that their handler still runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passed_over: u64,
    /// How many of the total failed in a version that their handler still ran here when the task began: they are likely to fail again.
    /// Nothing where no handlers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_version: Option<u64>,
    /// Those that it could do nothing with.
    pub failed: u64,
    /// The first twenty of these, and of those that were sent back and could not be taken out: discard them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TaskFailure>,
    /// How those did that went first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryView>,
}

/// A dead letter that a task could do nothing with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskFailure {
    /// Its id.
    pub id: String,
    /// Why.
    pub why: String,
}

/// Dead letters that went first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CanaryView {
    /// Sent back.
    pub sent: u64,
    /// Of those, the ones that are done now.
    pub well: u64,
    /// Of those, the ones that failed again.
    pub badly: u64,
}

impl TaskView {
    /// Whether it is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !matches!(self.standing.as_str(), "running" | "paused")
    }

    /// A task, as it stands.
    #[must_use]
    pub fn new(record: Record) -> Self {
        let (standing, paused_by, why) = match record.standing {
            Standing::Running => ("running", None, None),
            Standing::Paused { by } => ("paused", Some(by), None),
            Standing::Done => ("done", None, None),
            Standing::Cancelled => ("cancelled", None, None),
            Standing::Aborted(why) => ("aborted", None, Some(why)),
        };
        let counts = record.counts;
        let failure = |failed: crate::tasks::Failed| TaskFailure { id: failed.id, why: failed.why };
        Self {
            id: record.id,
            action: record.order.act.word().to_owned(),
            to: record.order.redrive().and_then(|redrive| redrive.to.clone()),
            by: record.order.by,
            begun_at: time(record.begun_at),
            ended_at: record.ended_at.map(time),
            standing: standing.to_owned(),
            paused_by,
            why,
            waits_for: record.waits_for,
            total: counts.total,
            done: counts.done,
            gone: counts.gone,
            unknown: counts.unknown,
            held_back: counts.held_back,
            passed_over: counts.passed_over,
            same_version: counts.same_version,
            failed: counts.failed,
            failures: counts.failures.into_iter().map(failure).collect(),
            canary: counts.canary.map(|canary| CanaryView {
                sent: canary.sent,
                well: canary.well,
                badly: canary.badly,
            }),
        }
    }
}
