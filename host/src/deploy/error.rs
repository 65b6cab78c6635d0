//! Why a deploy or a rollback did not happen. Nothing has changed when one of these is given.

use crate::cluster::ClusterError;
use crate::outcome::FaultKind;
use crate::registry::{Digest, RegistryError};
use crate::sandbox::LoadError;
use crate::signature::SignatureError;

/// Why a version did not come onto the host.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The configuration has no such handler.
    #[error("there is no handler `{handler}`; there is: {known}")]
    NoHandler {
        /// What was asked for.
        handler: String,
        /// Those that there are.
        known: String,
    },
    /// Somebody deploys to the handler.
    #[error("`{by}` deploys to handler `{handler}` since {since}: try again when that has ended")]
    Busy {
        /// The handler.
        handler: String,
        /// Who.
        by: String,
        /// Since when.
        since: String,
    },
    /// Somebody changed what runs before a deploy got to it.
    #[error(
        "`{by}` changed which version of handler `{handler}` runs before this deploy came to it: look at `tidegate handlers show \
         {handler}`, and deploy again when it is still wanted"
    )]
    Overtaken {
        /// The handler.
        handler: String,
        /// Who.
        by: String,
    },
    /// The module is not signed as this host asks for.
    #[error(transparent)]
    Signature(SignatureError),
    /// The module is not one that can run.
    #[error(transparent)]
    Refused(LoadError),
    /// The module cannot be started within the limits.
    #[error("the module does not start: {detail} ({})", .kind.code())]
    Init {
        /// Which fault.
        kind: FaultKind,
        /// What happened.
        detail: String,
    },
    /// The golden messages cannot be read.
    #[error("the golden messages cannot be used: {0}")]
    Golden(String),
    /// The module does something else with golden messages than what is expected.
    #[error("{failed} of {count} golden messages did not end as expected: {first}")]
    Unexpected {
        /// How many did not.
        failed: usize,
        /// How many there are.
        count: usize,
        /// The first of them.
        first: String,
        /// Whether all of them were stopped by the clock or by the host, as on a machine under load.
        stopped: bool,
    },
    /// There is no version to go back to.
    #[error("handler `{handler}` has {}: `tidegate handlers show {handler}` lists those that are kept",
        .number.map_or("no version to go back to".to_owned(), |number| format!("no version {number}, or not any more")))]
    NoVersion {
        /// The handler.
        handler: String,
        /// Which was asked for; `None`: the one before.
        number: Option<u64>,
    },
    /// No version that is kept has the module.
    #[error(
        "no version of handler `{handler}` that is kept has the module {digest}: it was forgotten, or never ran here"
    )]
    NotKept {
        /// The handler.
        handler: String,
        /// The module's digest.
        digest: Digest,
    },
    /// The version runs already.
    #[error("handler `{handler}` runs version {number} already")]
    AlreadyActive {
        /// The handler.
        handler: String,
        /// The version.
        number: u64,
    },
    /// A version of the handler is being tried.
    #[error(
        "version {number} of handler `{handler}` is tried as a {kind}: `tidegate promote {handler}` makes it the active \
         one, `tidegate abort {handler}` ends that; then try again"
    )]
    RolloutOn {
        /// The handler.
        handler: String,
        /// The version that is tried.
        number: u64,
        /// The word for how.
        kind: &'static str,
    },
    /// No version of the handler is being tried.
    #[error("no version of handler `{handler}` is being tried: there is nothing to promote or to abort")]
    NoRollout {
        /// The handler.
        handler: String,
    },
    /// Another version of the handler is being tried than the one that was looked at.
    #[error(
        "version {number} of handler `{handler}` is not the one that is tried: that is version {tried}; look at `tidegate \
         handlers show {handler}`, then promote or abort that one"
    )]
    OtherTried {
        /// The handler.
        handler: String,
        /// The version that was looked at.
        number: u64,
        /// The one that is tried.
        tried: u64,
    },
    /// There is no version that another could be tried beside.
    #[error("handler `{handler}` has no version that runs, and a version is tried beside one: deploy it without")]
    NothingBeside {
        /// The handler.
        handler: String,
    },
    /// A canary that would get everything.
    #[error("a canary that gets all messages has nothing to be compared with: give it less, or deploy without")]
    WholeCanary,
    /// The version has grants that the configuration does not give any more.
    #[error(
        "version {number} of handler `{handler}` has grants that the configuration does not give any more, or gives \
         otherwise ({grants}): deploy its module again, which gives it today's grants"
    )]
    NotGranted {
        /// The handler.
        handler: String,
        /// The version.
        number: u64,
        /// What they are: `output done`, `bucket seen`.
        grants: String,
    },
    /// Something that the configuration grants is not there to be given.
    #[error("what handler `{handler}` is granted cannot be given to it: {what}")]
    Ungrantable {
        /// The handler.
        handler: String,
        /// What of it, and why.
        what: String,
    },
    /// A version that is kept cannot be loaded any more.
    #[error("version {number} cannot be loaded any more")]
    Unloadable {
        /// The version.
        number: u64,
        /// Why.
        source: LoadError,
    },
    /// A module that the configuration names cannot be read.
    #[error("could not read the module of handler `{handler}`, {path}")]
    Unreadable {
        /// The handler.
        handler: String,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What the configuration says of a handler cannot run.
    #[error("handler `{handler}` cannot run {what}")]
    Configured {
        /// The handler.
        handler: String,
        /// The module that the configuration names, or the one that runs with other limits.
        what: String,
        /// Why.
        source: Box<DeployError>,
    },
    /// The cluster did not do what it was asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl DeployError {
    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoHandler { .. } => "no-such-handler",
            Self::Busy { .. } => "deploy-in-progress",
            Self::Overtaken { .. } => "superseded",
            Self::Signature(error) => error.code(),
            Self::Refused(_) | Self::Configured { .. } => "module-refused",
            Self::Init { .. } => "init-failed",
            Self::Golden(_) => "golden-unusable",
            Self::Unexpected { .. } => "golden-failed",
            Self::NoVersion { .. } => "no-such-version",
            Self::NotKept { .. } => "no-such-module",
            Self::AlreadyActive { .. } => "already-active",
            Self::RolloutOn { .. } => "rollout-in-progress",
            Self::NoRollout { .. } => "no-rollout",
            Self::OtherTried { .. } => "other-version-tried",
            Self::NothingBeside { .. } => "no-active-version",
            Self::WholeCanary => "invalid-share",
            Self::NotGranted { .. } => "not-granted",
            Self::Ungrantable { .. } => "grant-unavailable",
            Self::Unloadable { .. } => "version-unloadable",
            Self::Unreadable { .. } => "module-unreadable",
            Self::Cluster(error) => error.code(),
            Self::Registry(error) => match error {
                RegistryError::Full { .. } => "disk-full",
                RegistryError::TooLarge { .. } => "too-large",
                RegistryError::WrongDigest { .. } => "wrong-digest",
                RegistryError::NoModule { .. } | RegistryError::Damaged { .. } => "module-damaged",
                RegistryError::NoVersion { .. } => "no-such-version",
                RegistryError::Io { .. }
                | RegistryError::InUse { .. }
                | RegistryError::Layout { .. }
                | RegistryError::Records { .. }
                | RegistryError::Stopped { .. } => "registry-unavailable",
            },
        }
    }

    /// Whether a version that was to be promoted or aborted is not tried any more.
    #[must_use]
    pub const fn is_not_tried(&self) -> bool {
        matches!(self, Self::NoRollout { .. } | Self::OtherTried { .. })
    }

    /// Whether what the configuration grants could not be given just now, as a secret whose file is not there: it may be
    /// when it is looked for again.
    #[must_use]
    pub fn is_of_a_grant(&self) -> bool {
        match self {
            Self::Ungrantable { .. } => true,
            Self::Configured { source, .. } => source.is_of_a_grant(),
            _ => false,
        }
    }

    /// The error with its causes, on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
