//! What is told of a configuration that is applied: the JSON of the API, read by the command line too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deploy::report::Change;
use crate::registry::Digest;

/// What a file changes against the configuration that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// The host's configuration file, where the host sees it.
    pub file: String,
    /// Names these very changes: what is applied with it is what is shown here.
    pub digest: String,
    /// What differs, in the order of its names.
    pub changes: Vec<Change>,
    /// The keys among them that a host takes at its start only. While there are any, nothing is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
    /// Modules' files that are not what runs, and stay so: each was looked at before, or somebody has decided about its version since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<String>,
    /// What becomes of the subscriptions and brokers, and which versions are not tried any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// What becomes of a subscription, a broker, or a version that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ApplyStep")]
pub struct Step {
    /// What: `subscription NAME`, `broker NAME`, `canary of version 3 of handler NAME`.
    pub what: String,
    /// What becomes of it.
    pub how: How,
}

/// What becomes of a part of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ApplyHow")]
pub enum How {
    /// It is started.
    Started,
    /// It is stopped: what runs is finished, the rest is given back.
    Stopped,
    /// It is stopped and started anew.
    Restarted,
    /// It is changed while it goes on.
    Tuned,
    /// It ends: a version that is tried, because another one comes.
    Ended,
}

impl How {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Restarted => "restarted",
            Self::Tuned => "changed while it runs",
            Self::Ended => "ends",
        }
    }
}

/// A configuration that was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// What was changed.
    pub changes: Vec<Change>,
    /// What became of subscriptions and brokers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Handlers that run another version now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deployed: Vec<NewVersion>,
    /// What does not run yet as the configuration says, and why: a subscription whose broker went away just now, a handler whose
    /// other version could not be sent to the cluster. The host goes on trying.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

/// A handler that runs another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewVersion {
    /// The handler.
    pub handler: String,
    /// The number of the version.
    pub version: u64,
    /// Its module.
    pub digest: Digest,
}
