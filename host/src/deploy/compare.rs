//! What differs between two versions. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::report::Change;
use crate::registry::Settings;

/// A version, as far as versions are compared.
#[derive(Debug, Clone)]
pub(super) struct Traits {
    pub(super) size: u64,
    pub(super) contract: String,
    pub(super) imports: BTreeSet<String>,
    pub(super) settings: Settings,
}

/// What differs, in the order of its names within each kind.
pub(super) fn changes(before: &Traits, after: &Traits) -> Vec<Change> {
    let change = |what: &str, before: String, after: String| Change { what: what.to_owned(), before, after };
    let mut changes = Vec::new();
    if before.size != after.size {
        changes.push(change("size", before.size.to_string(), after.size.to_string()));
    }
    if before.contract != after.contract {
        changes.push(change("contract", before.contract.clone(), after.contract.clone()));
    }
    for gone in before.imports.difference(&after.imports) {
        changes.push(change("import", gone.clone(), String::new()));
    }
    for come in after.imports.difference(&before.imports) {
        changes.push(change("import", String::new(), come.clone()));
    }
    let (old, new) = (flat(&before.settings), flat(&after.settings));
    for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let value = |of: &BTreeMap<String, String>| of.get(key).cloned().unwrap_or_default();
        if old.get(key) != new.get(key) {
            changes.push(change(key, value(&old), value(&new)));
        }
    }
    changes
}

/// Settings as values by their dotted names: whatever settings there come to be, their changes are seen.
fn flat(settings: &Settings) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    flatten("", &serde_json::to_value(settings).unwrap_or_default(), &mut values);
    values
}

fn flatten(name: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, into);
            }
        }
        Value::String(text) => drop(into.insert(name.to_owned(), text.clone())),
        Value::Null => drop(into.insert(name.to_owned(), "none".to_owned())),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => drop(into.insert(name.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::OutputGrant;

    fn traits() -> Traits {
        Traits {
            size: 10,
            contract: "c".to_owned(),
            imports: BTreeSet::from(["a".to_owned(), "b".to_owned()]),
            settings: Settings::default(),
        }
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        assert_eq!(changes(&traits(), &traits()), []);
        let mut after = traits();
        after.size = 12;
        after.imports = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
        after.settings.limits.fuel = None;
        let to = OutputGrant { broker: "main".into(), subject: "s".into() };
        after.settings.outputs.insert("out".to_owned(), to);
        let found: Vec<String> = changes(&traits(), &after)
            .iter()
            .map(|change| format!("{}: {} -> {}", change.what, change.before, change.after))
            .collect();
        let expected = [
            "size: 10 -> 12",
            "import: a -> ",
            "import:  -> c",
            "limits.fuel: 1000000000 -> none",
            "outputs.out.broker:  -> main",
            "outputs.out.subject:  -> s",
        ];
        assert_eq!(found, expected);
    }
}
