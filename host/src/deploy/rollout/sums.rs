//! What both versions of a rollout came to, as far as it is known: on this host, or on all hosts of a cluster together.

use super::OnTrial;
use crate::cluster::Counts;
use crate::dispatch::Way;
use crate::telemetry::{Evidence, ShadowCounts};

/// What both versions came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::deploy) struct Sums {
    /// The active version.
    pub(in crate::deploy) stable: Evidence,
    /// The one that is tried.
    pub(in crate::deploy) candidate: Evidence,
    /// What became of the copies that a shadow was given; `None`: it is a canary.
    pub(in crate::deploy) shadow: Option<ShadowCounts>,
    /// How many hosts count, and so how many judge by it.
    pub(in crate::deploy) hosts: u32,
}

impl OnTrial {
    /// What both came to on this host.
    pub(in crate::deploy) fn sums(&self) -> Sums {
        let shadow = match &self.trial.way {
            Way::Canary => None,
            Way::Shadow(shadow) => Some(shadow.books().counts()),
        };
        Sums { stable: self.trial.stable.evidence(), candidate: self.trial.tried.evidence(), shadow, hosts: 1 }
    }
}

impl Sums {
    /// The same with what other hosts say.
    pub(in crate::deploy) fn with<'a>(mut self, others: impl Iterator<Item = &'a Counts>) -> Self {
        for Counts { stable, candidate, shadow, .. } in others {
            self.stable.add(stable);
            self.candidate.add(candidate);
            if let (Some(sum), Some(shadow)) = (&mut self.shadow, shadow) {
                sum.add(shadow);
            }
            self.hosts = self.hosts.saturating_add(1);
        }
        self
    }
}
