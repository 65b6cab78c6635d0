//! What the file says, before anything is decided: every key of `tidegate.toml`, and nothing else.
//!
//! The comments here are the descriptions in `docs/config.schema.json`. Whether a key is required, and what a key that
//! is left out means, is decided in `validate`; so that one problem hides no other, everything here is optional.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::raw_circuit::RawCircuit;
use super::raw_cluster::RawCluster;
use super::raw_handler::RawHandler;
use super::raw_telemetry::RawTelemetry;
use super::raw_trust::{RawHttpTls, RawSignatures};
use super::raw_values::RawSecret;
use super::units::{DurationText, SizeText};
use crate::access::Role;

/// The configuration of a Tidegate host.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "tidegate.toml")]
pub(super) struct RawConfig {
    /// The host itself: where it keeps its data, and what it may hold.
    pub(super) host: RawHost,
    /// The HTTP listener for health, metrics, publishing and dead letters.
    pub(super) http: RawHttp,
    /// What was deployed, and how much of it is kept.
    pub(super) registry: RawRegistry,
    /// What becomes of dead letters.
    pub(super) dead_letters: RawDeadLetters,
    /// Who may sign the modules that run.
    pub(super) signatures: RawSignatures,
    /// The hosts that run the same versions. Without it, this host runs by itself.
    pub(super) cluster: Option<RawCluster>,
    /// What is exported, and to which collector. Without it nothing is.
    pub(super) telemetry: Option<RawTelemetry>,
    /// The messaging systems, by a name of your choice.
    pub(super) brokers: BTreeMap<String, RawBroker>,
    /// The handlers, by name.
    pub(super) handlers: BTreeMap<String, RawHandler>,
    /// Which messages go to which handler, by name.
    pub(super) subscriptions: BTreeMap<String, RawSubscription>,
}

/// The host itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHost {
    /// The name of this host in logs and dead letters. Default: the machine's host name.
    pub(super) name: Option<String>,
    /// Where queues and records are kept, relative to this file. Default: `tidegate-data` beside this file.
    pub(super) data_dir: Option<PathBuf>,
    /// Where compiled modules are kept, relative to this file. Several hosts and commands may share it. A host removes what no
    /// version of its handlers names and nobody used for a day. Default: `cache` in the data directory.
    pub(super) cache_dir: Option<PathBuf>,
    /// The most memory that compiling one module may take. Default: half of what the machine or the container has, "2GiB" at the
    /// most.
    pub(super) compile_memory: Option<SizeText>,
    /// The most bytes of messages that the host holds at once, over all subscriptions. Default: "256MiB".
    pub(super) max_in_flight_bytes: Option<SizeText>,
    /// How long running handlers may finish after SIGTERM before they are interrupted. Default: "25s".
    pub(super) drain_timeout: Option<DurationText>,
    /// What is logged, and how.
    pub(super) log: RawLog,
}

/// The log, on standard error.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    /// The lowest level that is shown. Default: "info".
    pub(super) level: Option<LogThreshold>,
    /// Text for people, or one JSON object a line for programs. Default: "text".
    pub(super) format: Option<LogFormat>,
}

/// The lowest level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogThreshold {
    /// Only what is lost or needs a person.
    Error,
    /// Also what was recovered.
    Warn,
    /// Also what operators do and what the host does at large.
    #[default]
    Info,
    /// Also a line a message.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The HTTP listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttp {
    /// Address and port. Other than loopback only with authentication (`tokens`). Default: "127.0.0.1:7171".
    pub(super) listen: Option<String>,
    /// The largest message that is accepted for publishing. Default: "8MiB".
    pub(super) max_publish_bytes: Option<SizeText>,
    /// Speak TLS. Default: plain HTTP.
    pub(super) tls: Option<RawHttpTls>,
    /// Listen elsewhere than on loopback without TLS: a proxy in front speaks TLS, and nobody else reaches this port.
    /// Default: false.
    pub(super) insecure_plaintext: Option<bool>,
    /// Who may ask, by a name of your choice; `tidegate token new` makes an entry. Without any, and on loopback, whoever
    /// is on this machine may do everything.
    pub(super) tokens: BTreeMap<String, RawToken>,
}

