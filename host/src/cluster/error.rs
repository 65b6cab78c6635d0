//! Why a cluster did not do what it was asked.

use super::record::{Changed, Desired, What};
use crate::broker::jetstream::BucketError;
use crate::registry::{Digest, RegistryError};

/// Why what is to run was not changed, or not taken.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The cluster cannot be asked.
    #[error("the cluster cannot be asked, and this host goes on with what it runs")]
    Bucket(#[source] BucketError),
    /// Somebody else was first.
    #[error(
        "meanwhile `{}` {} on host `{}` (sha256:{}, {}), and this came second: look at it, then try again",
        .0.by, .0.did(), .0.host, .0.digest, .0.at
    )]
    Conflict(Box<First>),
    /// What is to run was removed meanwhile.
    #[error("meanwhile somebody removed what is to run of handler `{handler}` from the cluster's bucket: try again")]
    Removed {
        /// The handler.
        handler: String,
    },
    /// Whether it was done is not known.
    #[error(
        "NATS did not confirm the change of handler `{handler}` ({detail}): `tidegate handlers show {handler}` tells what is to \
         run when it is back; if it was done, every host takes it"
    )]
    Unconfirmed {
        /// The handler.
        handler: String,
        /// What happened.
        detail: String,
    },
    /// What stands under the handler's key cannot be read.
    #[error("what is to run of handler `{handler}` cannot be read, and this host goes on with what it runs: {detail}")]
    Record {
        /// The handler.
        handler: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The cluster's copy of a module cannot be used.
    #[error("the cluster's copy of module sha256:{digest} cannot be used: deploy it again from any host")]
    Copy {
        /// The module.
        digest: Digest,
        /// Why.
        source: Box<CopyError>,
    },
    /// The cluster has a version that this host could not record.
    #[error(
        "version {number} is to run in the cluster now, but this host could not record it, and tries again by itself"
    )]
    NotRecorded {
        /// The version.
        number: u64,
        /// Why.
        source: Box<RegistryError>,
    },
    /// What runs here is not what is to run: a version would be tried beside another one than on the other hosts.
    #[error(
        "this host does not run version {number} of handler `{handler}`, which is to run in the cluster: begin on a host that \
         does, or look with `tidegate handlers show {handler}` why this one does not"
    )]
    NotCurrent {
        /// The handler.
        handler: String,
        /// The version that is to run.
        number: u64,
    },
}

/// Who was first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// The handler.
    pub handler: String,
    /// What became of it.
    pub what: What,
    /// The version that is to run now, or that is tried now.
    pub number: u64,
    /// Its module.
    pub digest: String,
    /// Who.
    pub by: String,
    /// On which host.
    pub host: String,
    /// When.
    pub at: String,
}

/// What is wrong with a copy of a module.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It cannot be read.
    #[error(transparent)]
    Bucket(BucketError),
    /// It is not the module that it is called.
    #[error(transparent)]
    Registry(RegistryError),
}

impl First {
    /// What it was, in words.
    fn did(&self) -> String {
        let Self { handler, number, .. } = self;
        match self.what {
            What::Deployed | What::RolledBack | What::Brought | What::Promoted => {
                format!("made version {number} of handler `{handler}` the active one")
            }
            What::CanaryStarted | What::ShadowStarted => {
                format!("began to try version {number} of handler `{handler}`")
            }
            What::Aborted | What::Ended => {
                format!("ended the trial of a version of handler `{handler}`, so that {number} runs alone")
            }
        }
    }
}

impl ClusterError {
    /// Who was first.
    pub(super) fn conflict(handler: &str, found: &Desired) -> Self {
        let version = found.tried_version().or_else(|| found.active_version());
        let digest = version.map(|version| version.digest.to_string()).unwrap_or_default();
        let number = version.map_or(found.active, |version| version.number);
        let Changed { what, by, host, at, .. } = found.change.clone();
        Self::Conflict(Box::new(First { handler: handler.to_owned(), what, number, digest, by, host, at }))
    }

    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Bucket(_) => "cluster-unavailable",
            Self::Conflict(_) | Self::Removed { .. } => "conflict",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::Record { .. } => "record-unreadable",
            Self::Copy { .. } => "module-damaged",
            Self::NotRecorded { .. } => "not-recorded",
            Self::NotCurrent { .. } => "not-current",
        }
    }

    /// Whether nothing is wrong but that NATS is away.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Bucket(BucketError::Away(_)) | Self::Unconfirmed { .. })
    }

    /// Whether it may be over by itself in a while.
    #[must_use]
    pub const fn passes(&self) -> bool {
        match self {
            Self::Bucket(_) | Self::Unconfirmed { .. } | Self::Copy { .. } | Self::NotRecorded { .. } => true,
            Self::Conflict(_) | Self::Removed { .. } => true,
            Self::Record { .. } | Self::NotCurrent { .. } => false,
        }
    }
}

impl From<BucketError> for ClusterError {
    fn from(error: BucketError) -> Self {
        Self::Bucket(error)
    }
}
