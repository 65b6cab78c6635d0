//! Holds answers against the OpenAPI document: the status, the media type, the body by its schema, the word of an error.
//!
//! It knows the part of JSON Schema that the document uses, and fails on anything else rather than passing it over. It
//! takes fields that are not described for wrong, as a client would not: an answer shows nothing that the document hides.
//!
//! Shared by the tests of the listener and those of a whole host.

#![allow(clippy::indexing_slicing, reason = "a field of a JSON value that is not there is null")]

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// An answer of a host.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a str,
}

/// The document.
pub(crate) struct Document(pub(crate) Value);

/// Keywords that are for people.
const SPEAKS: [&str; 4] = ["description", "title", "examples", "default"];

/// Names of fields that a schema has described.
type Names = BTreeSet<String>;

impl Document {
    /// Every operation: a method and the template of a path.
    #[allow(dead_code, reason = "one of the tests that share this has no use for it")]
    pub(crate) fn operations(&self) -> impl Iterator<Item = String> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        let methods = |value: &Value| value.as_object().into_iter().flat_map(Map::keys).cloned().collect::<Vec<_>>();
        paths.flat_map(move |(path, value)| {
            methods(value).into_iter().map(move |method| format!("{} {path}", method.to_ascii_uppercase()))
        })
    }

    /// The operation of a request.
    #[allow(dead_code, reason = "one of the tests that share this has no use for it")]
    pub(crate) fn operation(&self, method: &str, target: &str) -> Option<String> {
        let (template, methods) = self.found(target)?;
        methods.get(method.to_ascii_lowercase()).map(|_| format!("{method} {template}"))
    }

    /// What an operation concerns, and the role that it needs.
    #[allow(dead_code, reason = "one of the tests that share this has no use for it")]
    pub(crate) fn needs(&self, operation: &str) -> (String, String) {
        let described = self.described_operation(operation);
        let word = |name: &str| described[name].as_str().unwrap_or_default().to_owned();
        (word("x-tidegate-scope"), word("x-tidegate-role"))
    }

    /// Whether an operation has parameters in its query.
    #[allow(dead_code, reason = "one of the tests that share this has no use for it")]
    pub(crate) fn has_query(&self, operation: &str) -> bool {
        let parameters = self.described_operation(operation)["parameters"].as_array();
        parameters.into_iter().flatten().any(|parameter| parameter["in"] == "query")
    }

    fn described_operation(&self, operation: &str) -> &Value {
        let (method, path) = operation.split_once(' ').unwrap_or_default();
        &self.0["paths"][path][method.to_ascii_lowercase()]
    }

    /// The template of a path, and its methods. A path with nothing variable goes before one that has something.
    fn found(&self, target: &str) -> Option<(&String, &Value)> {
        let path = target.split('?').next().unwrap_or_default();
        let operations = self.0["paths"].as_object().into_iter().flatten();
        operations
            .filter(|(template, _)| fits(template, path))
            .min_by_key(|(template, _)| template.matches('{').count())
    }

    /// Whether an answer to a request is one that the document describes; why not.
    pub(crate) fn check(&self, method: &str, target: &str, answer: &Answer<'_>) -> Result<(), String> {
        let found = self.found(target);
        let operation = found.and_then(|(_, methods)| methods.get(method.to_ascii_lowercase()));
        let at = format!("{method} {target}: {}", answer.status);
        match (found, operation) {
            (None, _) => self.error(answer, 404, &["no-such-path"]).map_err(|error| format!("{at}: {error}")),
            (Some(_), None) => self.error(answer, 405, &["no-such-method"]).map_err(|error| format!("{at}: {error}")),
            (Some(_), Some(operation)) => self.answers(operation, answer).map_err(|error| format!("{at}: {error}")),
        }
    }

    fn error(&self, answer: &Answer<'_>, status: u16, words: &[&str]) -> Result<(), String> {
        let schema = serde_json::json!({ "$ref": "#/components/schemas/ErrorAnswer" });
        let value: Value = serde_json::from_str(answer.body).map_err(|error| error.to_string())?;
        self.whole(&schema, &value, "body")?;
        let word = value["error"]["code"].as_str().unwrap_or_default();
        if answer.status != status || !words.contains(&word) {
            return Err(format!("it is not described, and answered with `{word}`"));
        }
        Ok(())
    }

    fn answers(&self, operation: &Value, answer: &Answer<'_>) -> Result<(), String> {
        let status = answer.status.to_string();
        let described = operation["responses"].get(&status).ok_or("this status is not described")?;
        let Some(content) = described.get("content").and_then(Value::as_object) else {
            return if answer.body.is_empty() { Ok(()) } else { Err(format!("a body: {}", answer.body)) };
        };
        // A range of media types holds any of them.
        let media = content.get(answer.content_type).or_else(|| content.get("*/*"));
        let media = media.ok_or_else(|| format!("`{}` is not described", answer.content_type))?;
        match answer.content_type {
            "application/json" => {
                let value: Value = serde_json::from_str(answer.body).map_err(|error| error.to_string())?;
                self.whole(&media["schema"], &value, "body")?;
                let word = value["error"]["code"].as_str();
                let words = described.get("x-tidegate-codes").and_then(Value::as_array);
                match (words, word) {
                    (None, _) => Ok(()),
                    (Some(words), Some(word)) if words.iter().any(|other| other == word) => Ok(()),
                    (Some(_), word) => Err(format!("the word {word:?} is not described")),
                }
            }
            "application/x-ndjson" => answer.body.lines().try_for_each(|line| {
                let value: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
                self.whole(&media["schema"], &value, "line")
            }),
            _ => Ok(()),
        }
    }

    /// Whether a value is one of a schema, and has no field that the schema does not describe.
    pub(crate) fn whole(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let names = self.described(schema, value, at)?;
        let unknown = value.as_object().into_iter().flat_map(Map::keys).find(|name| !names.contains(*name));
        unknown.map_or(Ok(()), |name| Err(format!("{at}.{name} is not described")))
    }

    /// The fields of a value that a schema describes, when it is one of the schema.
    fn described(&self, schema: &Value, value: &Value, at: &str) -> Result<Names, String> {
        let schema = match schema {
            Value::Bool(true) => return Ok(value.as_object().into_iter().flat_map(Map::keys).cloned().collect()),
            Value::Object(schema) => schema,
            other => return Err(format!("{at}: {other} is no schema")),
        };
        // A schema that only speaks of its value takes every one, as `true` does.
        if schema.keys().all(|keyword| SPEAKS.contains(&keyword.as_str())) {
            return self.described(&Value::Bool(true), value, at);
        }
        let mut names = Names::new();
        for (keyword, rule) in schema {
            match keyword.as_str() {
                speaks if SPEAKS.contains(&speaks) => {}
                "$ref" => {
                    let target = rule.as_str().and_then(|text| text.strip_prefix('#')).unwrap_or_default();
                    let target = self.0.pointer(target).ok_or_else(|| format!("{at}: {rule} leads nowhere"))?;
                    names.extend(self.described(target, value, at)?);
                }
                "allOf" => {
                    for part in rule.as_array().into_iter().flatten() {
                        names.extend(self.described(part, value, at)?);
                    }
                }
                "anyOf" | "oneOf" => {
                    names.extend(self.one_of(keyword == "oneOf", rule, value, at)?);
                }
                "properties" => {
                    for (name, part) in rule.as_object().into_iter().flatten() {
                        if let Some(value) = value.get(name) {
                            self.whole(part, value, &format!("{at}.{name}"))?;
                        }
                        names.insert(name.clone());
                    }
                }
                "additionalProperties" => {
                    let properties = schema.get("properties").and_then(Value::as_object);
                    for (name, value) in value.as_object().into_iter().flatten() {
                        if properties.is_none_or(|properties| !properties.contains_key(name)) {
                            match rule {
                                Value::Bool(false) => return Err(format!("{at}.{name} is not allowed")),
                                part => self.whole(part, value, &format!("{at}.{name}"))?,
                            }
                            names.insert(name.clone());
                        }
                    }
                }
                "prefixItems" | "items" => self.items(keyword, schema, value, at)?,
                _ => simple(keyword, rule, value).map_err(|error| format!("{at}: {error}"))?,
            }
        }
        Ok(names)
    }

    fn one_of(&self, alone: bool, rule: &Value, value: &Value, at: &str) -> Result<Names, String> {
        let mut names = Names::new();
        let (mut fitting, mut failed) = (0, Vec::new());
        for part in rule.as_array().into_iter().flatten() {
            match self.described(part, value, at) {
                Ok(more) => {
                    fitting += 1;
                    names.extend(more);
                }
                Err(error) => failed.push(error),
            }
        }
        match fitting {
            0 => Err(format!("{at}: {value} is none of: {}", failed.join("; "))),
            1 => Ok(names),
            _ if alone => Err(format!("{at}: {value} is more than one of them")),
            _ => Ok(names),
        }
    }

    fn items(&self, keyword: &str, schema: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
        let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (index, value) in value.as_array().into_iter().flatten().enumerate() {
            let part = match keyword {
                "prefixItems" => first.get(index),
                _ if index >= first.len() => schema.get("items"),
                _ => None,
            };
            if let Some(part) = part {
                self.whole(part, value, &format!("{at}[{index}]"))?;
            }
        }
        Ok(())
    }
}