/// A token that the HTTP listener knows.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawToken {
    /// The SHA-256 of the token: `sha256:` and 64 hexadecimal digits. The token itself stands nowhere.
    #[schemars(required)]
    pub(super) hash: Option<String>,
    /// What it may do; each role may do what the ones before it may.
    #[schemars(required)]
    pub(super) role: Option<Role>,
    /// The handlers that it is limited to: names, or beginnings of names with `*` at the end. Default: not limited.
    pub(super) handlers: Option<Vec<String>>,
    /// When it ends: a day or a time in UTC, such as "2027-01-01". Default: never.
    pub(super) expires: Option<String>,
}

/// What was deployed: kept in the folder `registry` of the data directory.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRegistry {
    /// How many versions of each handler are kept, the newest ones of those that were active; the active one and the one that a
    /// rollback goes to are kept in any case, and of those that were tried and never became active the newest three. Default: 10.
    pub(super) keep_versions: Option<u32>,
}

/// What becomes of dead letters, on every broker.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDeadLetters {
    /// How long a dead letter is kept after it was sent back. Those that were not are kept until somebody sends them back or
    /// discards them. Default: "30d".
    pub(super) keep_redriven: Option<DurationText>,
}

/// A messaging system, chosen by its `type`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
// The reader takes the variant from the key `type` itself; serde's own way would lose the places of the problems.
#[schemars(tag = "type")]
pub(super) enum RawBroker {
    /// The durable queue inside the host: nothing to install.
    Embedded(RawEmbedded),
    /// NATS JetStream, from server 2.10.23 on.
    JetStream(Box<RawJetStream>),
}

/// The embedded queue.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEmbedded {
    /// The directory of the queue, relative to this file. Default: `queue-NAME` in the data directory.
    pub(super) path: Option<PathBuf>,
    /// How long a message id is remembered: a second publish of it within this time adds nothing. Default: "1h".
    pub(super) dedupe_window: Option<DurationText>,
    /// The most message ids that are remembered. Default: 1000000.
    pub(super) dedupe_max: Option<u64>,
    /// The most bytes that are kept; publishing is refused beyond. Default: "16GiB".
    pub(super) max_bytes: Option<SizeText>,
    /// The most messages that are kept; publishing is refused beyond. Default: 50000000.
    pub(super) max_messages: Option<u64>,
    /// How long a message is kept that no subscription has still to settle. Default: "7d".
    pub(super) max_age: Option<DurationText>,
    /// When a publish is confirmed. Default: "fsync".
    pub(super) durability: Option<RawDurability>,
    /// The largest message that is taken: body, headers, subject and id; at most "256MiB". Default: "1MiB".
    pub(super) max_payload: Option<SizeText>,
    /// Disk space that publishing leaves free, so that acknowledgements and dead letters still go on. Default: "64MiB".
    pub(super) reserve_bytes: Option<SizeText>,
    /// The most bytes that one bucket of handlers keeps; it takes no more beyond. Default: "256MiB".
    pub(super) max_bucket_bytes: Option<SizeText>,
}

/// When a publish is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawDurability {
    /// Once it is on the disk: it survives a power cut.
    #[default]
    Fsync,
    /// Once the operating system has it: it survives a crash of the host, and not a power cut.
    Relaxed,
}

/// NATS JetStream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawJetStream {
    /// Server addresses, such as `nats://127.0.0.1:4222`; credentials do not belong in them.
    #[schemars(required, length(min = 1))]
    pub(super) servers: Option<Vec<String>>,
    /// An access token.
    pub(super) token: Option<RawSecret>,
    /// A user name, with `password`.
    pub(super) user: Option<String>,
    /// The password of `user`.
    pub(super) password: Option<RawSecret>,
    /// The seed of an nkey (it starts with `SU`).
    pub(super) nkey: Option<RawSecret>,
    /// The text of a credentials file (`.creds`).
    pub(super) creds: Option<RawSecret>,
    /// TLS.
    pub(super) tls: Option<RawTls>,
    /// Replicas of streams that are created. Default: 1.
    pub(super) replicas: Option<u64>,
    /// How long a stream that is created remembers message ids. Default: "1h".
    pub(super) duplicate_window: Option<DurationText>,
    /// The stream that keeps dead letters. Default: "DLQ_tidegate".
    pub(super) dead_letter_stream: Option<String>,
    /// How long the confirmation of a publish is waited for. Default: "5s".
    pub(super) publish_timeout: Option<DurationText>,
    /// How acknowledgements are confirmed. Default: "groups".
    pub(super) confirm: Option<RawConfirm>,
    /// The most bytes that a bucket of handlers keeps that is created. Default: "256MiB".
    pub(super) max_bucket_bytes: Option<SizeText>,
    /// Streams that the host may create where a subscription says `create = true`, by name.
    pub(super) streams: BTreeMap<String, RawStream>,
}

