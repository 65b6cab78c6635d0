//! Pauses of subscriptions, as they go over the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dispatch::OpenCircuit;
use crate::pause::{Pause, PauseRecord, Reach};

/// A pause of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Pause")]
pub struct PauseView {
    /// What kind of pause it is.
    pub kind: PauseKind,
    /// Which hosts it is of: `this`, or `all` of the cluster. A circuit is of one.
    #[serde(default)]
    pub hosts: Reach,
    /// Who paused it: the name of a token, or `local`; `host` for a circuit.
    pub by: String,
    /// Why, when somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when.
    pub since: String,
    /// When it ends by itself, or a circuit lets a message in to see how it goes; nothing when it does not, or one is let in
    /// now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What kind of pause it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PauseKind {
    /// Somebody paused it.
    Operator,
    /// Too many messages failed.
    Circuit,
}

impl PauseKind {
    /// The word for it, in metrics too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Circuit => "circuit",
        }
    }
}

impl PauseView {
    /// The view of an operator's pause.
    #[must_use]
    pub fn of(pause: &Pause) -> Self {
        let told = |moment| humantime::format_rfc3339_millis(moment).to_string();
        let PauseRecord { by, why, since, until } = pause.record.clone();
        let (kind, hosts) = (PauseKind::Operator, pause.hosts);
        Self { kind, hosts, by, why, since: told(since), until: until.map(told) }
    }

    /// The view of a circuit that is not closed.
    #[must_use]
    pub fn of_circuit(circuit: OpenCircuit) -> Self {
        let told = |moment| humantime::format_rfc3339_millis(moment).to_string();
        Self {
            kind: PauseKind::Circuit,
            hosts: Reach::This,
            by: "host".to_owned(),
            why: Some(circuit.why),
            since: told(circuit.since),
            until: circuit.until.map(told),
        }
    }
}

/// The answer to a pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    /// Those that are paused by it.
    pub subscriptions: Vec<PausedSubscription>,
}

/// A subscription that was paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PausedSubscription {
    /// Its name.
    pub name: String,
    /// Its handler.
    pub handler: String,
    /// Messages that it still held at that moment: they are finished, or go back.
    pub in_flight: u64,
    /// The pause.
    pub pause: PauseView,
    /// The pause of before that this one stands in the place of; nothing when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<PauseView>,
}

/// The answer to the end of a pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resumed {
    /// Those that take messages, where nothing else holds them.
    pub subscriptions: Vec<ResumedSubscription>,
}

/// A subscription that was resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResumedSubscription {
    /// Its name.
    pub name: String,
    /// Its handler.
    pub handler: String,
    /// Whether it was paused, on this host or on all as was asked for.
    pub was_paused: bool,
    /// What still holds it: a pause of all hosts, where that of this one was ended, or the other way round; nothing: it takes
    /// messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still: Option<PauseView>,
}
