//! Environment variables over the file: `TIDEGATE_HTTP__LISTEN` is the key `listen` of `[http]`.
//!
//! Two underscores stand between the levels. A name that a user chose (a broker, handler or subscription) is found
//! without regard to case, with `_` for `-`; a name that the file does not have is taken in lower case.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::tree::{Node, Origin, Value};

/// What every variable of ours starts with.
pub(super) const PREFIX: &str = "TIDEGATE_";

/// Variables of ours that are not settings: the path of the file itself, which host the command line speaks to and as
/// whom, and those that the project's tests use. None has two underscores, so none can be the name of a setting.
const NOT_SETTINGS: [&str; 11] = [
    "CONFIG",
    "HOST",
    "TOKEN",
    "PROFILE",
    "NATS_SERVER",
    "GUESTS",
    "OCI_REGISTRY",
    "CHROMEDRIVER",
    "AXE",
    "OTLP_RECEIVER",
    "PROMETHEUS",
];

/// Puts the variables over the tree. What is no setting by its form is a problem; an unknown key is found later, as
/// those of the file are.
pub(super) fn overlay(tree: &mut Node, variables: &[(String, String)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if NOT_SETTINGS.contains(&rest) || is_service_link(rest) {
            continue;
        }
        let levels: Vec<&str> = rest.split("__").collect();
        if levels.len() < 2 || levels.iter().any(|level| level.is_empty()) {
            problems.push(no_setting(name, rest));
            continue;
        }
        if !place(tree, &levels, name, text) {
            let problem = Problem::of_variable(name, format!("`{name}` leads through a value that is not a table"));
            problems.push(problem.help("two underscores stand between the levels: TIDEGATE_HTTP__LISTEN"));
        }
    }
    problems
}

/// Kubernetes sets these in every container of a namespace that has a service named `tidegate`; a host must start
/// there all the same.
fn is_service_link(rest: &str) -> bool {
    rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT") || rest == "PORT" || rest.starts_with("PORT_")
}

fn no_setting(name: &str, rest: &str) -> Problem {
    let problem = Problem::of_variable(name, format!("`{name}` is not a setting"));
    let sections = ["HOST", "HTTP", "REGISTRY", "SIGNATURES", "TELEMETRY", "BROKERS", "HANDLERS", "SUBSCRIPTIONS"];
    let section = sections.iter().find_map(|section| {
        let key = rest.strip_prefix(section)?.trim_matches('_');
        (!key.is_empty()).then(|| format!("{PREFIX}{section}__{key}"))
    });
    match section {
        Some(meant) => problem.help(format!("two underscores stand between the levels: {meant}")),
        None => problem
            .help("a setting is named by its path, with two underscores between the levels: TIDEGATE_HTTP__LISTEN"),
    }
}

/// Walks down, making tables where there are none. False when a value that is not a table is in the way.
fn place(tree: &mut Node, levels: &[&str], variable: &str, text: &str) -> bool {
    let Value::Table(entries) = &mut tree.value else { return false };
    let Some((first, rest)) = levels.split_first() else { return false };
    let key = known_name(entries, first);
    let origin = Origin::Environment(variable.to_owned());
    if rest.is_empty() {
        entries.insert(key, Node { origin, value: Value::Untyped(text.to_owned()) });
        return true;
    }
    let child = entries.entry(key).or_insert_with(|| Node { origin, value: Value::Table(BTreeMap::new()) });
    place(child, rest, variable, text)
}

fn known_name(entries: &BTreeMap<String, Node>, level: &str) -> String {
    let wanted = fold(level);
    entries.keys().find(|name| fold(name) == wanted).cloned().unwrap_or_else(|| level.to_ascii_lowercase())
}

/// What a name is compared by: two names that fold to the same could not be told apart in a variable.
pub(super) fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}
