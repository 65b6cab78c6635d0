//! What can be seen of a rollout.

use super::OnTrial;
use crate::deploy::entry::Loaded;
use crate::deploy::report::{Plan, RolloutView, SideView};
use crate::deploy::spelled;
use crate::registry::RolloutPlan;
use crate::telemetry::SideFigures;

/// How a version is tried, for the API.
pub(in crate::deploy) fn plan_view(plan: &RolloutPlan) -> Plan {
    let RolloutPlan::Canary { promote_after, .. } = plan;
    Plan {
        kind: plan.name().to_owned(),
        share: plan.share(),
        promote_after_seconds: promote_after.map(|time| time.as_secs_f64()),
    }
}

impl OnTrial {
    /// Everything that is known of it, beside the active version.
    pub(in crate::deploy) fn view(&self, active: &Loaded) -> RolloutView {
        RolloutView {
            plan: plan_view(&self.record.plan),
            version: self.record.number,
            digest: self.digest.clone(),
            started_at: spelled(self.record.started_at),
            started_by: self.record.started_by.clone(),
            note: self.note(),
            stable: side(active, &self.trial.stable),
            candidate: side(&self.loaded, &self.trial.tried),
        }
    }

    /// What both came to, on one line for the history.
    pub(super) fn told(&self, active: &Loaded) -> String {
        let told = |loaded: &Loaded, figures: &SideFigures| {
            let (number, evidence) = (loaded.deployed.number, figures.evidence());
            format!("{} messages on version {number}, {} of them failed", evidence.sampled, evidence.failures)
        };
        format!("{}; {}", told(&self.loaded, &self.trial.tried), told(active, &self.trial.stable))
    }
}

fn side(loaded: &Loaded, figures: &SideFigures) -> SideView {
    let evidence = figures.evidence();
    SideView {
        version: loaded.deployed.number,
        messages: evidence.sampled,
        faults: evidence.faults,
        failures: evidence.failures,
        ended: evidence.ended,
        dead_letters: evidence.dead_letters,
        figures: figures.counts(),
    }
}
