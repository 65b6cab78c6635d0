//! Subscriptions that hold messages, as they go over the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::broker::KeptSubscription;

/// A subscription that holds messages of a broker until it has settled them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "KeptSubscription")]
pub struct KeptView {
    /// The broker that keeps them.
    pub broker: String,
    /// Its name.
    pub name: String,
    /// The subjects that it receives.
    pub subjects: Vec<String>,
    /// Messages that it was not handed yet.
    pub ready: u64,
    /// Messages that wait for another delivery.
    pub pending: u64,
    /// When it last received something or was set up.
    pub last_seen: String,
    /// Whether the host's configuration has it. Nobody settles the messages of one that it has not.
    pub in_use: bool,
}

impl KeptView {
    /// The view of one of a broker; `is_configured`: the configuration has it, though it may not run yet.
    #[must_use]
    pub fn new(broker: &str, kept: KeptSubscription, is_configured: bool) -> Self {
        let KeptSubscription { name, subjects, ready, pending, last_seen, in_use } = kept;
        let last_seen = humantime::format_rfc3339_millis(last_seen).to_string();
        let broker = broker.to_owned();
        Self { broker, name, subjects, ready, pending, last_seen, in_use: in_use || is_configured }
    }
}

/// Subscriptions that hold messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "KeptSubscriptions")]
pub struct KeptList {
    /// Broker by broker, by their names.
    pub subscriptions: Vec<KeptView>,
}

/// A subscription that holds nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// The broker that kept its messages.
    pub broker: String,
    /// Its name.
    pub name: String,
    /// Messages that it held, and that others may still want.
    pub held: u64,
}
