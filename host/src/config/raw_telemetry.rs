//! What the file says of what is exported. A part of [`super::raw`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::raw_values::RawSecret;
use super::units::DurationText;

/// What is exported, and to which collector. Without it nothing is; `/metrics` shows metrics in any case.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTelemetry {
    /// A collector that takes OTLP over HTTP, such as "http://127.0.0.1:4318"; `/v1/traces` and `/v1/metrics`
    /// are put behind it.
    #[schemars(required)]
    pub(super) endpoint: Option<String>,
    /// Where further headers of each request are read from, such as a token: `name=value,name=value`, with what is special
    /// written as in a URL (`%20`).
    pub(super) headers: Option<RawSecret>,
    /// How long the collector may take for one request. Default: "10s".
    pub(super) timeout: Option<DurationText>,
    /// What this host is called there: `service.name`. Default: "tidegate".
    pub(super) service_name: Option<String>,
    /// What else is said of this host, by the names of OpenTelemetry: `"deployment.environment.name" = "production"`.
    pub(super) attributes: BTreeMap<String, String>,
    /// Traces of messages.
    pub(super) traces: RawTraces,
    /// Metrics, those of `/metrics`.
    pub(super) metrics: RawMetrics,
}

/// Traces of messages. Where the publisher began a trace, it decided whether it is recorded.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTraces {
    /// Whether traces are exported. Default: true.
    pub(super) enabled: Option<bool>,
    /// Which share of the traces that begin here is recorded, from 0 to 1. Default: 0.01.
    pub(super) ratio: Option<RawRatio>,
    /// Record faults, rejects and dead letters of the other traces too, up to a hundred a second. Default: true.
    pub(super) failures: Option<bool>,
}

/// Metrics. `/metrics` shows them in any case; whoever has them from there has them twice with this.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    /// Whether metrics are exported. Default: false.
    pub(super) enabled: Option<bool>,
    /// How often, at least "1s". Default: "60s".
    pub(super) interval: Option<DurationText>,
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RawRatio(pub(super) f64);

impl<'de> Deserialize<'de> for RawRatio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RatioVisitor)
    }
}

struct RatioVisitor;

impl de::Visitor<'_> for RatioVisitor {
    type Value = RawRatio;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 1")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<RawRatio, E> {
        match (0.0..=1.0).contains(&number) {
            true => Ok(RawRatio(number)),
            false => Err(E::invalid_value(de::Unexpected::Float(number), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawRatio, E> {
        self.visit_f64(number as f64)
    }

    /// From the environment everything is text.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawRatio, E> {
        let number: f64 = text.trim().parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
        self.visit_f64(number)
    }
}

impl JsonSchema for RawRatio {
    fn schema_name() -> Cow<'static, str> {
        "Ratio".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}
