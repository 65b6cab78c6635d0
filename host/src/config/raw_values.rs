//! The two settings whose form serde cannot derive: fuel (a number or a word) and a secret (never a literal).

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// Where a secret is read from. It is never written into the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RawSecret {
    /// An environment variable.
    Env(String),
    /// A file; white space at its ends is dropped.
    File(PathBuf),
}

/// Fuel: a number, or the operator's word that none is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawFuel {
    /// So much.
    Units(u64),
    /// None is counted; the wall clock still holds.
    Unmetered,
}

impl<'de> Deserialize<'de> for RawFuel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FuelVisitor)
    }
}

struct FuelVisitor;

impl de::Visitor<'_> for FuelVisitor {
    type Value = RawFuel;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, or \"unmetered\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawFuel, E> {
        u64::try_from(number).map(RawFuel::Units).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawFuel, E> {
        match text {
            "unmetered" => Ok(RawFuel::Unmetered),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}

impl JsonSchema for RawFuel {
    fn schema_name() -> Cow<'static, str> {
        "Fuel".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "unmetered" }] })
    }
}

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// The message names no value: what stands here may be the secret itself.
const LITERAL_SECRET: &str = "a secret is not written into the configuration, where backups, logs and colleagues see it: \
    write { env = \"NAME\" } or { file = \"path\" }";

struct SecretVisitor;

impl<'de> de::Visitor<'de> for SecretVisitor {
    type Value = RawSecret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" } or { file = \"path\" }")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<RawSecret, E> {
        Err(E::custom(LITERAL_SECRET))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<RawSecret, E> {
        Err(E::custom(LITERAL_SECRET))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<RawSecret, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let secret = match key.as_str() {
                "env" => RawSecret::Env(map.next_value()?),
                "file" => RawSecret::File(map.next_value()?),
                _ => return Err(de::Error::custom("expected { env = \"NAME\" } or { file = \"path\" }")),
            };
            if found.replace(secret).is_some() {
                return Err(de::Error::custom("expected either `env` or `file`, found both"));
            }
        }
        found.ok_or_else(|| de::Error::custom("expected { env = \"NAME\" } or { file = \"path\" }"))
    }
}

impl JsonSchema for RawSecret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where a secret is read from; it is never written into the configuration itself.",
            "oneOf": [
                {
                    "type": "object", "additionalProperties": false, "required": ["env"],
                    "properties": { "env": { "type": "string", "description": "An environment variable." } }
                },
                {
                    "type": "object", "additionalProperties": false, "required": ["file"],
                    "properties": { "file": { "type": "string", "description": "A file, relative to this one." } }
                }
            ]
        })
    }
}
