//! Durations and sizes as the configuration writes them: always with a unit.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A duration such as `"250ms"`, `"30s"`, `"1h 30m"` or `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DurationText(pub(super) Duration);

/// A size such as `"64MiB"`, `"512KB"` or `"1000B"`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeText(pub(super) u64);

/// What a duration must look like, for problems.
const DURATION_FORM: &str = "a duration with its unit, such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"7d\"";
/// What a size must look like, for problems.
const SIZE_FORM: &str = "a size with its unit, such as \"512B\", \"64KiB\", \"64MiB\" or \"1GiB\"";

/// Reads a duration; months and years are refused, because a month has no fixed length and `M` is taken for minutes.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let fits = |unit: &str| {
        matches!(
            unit,
            "ns" | "us" | "ms" | "s" | "sec" | "m" | "min" | "h" | "hour" | "hours" | "d" | "day" | "days" | "w"
        )
    };
    let mut units = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|unit| !unit.is_empty()).peekable();
    if units.peek().is_none() || !units.all(fits) {
        return Err(format!("expected {DURATION_FORM}"));
    }
    humantime::parse_duration(text).map_err(|_| format!("expected {DURATION_FORM}"))
}

/// Reads a size in bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    if !text.trim_end().ends_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(format!("expected {SIZE_FORM}"));
    }
    text.trim().parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| format!("expected {SIZE_FORM}"))
}

struct UnitVisitor {
    form: &'static str,
    unit: &'static str,
}

impl de::Visitor<'_> for UnitVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Err(E::custom(format!("the number {number} has no unit: write \"{number}{}\", or another unit", self.unit)))
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(UnitVisitor { form: DURATION_FORM, unit: "s" })?;
        parse_duration(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(UnitVisitor { form: SIZE_FORM, unit: "B" })?;
        parse_size(&text).map(Self).map_err(de::Error::custom)
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*(\d+(\.\d+)?\s*(ns|us|ms|s|sec|m|min|h|hours?|d|days?|w)\s*)+$",
            "examples": ["250ms", "30s", "1h 30m", "7d"]
        })
    }
}

impl JsonSchema for SizeText {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgGtT]([iI]?[bB])?|[bB])\s*$",
            "examples": ["512B", "64KiB", "64MiB", "1GiB"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_what_has_none_is_refused() {
        let durations = [("250ms", 250), ("30s", 30_000), ("1h 30m", 5_400_000), ("7d", 604_800_000), ("1.5s", 1500)];
        for (text, millis) in durations {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "5M", "1y", "-1s", "s", "30 seconds ago"] {
            assert!(parse_duration(text).is_err(), "{text:?} was taken for a duration");
        }
        let sizes = [("512B", 512), ("64KiB", 65_536), ("1.5 MiB", 1_572_864), ("10KB", 10_000), ("1GiB", 1 << 30)];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "64", "64XB", "-1MiB", "MiB"] {
            assert!(parse_size(text).is_err(), "{text:?} was taken for a size");
        }
    }
}
