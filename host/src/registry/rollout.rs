//! A version that is being tried beside the active one: what is recorded of it. Plain data.

use std::time::{Duration, SystemTime};

use crate::dispatch::Share;

/// How a version is tried before it becomes the active one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutPlan {
    /// A share of the messages runs on it instead of on the active version.
    Canary {
        /// Which.
        share: Share,
        /// How long until it is made the active version by itself, when nothing speaks against it; `None`: never.
        promote_after: Option<Duration>,
    },
}

impl RolloutPlan {
    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Canary { .. } => "canary",
        }
    }

    /// Which messages it concerns.
    #[must_use]
    pub const fn share(&self) -> Share {
        match self {
            Self::Canary { share, .. } => *share,
        }
    }
}

/// A rollout that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// The number of the version that is tried.
    pub number: u64,
    /// How.
    pub plan: RolloutPlan,
    /// Since when.
    pub started_at: SystemTime,
    /// Who began it.
    pub started_by: String,
}
