//! What is told of a version that is tried beside the active one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ShadowView;
use crate::cluster::report::DifferenceLine;
use crate::dispatch::Share;
use crate::registry::Digest;
use crate::telemetry::{Evidence, ShadowCounts, VersionCounts};

/// The ways in which a version is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "RolloutKind")]
pub enum Kind {
    /// It gets the messages of its share instead of the active version.
    Canary,
    /// It sees copies of the messages of its share, and what it does has no effect.
    Shadow,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Shadow => "shadow",
        }
    }
}

/// How a version is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RolloutPlan")]
pub struct Plan {
    /// In which way.
    pub kind: Kind,
    /// Which of all messages.
    pub share: Share,
    /// How long until a canary is made the active version by itself, in seconds; nothing: it waits for a word.
    pub promote_after_seconds: Option<f64>,
    /// How long a shadow goes on, in seconds; nothing: until it is promoted or aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_after_seconds: Option<f64>,
}

/// A version that is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// What the active version came to on this host, since the later of the start of the rollout and of the host; beside a
    /// shadow, on the messages that ran on both.
    pub stable: SideView,
    /// What the version that is tried came to, in the same time.
    pub candidate: SideView,
    /// How the two compare, when it is a shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowView>,
    /// What both came to on all hosts of the cluster; nothing: this host is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<OnAllHosts>,
}

/// What both versions of a rollout came to on all hosts of a cluster. What is decided of a canary follows from these sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnAllHosts {
    /// The active version, on all hosts together.
    pub stable: Tally,
    /// The version that is tried, on all hosts together.
    pub candidate: Tally,
    /// What became of the copies that a shadow was given, on all hosts together; nothing: it is a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowCounts>,
    /// The hosts that are there and try it, by name.
    pub trying: Vec<String>,
    /// Those that are there and have the handler, and have not begun to try it, by name.
    pub not_yet: Vec<String>,
    /// Each host that tries it or did, by name; as it said last, within a second or so.
    pub hosts: Vec<HostSides>,
}

impl OnAllHosts {
    /// The same without differences, for a list.
    pub fn in_short(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.differences.clear());
    }
}

/// What both versions came to on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostSides {
    /// The host's name in the cluster.
    pub host: String,
    /// The active version.
    pub stable: Tally,
    /// The version that is tried.
    pub candidate: Tally,
    /// What became of the copies that a shadow was given there; nothing: it is a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowCounts>,
    /// The last messages on which the two differed there, the latest first; at most 4, and none in a list of handlers. That host
    /// itself has more of them, with what the messages and the outputs were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<DifferenceLine>,
}

/// What one of the two versions came to. A message counts once, by its first delivery and by its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
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
}

impl Tally {
    /// What a side came to, without its times.
    #[must_use]
    pub const fn of(evidence: &Evidence) -> Self {
        let Evidence { sampled, faults, failures, ended, dead_letters, seconds: _, fuel: _ } = evidence;
        let (messages, faults, failures) = (*sampled, *faults, *failures);
        Self { messages, faults, failures, ended: *ended, dead_letters: *dead_letters }
    }
}

/// What one of the two versions came to. A message counts once, by its first delivery and by its end; `figures` are of
/// all runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aborted {
    /// The handler.
    pub handler: String,
    /// The version that was tried.
    pub version: u64,
    /// The version that is active, as before.
    pub active: u64,
    /// Why that is not recorded yet; nothing: it is. No message runs on the version any more and the host goes on trying to
    /// record it; killed before, it tries the version again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrecorded: Option<String>,
}