/// A keyword that looks at the value alone.
fn simple(keyword: &str, rule: &Value, value: &Value) -> Result<(), String> {
    let number = value.as_f64();
    let bound = rule.as_f64().unwrap_or_default();
    let length = value.as_array().map(Vec::len);
    let holds = match keyword {
        "type" => match rule {
            Value::Array(kinds) => kinds.iter().any(|kind| is_a(value, kind)),
            kind => is_a(value, kind),
        },
        "const" => value == rule,
        "enum" => rule.as_array().is_some_and(|values| values.contains(value)),
        "required" => {
            let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
            value.is_object() && names.into_iter().all(|name| value.get(name).is_some())
        }
        "minimum" => number.is_none_or(|number| number >= bound),
        "maximum" => number.is_none_or(|number| number <= bound),
        "minItems" => length.is_none_or(|length| length as f64 >= bound),
        "maxItems" => length.is_none_or(|length| length as f64 <= bound),
        "format" => match rule.as_str() {
            Some("uint" | "uint64") => !value.is_number() || value.is_u64(),
            Some("uint32") => !value.is_number() || value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
            Some("uint16") => !value.is_number() || value.as_u64().is_some_and(|number| u16::try_from(number).is_ok()),
            Some("double") => true,
            _ => return Err(format!("the checker knows no format {rule}")),
        },
        "pattern" => match rule.as_str() {
            Some("^[0-9a-f]{64}$") => value.as_str().is_none_or(is_sha256),
            Some(r"^[0-9]{1,3}(\.[0-9]{1,2})?%$") => value.as_str().is_none_or(is_share),
            _ => return Err(format!("the checker knows no pattern {rule}")),
        },
        _ => return Err(format!("the checker knows no keyword `{keyword}`")),
    };
    if holds { Ok(()) } else { Err(format!("{value} is not `{keyword}` {rule}")) }
}

fn is_a(value: &Value, kind: &Value) -> bool {
    match kind.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_share(text: &str) -> bool {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    number.is_some_and(|number| number > 0.0 && number <= 100.0)
}

/// Whether a path is one of a template.
fn fits(template: &str, path: &str) -> bool {
    let (parts, found): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    let fit = |(part, found): (&&str, &&str)| part == found || (part.starts_with('{') && !found.is_empty());
    parts.len() == found.len() && parts.iter().zip(&found).all(fit)
}
