//! Keys of JSON objects that people write: each is known or told with the nearest one that is.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::config::nearest;

/// What an object has, while it is taken apart.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    values: BTreeMap<String, &'a RawValue>,
}

impl<'a> Keys<'a> {
    /// Checks that every key of an object is a known one.
    pub(super) fn new(values: BTreeMap<String, &'a RawValue>, known: &[&str]) -> Result<Self, String> {
        match values.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(Self { values }),
            Some(key) => Err(format!("unknown key `{key}`{}", meant(key, known))),
        }
    }

    /// The keys of a value that is an object.
    pub(super) fn of(value: &'a RawValue, known: &[&str]) -> Result<Self, String> {
        Self::new(serde_json::from_str(value.get()).map_err(plain)?, known)
    }

    /// The value of a key, as it is written.
    pub(super) fn raw(&mut self, key: &str) -> Option<&'a RawValue> {
        self.values.remove(key)
    }

    /// The value of a key, when there is one.
    pub(super) fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, String> {
        let value = self.raw(key).map(|value| serde_json::from_str(value.get()));
        value.transpose().map_err(|error| format!("`{key}`: {}", plain(error)))
    }

    /// The value of a key that is a text with a form of its own.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let text: Option<String> = self.take(key)?;
        text.map(|text| parse(&text)).transpose().map_err(|error| format!("`{key}`: {error}"))
    }
}

/// Which key was meant: the nearest, or all there are.
pub(super) fn meant(key: &str, known: &[&str]) -> String {
    match nearest(key, known.iter().copied()) {
        Some(meant) => format!(": did you mean `{meant}`?"),
        None => format!("; there is: {}", known.join(", ")),
    }
}

/// What a parser said, without a place in a text that nobody sees.
pub(super) fn plain(error: serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}
