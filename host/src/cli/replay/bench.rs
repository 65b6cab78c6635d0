//! Both versions, ready to run: on the same bytes, by the same limits, with the same time and the same random numbers.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::past::Past;
use crate::broker::lease::Lease;
use crate::deploy::without_host;
use crate::dispatch::Ran;
use crate::handler::{Call, Effects, Handler as _};
use crate::registry::Settings;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Sandbox, SandboxOptions, Version};
use crate::settle::outputs::{Grants, resolve};

pub(super) struct Bench {
    active: Arc<Version>,
    candidate: Arc<Version>,
    grants: Grants,
}

impl Bench {
    /// Loads the active version and the candidate.
    pub(super) async fn new(
        handler: &str,
        settings: &Settings,
        modules: [Vec<u8>; 2],
        names: [&str; 2],
    ) -> anyhow::Result<Self> {
        // What differs by chance alone is no difference.
        let sandbox = Sandbox::new(SandboxOptions { repeatable: true, ..SandboxOptions::default() })?;
        // An instance for each message: what the one before left in it is not of this message.
        let limits = Limits { reuse: NonZeroU32::MIN, ..settings.limits.clone() };
        // Its secrets and what is in its buckets stay where they are.
        let granted = without_host(settings, &BTreeMap::new());
        let [active, candidate] = modules;
        let [active_name, candidate_name] = names;
        let active = sandbox.load_granted(active, handler, &limits, granted.clone()).await;
        let active = active.with_context(|| format!("loading {active_name}"))?;
        let candidate = sandbox.load_granted(candidate, handler, &limits, granted).await;
        let candidate = candidate.with_context(|| format!("loading {candidate_name}"))?;
        Ok(Self { active, candidate, grants: settings.grants() })
    }

    /// What the active version and the candidate do with a message. Dropped in the middle, the run ends with no effect, as it
    /// would have at its end.
    pub(super) async fn compare(&self, past: &Past) -> [Ran; 2] {
        [self.run(&self.active, past).await, self.run(&self.candidate, past).await]
    }

    async fn run(&self, version: &Version, past: &Past) -> Ran {
        // No broker waits: the lease lasts as long as any run may.
        let lease = Lease::until(Instant::now() + version.limits().max_run + Duration::from_secs(60));
        let call = Call {
            message: &past.message,
            subscription: &past.subscription,
            attempt: past.attempt,
            max_attempts: past.max_attempts,
            previous_failure: past.previous_failure.as_deref(),
            lease: &lease,
            effects: Effects::Suppressed,
            keeps_spans: false,
        };
        let run = version.handle(call).await;
        let (outcome, outputs) = resolve(run.outcome, &self.grants, &past.subscription, &past.message.id);
        Ran { outcome, outputs, usage: run.usage, effects: Some(run.effects) }
    }
}
