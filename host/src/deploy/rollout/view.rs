//! What can be seen of a rollout.

use std::sync::Arc;
use std::time::SystemTime;

use super::{OnTrial, Sums, shadow};
use crate::deploy::entry::Loaded;
use crate::deploy::report::{DidView, DifferenceView, Kind, Plan, RolloutView, ShadowView, SideView, WouldSendView};
use crate::deploy::spelled;
use crate::dispatch::{Did, Difference, Way, WouldSend};
use crate::registry::RolloutPlan;
use crate::telemetry::{Evidence, SideFigures};

/// How a version is tried, for the API.
pub(in crate::deploy) fn plan_view(plan: &RolloutPlan) -> Plan {
    let (kind, promote_after, ends_after) = match plan {
        RolloutPlan::Canary { promote_after, .. } => (Kind::Canary, *promote_after, None),
        RolloutPlan::Shadow { ends_after, .. } => (Kind::Shadow, None, *ends_after),
    };
    Plan {
        kind,
        share: plan.share(),
        promote_after_seconds: promote_after.map(|time| time.as_secs_f64()),
        ends_after_seconds: ends_after.map(|time| time.as_secs_f64()),
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
            note: self.note(&self.sums(), None, SystemTime::now()),
            stable: side(active, &self.trial.stable),
            candidate: side(&self.loaded, &self.trial.tried),
            shadow: self.shadow_view(),
            cluster: None,
        }
    }

    /// How a shadow compares, the last differences left out.
    fn shadow_view(&self) -> Option<ShadowView> {
        let Way::Shadow(shadow) = &self.trial.way else { return None };
        let counts = shadow.books().counts();
        Some(ShadowView {
            ends_at: self.record.ends_at().map(spelled),
            compared: counts.compared(),
            counts,
            payload_withheld: false,
            differences: Vec::new(),
        })
    }

    /// The last differences of a shadow, with headers and bodies.
    pub(in crate::deploy) fn differences(&self) -> Vec<DifferenceView> {
        self.last_differences().iter().map(|one| difference(one)).collect()
    }

    /// The last differences of a shadow, the latest first.
    pub(in crate::deploy) fn last_differences(&self) -> Vec<Arc<Difference>> {
        match &self.trial.way {
            Way::Canary => Vec::new(),
            Way::Shadow(shadow) => shadow.books().last(),
        }
    }

    /// What both came to, on one line for the history.
    pub(in crate::deploy) fn told(&self, active: &Loaded, sums: &Sums) -> String {
        let told = |loaded: &Loaded, evidence: &Evidence| {
            let number = loaded.deployed.number;
            format!("{} messages on version {number}, {} of them failed", evidence.sampled, evidence.failures)
        };
        let both = match &sums.shadow {
            Some(counts) => shadow::summed_up(counts),
            None => format!("{}; {}", told(&self.loaded, &sums.candidate), told(active, &sums.stable)),
        };
        match sums.hosts {
            0 | 1 => both,
            hosts => format!("{both}; on {hosts} hosts"),
        }
    }
}

fn difference(one: &Difference) -> DifferenceView {
    DifferenceView {
        at: spelled(one.at),
        subscription: one.subscription.to_string(),
        message_id: one.message_id.clone(),
        subject: one.subject.clone(),
        by: one.by.name().to_owned(),
        told: one.told.clone(),
        stable: did(&one.stable),
        candidate: did(&one.candidate),
        body_size: one.body_size as u64,
        body_start: Some(text(&one.body_start)),
    }
}

fn did(did: &Did) -> DidView {
    DidView {
        outcome: did.outcome.to_string(),
        detail: did.detail.clone(),
        fuel_used: did.usage.fuel,
        run_us: u64::try_from(did.usage.duration.as_micros()).unwrap_or(u64::MAX),
        outputs_count: did.outputs_count as u64,
        outputs: did.outputs.iter().map(would_send).collect(),
    }
}

fn would_send(output: &WouldSend) -> WouldSendView {
    WouldSendView {
        broker: output.broker.to_string(),
        subject: output.subject.clone(),
        size: output.size as u64,
        digest: output.digest.clone(),
        headers: output.headers.iter().map(|header| (header.name.clone(), text(&header.value))).collect(),
        start: Some(text(&output.start)),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
