//! What one run of a handler may use. All limits are on by default; each default says the sum that produced it.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits of one run, and of the module that runs.
///
/// Versions are stored with them: the names of the fields are part of the registry's format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Fuel a run, in wasmtime's units (about one a wasm instruction). `None`: unmetered, by the operator's own word;
    /// the wall clock still holds.
    pub fuel: Option<NonZeroU64>,
    /// Wall clock a run, spinning or waiting.
    #[serde(with = "spelled")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// The most that a run may ask for with `extend`, counted from its start.
    #[serde(with = "spelled")]
    #[schemars(with = "String")]
    pub max_run: Duration,
    /// Linear memories and tables of a run together, in bytes.
    pub memory: usize,
    /// Outputs that a run may return.
    pub outputs: NonZeroU32,
    /// Bytes of all outputs of a run together.
    pub output_bytes: usize,
    /// Log lines of a run; further ones are a fault.
    pub log_lines: u32,
    /// Bytes of all log lines of a run together.
    pub log_bytes: usize,
    /// Different series (name and labels) that a handler may create with the metrics import.
    pub metric_series: u32,
    /// Calls into the host in one run.
    pub host_calls: u32,
    /// The largest body that is handed to the handler, in bytes. A larger one is an invalid message.
    pub payload: usize,
    /// The largest module that is accepted, in bytes.
    pub module_size: usize,
    /// Messages that one instance handles before it is thrown away; 1: a fresh instance a message.
    pub reuse: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        // The non-zero constants: `NonZero::MIN` is 1, and `saturating_add` stays in the type.
        let outputs = NonZeroU32::MIN.saturating_add(255);
        Self {
            // A small Rust handler that parses 222 bytes of JSON uses about 8,000; QuickJS about 400,000 for the same.
            // A billion is a second or so of a fast core: nobody's honest message needs more, and a loop ends there.
            fuel: NonZeroU64::new(1_000_000_000),
            // Above: what a billion of fuel takes on a slow core, times ten; below: a third of the default lease (30 s).
            timeout: Duration::from_secs(10),
            // The longest lease that can be held on a broker we support: NSQ's 15 minutes.
            max_run: Duration::from_secs(15 * 60),
            // Python starts with 12 MiB, a JavaScript engine with 10; 64 leaves room for a body of 8 MiB parsed to 5x.
            memory: 64 << 20,
            // A fan-out of 256 is a batch job; the contract for that comes later.
            outputs,
            // NATS takes 1 MiB a message by default: four full ones.
            output_bytes: 4 << 20,
            // A line a step of a long handler.
            log_lines: 256,
            // 256 lines of 256 bytes.
            log_bytes: 64 << 10,
            // 100 handlers with 64 series are 6,400: what a scrape takes without pain.
            metric_series: 64,
            // Logs, metrics and delivery questions together; WASI calls count too.
            host_calls: 10_000,
            // What NATS takes at the most with its default `max_payload` of 1 MiB, times eight.
            payload: 8 << 20,
            // componentize-py emits 18 MB.
            module_size: 64 << 20,
            reuse: NonZeroU32::MIN,
        }
    }
}

/// Durations as people write them: `1m 30s`. Exact to the nanosecond.
mod spelled {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}
