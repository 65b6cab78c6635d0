//! What both versions of a rollout came to, as far as it is known: on this host, or on all hosts of a cluster together.

use super::OnTrial;
use crate::telemetry::Evidence;

/// What both versions came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::deploy) struct Sums {
    /// The active version.
    pub(in crate::deploy) stable: Evidence,
    /// The one that is tried.
    pub(in crate::deploy) candidate: Evidence,
    /// How many hosts count, and so how many judge by it.
    pub(in crate::deploy) hosts: u32,
}

impl OnTrial {
    /// What both came to on this host.
    pub(in crate::deploy) fn sums(&self) -> Sums {
        Sums { stable: self.trial.stable.evidence(), candidate: self.trial.tried.evidence(), hosts: 1 }
    }

    /// The same with what others say: the active version and the one that is tried of each.
    pub(in crate::deploy) fn sums_with<'a>(&self, others: impl Iterator<Item = (&'a Evidence, &'a Evidence)>) -> Sums {
        let mut sums = self.sums();
        for (stable, candidate) in others {
            sums.stable.add(stable);
            sums.candidate.add(candidate);
            sums.hosts = sums.hosts.saturating_add(1);
        }
        sums
    }
}
