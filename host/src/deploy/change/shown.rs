//! What somebody is shown of a change before it is prepared, and whether what was prepared is still that.
//!
//! Invariant: a version that nobody was shown is not replaced, and a trial that nobody was shown does not end.

use std::collections::BTreeMap;

use super::{Change, Difference, EndedTrial, Fate};
use crate::deploy::Deployments;
use crate::registry::Digest;

/// What the files of modules make of the handlers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Those that become another version, and how they differ from what runs.
    pub differences: Vec<Difference>,
    /// Every handler's file by its digest; `None`: the configuration names none, or it is gone.
    pub modules: BTreeMap<String, Option<Digest>>,
    /// The handlers that become another version, with the one that this replaces; `None`: they have none.
    pub replaces: BTreeMap<String, Option<u64>>,
    /// Files that the configuration names and that stay beside what runs; for people.
    pub unused: Vec<String>,
    /// Versions that are tried, and that another version ends.
    pub ends: Vec<EndedTrial>,
}

impl Change {
    /// Whether it comes of the same files as an outlook, and replaces and ends nothing but what was shown there.
    #[must_use]
    pub fn is_as_shown(&self, outlook: &Outlook) -> bool {
        let mut modules = self.made.iter().map(|one| (&one.entry.name, &one.module));
        let replaced = self.made.iter().filter(|one| matches!(one.fate, Fate::Passed(..)));
        let mut replaced = replaced.map(|one| (&one.entry.name, &one.replaces));
        self.made.len() == outlook.modules.len()
            && modules.all(|(name, module)| outlook.modules.get(name) == Some(module))
            && replaced.all(|(name, version)| outlook.replaces.get(name) == Some(version))
            && self.ends().all(|ends| outlook.ends.contains(ends))
    }
}

impl Deployments {
    /// The version that is to run in the cluster, as far as it is known; `None`: it is not, or this host runs by itself.
    pub(super) fn to_run(&self, handler: &str) -> Option<u64> {
        let to_run = self.cluster.as_ref()?.hosts().to_run(handler)?;
        Some(to_run.version)
    }
}
