//! From a file and the environment to a validated configuration, or to all that is wrong with them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::broker::BrokerConfig;
use super::check::Checker;
use super::cluster::ClusterConfig;
use super::environment;
use super::handler::HandlerConfig;
use super::host::{DeadLettersConfig, HostConfig, RegistryConfig};
use super::http::HttpConfig;
use super::otel;
use super::problem::{Problem, Problems};
use super::raw::RawConfig;
use super::reader::Reader;
use super::signatures;
use super::subscription::{References, SubscriptionConfig};
use super::telemetry::TelemetryConfig;
use super::tree::{Node, Path as KeyPath};
use super::{Config, ConfigError, Document};

/// Reads a configuration from a text, with environment variables over it. Touches no file.
pub(super) fn load(path: &Path, text: String, variables: &[(String, String)]) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    let mut problems = Vec::new();
    let mut tree = match Node::parse(&text) {
        Ok(tree) => tree,
        Err(error) => {
            let bytes = error.span().unwrap_or(0..0);
            let problem = Problem::of_text(bytes, format!("this is not TOML: {}", error.message()));
            return Err(ConfigError::Invalid(Problems::render(vec![problem], &Node::empty(), &file, &text)));
        }
    };
    problems.extend(environment::overlay(&mut tree, variables));
    otel::underlay(&mut tree, variables);
    let (raw, unfit) = read(&tree, &mut problems);
    let document = Document { path: path.to_owned(), text, tree };
    let directory = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut checker = Checker::new(directory);
    let config = validate(raw, document, &mut checker);
    // A value that did not fit was read as if it were not there: what follows from that is no problem of its own.
    let follows = |problem: &Problem| unfit.iter().any(|path| problem.is_under(path));
    problems.extend(checker.problems.into_iter().filter(|problem| !follows(problem)));
    match problems.is_empty() {
        true => Ok(config),
        false => Err(config.source.invalid(problems)),
    }
}

/// Reads the settings; a value that does not fit is noted and left out, and the rest is read again.
fn read(tree: &Node, problems: &mut Vec<Problem>) -> (RawConfig, Vec<KeyPath>) {
    let mut rest = tree.clone();
    let mut unfit = Vec::new();
    loop {
        let unknown = RefCell::new(Vec::new());
        let result = RawConfig::deserialize(Reader::new(&rest, &unknown));
        match result {
            Ok(raw) => {
                problems.extend(unknown.into_inner());
                return (raw, unfit);
            }
            Err(misfit) => {
                // A broker whose `type` was taken away has none now: that follows, and was not said by anyone.
                if !unfit.iter().any(|path| path.starts_with(&misfit.path)) {
                    problems.push(Problem::of_value(misfit.path.clone(), misfit.message));
                }
                let unknown = unknown.into_inner();
                if !rest.remove(&misfit.path) {
                    problems.extend(unknown);
                    return (RawConfig::default(), vec![KeyPath::new()]);
                }
                if let Some((key, table)) = misfit.path.split_last()
                    && key == "type"
                {
                    // The table goes with its `type`: what was seen of its keys is not seen again.
                    problems.extend(unknown.into_iter().filter(|problem| problem.is_under(table)));
                }
                unfit.push(misfit.path);
            }
        }
    }
}

fn validate(raw: RawConfig, source: Document, checker: &mut Checker) -> Config {
    let host = HostConfig::validate(raw.host, checker);
    let http = HttpConfig::validate(raw.http, checker);
    let registry = RegistryConfig::validate(&raw.registry, &host, checker);
    let dead_letters = DeadLettersConfig::validate(&raw.dead_letters, checker);
    let signatures = signatures::validate(raw.signatures, checker);
    let telemetry = raw.telemetry.map(|raw| TelemetryConfig::validate(raw, checker));
    let brokers: BTreeMap<String, BrokerConfig> = raw
        .brokers
        .into_iter()
        .map(|(name, raw)| (name.clone(), BrokerConfig::validate(&name, raw, &host.data_dir, checker)))
        .collect();
    // By the file and not by what was valid in it: a reference to a broker that is wrong is not wrong itself.
    let tree = source.tree.clone();
    let names = |section| tree.child(section).map_or_else(Vec::new, Node::names);
    let (broker_names, handler_names) = (names("brokers"), names("handlers"));
    let cluster = raw.cluster.map(|raw| ClusterConfig::validate(raw, &brokers, &broker_names, checker));
    let handlers: BTreeMap<String, HandlerConfig> = raw
        .handlers
        .into_iter()
        .map(|(name, raw)| (name.clone(), HandlerConfig::validate(&name, raw, &broker_names, checker)))
        .collect();
    let subscriptions: BTreeMap<String, SubscriptionConfig> = raw
        .subscriptions
        .into_iter()
        .map(|(name, raw)| {
            let known = References {
                brokers: &brokers,
                broker_names: &broker_names,
                handlers: &handlers,
                handler_names: &handler_names,
            };
            (name.clone(), SubscriptionConfig::validate(&name, raw, &known, checker))
        })
        .collect();
    check_names("brokers", &broker_names, checker);
    check_names("handlers", &handler_names, checker);
    check_names("subscriptions", &names("subscriptions"), checker);
    check_queue_paths(&brokers, checker);
    Config {
        host,
        http,
        registry,
        dead_letters,
        signatures,
        cluster,
        telemetry,
        brokers,
        handlers,
        subscriptions,
        source,
    }
}

/// Two names that differ in case or in `-` and `_` only could not be told apart in an environment variable.
fn check_names(section: &str, names: &[&str], checker: &mut Checker) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        if let Some(other) = seen.insert(environment::fold(name), name) {
            let message = format!("`{name}` and `{other}` differ in case or in `-` and `_` only");
            let problem = Problem::of_key(vec![section.to_owned(), (*name).to_owned()], message);
            checker.problem(problem.help("an environment variable could not tell them apart; rename one"));
        }
    }
}

/// One queue has one owner: two brokers on one directory would wait for each other's lock.
fn check_queue_paths(brokers: &BTreeMap<String, BrokerConfig>, checker: &mut Checker) {
    let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (name, broker) in brokers {
        match broker {
            BrokerConfig::Embedded(queue) => {
                if let Some(other) = seen.insert(queue.path.clone(), name) {
                    let message = format!("brokers `{other}` and `{name}` have the same `path`");
                    checker.problem(Problem::at(&["brokers", name, "path"], message));
                }
            }
            BrokerConfig::JetStream(_) => {}
        }
    }
}
