//! What is told of a version that is tried beside the active one.

use serde::{Deserialize, Serialize};

use crate::dispatch::Share;
use crate::registry::Digest;
use crate::telemetry::VersionCounts;

/// How a version is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `canary`: it gets the messages of its share instead of the active version.
    pub kind: String,
    /// Which of all messages.
    pub share: Share,
    /// How long until it is made the active version by itself, in seconds; nothing: it waits for a word.
    pub promote_after_seconds: Option<f64>,
}

/// A version that is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// How.
    #[serde(flatten)]
    pub plan: Plan,
    /// The version's number.
    pub version: u64,
    /// Its module.
    pub digest: Digest,
    /// Since when.
    pub started_at: String,
    /// Who began it.
    pub started_by: String,
    /// What it waits for, for people.
    pub note: String,
    /// What the active version came to on this host, since the later of the start of the rollout and of the host.
    pub stable: SideView,
    /// What the version that is tried came to, in the same time.
    pub candidate: SideView,
}

/// What one of the two versions came to. A message counts once, by its first delivery and by its end; `figures` are of
/// all runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideView {
    /// The version's number.
    pub version: u64,
    /// Messages that it ran on their first delivery.
    pub messages: u64,
    /// Of those, the ones whose run a fault stopped.
    pub faults: u64,
    /// Of those, the ones that it did not finish: faults, and what it retried, deferred or rejected.
    pub failures: u64,
    /// Messages that ended on it.
    pub ended: u64,
    /// Of those, the ones that went to the dead-letter queue.
    pub dead_letters: u64,
    /// Of all its runs.
    pub figures: VersionCounts,
}

/// A version that was tried and is the active one now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The handler.
    pub handler: String,
    /// The version that was active before.
    pub from: u64,
    /// The version that is active now.
    pub to: u64,
    /// Its module.
    pub digest: Digest,
}

/// A version that is not tried any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    /// The handler.
    pub handler: String,
    /// The version that was tried.
    pub version: u64,
    /// The version that is active, as before.
    pub active: u64,
}
