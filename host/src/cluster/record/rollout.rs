//! A version that is tried on every host, as a part of what is to run of a handler. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Changed, Desired, add, read};
use crate::dispatch::Share;
use crate::registry::{NewVersion, RolloutPlan, RolloutRecord};
use crate::signature::Signature;

/// A version that is tried beside the active one, on every host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredRollout {
    /// The version; one of those that are kept.
    pub version: u64,
    /// How.
    pub kind: Kind,
    /// Which messages run on it: the same on every host, for that follows from their ids.
    pub share: Share,
    /// How long until it is made the active version by itself, in milliseconds; nothing: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after_ms: Option<u64>,
    /// Who began it.
    pub started_by: String,
    /// When, by the clock of the host that it was begun on.
    pub started_at: String,
}

/// The ways to try a version. A host that finds one that it does not know leaves the whole handler alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A share of the messages runs on it instead of on the active version.
    Canary,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
        }
    }
}

impl DesiredRollout {
    /// `None`: it is one that only a host by itself has.
    fn of(version: u64, plan: &RolloutPlan, change: &Changed) -> Option<Self> {
        let (kind, promote_after) = match plan {
            RolloutPlan::Canary { promote_after, .. } => (Kind::Canary, *promote_after),
            RolloutPlan::Shadow { .. } => return None,
        };
        let promote_after_ms = promote_after.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let (started_by, started_at) = (change.by.clone(), change.at.clone());
        Some(Self { version, kind, share: plan.share(), promote_after_ms, started_by, started_at })
    }

    /// What a host tried before it was in the cluster.
    pub(super) fn brought(record: &RolloutRecord) -> Option<Self> {
        let (started_by, started_at) = (record.started_by.clone(), super::spelled(record.started_at));
        let change = Changed { by: started_by, at: started_at, ..Changed::now(super::What::Brought, "", "") };
        Self::of(record.number, &record.plan, &change)
    }

    /// As a host records it.
    #[must_use]
    pub fn record(&self) -> RolloutRecord {
        let promote_after = self.promote_after_ms.map(Duration::from_millis);
        let plan = match self.kind {
            Kind::Canary => RolloutPlan::Canary { share: self.share, promote_after },
        };
        let (number, started_by) = (self.version, self.started_by.clone());
        RolloutRecord { number, plan, started_at: read(&self.started_at), started_by }
    }
}

impl Desired {
    /// With another version that is tried beside the active one.
    #[must_use]
    pub fn tried(
        &self,
        new: &NewVersion,
        signature: Option<&Signature>,
        plan: &RolloutPlan,
        keep: usize,
        change: Changed,
    ) -> Self {
        let rollout = DesiredRollout::of(self.next, plan, &change);
        let versions = add(Some(self), new, signature, &[self.active, self.next], keep, &change);
        Self { layout: self.layout, active: self.active, next: self.next + 1, versions, rollout, change }
    }

    /// With the version that is tried as the active one; `None`: none is.
    #[must_use]
    pub fn promoted(&self, change: Changed) -> Option<Self> {
        let tried = self.rollout.as_ref()?.version;
        Some(self.rolled_back(tried, change))
    }

    /// Without the rollout: the active version stays; `None`: there is none.
    #[must_use]
    pub fn aborted(&self, change: Changed) -> Option<Self> {
        let ended = Some(self.rollout.as_ref()?.version);
        Some(Self { rollout: None, change: Changed { ended, ..change }, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::What;
    use super::super::tests::{deployed, new};
    use super::*;

    fn tried(before: &Desired, module: &str) -> Desired {
        let plan = RolloutPlan::Canary { share: "5%".parse().unwrap(), promote_after: Some(Duration::from_secs(600)) };
        before.tried(&new(module), None, &plan, 3, Changed::now(What::CanaryStarted, "ann", "a"))
    }

    fn numbers(desired: &Desired) -> Vec<u64> {
        desired.versions.iter().map(|version| version.number).collect()
    }

    #[test]
    fn what_is_tried_is_a_version_and_becomes_the_active_one_or_does_not() {
        let on = tried(&deployed(None, "a"), "b");
        assert_eq!((on.active, on.next, numbers(&on)), (1, 3, vec![2, 1]));
        assert_eq!(on.version(2).unwrap().activated_at, None);
        let record = on.rollout.as_ref().unwrap().record();
        assert_eq!((record.number, record.started_by.as_str()), (2, "ann"));
        assert_eq!(DesiredRollout::brought(&record), on.rollout);
        let plan = RolloutPlan::Shadow { share: Share::ALL, ends_after: None };
        assert_eq!(DesiredRollout::brought(&RolloutRecord { plan, ..record }), None);
        let promoted = on.promoted(Changed::now(What::Promoted, "bob", "b")).unwrap();
        assert_eq!((promoted.active, promoted.rollout.clone(), numbers(&promoted)), (2, None, vec![2, 1]));
        assert_eq!(promoted.previous().unwrap().number, 1);
        assert!(promoted.version(2).unwrap().activated_at.is_some());
        let aborted = on.aborted(Changed::now(What::Aborted, "bob", "b")).unwrap();
        assert_eq!((aborted.active, aborted.next, aborted.rollout.clone()), (1, 3, None));
        assert_eq!((aborted.change.ended, promoted.change.ended), (Some(2), None));
        assert_eq!((aborted.promoted(on.change.clone()), aborted.aborted(on.change.clone())), (None, None));
        // What a configuration deploys meanwhile takes its place.
        assert_eq!(deployed(Some(&on), "c").rollout, None);
    }

    #[test]
    fn what_is_tried_is_kept_and_so_is_the_active_one() {
        let mut on = deployed(None, "a");
        for module in ["b", "c", "d", "e"] {
            on = tried(&on, module).aborted(on.change.clone()).unwrap();
        }
        assert_eq!(numbers(&on), [5, 4, 3, 1]);
        assert_eq!(numbers(&tried(&on, "f")), [6, 5, 4, 1]);
    }

    #[test]
    fn it_comes_back_as_it_was_and_what_does_not_fit_is_refused() {
        let on = tried(&deployed(None, "a"), "b");
        assert_eq!(Desired::read("h", &on.to_json()).unwrap(), on);
        let text = String::from_utf8(on.to_json()).unwrap();
        let rows = [
            (
                text.replace("\"rollout\":{\"version\":2", "\"rollout\":{\"version\":9"),
                "version 9 that it says is tried",
            ),
            (
                text.replace("\"rollout\":{\"version\":2", "\"rollout\":{\"version\":1"),
                "version 1 that it says is tried",
            ),
            (text.replace("\"kind\":\"canary\"", "\"kind\":\"later\""), "unknown variant `later`"),
            (text.replace("\"share\":\"5%\"", "\"share\":\"500%\""), "is not a share"),
        ];
        for (text, said) in rows {
            let error = Desired::read("h", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
