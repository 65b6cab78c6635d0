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
    /// A share of the messages runs on it too, with no effect, to see what it would have done.
    Shadow {
        /// Which.
        share: Share,
        /// How long until that ends by itself; `None`: never.
        ends_after: Option<Duration>,
    },
}

impl RolloutPlan {
    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Canary { .. } => "canary",
            Self::Shadow { .. } => "shadow",
        }
    }

    /// Which messages it concerns.
    #[must_use]
    pub const fn share(&self) -> Share {
        match self {
            Self::Canary { share, .. } | Self::Shadow { share, .. } => *share,
        }
    }

    /// How long until the host does by itself what it does with it: promotes a canary, ends a shadow; `None`: never.
    #[must_use]
    pub const fn after(&self) -> Option<Duration> {
        match self {
            Self::Canary { promote_after, .. } => *promote_after,
            Self::Shadow { ends_after, .. } => *ends_after,
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

impl RolloutRecord {
    /// When a shadow ends by itself, by the wall clock, so that a host that was away meanwhile ends it when it is back; `None`:
    /// it does not, or it is a canary, which is judged by how long it was compared.
    #[must_use]
    pub fn ends_at(&self) -> Option<SystemTime> {
        match self.plan {
            RolloutPlan::Canary { .. } => None,
            RolloutPlan::Shadow { ends_after, .. } => self.started_at.checked_add(ends_after?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_ends_by_the_wall_clock_and_a_canary_does_not() {
        let (share, minute) = (Share::ALL, Duration::from_secs(60));
        let rows = [
            (RolloutPlan::Shadow { share, ends_after: Some(minute) }, Some(SystemTime::UNIX_EPOCH + minute)),
            (RolloutPlan::Shadow { share, ends_after: None }, None),
            (RolloutPlan::Canary { share, promote_after: Some(minute) }, None),
        ];
        for (plan, expected) in rows {
            let (started_at, started_by) = (SystemTime::UNIX_EPOCH, String::new());
            let record = RolloutRecord { number: 1, plan, started_at, started_by };
            assert_eq!(record.ends_at(), expected, "{plan:?}");
            assert_eq!(plan.after().is_some(), expected.is_some() || plan.name() == "canary");
        }
    }
}
