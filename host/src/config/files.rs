//! Whether what the configuration points at is there. Apart from loading, because publishing needs no module.

use std::path::Path;

use super::broker::{BrokerConfig, JetStreamConfig};
use super::problem::Problem;
use super::{Config, SecretSource};
use crate::admin::Material;
use crate::deploy::check_golden;

/// All that the configuration points at and that is not there or cannot be read, and golden messages that a deploy would
/// not take.
pub(super) fn missing(config: &Config) -> Vec<Problem> {
    let mut problems = missing_at_start(config);
    problems.extend(missing_secrets(config));
    problems.extend(config.handlers.keys().filter_map(|name| missing_module(config, name)));
    for (name, handler) in &config.handlers {
        let folder = handler.golden.as_ref().filter(|folder| folder.is_dir());
        if let Some(Err(error)) = folder.map(|folder| check_golden(folder)) {
            let message = format!("the golden messages cannot be used: {error}");
            problems.push(Problem::at(&["handlers", name, "golden"], message));
        }
    }
    problems
}

/// The same on a host that runs by `before`: of the modules, those that it does not name in the same place. The others
/// were deployed, and need no file any more.
pub(super) fn missing_since(before: &Config, config: &Config) -> Vec<Problem> {
    let named = |config: &Config, name: &str| config.handlers.get(name).and_then(|handler| handler.module.clone());
    let mut problems = missing_at_start(config);
    problems.extend(missing_secrets(config));
    let changed = config.handlers.keys().filter(|name| named(before, name) != named(config, name));
    problems.extend(changed.filter_map(|name| missing_module(config, name)));
    problems
}

fn missing_module(config: &Config, name: &str) -> Option<Problem> {
    let module = config.handlers.get(name)?.module.as_ref()?;
    let problem = missing_file(&["handlers", name, "module"], "module", module)?;
    Some(problem.help("build it first; the path is relative to the configuration file"))
}

/// The secrets of handlers that cannot be read.
fn missing_secrets(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, handler) in &config.handlers {
        for (secret, grant) in &handler.secrets {
            if let Err(error) = grant.source.read() {
                problems.push(Problem::at(&["handlers", name, "secrets", secret], error.chain()));
            }
        }
    }
    problems
}

/// The same but for modules and the secrets of handlers.
pub(super) fn missing_at_start(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, handler) in &config.handlers {
        if let Some(folder) = handler.golden.as_ref().filter(|folder| !folder.is_dir()) {
            let message = format!("the golden messages {} are not a folder", folder.display());
            problems.push(Problem::at(&["handlers", name, "golden"], message));
        }
    }
    if let Some(Err(error)) = config.http.tls.as_ref().map(Material::read) {
        problems.push(Problem::at(&["http", "tls", error.key()], error.chain()));
    }
    if let Some(Err(error)) =
        config.telemetry.as_ref().and_then(|telemetry| telemetry.headers.as_ref()).map(SecretSource::read)
    {
        problems.push(Problem::at(&["telemetry", "headers"], error.chain()));
    }
    for (name, broker) in &config.brokers {
        match broker {
            BrokerConfig::Embedded(_) => {}
            BrokerConfig::JetStream(broker) => missing_of_broker(name, broker, &mut problems),
        }
    }
    problems
}

fn missing_of_broker(name: &str, broker: &JetStreamConfig, problems: &mut Vec<Problem>) {
    if let Some(Err(error)) = broker.auth.secret().map(SecretSource::read) {
        problems.push(Problem::at(&["brokers", name, broker.auth.key()], error.chain()));
    }
    let Some(tls) = &broker.tls else { return };
    let client = tls.client.as_ref().map(|(cert, key)| [("cert", cert), ("key", key)]);
    let files = tls.ca.iter().map(|ca| ("ca", ca)).chain(client.into_iter().flatten());
    problems.extend(files.filter_map(|(key, path)| missing_file(&["brokers", name, "tls", key], key, path)));
}

fn missing_file(at: &[&str], what: &str, path: &Path) -> Option<Problem> {
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => None,
        Ok(_) => Some(Problem::at(at, format!("the {what} {} is not a file", path.display()))),
        Err(error) => Some(Problem::at(at, format!("could not open the {what} {}: {error}", path.display()))),
    }
}
