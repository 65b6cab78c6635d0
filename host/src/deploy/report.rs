//! What a deploy tells of itself, and what can be seen of handlers: the JSON of the API, read by the command line too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::report::{ClusterView, ToRun};
use crate::registry::{Digest, Settings};
use crate::signature::Signer;
use crate::telemetry::VersionCounts;

mod end;
mod rollout;
mod shadow;

pub use end::End;
pub use rollout::{Aborted, HostSides, Kind, OnAllHosts, Plan, Promoted, RolloutView, SideView, Tally};
pub use shadow::{DidView, DifferenceView, ShadowView, WouldSendView};

/// The steps of a deploy, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "DeployStep")]
pub enum Step {
    /// The bytes arrive and are made durable.
    Upload,
    /// They are signed with a key that is trusted.
    Signature,
    /// They are a whole module of a kind that is accepted.
    Validate,
    /// The module becomes native code.
    Compile,
    /// It speaks a contract, and imports only what is granted.
    Imports,
    /// It can be started within the limits.
    Init,
    /// It does what is expected with the golden messages.
    Golden,
    /// The cluster has its module, and it is to run on every host.
    Cluster,
    /// It becomes the active version.
    Switch,
    /// It is tried on a share of the messages, beside the active version.
    Canary,
    /// It sees copies of a share of the messages, with no effect.
    Shadow,
}

impl Step {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Signature => "signature",
            Self::Validate => "validate",
            Self::Compile => "compile",
            Self::Imports => "imports",
            Self::Init => "init",
            Self::Golden => "golden",
            Self::Cluster => "cluster",
            Self::Switch => "switch",
            Self::Canary => "canary",
            Self::Shadow => "shadow",
        }
    }
}

/// One line of a deploy's answer: `{"step": ...}` for each step that went well, then `{"done": ...}` or `{"failed": ...}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "DeployLine")]
pub enum Line {
    /// A step went well.
    Step(StepDone),
    /// All did.
    Done(Box<Done>),
    /// One did not. Nothing has changed.
    Failed(Failed),
}

/// A step that went well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeployStepDone")]
pub struct StepDone {
    /// Which.
    pub name: Step,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// More, for people.
    pub detail: String,
}

/// A deploy that went well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeployDone")]
pub struct Done {
    /// The handler.
    pub handler: String,
    /// The number of the version that runs, or is tried.
    pub version: u64,
    /// How it is tried; nothing: it is the active version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Plan>,
    /// Its module.
    pub digest: Digest,
    /// Whether that very module ran with these very settings already: nothing was changed.
    pub unchanged: bool,
    /// What differs from the version before; nothing when there was none.
    pub changes: Vec<Change>,
    /// What became of the golden messages.
    pub golden: Vec<GoldenRun>,
    /// From the first byte to the switch, in milliseconds.
    pub ms: f64,
}

/// Something that differs between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What: `size`, `imports`, `limits.memory`.
    pub what: String,
    /// In the version before; empty when it had none.
    pub before: String,
    /// In this one; empty when it has none.
    pub after: String,
}

/// What became of a golden message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GoldenRun {
    /// The file, and the message's number in it.
    pub place: String,
    /// The outcome code.
    pub outcome: String,
    /// Fuel of the run.
    pub fuel: u64,
    /// The outcome code of the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_before: Option<String>,
    /// Fuel of the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel_before: Option<u64>,
    /// Why it is not as expected; `None` when it is, or nothing is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unexpected: Option<String>,
}

/// A deploy that did not go well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeployFailed")]
pub struct Failed {
    /// At which step.
    pub step: Step,
    /// A stable word.
    pub code: String,
    /// For a person.
    pub message: String,
    /// What became of the golden messages, when it came to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub golden: Vec<GoldenRun>,
}

/// A rollback that went well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolledBack {
    /// The handler.
    pub handler: String,
    /// The version that ran before; `None`: none could.
    pub from: Option<u64>,
    /// The version that runs now.
    pub to: u64,
    /// Its module.
    pub digest: Digest,
    /// Whether it was in memory.
    pub was_loaded: bool,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

/// All handlers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HandlerList {
    /// By name.
    pub handlers: Vec<HandlerSummary>,
    /// The hosts that run the same versions, and what runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterView>,
}

/// A handler at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HandlerSummary {
    /// Its name.
    pub name: String,
    /// The version that runs; nothing: none does.
    pub active: Option<VersionView>,
    /// The version that is tried beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
    /// Versions that are kept.
    pub kept: usize,
    /// Who deploys now.
    pub deploying: Option<InProgress>,
    /// Why no version runs, or that another one does than the records say.
    pub trouble: Option<String>,
}

/// A deploy under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InProgress {
    /// By whom.
    pub by: String,
    /// Since when.
    pub since: String,
}

/// A handler, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HandlerView {
    /// Its name.
    pub name: String,
    /// The number of the version that runs; nothing: none does.
    pub active: Option<u64>,
    /// The version that is tried beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
    /// Who deploys now.
    pub deploying: Option<InProgress>,
    /// Why no version runs, or that another one does than the records say.
    pub trouble: Option<String>,
    /// The versions that are kept, the newest first.
    pub versions: Vec<VersionView>,
    /// What happened, the latest first.
    pub history: Vec<HistoryView>,
    /// What is to run of it in the cluster; nothing: this host is in none, or it is not known there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_run: Option<ToRun>,
    /// The hosts that run the same versions, and what of this handler runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterView>,
}

impl HandlerView {
    /// The same for whoever may not see payloads.
    pub fn withhold_payload(&mut self) {
        if let Some(shadow) = self.rollout.as_mut().and_then(|rollout| rollout.shadow.as_mut()) {
            shadow.withhold_payload();
        }
    }
}

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// New messages run on it.
    Active,
    /// It is tried: as a canary or as a shadow.
    Candidate,
    /// It is ready in memory: going back to it takes no load.
    Loaded,
    /// It is on the disk.
    Kept,
}

impl VersionState {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Candidate => "candidate",
            Self::Loaded => "loaded",
            Self::Kept => "kept",
        }
    }
}

/// A version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    /// Its number.
    pub number: u64,
    /// Where it stands.
    pub state: VersionState,
    /// Its module.
    pub digest: Digest,
    /// The module's size in bytes.
    pub size: u64,
    /// The contract that the module speaks.
    pub contract: String,
    /// Where the module came from.
    pub source: String,
    /// Who signed the module, by the signature that is kept with it; nothing when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Signer>,
    /// Who deployed it.
    pub deployed_by: String,
    /// When.
    pub deployed_at: String,
    /// When it was last made the active one.
    pub activated_at: Option<String>,
    /// Its limits and grants.
    pub settings: Settings,
    /// What its runs came to on this host since it was loaded; nothing when it is not in memory.
    pub figures: Option<VersionCounts>,
}

/// Something that happened to a handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryView {
    /// When.
    pub at: String,
    /// What: `deployed`, `rolled-back`, `refused`, `canary-started`, `shadow-started`, `promoted`, `aborted`, `ended`,
    /// `forgotten`.
    pub event: String,
    /// To which version.
    pub version: Option<u64>,
    /// By whom.
    pub who: String,
    /// More, for people.
    pub detail: String,
}
