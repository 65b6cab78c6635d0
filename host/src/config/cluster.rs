//! The settings of a cluster: where its hosts meet, and what this one is called there.

use std::collections::BTreeMap;

use super::broker::{BrokerConfig, MAX_REPLICAS};
use super::check::Checker;
use super::problem::Problem;
use super::raw_cluster::RawCluster;

/// The name of a cluster that is given none.
const NAME: &str = "main";

/// The settings of `[cluster]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The JetStream broker that the hosts meet on.
    pub broker: String,
    /// The cluster's name: letters, digits, `-` and single `_`, at most 64 of them.
    pub name: String,
    /// What this host is called among the others; `None`: what stands in the data directory.
    pub host: Option<String>,
    /// Replicas of the buckets, where they are created: 1 to 5.
    pub replicas: usize,
}

impl ClusterConfig {
    pub(super) fn validate(
        raw: RawCluster,
        brokers: &BTreeMap<String, BrokerConfig>,
        broker_names: &[&str],
        checker: &mut Checker,
    ) -> Self {
        let broker = raw.broker.unwrap_or_default();
        let at = |key| ["cluster", key];
        let mut replicas_of_broker = 1;
        match brokers.get(&broker) {
            Some(BrokerConfig::JetStream(jetstream)) => replicas_of_broker = jetstream.replicas,
            Some(BrokerConfig::Embedded(_)) => {
                let problem = Problem::at(&at("broker"), format!("broker `{broker}` is in this host alone"));
                checker.problem(problem.help("hosts meet on a broker whose `type` is \"jetstream\""));
            }
            None if broker.is_empty() => {
                let problem = Problem::at(&["cluster"], "the cluster has no `broker`");
                checker.problem(problem.help("name the JetStream broker that the hosts meet on"));
            }
            // One that is there and wrong is a problem of its own.
            None if broker_names.contains(&broker.as_str()) => {}
            None => {
                let problem = Problem::at(&at("broker"), format!("there is no broker `{broker}`"));
                checker.problem(problem.nearest(&broker, broker_names.iter().copied()));
            }
        }
        let mut named = |key, what: &str, name: String| {
            if !Checker::is_name(&name) {
                let problem = Problem::at(&at(key), format!("`{name}` cannot be the name of a {what}"));
                checker.problem(problem.help("use letters, digits, `-` and single `_`, at most 64 characters"));
            }
            name
        };
        let name = named("name", "cluster", raw.name.unwrap_or_else(|| NAME.to_owned()));
        let host = raw.host.map(|host| named("host", "host", host));
        if raw.replicas.is_some_and(|count| !(1..=MAX_REPLICAS).contains(&count)) {
            let problem = Problem::at(&at("replicas"), format!("`replicas` must be from 1 to {MAX_REPLICAS}"));
            checker.problem(problem);
        }
        let given = raw.replicas.and_then(|count| usize::try_from(count).ok());
        Self { broker, name, host, replicas: given.unwrap_or(replicas_of_broker) }
    }
}