/// How acknowledgements are confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawConfirm {
    /// In groups: the server's answer to the last one vouches for those before it.
    #[default]
    Groups,
    /// Each with an answer of its own, at about half of the rate: where several hosts share a subscription whose consumer
    /// has replicas, fewer messages run twice when the consumer's leader changes.
    Each,
}

/// A stream that the host may create.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStream {
    /// The subjects that it takes in.
    #[schemars(required, length(min = 1))]
    pub(super) subjects: Option<Vec<String>>,
    /// The most bytes that it keeps. Default: without end.
    pub(super) max_bytes: Option<SizeText>,
    /// How long it keeps a message. Default: without end.
    pub(super) max_age: Option<DurationText>,
}

/// TLS to a broker.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    /// Certificates to trust, a PEM file relative to this one. Default: the system's.
    pub(super) ca: Option<PathBuf>,
    /// The client's certificate, a PEM file; with `key`.
    pub(super) cert: Option<PathBuf>,
    /// The client's private key, a PEM file; with `cert`.
    pub(super) key: Option<PathBuf>,
    /// Refuse a connection without TLS. Default: true where `[tls]` is given.
    pub(super) required: Option<bool>,
}

/// Which messages go to which handler, and how they are retried.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSubscription {
    /// A name under `[brokers]`.
    #[schemars(required)]
    pub(super) broker: Option<String>,
    /// The JetStream stream. Default: the one that takes in the subjects.
    pub(super) stream: Option<String>,
    /// The subjects, with `*` for one token and `>` for the rest.
    #[schemars(required, length(min = 1))]
    pub(super) subjects: Option<Vec<String>>,
    /// A name under `[handlers]`.
    #[schemars(required)]
    pub(super) handler: Option<String>,
    /// How many messages are handled at once on this host; at most 256, which is how many it runs. Default: 16.
    pub(super) concurrency: Option<u32>,
    /// How many messages this host holds at once: running, waiting and being settled. Default: 256, or twice
    /// `concurrency` where that is more.
    pub(super) max_in_flight: Option<u32>,
    /// How many bytes of messages this subscription holds at once. Default: "64MiB".
    pub(super) max_in_flight_bytes: Option<SizeText>,
    /// How long a message is this host's without a sign of life. Default: "30s".
    pub(super) ack_wait: Option<DurationText>,
    /// After how long without an end of any message it counts as stalled, while as many are held as are handled at once. Default:
    /// a minute, or twice the handler's `timeout` where that is longer.
    pub(super) stalled_after: Option<DurationText>,
    /// Create what is missing on the broker (stream, consumer). What the host needs for itself (the streams of dead letters and of
    /// notes on messages that come back) is created in any case. Default: false.
    pub(super) create: Option<bool>,
    /// How failed messages are tried again.
    pub(super) retry: RawRetry,
    /// What happens when most messages fail.
    pub(super) circuit: RawCircuit,
}

/// How failed messages are tried again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetry {
    /// A schedule by name: `quick` (5 attempts in 8 seconds), `standard` (10 in 34 minutes), `patient` (20 in 6.5 days).
    /// Default: "standard".
    pub(super) preset: Option<RetryPreset>,
    /// The delay after each failure, spelled out; the last one repeats. In the place of `preset`.
    pub(super) schedule: Option<Vec<DurationText>>,
    /// Runs that count before a message goes to the dead-letter queue. Default: the preset's, or one more than
    /// `schedule` has delays.
    pub(super) max_attempts: Option<u32>,
    /// Deliveries, counted or not, before a message goes to the dead-letter queue. Default: ten times `max_attempts`.
    pub(super) max_deliveries: Option<u32>,
    /// The age at which a message that failed goes to the dead-letter queue. Default: "14d".
    pub(super) max_age: Option<DurationText>,
    /// The longest delay that a handler may ask for. Default: "1d".
    pub(super) retry_after_max: Option<DurationText>,
}

/// A retry schedule by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RetryPreset {
    /// 5 attempts in about 8 seconds.
    Quick,
    /// 10 attempts in about 34 minutes.
    #[default]
    Standard,
    /// 20 attempts in about 6.5 days.
    Patient,
}
