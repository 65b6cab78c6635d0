//! What the file says of a subscription's circuit breaker. A part of [`super::raw`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::DurationText;

/// The circuit breaker: when most messages fail, none is taken for a while, and then one at a time to see how it goes. What
/// fails meanwhile costs no attempt.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCircuit {
    /// Whether it opens at all. Default: true.
    pub(super) enabled: Option<bool>,
    /// It opens on no fewer messages than these; one that fails again and again counts once. Default: 20.
    pub(super) messages: Option<u32>,
    /// It opens when so many of a hundred failed; from 1 to 100. Default: 50.
    pub(super) failures_percent: Option<u32>,
    /// Over this time. Default: "30s".
    pub(super) window: Option<DurationText>,
    /// How long it takes nothing before the first probe. Default: "5s".
    pub(super) pause: Option<DurationText>,
    /// Each probe that fails doubles the pause, up to this. Default: "5m".
    pub(super) max_pause: Option<DurationText>,
}
