//! The settings of a subscription's circuit breaker.

use std::num::NonZeroU32;
use std::time::Duration;

use super::check::Checker;
use super::problem::Problem;
use super::raw_circuit::RawCircuit;
use crate::dispatch::CircuitPolicy;

/// A window is counted in six parts; shorter ones would be made of single runs.
const LEAST_WINDOW: Duration = Duration::from_secs(1);
/// A probe is a message from the broker: ten a second are enough of them.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const ALL: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// When the circuit of a subscription opens; `None`: never.
pub(super) fn validate(subscription: &str, raw: RawCircuit, checker: &mut Checker) -> Option<CircuitPolicy> {
    let path = |key| ["subscriptions", subscription, "circuit", key];
    let standard = CircuitPolicy::standard();
    let half = NonZeroU32::new(standard.failures).unwrap_or(ALL);
    let failures = checker.count(&path("failures_percent"), raw.failures_percent, half);
    if failures > ALL {
        checker.problem(Problem::at(&path("failures_percent"), "`failures_percent` must be at most 100"));
    }
    let policy = CircuitPolicy {
        messages: checker.count(&path("messages"), raw.messages, standard.messages),
        failures: failures.min(ALL).get(),
        window: checker.duration(&path("window"), raw.window, standard.window, LEAST_WINDOW),
        pause: checker.duration(&path("pause"), raw.pause, standard.pause, LEAST_PAUSE),
        max_pause: checker.duration(&path("max_pause"), raw.max_pause, standard.max_pause, LEAST_PAUSE),
    };
    if policy.max_pause < policy.pause {
        let problem = Problem::at(&path("max_pause"), "`max_pause` is less than `pause`");
        checker.problem(problem.help("the pause begins with `pause` and grows up to `max_pause`"));
    }
    raw.enabled.unwrap_or(true).then_some(policy)
}
