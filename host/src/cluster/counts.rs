//! What both versions of a rollout came to on one host, as a part of that host's word. Plain data.

use serde::{Deserialize, Serialize};

use super::report::DifferenceLine;
use crate::telemetry::{Evidence, ShadowCounts};

/// Differences of a shadow that a host says of a handler, the latest first.
pub(crate) const DIFFERENCES: usize = 4;
/// The same of all its handlers together: a word is a message of NATS, which has a megabyte, and 64 of these have 300 KB at the
/// very most.
pub(crate) const DIFFERENCES_OF_ALL: usize = 64;

/// What both versions came to on a host, from the start of the rollout there on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The version that is tried.
    pub version: u64,
    /// The version that it is tried beside.
    pub beside: u64,
    /// What the version beside it came to.
    pub stable: Evidence,
    /// What the version that is tried came to.
    pub candidate: Evidence,
    /// What became of the copies that a shadow was given; nothing: it is a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowCounts>,
    /// On which messages the two differed last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<DifferenceLine>,
}

impl Counts {
    /// Whether these are counts of the same two versions.
    #[must_use]
    pub const fn are_of(&self, version: u64, beside: u64) -> bool {
        self.version == version && self.beside == beside
    }
}
