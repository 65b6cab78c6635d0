//! What differs between two configurations, value by value. Pure.
//!
//! Both are compared as they hold, with every default and what the environment says over the file, so that what is shown
//! is what changes. A secret is in neither: only where it is read from.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::Config;

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The names of the tables and the key, from the top of the file down.
    pub path: Vec<String>,
    /// In the configuration before; `None`: it had none.
    pub before: Option<String>,
    /// In the one after; `None`: it has none.
    pub after: Option<String>,
}

/// A value, and whether it is said nowhere.
struct Held {
    text: String,
    is_default: bool,
}

type Values = BTreeMap<Vec<String>, Held>;

/// All values that differ, in the order of their names. Of a broker, handler or subscription that comes or goes only what
/// is said of it, and not every default.
pub(super) fn differences(before: &Config, after: &Config) -> Vec<Difference> {
    let (old, new) = (values(before), values(after));
    let entry = |path: &[String]| path.get(..2).map(<[String]>::to_vec);
    let entries = |of: &Values| of.keys().filter_map(|path| entry(path)).collect::<BTreeSet<_>>();
    let (old_entries, new_entries) = (entries(&old), entries(&new));
    let mut found = Vec::new();
    for path in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (old, new) = (old.get(path), new.get(path));
        if old.map(|held| &held.text) == new.map(|held| &held.text) {
            continue;
        }
        let whole = |path: &[String]| {
            entry(path).is_none_or(|entry| old_entries.contains(&entry) && new_entries.contains(&entry))
        };
        let is_said = old.or(new).is_some_and(|held| !held.is_default);
        if whole(path) || is_said {
            let text = |held: Option<&Held>| held.map(|held| held.text.clone());
            found.push(Difference { path: path.clone(), before: text(old), after: text(new) });
        }
    }
    // One of which nothing is said comes or goes all the same.
    for entry in old_entries.symmetric_difference(&new_entries) {
        if !found.iter().any(|one| one.path.starts_with(entry)) {
            let side = |entries: &BTreeSet<Vec<String>>| entries.contains(entry).then(|| "all by default".to_owned());
            found.push(Difference { path: entry.clone(), before: side(&old_entries), after: side(&new_entries) });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn values(config: &Config) -> Values {
    let mut values = Values::new();
    // What is dumped is a configuration again, which a test sees to.
    let table = config.dump().parse::<toml::Table>().unwrap_or_default();
    flatten(config, &mut Vec::new(), &Value::Table(table), &mut values);
    values
}

fn flatten(config: &Config, path: &mut Vec<String>, value: &Value, into: &mut Values) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                path.push(key.clone());
                flatten(config, path, value, into);
                path.pop();
            }
        }
        Value::String(text) => keep(config, path, text.clone(), into),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) => {
            keep(config, path, value.to_string(), into);
        }
    }
}

fn keep(config: &Config, path: &[String], text: String, into: &mut Values) {
    let is_default = config.source.tree.nearest(path).1 < path.len();
    into.insert(path.to_vec(), Held { text, is_default });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::path::Path;

    use super::*;

    const BEFORE: &str = r#"
[brokers.main]
type = "embedded"
[brokers.nats]
type = "jetstream"
servers = ["nats://127.0.0.1:4222"]
token = { env = "ONE" }
[handlers.h]
module = "h.wasm"
limits.fuel = 5
outputs.done = { broker = "main", subject = "done" }
[subscriptions.gone]
broker = "main"
subjects = ["a.>"]
handler = "h"
"#;

    fn config(text: &str, variables: &[(String, String)]) -> Config {
        Config::from_text(Path::new("/c/tidegate.toml"), text.to_owned(), variables).unwrap()
    }

    #[test]
    fn what_differs_is_named_with_both_values_and_no_secret() {
        let before = config(BEFORE, &[]);
        assert_eq!(differences(&before, &before), []);
        let text = BEFORE
            .replace("\"ONE\"", "\"TWO\"")
            .replace("limits.fuel = 5", "limits.fuel = \"unmetered\"\nlimits.timeout = \"5s\"")
            .replace("outputs.done = { broker = \"main\", subject = \"done\" }", "")
            .replace("[subscriptions.gone]", "[handlers.quiet]\n[subscriptions.gone]")
            .replace("[subscriptions.gone]", "[subscriptions.come]\nconcurrency = 4");
        let after = config(&text, &[("TIDEGATE_HOST__DRAIN_TIMEOUT".to_owned(), "1s".to_owned())]);
        let found = differences(&before, &after);
        let shown: Vec<String> = found
            .iter()
            .map(|one| {
                let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
                format!("{}: {} -> {}", one.path.join("."), side(&one.before), side(&one.after))
            })
            .collect();
        expect_test::expect![[r#"
            brokers.nats.token.env: ONE -> TWO
            handlers.h.limits.fuel: 5 -> unmetered
            handlers.h.limits.timeout: 10s -> 5s
            handlers.h.outputs.done.broker: main -> -
            handlers.h.outputs.done.subject: done -> -
            handlers.quiet: - -> all by default
            host.drain_timeout: 25s -> 1s
            subscriptions.come.broker: - -> main
            subscriptions.come.concurrency: - -> 4
            subscriptions.come.handler: - -> h
            subscriptions.come.subjects: - -> ["a.>"]
            subscriptions.gone.broker: main -> -
            subscriptions.gone.handler: h -> -
            subscriptions.gone.subjects: ["a.>"] -> -"#]]
        .assert_eq(&shown.join("\n"));
    }
}
