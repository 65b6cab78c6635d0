//! What both versions of a rollout came to on one host, as a part of that host's word. Plain data.

use serde::{Deserialize, Serialize};

use crate::telemetry::Evidence;

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
}

impl Counts {
    /// Whether these are counts of the same two versions.
    #[must_use]
    pub const fn are_of(&self, version: u64, beside: u64) -> bool {
        self.version == version && self.beside == beside
    }
}
