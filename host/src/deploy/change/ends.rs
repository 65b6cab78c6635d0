//! A version that is tried, and that a configuration ends by deploying another one in its handler.

use std::fmt;

use super::{Change, Deployed, Fate};
use crate::deploy::own::{Own, OwnAct};
use crate::registry::HandlerRecord;

/// A version that is not tried any more from the next version on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedTrial {
    /// The handler.
    pub handler: String,
    /// The version that is tried.
    pub version: u64,
    /// The word for how.
    pub kind: &'static str,
}

impl EndedTrial {
    /// What is tried of a handler.
    pub(super) fn of(record: &HandlerRecord) -> Option<Self> {
        let rollout = record.rollout.as_ref()?;
        Some(Self { handler: record.name.clone(), version: rollout.number, kind: rollout.plan.name() })
    }
}

impl fmt::Display for EndedTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of version {} of handler {}", self.kind, self.version, self.handler)
    }
}

impl Change {
    /// Versions that are not tried any more once it is committed, as in an [`super::Outlook`].
    pub fn ends(&self) -> impl Iterator<Item = &EndedTrial> {
        let passed = self.made.iter().filter(|one| matches!(one.fate, Fate::Passed(..)));
        passed.filter_map(|one| one.ends.as_ref())
    }
}

impl Deployed {
    /// As it is written down: nobody named this version, but the configuration that asks for it.
    pub(super) fn act(&self) -> OwnAct {
        let ends = self.ends.as_ref().map(|ends| format!("; it ends the {ends}")).unwrap_or_default();
        let why = format!("sha256:{}, as the configuration says{ends}", self.digest);
        OwnAct { what: Own::Deployed, handler: self.handler.clone(), version: self.version, why }
    }
}
