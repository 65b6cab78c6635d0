//! What the registry knows of handlers: their versions, which one is active, what happened. Plain data.

use std::time::SystemTime;

use super::previous::{Ran, before};
use super::{Digest, RolloutRecord, Settings};

/// A version to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The handler.
    pub handler: String,
    /// The module.
    pub digest: Digest,
    /// Its limits and grants.
    pub settings: Settings,
    /// The module's size in bytes.
    pub size: u64,
    /// The contract that the module speaks.
    pub contract: String,
    /// Where the module came from, for people.
    pub source: String,
    /// Who deployed it.
    pub deployed_by: String,
}

/// A version that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// Its number among the versions of its handler, from 1 on.
    pub number: u64,
    /// The module.
    pub digest: Digest,
    /// Its limits and grants.
    pub settings: Settings,
    /// The module's size in bytes.
    pub size: u64,
    /// The contract that the module speaks.
    pub contract: String,
    /// Where the module came from, for people.
    pub source: String,
    /// Who deployed it.
    pub deployed_by: String,
    /// When.
    pub deployed_at: SystemTime,
    /// When it was last made the active one; `None`: never.
    pub activated_at: Option<SystemTime>,
    /// The version that it took the place of then; `None`: none, or an earlier host did that.
    pub replaced: Option<u64>,
}

/// What is known of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerRecord {
    /// Its name.
    pub name: String,
    /// The number of the version that runs.
    pub active: Option<u64>,
    /// The version that is tried beside it.
    pub rollout: Option<RolloutRecord>,
    /// What the configuration said of it when it was last looked at.
    pub configured: Option<Configured>,
    /// The versions that are kept, the newest first.
    pub versions: Vec<VersionRecord>,
}

/// What the configuration says of a handler, as far as it makes a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The module that it names; `None`: it names none, or the file was never there.
    pub module: Option<Digest>,
    /// The hash of the settings.
    pub settings: String,
}

/// What a cluster has of a handler, to be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The handler.
    pub name: String,
    /// The version that is active.
    pub active: u64,
    /// The number of the next version.
    pub next: u64,
    /// All of them; the active one among them, and the one that is tried.
    pub versions: Vec<VersionRecord>,
    /// The one that is tried beside the active one.
    pub rollout: Option<RolloutRecord>,
    /// Whether it is tried on this host. Until it is, that is not recorded, and not taken back if it was.
    pub tries: bool,
    /// What another active version is told as in the history.
    pub event: Event,
    /// Who did it.
    pub by: String,
    /// More, for people.
    pub detail: String,
    /// The version that is not tried any more, where that is what happened: it is told also where it was never tried.
    pub ended: Option<u64>,
    /// What its end is told as in the history, and that of what was tried until now.
    pub ended_as: Event,
    /// Why what was tried until now is not tried any more, if it is not; for people.
    pub why_ended: String,
    /// What the configuration says of the handler, where that is to be noted with it.
    pub configured: Option<Configured>,
}

/// What happened to a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub at: SystemTime,
    /// To which version.
    pub number: Option<u64>,
    /// What, by the name of an [`Event`].
    pub event: String,
    /// By whom.
    pub who: String,
    /// More, for people.
    pub detail: String,
}

/// The kinds of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A version was recorded and made the active one.
    Deployed,
    /// A version of before was made the active one again.
    RolledBack,
    /// A deploy was refused; nothing changed.
    Refused,
    /// A version was recorded, and a share of the messages runs on it.
    CanaryStarted,
    /// A version was recorded, and a share of the messages runs on it too, with no effect.
    ShadowStarted,
    /// The version that was tried was made the active one.
    Promoted,
    /// The version that was tried is not tried any more; the active one stayed.
    Aborted,
    /// The version that was tried had its time, and is not tried any more; the active one stayed.
    Ended,
    /// A version was forgotten.
    Forgotten,
    /// The cluster's active version became this host's.
    Followed,
}

impl Event {
    /// The name in the history.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::RolledBack => "rolled-back",
            Self::Refused => "refused",
            Self::CanaryStarted => "canary-started",
            Self::ShadowStarted => "shadow-started",
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
            Self::Ended => "ended",
            Self::Forgotten => "forgotten",
            Self::Followed => "followed",
        }
    }
}

impl HandlerRecord {
    /// Of a handler of which nothing is known.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        Self { name: name.to_owned(), active: None, rollout: None, configured: None, versions: Vec::new() }
    }

    /// A version by its number.
    #[must_use]
    pub fn version(&self, number: u64) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version that runs.
    #[must_use]
    pub fn active_version(&self) -> Option<&VersionRecord> {
        self.version(self.active?)
    }

    /// The version to go back to: the one that was active before the active one.
    #[must_use]
    pub fn previous(&self) -> Option<&VersionRecord> {
        let versions: Vec<Ran> = self.versions.iter().map(VersionRecord::ran).collect();
        self.version(before(&versions, self.active?)?)
    }
}

impl VersionRecord {
    /// When it ran.
    pub(crate) const fn ran(&self) -> Ran {
        Ran { number: self.number, was_active: self.activated_at.is_some(), replaced: self.replaced }
    }
}
