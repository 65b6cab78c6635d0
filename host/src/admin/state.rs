//! What the listener sees of the host. Whoever wires the host fills this in.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::audit::Audit;
use crate::apply::Configuration;
use crate::broker::{Directory, PastError, PastPage, PastQuery};
use crate::deploy::Deployments;
use crate::dispatch::{Live, OpenCircuit, Stall};
use crate::pause::{Pause, PauseError, PauseRecord, Reach};
use crate::tasks::Tasks;
use crate::telemetry::{Metrics, SubscriptionCounts};

/// So many publish requests are worked on at once; the next ones wait. Each holds at most a group of messages or one
/// that is as large as may be: 16 of 8 MiB are 128 MiB at the very most.
const PUBLISHERS: usize = 16;

/// What the listener serves.
pub struct HostState {
    /// The host's name.
    pub(super) host: String,
    /// The brokers by their names in the configuration.
    pub(super) brokers: Arc<Directory>,
    /// The subscriptions that run.
    pub(super) subscriptions: Arc<dyn Subscriptions>,
    /// The host's metrics.
    pub(super) metrics: Arc<Metrics>,
    /// The largest message that is accepted for publishing, in bytes.
    pub(super) max_publish_bytes: usize,
    /// Who changed what.
    pub(super) audit: Arc<Audit>,
    /// One permit a publish request.
    pub(super) publishers: Semaphore,
    pub(super) started: std::time::Instant,
    /// The handlers and their versions; `None` where nothing runs them, and only queues are served.
    pub(super) deployments: Option<Arc<Deployments>>,
    /// What becomes of messages, as it happens; `None` where nothing runs them.
    pub(super) live: Option<Arc<Live>>,
    /// The host's configuration; `None` where nothing runs by it.
    pub(super) configuration: Option<Arc<dyn Configuration>>,
    /// Who pauses subscriptions and resumes them; `None` where nothing runs them.
    pub(super) pausing: Option<Arc<dyn Pausing>>,
    /// Tasks over dead letters.
    pub(super) tasks: Option<Arc<Tasks>>,
}

/// The subscriptions of a host, as they are now.
#[async_trait]
pub trait Subscriptions: Send + Sync {
    /// All of them, those that could not be bound yet among them.
    fn list(&self) -> Vec<SubscriptionStatus>;

    /// Whether the host has stopped taking messages for good.
    fn is_draining(&self) -> bool;

    /// A page of the messages that the stream of a subscription still has. `None`: it does not run.
    async fn past(&self, _subscription: &str, _query: &PastQuery) -> Option<Result<PastPage, PastError>> {
        None
    }
}

/// Pauses subscriptions of a host, and resumes them.
#[async_trait]
pub trait Pausing: Send + Sync {
    /// Pauses these on this host, or on all of its cluster, and gives back the pause as it stands; what runs goes on to its end.
    /// When this returns, a pause of this host is on the disk, and one of all is confirmed by the cluster: the other hosts follow
    /// within a moment, or when they can be reached again.
    ///
    /// # Errors
    /// When it cannot be written down, or the cluster does not take it: nothing is paused then. When the cluster does not
    /// confirm it: it may be then.
    async fn pause(
        &self,
        hosts: Reach,
        subscriptions: &[String],
        record: &PauseRecord,
    ) -> Result<PauseRecord, PauseError>;

    /// Ends the pauses of this host, or those of all; gives back those that were paused so.
    ///
    /// # Errors
    /// As for a pause.
    async fn resume(&self, hosts: Reach, subscriptions: &[String], by: &str) -> Result<Vec<String>, PauseError>;

    /// What holds a subscription now.
    fn holds(&self, subscription: &str) -> Option<Pause>;
}

/// One subscription now.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionStatus {
    /// Its name.
    pub name: String,
    /// Its broker's name in the configuration.
    pub broker: String,
    /// Its handler's name in the configuration.
    pub handler: String,
    /// The subjects that it receives, with `*` and `>`.
    pub subjects: Vec<String>,
    /// The sha256 of the module that runs, in hex; `None` when none can run.
    pub digest: Option<String>,
    /// Why it does not take messages, for a person; `None` when it does. It makes the host not ready.
    pub trouble: Option<String>,
    /// Who paused it, and until when; `None`: nobody. It does not make the host not ready.
    pub pause: Option<Pause>,
    /// Why its circuit is not closed; `None`: it is. It does not make the host not ready either.
    pub circuit: Option<OpenCircuit>,
    /// That it gets nowhere, and what it holds; `None`: it does. It does not make the host not ready either.
    pub stall: Option<Stall>,
    /// What was counted.
    pub counts: SubscriptionCounts,
}

impl HostState {
    /// What a host shows: its name, its brokers and subscriptions by their configured names, its metrics, and the
    /// largest message that it takes; and where it writes down what is changed over HTTP.
    #[must_use]
    pub fn new(
        host: String,
        brokers: Arc<Directory>,
        subscriptions: Arc<dyn Subscriptions>,
        metrics: Arc<Metrics>,
        max_publish_bytes: usize,
        audit: Arc<Audit>,
    ) -> Self {
        let (publishers, started) = (Semaphore::new(PUBLISHERS), std::time::Instant::now());
        let (deployments, live, configuration, pausing, tasks) = (None, None, None, None, None);
        Self {
            host,
            brokers,
            subscriptions,
            metrics,
            max_publish_bytes,
            audit,
            publishers,
            started,
            deployments,
            live,
            configuration,
            pausing,
            tasks,
        }
    }

    /// The same with handlers that can be looked at and deployed to.
    #[must_use]
    pub fn with_deployments(self, deployments: Arc<Deployments>) -> Self {
        Self { deployments: Some(deployments), ..self }
    }

    /// The same with what becomes of messages to be seen.
    #[must_use]
    pub fn with_live(self, live: Arc<Live>) -> Self {
        Self { live: Some(live), ..self }
    }

    /// The same with subscriptions that can be paused.
    #[must_use]
    pub fn with_pausing(self, pausing: Arc<dyn Pausing>) -> Self {
        Self { pausing: Some(pausing), ..self }
    }

    /// The same with tasks over dead letters.
    #[must_use]
    pub fn with_tasks(self, tasks: Arc<Tasks>) -> Self {
        Self { tasks: Some(tasks), ..self }
    }

    /// The same with a configuration that can be applied anew.
    #[must_use]
    pub fn with_configuration(self, configuration: Arc<dyn Configuration>) -> Self {
        Self { configuration: Some(configuration), ..self }
    }
}
