//! The JSON Schema of the file, as editors use it: `docs/config.schema.json`.

use serde_json::{Map, Value};

use super::raw::RawConfig;

/// The schema of `tidegate.toml`.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(RawConfig).to_value();
    in_words_of_toml(&mut schema);
    schema
}

/// TOML has no null, and our defaults stand in the descriptions: both would only stand in a reader's way.
fn in_words_of_toml(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(in_words_of_toml);
            // A property that is named `default` is a schema, and stays.
            if object.get("default").is_none_or(|default| default.get("description").is_none()) {
                object.remove("default");
            }
            without_null(object);
            if let Some(Value::String(target)) = object.get_mut("$ref") {
                *target = target.replace("#/$defs/Raw", "#/$defs/");
            }
            let raw: Vec<String> = object.keys().filter(|name| name.starts_with("Raw")).cloned().collect();
            for name in raw {
                if let (Some(definition), Some(plain)) = (object.remove(&name), name.strip_prefix("Raw")) {
                    object.insert(plain.to_owned(), definition);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(in_words_of_toml),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Takes `null` out of what a schema allows.
pub(crate) fn without_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            object.extend(only);
        }
    }
}
