//! What the file says of a handler. As in [`raw`](super::raw), the comments here are the descriptions in the schema.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::raw_values::{RawFuel, RawSecret};
use super::units::{DurationText, SizeText};
use crate::sandbox::granted::Access;

/// A handler: a module with its limits and what it may send to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHandler {
    /// The WebAssembly component, relative to this file: the first version, and another one whenever the file has changed
    /// at a start. Without it the handler waits for `tidegate deploy`.
    pub(super) module: Option<PathBuf>,
    /// A folder with golden messages, relative to this file: each version is tried on them before it runs.
    pub(super) golden: Option<PathBuf>,
    /// Where the handler may send messages, by the name that it uses.
    pub(super) outputs: BTreeMap<String, RawOutput>,
    /// Values that it reads by `wasi:config/store`, by name.
    pub(super) config: BTreeMap<String, String>,
    /// Secrets that it reads by `wasi:config/store`, by name: each is read from where it is kept, and never shown.
    pub(super) secrets: BTreeMap<String, RawSecret>,
    /// Key-value buckets that it may open by `wasi:keyvalue`, by the name that it uses.
    pub(super) buckets: BTreeMap<String, RawBucket>,
    /// Hosts that it may send requests to by `wasi:http`: scheme, host and port, such as `https://api.example.com`. A `*.` at
    /// the beginning of the host stands for one name or more.
    pub(super) hosts: Vec<String>,
    /// What one run may use.
    pub(super) limits: RawLimits,
    /// How long an instance lives.
    pub(super) instances: RawInstances,
}

/// Somewhere that a handler may send messages to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOutput {
    /// A name under `[brokers]`.
    #[schemars(required)]
    pub(super) broker: Option<String>,
    /// The subject; or a prefix with `.>` at its end, below which the handler may name any.
    #[schemars(required)]
    pub(super) subject: Option<String>,
}

/// A key-value bucket that a handler may open.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBucket {
    /// A name under `[brokers]`.
    #[schemars(required)]
    pub(super) broker: Option<String>,
    /// The bucket's name on the broker. Default: the name that the handler uses.
    pub(super) bucket: Option<String>,
    /// What the handler may do with it. Default: "read-write".
    pub(super) access: Option<Access>,
}

/// What one run of a handler may use. Every limit is on by default.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    /// Fuel, about one a WebAssembly instruction, or "unmetered". Default: 1000000000.
    pub(super) fuel: Option<RawFuel>,
    /// Wall clock. Default: "10s".
    pub(super) timeout: Option<DurationText>,
    /// The most wall clock that a run may extend itself to. Default: "15m".
    pub(super) max_run: Option<DurationText>,
    /// Linear memories and tables together. Default: "64MiB".
    pub(super) memory: Option<SizeText>,
    /// Messages that it may send. Default: 256.
    pub(super) outputs: Option<u32>,
    /// Bytes of all that it sends. Default: "4MiB".
    pub(super) output_bytes: Option<SizeText>,
    /// Log lines. Default: 256.
    pub(super) log_lines: Option<u32>,
    /// Bytes of all log lines. Default: "64KiB".
    pub(super) log_bytes: Option<SizeText>,
    /// Different series of its own metrics. Default: 64.
    pub(super) metric_series: Option<u32>,
    /// Calls into the host. Default: 10000.
    pub(super) host_calls: Option<u32>,
    /// The largest body that it is handed; a larger one goes to the dead-letter queue. Default: "8MiB".
    pub(super) payload: Option<SizeText>,
    /// The largest module that is accepted. Default: "64MiB".
    pub(super) module_size: Option<SizeText>,
}

/// How long an instance of a handler lives.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawInstances {
    /// Messages that one instance handles before it is thrown away. 1 is a fresh one a message, and nothing that one
    /// message left behind is seen by the next. Default: 1.
    pub(super) reuse: Option<u32>,
}
