//! What is to run of a handler, as this host knows it. Plain data.

use super::record::{Changed, Desired};
use super::report::ToRun;
use crate::registry::Digest;

/// What is to run of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) number: u64,
    pub(super) digest: Option<Digest>,
    pub(super) tries: Option<u64>,
    change: Changed,
    /// Where that stands in the bucket.
    pub(super) revision: u64,
}

impl Wanted {
    pub(super) fn of(desired: &Desired, revision: u64) -> Self {
        Self {
            number: desired.active,
            digest: desired.active_version().map(|version| version.digest.clone()),
            tries: desired.rollout.as_ref().map(|rollout| rollout.version),
            change: desired.change.clone(),
            revision,
        }
    }

    /// Whether the same is to run, whoever changed something else.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let Self { number, digest, tries, change: _, revision: _ } = self;
        (number, digest, tries) == (&other.number, &other.digest, &other.tries)
    }

    pub(super) fn to_run(&self) -> ToRun {
        let Changed { what, by, host, at, .. } = self.change.clone();
        ToRun { version: self.number, tries: self.tries, change: what.name().to_owned(), by, host, at }
    }
}
