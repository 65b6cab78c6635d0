//! Why a configuration was not applied. Nothing has changed when one of these is given.

use crate::admin::{AuditError, TlsError};
use crate::config::ConfigError;
use crate::deploy::DeployError;

/// Why a configuration was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file cannot be read, or something is wrong with it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something changed that a host takes at its start only.
    #[error("nothing was applied, because a host takes these at its start only: {}; restart it, or put them back", .keys.join(", "))]
    NeedsRestart {
        /// The keys.
        keys: Vec<String>,
    },
    /// Somebody applies a configuration just now.
    #[error("`{by}` applies a configuration since {since}: try again when that has ended")]
    Busy {
        /// Who.
        by: String,
        /// Since when.
        since: String,
    },
    /// What is there now is not what was shown.
    #[error(
        "nothing was applied: the file, a module or what runs has changed since the changes were shown; look again"
    )]
    Changed,
    /// A handler cannot be as the configuration says.
    #[error(transparent)]
    Handler(#[from] DeployError),
    /// A broker cannot be opened.
    #[error("nothing was applied: broker `{broker}` cannot be used: {why}")]
    Broker {
        /// Which.
        broker: String,
        /// Why.
        why: String,
    },
    /// A subscription would not be bound.
    #[error("nothing was applied: {why}")]
    Subscription {
        /// Which one and why.
        why: String,
    },
    /// The certificate of the listener cannot be used any more.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It cannot be written into the audit log that this is done.
    #[error("nothing was applied, because it cannot be written down")]
    NotWritten(#[source] AuditError),
    /// The work was cut off.
    #[error(
        "applying stopped; this is a bug of the host: `tidegate apply --dry-run` shows what is still to be applied"
    )]
    Broken,
    /// The host ends.
    #[error("nothing was applied: the host is draining")]
    Draining,
}

impl ApplyError {
    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "config-invalid",
            Self::NeedsRestart { .. } => "needs-restart",
            Self::Busy { .. } => "apply-in-progress",
            Self::Changed => "config-changed",
            Self::Handler(error) => error.code(),
            Self::Broker { .. } => "broker-unusable",
            Self::Subscription { .. } => "subscription-refused",
            Self::Tls(_) => "tls-unusable",
            Self::NotWritten(_) => "audit-unavailable",
            Self::Broken => "apply-broken",
            Self::Draining => "draining",
        }
    }

    /// The error with its causes, on as many lines as it has.
    #[must_use]
    pub fn chain(&self) -> String {
        match self {
            Self::Handler(error) => format!("nothing was applied: {}", error.chain()),
            Self::Tls(error) => format!("nothing was applied: {}", error.chain()),
            Self::NotWritten(error) => {
                let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("{self}: {error}{cause}")
            }
            Self::Config(ConfigError::Unreadable { path, source }) => {
                format!("could not read the configuration {}: {source}", path.display())
            }
            Self::Config(ConfigError::Invalid(_))
            | Self::NeedsRestart { .. }
            | Self::Busy { .. }
            | Self::Changed
            | Self::Broker { .. }
            | Self::Subscription { .. }
            | Self::Broken
            | Self::Draining => self.to_string(),
        }
    }
}
