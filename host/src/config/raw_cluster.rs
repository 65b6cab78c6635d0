//! What the file says of the cluster. A part of [`super::raw`].

use schemars::JsonSchema;
use serde::Deserialize;

/// The hosts that run the same versions: a deploy to any of them reaches all. They meet in buckets of one NATS.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCluster {
    /// A name under `[brokers]`, of a broker whose `type` is "jetstream": its connection and its credentials are used.
    #[schemars(required)]
    pub(super) broker: Option<String>,
    /// The name of the cluster: hosts that say the same one on the same NATS are one cluster. Default: "main".
    pub(super) name: Option<String>,
    /// What this host is called among the others; no two may be called the same. Default: the machine's host name and
    /// four letters, kept in the data directory.
    pub(super) host: Option<String>,
    /// Replicas of the buckets, where they are created. Default: as many as the broker's `replicas`.
    pub(super) replicas: Option<u64>,
}
