//! The host's configuration over the listener: what changes, and applying it.

use std::time::Duration;

use super::{Client, read};
use crate::apply::report::{Applied, Changes};
use crate::cli::exit::Failure;

/// Modules are compiled, and subscriptions drained.
const APPLY_TIMEOUT: Duration = Duration::from_secs(600);

impl Client {
    /// What the host's file changes.
    pub(crate) fn changes(&self) -> Result<Changes, Failure> {
        read(self.agent.get(format!("{}/v1/configuration/changes", self.base)).call())
    }

    /// Applies these very changes.
    pub(crate) fn apply(&self, digest: &str) -> Result<Applied, Failure> {
        let request = self.agent.post(format!("{}/v1/configuration/apply", self.base)).query("digest", digest);
        read(request.config().timeout_recv_response(Some(APPLY_TIMEOUT)).build().send_empty())
    }
}
