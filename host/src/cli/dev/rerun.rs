//! Runs the last messages again, on a module beside the host: as `tidegate invoke` would, with no effect on anything.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::recent::Kept;
use super::setting::Setting;
use crate::broker::lease::Lease;
use crate::config::HandlerConfig;
use crate::deploy::beside_host;
use crate::handler::{Call, Effects, Handler as _, Run};
use crate::outcome::Outcome;
use crate::sandbox::granted::Granted;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::settle::outputs::{Grants, Routed, route};

/// The module to run on, with the limits and grants of its handler.
#[derive(Clone)]
pub(super) struct Bench {
    sandbox: Arc<Sandbox>,
    handler: String,
    limits: Limits,
    grants: Grants,
    granted: Granted,
}

/// A message that was run again.
pub(super) struct Reran {
    pub(super) before: Kept,
    pub(super) run: Run,
    /// Where its outputs would have gone.
    pub(super) outputs: Vec<Routed>,
}

impl Bench {
    /// With the settings of a handler.
    pub(super) fn new(setting: &Setting) -> anyhow::Result<Self> {
        let cache_dir = Some(setting.config.host.cache_dir.clone());
        // One message after the other: an instance at a time.
        let max_instances = NonZeroU32::MIN;
        let sandbox = Sandbox::new(SandboxOptions { cache_dir, max_instances, ..SandboxOptions::default() })?;
        let handler = setting.handler_config();
        Ok(Self {
            sandbox,
            handler: setting.handler.clone(),
            limits: handler.map(|handler| handler.limits.clone()).unwrap_or_default(),
            grants: handler.map(HandlerConfig::grants).unwrap_or_default(),
            granted: handler.map(beside_host).unwrap_or_default(),
        })
    }

    /// Runs messages one after the other.
    pub(super) async fn run(&self, module: Vec<u8>, messages: Vec<Kept>) -> anyhow::Result<Vec<Reran>> {
        let granted = self.granted.clone();
        let version = self.sandbox.load_granted(module, &self.handler, &self.limits, granted).await;
        let version = version.context("loading the module once more")?;
        let mut all = Vec::with_capacity(messages.len());
        for before in messages {
            // No broker waits: the lease lasts as long as any run may.
            let lease = Lease::until(Instant::now() + self.limits.max_run + Duration::from_secs(60));
            let call = Call {
                message: &before.message,
                subscription: &before.subscription,
                attempt: before.attempt,
                max_attempts: None,
                previous_failure: None,
                lease: &lease,
                effects: Effects::Suppressed,
                keeps_spans: false,
            };
            let run = version.handle(call).await;
            all.push(self.resolved(before, run));
        }
        Ok(all)
    }

    /// With its outputs routed, which can be a fault of the handler's.
    fn resolved(&self, before: Kept, mut run: Run) -> Reran {
        let mut outputs = Vec::new();
        if let Outcome::Completed(named) = &run.outcome {
            match route(named.clone(), &self.grants, &before.subscription, &before.message.id) {
                Ok(routed) => outputs = routed,
                Err(fault) => run.outcome = Outcome::Fault(fault),
            }
        }
        Reran { before, run, outputs }
    }
}
