//! Where in the file a key belongs that somebody wrote into another table: what is known of that is the schema.

use serde_json::{Map, Value};

use super::problem::nearest;
use super::schema::schema;

/// How a name that the writer of the file chooses stands in a path.
const ANY: &str = "NAME";
/// Deeper than the file goes.
const DEPTH: usize = 8;

/// A key, and the path of the table that it belongs to.
struct Place {
    table: Vec<String>,
    key: String,
}

/// The key that is nearest to a name and the table that it belongs to, for people; first looked for in and below the section
/// that the name was written into.
pub(super) fn elsewhere(written: &[String], name: &str) -> Option<(String, String)> {
    let schema = schema();
    let mut places = Vec::new();
    gather(&schema, &schema, &mut Vec::new(), &mut places);
    let (own, others): (Vec<&Place>, Vec<&Place>) =
        places.iter().partition(|place| written.first().is_some_and(|section| place.table.first() == Some(section)));
    [own, others].into_iter().find_map(|places| {
        let key = nearest(name, places.iter().map(|place| place.key.as_str()))?;
        let place = places.iter().find(|place| place.key == key)?;
        Some((key.to_owned(), shown(&place.table, written)))
    })
}

/// Gathers the keys of a schema and of what is below.
fn gather(root: &Value, schema: &Value, table: &mut Vec<String>, places: &mut Vec<Place>) {
    if table.len() > DEPTH {
        return;
    }
    let Some(schema) = resolved(root, schema) else { return };
    for kind in ["oneOf", "anyOf"] {
        let kinds = schema.get(kind).and_then(Value::as_array);
        kinds.into_iter().flatten().for_each(|one| gather(root, one, table, places));
    }
    for (key, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        places.push(Place { table: table.clone(), key: key.clone() });
        table.push(key.clone());
        gather(root, below, table, places);
        table.pop();
    }
    if let Some(below) = schema.get("additionalProperties").filter(|below| below.is_object()) {
        table.push(ANY.to_owned());
        gather(root, below, table, places);
        table.pop();
    }
}

fn resolved<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Map<String, Value>> {
    let schema = schema.as_object()?;
    match schema.get("$ref").and_then(Value::as_str) {
        Some(target) => root.pointer(target.strip_prefix('#')?)?.as_object(),
        None => Some(schema),
    }
}

/// A table as it is written in the file, with the names of the one that was written into as far as they go together.
fn shown(table: &[String], written: &[String]) -> String {
    let mut fits = true;
    let mut names = Vec::with_capacity(table.len());
    for (index, name) in table.iter().enumerate() {
        let own = written.get(index).filter(|own| fits && (name == ANY || *own == name));
        fits = own.is_some();
        names.push(own.unwrap_or(name).as_str());
    }
    names.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
        for (written, name, expected) in [
            (vec!["handlers", "triage"], "timeuot", Some(("timeout", "handlers.triage.limits"))),
            (vec!["subscriptions", "orders"], "max_attempts", Some(("max_attempts", "subscriptions.orders.retry"))),
            (vec!["host"], "ack_wait", Some(("ack_wait", "subscriptions.NAME"))),
            (vec!["handlers", "triage"], "xyzzy", None),
        ] {
            let written: Vec<String> = written.into_iter().map(str::to_owned).collect();
            let found = elsewhere(&written, name);
            assert_eq!(found.as_ref().map(|(key, table)| (key.as_str(), table.as_str())), expected, "{name}");
        }
    }
}
