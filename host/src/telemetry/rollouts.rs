//! The two versions of each rollout that is on, by their numbers: written out as they stand when somebody asks, so that a
//! message costs nothing here. A number grows with each deploy; so the series are there only while the rollout is on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::names::{self, Name};
use super::shadow::{CopyFate, ShadowFigures};
use super::side::SideFigures;

/// One of the two versions of a rollout.
#[derive(Debug, Clone)]
pub struct RolloutSide {
    /// `stable` or `candidate`.
    pub role: &'static str,
    /// The version's number.
    pub version: u64,
    /// What it comes to.
    pub figures: Arc<SideFigures>,
}

/// The rollouts that are on, by handler.
#[derive(Debug, Default)]
pub(super) struct Rollouts(Mutex<BTreeMap<String, Shown>>);

/// What is shown of a rollout.
#[derive(Debug)]
struct Shown {
    stable: RolloutSide,
    candidate: RolloutSide,
    /// What became of the copies of a shadow.
    copies: Option<Arc<ShadowFigures>>,
}

/// Shows a rollout in the metrics for as long as it is held.
#[derive(Debug)]
pub struct ShownRollout {
    rollouts: Arc<Rollouts>,
    handler: String,
    version: u64,
}

impl ShownRollout {
    pub(super) fn new(
        rollouts: &Arc<Rollouts>,
        handler: &str,
        stable: RolloutSide,
        candidate: RolloutSide,
        copies: Option<Arc<ShadowFigures>>,
    ) -> Self {
        let version = candidate.version;
        rollouts.lock().insert(handler.to_owned(), Shown { stable, candidate, copies });
        Self { rollouts: Arc::clone(rollouts), handler: handler.to_owned(), version }
    }
}

impl Drop for ShownRollout {
    fn drop(&mut self) {
        let mut rollouts = self.rollouts.lock();
        // The next rollout of the handler may be shown already.
        if rollouts.get(&self.handler).is_some_and(|shown| shown.candidate.version == self.version) {
            rollouts.remove(&self.handler);
        }
    }
}

impl Rollouts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Shown>> {
        // Changed in single steps: it is whole even if a holder died.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Labels = Vec<(&'static str, String)>;

impl Collector for Rollouts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (mut runs, mut fuel, mut time, mut dead) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut copied = Vec::new();
        for (handler, Shown { stable, candidate, copies }) in self.lock().iter() {
            for fate in copies.iter().flat_map(|_| CopyFate::ALL) {
                let labels = vec![
                    ("handler", handler.clone()),
                    ("version", candidate.version.to_string()),
                    ("result", fate.name().to_owned()),
                ];
                copied.push((labels, copies.as_ref().map_or(0, |copies| copies.get(fate))));
            }
            for RolloutSide { role, version, figures } in [stable, candidate] {
                let labels: Labels =
                    vec![("handler", handler.clone()), ("version", version.to_string()), ("role", (*role).to_owned())];
                let sums = figures.sums();
                for (outcome, count) in sums.outcomes {
                    let mut labels = labels.clone();
                    labels.push(("outcome", outcome));
                    runs.push((labels, count));
                }
                fuel.push((labels.clone(), sums.fuel));
                time.push((labels.clone(), sums.seconds));
                dead.push((labels, figures.evidence().dead_letters));
            }
        }
        write(&mut encoder, &names::ROLLOUT_RUNS, runs)?;
        write(&mut encoder, &names::ROLLOUT_TIME, time)?;
        write(&mut encoder, &names::ROLLOUT_FUEL, fuel)?;
        write(&mut encoder, &names::ROLLOUT_DEAD_LETTERS, dead)?;
        write(&mut encoder, &names::SHADOW_COPIES, copied)
    }
}

fn write<N: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &Name,
    series: Vec<(Labels, N)>,
) -> Result<(), std::fmt::Error> {
    if series.is_empty() {
        return Ok(());
    }
    let (full, help) = (name.prometheus(), format!("{}.", name.sentence));
    let mut family = encoder.encode_descriptor(&full, &help, None, MetricType::Counter)?;
    for (labels, total) in series {
        ConstCounter::new(total).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Usage};
    use crate::telemetry::{Ending, Metrics};

    #[test]
    fn both_versions_are_shown_while_the_rollout_is_on() {
        let metrics = Metrics::new();
        let side = |role, version| RolloutSide { role, version, figures: Arc::default() };
        let (stable, candidate) = (side("stable", 7), side("candidate", 8));
        let figures = Arc::clone(&candidate.figures);
        let shown = metrics.rollout("bill", stable, candidate);
        figures.ran(true, &Outcome::Completed(Vec::new()), &Usage { fuel: 70, ..Usage::default() });
        figures.settled(Ending::DeadLettered);
        let lines = |metrics: &Metrics| -> Vec<String> {
            let text = metrics.render();
            let ours = text.lines().filter(|line| line.contains("rollout") && !line.starts_with("# HELP"));
            ours.map(str::to_owned).collect()
        };
        expect_test::expect![[r##"
            # TYPE tidegate_rollout_runs counter
            tidegate_rollout_runs_total{handler="bill",version="8",role="candidate",outcome="completed"} 1
            # TYPE tidegate_rollout_run_time_seconds counter
            tidegate_rollout_run_time_seconds_total{handler="bill",version="7",role="stable"} 0.0
            tidegate_rollout_run_time_seconds_total{handler="bill",version="8",role="candidate"} 0.0
            # TYPE tidegate_rollout_fuel counter
            tidegate_rollout_fuel_total{handler="bill",version="7",role="stable"} 0
            tidegate_rollout_fuel_total{handler="bill",version="8",role="candidate"} 70
            # TYPE tidegate_rollout_dead_letters counter
            tidegate_rollout_dead_letters_total{handler="bill",version="7",role="stable"} 0
            tidegate_rollout_dead_letters_total{handler="bill",version="8",role="candidate"} 1"##]]
        .assert_eq(&lines(&metrics).join("\n"));
        // The next one is shown before the last one is let go.
        let next = metrics.rollout("bill", side("stable", 7), side("candidate", 9));
        drop(shown);
        assert!(lines(&metrics).iter().any(|line| line.contains("version=\"9\"")));
        drop(next);
        assert_eq!(lines(&metrics), Vec::<String>::new());
    }

    #[test]
    fn the_copies_of_a_shadow_are_shown_by_what_became_of_them() {
        let metrics = Metrics::new();
        let side = |role, version| RolloutSide { role, version, figures: Arc::default() };
        let copies = Arc::<ShadowFigures>::default();
        copies.add(CopyFate::Same);
        copies.add(CopyFate::Dropped);
        let shown = metrics.shadow("bill", side("stable", 7), side("candidate", 8), Arc::clone(&copies));
        let text = metrics.render();
        for (result, count) in [("same", 1), ("fault", 0), ("dropped", 1)] {
            let line =
                format!("tidegate_shadow_copies_total{{handler=\"bill\",version=\"8\",result=\"{result}\"}} {count}");
            assert!(text.lines().any(|other| other == line), "no {line} in {text}");
        }
        drop(shown);
        assert!(!metrics.render().contains("tidegate_shadow_copies_total"));
    }
}
