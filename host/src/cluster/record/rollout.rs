//! A version that is tried on every host, as a part of what is to run of a handler. Pure.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Changed, Desired, next, read, with};
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
    /// Which messages it gets: the same on every host, for that follows from their ids.
    pub share: Share,
    /// How long until a canary is made the active version by itself, in milliseconds; nothing: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after_ms: Option<u64>,
    /// How long until a shadow ends by itself, in milliseconds; nothing: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_after_ms: Option<u64>,
    /// Who began it.
    pub started_by: String,
    /// When, by the server's clock, as far as the host knew it that it was begun on.
    pub started_at: String,
}

/// The ways to try a version. A host that finds one that it does not know leaves the whole handler alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A share of the messages runs on it instead of on the active version.
    Canary,
    /// Each host runs copies of its own messages of a share on it, with no effect.
    Shadow,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Shadow => "shadow",
        }
    }
}

impl DesiredRollout {
    /// What a host tries, or tried before it was in the cluster.
    pub(super) fn of(record: &RolloutRecord) -> Self {
        let RolloutRecord { number, plan, started_at, started_by } = record;
        let (kind, promote_after, ends_after) = match plan {
            RolloutPlan::Canary { promote_after, .. } => (Kind::Canary, *promote_after, None),
            RolloutPlan::Shadow { ends_after, .. } => (Kind::Shadow, None, *ends_after),
        };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            version: *number,
            kind,
            share: plan.share(),
            promote_after_ms: promote_after.map(ms),
            ends_after_ms: ends_after.map(ms),
            started_by: started_by.clone(),
            started_at: super::spelled(*started_at),
        }
    }

    /// As a host records it.
    #[must_use]
    pub fn record(&self) -> RolloutRecord {
        let time = |ms: Option<u64>| ms.map(Duration::from_millis);
        let plan = match self.kind {
            Kind::Canary => RolloutPlan::Canary { share: self.share, promote_after: time(self.promote_after_ms) },
            Kind::Shadow => RolloutPlan::Shadow { share: self.share, ends_after: time(self.ends_after_ms) },
        };
        let (number, started_by) = (self.version, self.started_by.clone());
        RolloutRecord { number, plan, started_at: read(&self.started_at), started_by }
    }
}

impl Desired {
    /// With another version that is tried beside the active one, from a time on by the server's clock.
    #[must_use]
    pub fn tried(
        &self,
        new: &NewVersion,
        signature: Option<&Signature>,
        plan: &RolloutPlan,
        keep: usize,
        started_at: SystemTime,
        change: Changed,
    ) -> Self {
        let record = RolloutRecord { number: self.next, plan: *plan, started_at, started_by: change.by.clone() };
        let rollout = Some(DesiredRollout::of(&record));
        let versions = with(Some(self), next(Some(self), new, signature, &change));
        Self { layout: self.layout, active: self.active, next: self.next + 1, versions, rollout, change }.kept(keep)
    }

    /// With the version that is tried as the active one; `None`: none is.
    #[must_use]
    pub fn promoted(&self, change: Changed) -> Option<Self> {
        let tried = self.rollout.as_ref()?.version;
        Some(self.rolled_back(tried, change))
    }

    /// Without the rollout: the active version stays; `None`: there is none.
    #[must_use]
    pub fn ended(&self, change: Changed) -> Option<Self> {
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

    const BEGUN: Duration = Duration::from_secs(1_700_000_000);

    fn canary() -> RolloutPlan {
        RolloutPlan::Canary { share: "5%".parse().unwrap(), promote_after: Some(Duration::from_secs(600)) }
    }

    fn tried(before: &Desired, module: &str) -> Desired {
        let (at, change) = (SystemTime::UNIX_EPOCH + BEGUN, Changed::now(What::CanaryStarted, "ann", "a"));
        before.tried(&new(module), None, &canary(), 3, at, change)
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
        assert_eq!(Some(DesiredRollout::of(&record)), on.rollout);
        let promoted = on.promoted(Changed::now(What::Promoted, "bob", "b")).unwrap();
        assert_eq!((promoted.active, promoted.rollout.clone(), numbers(&promoted)), (2, None, vec![2, 1]));
        assert_eq!(promoted.previous().unwrap().number, 1);
        assert!(promoted.version(2).unwrap().activated_at.is_some());
        let aborted = on.ended(Changed::now(What::Aborted, "bob", "b")).unwrap();
        assert_eq!((aborted.active, aborted.next, aborted.rollout.clone()), (1, 3, None));
        assert_eq!((aborted.change.ended, promoted.change.ended), (Some(2), None));
        assert_eq!((aborted.promoted(on.change.clone()), aborted.ended(on.change.clone())), (None, None));
        // What a configuration deploys meanwhile takes its place.
        assert_eq!(deployed(Some(&on), "c").rollout, None);
    }

    #[test]
    fn what_is_tried_is_kept_and_so_is_the_active_one() {
        let mut on = deployed(None, "a");
        for module in ["b", "c", "d", "e"] {
            on = tried(&on, module).ended(on.change.clone()).unwrap();
        }
        assert_eq!(numbers(&on), [5, 4, 3, 1]);
        assert_eq!(numbers(&tried(&on, "f")), [6, 5, 4, 1]);
    }

    /// The story: canaries that were aborted pushed out the version that ran before.
    #[test]
    fn what_was_tried_pushes_out_nothing_that_a_rollback_goes_to() {
        let mut on = deployed(Some(&deployed(None, "a")), "b");
        for module in ["c", "d", "e", "f", "g"] {
            on = tried(&on, module).ended(on.change.clone()).unwrap();
        }
        assert_eq!((numbers(&on), on.previous().unwrap().number), (vec![7, 6, 5, 2, 1], 1));
    }

    #[test]
    fn each_way_to_try_a_version_is_the_same_on_every_host() {
        let share = "0.25%".parse().unwrap();
        let plans = [
            canary(),
            RolloutPlan::Canary { share, promote_after: None },
            RolloutPlan::Shadow { share: Share::ALL, ends_after: Some(Duration::from_millis(1_500)) },
            RolloutPlan::Shadow { share, ends_after: None },
        ];
        for plan in plans {
            let (at, change) = (SystemTime::UNIX_EPOCH + BEGUN, Changed::now(What::ShadowStarted, "ann", "a"));
            let on = deployed(None, "a").tried(&new("b"), None, &plan, 3, at, change);
            let read = Desired::read("h", &on.to_json()).unwrap();
            assert_eq!(read, on);
            let record = read.rollout.unwrap().record();
            assert_eq!(record, RolloutRecord { number: 2, plan, started_at: at, started_by: "ann".to_owned() });
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let on = tried(&deployed(None, "a"), "b");
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
