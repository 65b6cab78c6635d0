//! Who the host takes somebody for, and who changed what, over the listener.

use super::{Client, read};
use crate::admin::wire::{AuditList, Whoami};
use crate::cli::exit::Failure;

impl Client {
    /// Who the host takes us for.
    pub(crate) fn whoami(&self) -> Result<Whoami, Failure> {
        read(self.agent.get(format!("{}/v1/whoami", self.base)).call())
    }

    /// A page of the audit log.
    pub(crate) fn audit(&self, before: Option<&str>, limit: usize) -> Result<AuditList, Failure> {
        let mut request = self.agent.get(format!("{}/v1/audit", self.base)).query("limit", limit.to_string());
        if let Some(before) = before {
            request = request.query("before", before);
        }
        read(request.call())
    }
}
