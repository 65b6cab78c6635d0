//! What is told of a shadow: how often it did the same as the active version, and what it would have done otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::telemetry::ShadowCounts;

/// How a shadow compares with the active version, on this host, since the later of its start and of the host's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowView {
    /// When it ends by itself; nothing: when somebody promotes or aborts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    /// Messages that ran on both versions: the same and the different ones.
    pub compared: u64,
    /// What became of the copies.
    #[serde(flatten)]
    pub counts: ShadowCounts,
    /// Whether headers and bodies are left out because they need the role `operate`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub payload_withheld: bool,
    /// The last differences, the latest first; at most 16, and none in a list of handlers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<DifferenceView>,
}

/// A message on which the two versions differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceView {
    /// When it was seen.
    pub at: String,
    /// The subscription that received the message.
    pub subscription: String,
    /// The message's id.
    pub message_id: String,
    /// Its subject.
    pub subject: String,
    /// By what they differ: `fault`, `outcome` or `outputs`.
    pub by: String,
    /// How, on one line.
    pub told: String,
    /// What the active version did.
    pub stable: DidView,
    /// What the shadow would have done.
    pub candidate: DidView,
    /// The size of the message's body in bytes.
    pub body_size: u64,
    /// How the body begins: 4 KiB at the most; foreign bytes are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_start: Option<String>,
}

/// What one version did with a message, or would have done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DidView {
    /// The reason code of its outcome.
    pub outcome: String,
    /// The handler's reason, or the host's sentence on a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Fuel of its run.
    pub fuel_used: u64,
    /// How long that took; of a shadow without the time in which it gave way.
    pub run_us: u64,
    /// How many outputs it had.
    pub outputs_count: u64,
    /// The first 8 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<WouldSendView>,
}

/// An output, sent or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WouldSendView {
    /// The broker.
    pub broker: String,
    /// The subject.
    pub subject: String,
    /// The size of the body in bytes.
    pub size: u64,
    /// The sha256 of the body, in hex; empty for whoever may not see payloads.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The headers: the first of them that are a kilobyte together; foreign bytes are replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// How the body begins: a kilobyte at the most; foreign bytes are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

impl ShadowView {
    /// The same for whoever may not see payloads: without headers and bodies, and without their digests, by which short ones
    /// could be guessed.
    pub fn withhold_payload(&mut self) {
        self.payload_withheld = true;
        for difference in &mut self.differences {
            let DifferenceView { stable, candidate, body_start, .. } = difference;
            *body_start = None;
            for output in stable.outputs.iter_mut().chain(&mut candidate.outputs) {
                let WouldSendView { broker: _, subject: _, size: _, digest, headers, start } = output;
                digest.clear();
                headers.clear();
                *start = None;
            }
        }
    }
}
