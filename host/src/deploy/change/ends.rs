//! A version that is tried, and that a configuration ends: by deploying another one in its handler, or by granting less than
//! it was given.

use std::fmt;
use std::sync::Arc;

use super::{Change, Deployed, Fate, Made};
use crate::deploy::entry::{Entry, Terms};
use crate::deploy::own::{Own, OwnAct};
use crate::deploy::rollout::OnTrial;
use crate::deploy::{DeployError, check_granted_by};
use crate::registry::HandlerRecord;

/// A version that is not tried any more once a configuration is applied.
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

/// What a version that is tried was given, and a configuration does not grant any more; `None`: nothing is tried, or nothing of
/// it was withdrawn.
pub(super) fn withdrawn(record: &HandlerRecord, terms: &Terms) -> Option<DeployError> {
    let number = record.rollout.as_ref()?.number;
    check_granted_by(terms, &record.name, number, &record.version(number)?.settings).err()
}

impl Change {
    /// Versions that are not tried any more once it is committed, as in an [`super::Outlook`].
    pub(super) fn ends(&self) -> impl Iterator<Item = &EndedTrial> {
        let ends = self.made.iter().filter(|one| one.withdrawn.is_some() || matches!(one.fate, Fate::Passed(..)));
        ends.filter_map(|one| one.ends.as_ref())
    }
}

impl Made {
    /// What is tried with a grant that is withdrawn, where no other version comes, which would end it too; and why it ends.
    pub(super) fn tried_beyond(&self) -> Option<(&Arc<Entry>, OnTrial, String)> {
        let why = self.withdrawn.as_ref().filter(|_| !matches!(self.fate, Fate::Passed(..)))?;
        Some((&self.entry, self.entry.on_trial()?, why.chain()))
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
