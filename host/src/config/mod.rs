//! The configuration: one TOML file, environment variables over it, and everything that is wrong with it at once.
//!
//! ```text
//! tidegate.toml -> tree (values with their places) <- TIDEGATE_* variables, under both OTEL_* variables
//!               -> raw (what is said) -> validate -> Config (what holds)
//! ```
//!
//! Invariants:
//! - A [`Config`] holds only values that work together: whoever has one need not check again.
//! - Nothing is ignored: an unknown key or variable is a problem, with the nearest known key.
//! - A secret is never a literal here, and never printed.
//! - Every limit has a default, and the default has its sum beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod broker;
mod check;
mod circuit;
mod cluster;
mod diff;
mod dump;
mod elsewhere;
mod environment;
mod files;
mod granted;
mod handler;
mod host;
mod http;
mod load;
mod otel;
mod problem;
mod raw;
mod raw_circuit;
mod raw_cluster;
mod raw_handler;
mod raw_telemetry;
mod raw_trust;
mod raw_values;
mod reader;
pub(crate) mod schema;
mod secret;
mod signatures;
mod subscription;
mod telemetry;
mod tree;
mod units;

pub use broker::{Authentication, BrokerConfig, JetStreamConfig, StreamConfig, TlsConfig};
pub use cluster::ClusterConfig;
pub use diff::Difference;
pub use granted::{BucketConfig, SecretGrant};
pub use handler::{HandlerConfig, OutputConfig};
pub use host::{DeadLettersConfig, HostConfig, LogConfig, RegistryConfig};
pub use http::{HttpConfig, HttpTlsConfig, TokenConfig};
pub(crate) use problem::nearest;
pub use problem::{ProblemListed, Problems};
pub use raw::{LogFormat, LogThreshold};
pub use schema::schema;
pub use secret::{Secret, SecretError, SecretSource};
pub use subscription::SubscriptionConfig;
pub use telemetry::{MetricsConfig, TelemetryConfig, TracesConfig};
pub(crate) use units::{parse_duration, parse_size};

use crate::signature::Policy;

/// The name of the file that is looked for when none is named.
pub const FILE_NAME: &str = "tidegate.toml";

/// Everything that a host is told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The host itself.
    pub host: HostConfig,
    /// The HTTP listener.
    pub http: HttpConfig,
    /// What was deployed.
    pub registry: RegistryConfig,
    /// What becomes of dead letters.
    pub dead_letters: DeadLettersConfig,
    /// Who may sign the modules that run.
    pub signatures: Policy,
    /// The hosts that run the same versions; `None`: this one runs by itself.
    pub cluster: Option<ClusterConfig>,
    /// What is exported, and to which collector; `None`: nothing is.
    pub telemetry: Option<TelemetryConfig>,
    /// The messaging systems, by name.
    pub brokers: BTreeMap<String, BrokerConfig>,
    /// The handlers, by name.
    pub handlers: BTreeMap<String, HandlerConfig>,
    /// The subscriptions, by name.
    pub subscriptions: BTreeMap<String, SubscriptionConfig>,
    /// What it was read from, to show where a later problem lies.
    source: Document,
}

/// The file as it was read.
#[derive(Clone)]
struct Document {
    path: PathBuf,
    text: String,
    tree: tree::Node,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({})", self.path.display())
    }
}

impl Document {
    fn invalid(&self, problems: Vec<problem::Problem>) -> ConfigError {
        let file = self.path.display().to_string();
        ConfigError::Invalid(Problems::render(problems, &self.tree, &file, &self.text))
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("could not read the configuration {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There are problems in it. The text shows all of them, each with its line and what to do.
    #[error("{0}")]
    Invalid(Problems),
}

impl Config {
    /// Reads a file, with the variables of this process over it.
    ///
    /// # Errors
    /// When the file cannot be read, or with all that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        // A variable that is not text cannot be one of ours: our names are ASCII, and values are text.
        let variables: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Self::from_text(path, text, &variables)
    }

    /// Reads a text as if it stood in a file at `path`, with these variables over it. Touches no file.
    ///
    /// # Errors
    /// With all that is wrong in it.
    pub fn from_text(path: &Path, text: String, variables: &[(String, String)]) -> Result<Self, ConfigError> {
        load::load(path, text, variables)
    }

    /// Checks what the configuration points at: modules that are there, secrets and certificates that can be read.
    ///
    /// # Errors
    /// With all that is missing.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        self.without(files::missing(self))
    }

    /// The same but for the modules and the secrets of handlers: a host that starts needs no file whose module was deployed
    /// before, and a secret that cannot be read keeps its own handler from running, and no other one.
    ///
    /// # Errors
    /// With all that is missing.
    pub fn check_files_at_start(&self) -> Result<(), ConfigError> {
        self.without(files::missing_at_start(self))
    }

    /// The same for a host that runs by `before`: a module that this configuration names anew, or elsewhere, has to be there.
    ///
    /// # Errors
    /// With all that is missing.
    pub fn check_files_since(&self, before: &Self) -> Result<(), ConfigError> {
        self.without(files::missing_since(before, self))
    }

    fn without(&self, problems: Vec<problem::Problem>) -> Result<(), ConfigError> {
        if problems.is_empty() { Ok(()) } else { Err(self.source.invalid(problems)) }
    }

    /// The whole of it as a file, with every default and a note on each value where it comes from. Secrets are not in
    /// it, only where they are read from.
    #[must_use]
    pub fn dump(&self) -> String {
        dump::dump(self)
    }

    /// The values in which another configuration differs from this one.
    #[must_use]
    pub fn differences(&self, after: &Self) -> Vec<Difference> {
        diff::differences(self, after)
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.source.path
    }
}

#[cfg(test)]
mod tests;
