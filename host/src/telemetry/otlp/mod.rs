//! OTLP over HTTP: what is seen of the host, given to a collector.
//!
//! ```text
//! records of messages --(bounded line)--+--> one thread --POST--> collector
//! metrics, at each interval ------------'
//! ```
//!
//! Invariants:
//! - Nothing waits for the collector but this thread, and nothing is kept for it beyond the line and one request.
//! - What the collector did not take is dropped and counted.
//! - A host that ends waits for the last of it for a bounded time.

mod client;
mod common;
mod exporter;
mod headers;
mod measured;
mod metrics;
mod openmetrics;
mod signal;
mod traces;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use crate::config::TelemetryConfig;
use crate::telemetry::Metrics;
use crate::telemetry::trace::{Sampler, Traces, sink};

use client::Client;
use exporter::Exporter;
pub(crate) use headers::pairs;
use measured::Measured;
use signal::Signal;

/// Who says what is exported: names and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource(pub(crate) Vec<(String, String)>);

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The headers cannot be read from where they are.
    #[error("could not read `headers` of [telemetry]")]
    Secret(#[from] crate::config::SecretError),
    /// They are no headers.
    #[error(
        "the `headers` of [telemetry] must be `name=value,name=value`, with what is special written as in a URL (`%20`)"
    )]
    Headers,
    /// There is no thread for it.
    #[error("could not start the thread that exports telemetry")]
    Thread(#[from] std::io::Error),
}

/// What is exported of this host.
#[derive(Debug)]
pub struct Otlp {
    traces: Option<Traces>,
    exporter: Exporter,
}

impl Otlp {
    /// Begins to export. Whether a collector is there is seen when there is something to export.
    ///
    /// # Errors
    /// When what is configured cannot be used.
    pub fn start(config: &TelemetryConfig, host: &str, metrics: &Arc<Metrics>) -> Result<Self, OtlpError> {
        let client = Client::new(config)?;
        let (sink, queue) = sink(metrics.telemetry_dropped("traces", "queue-full"));
        let traces = config.traces.as_ref().map(|traces| {
            let sampler = Sampler::new(traces.ratio, traces.failures);
            Traces::new(Arc::new(sampler), sink.clone())
        });
        let measured = config.metrics.map(|config| Measured::new(config, metrics));
        let signal = Signal::traces(metrics);
        let exporter = Exporter::start(client, resource(config, host), (sink, queue), signal, measured)?;
        Ok(Self { traces, exporter })
    }

    /// What makes the tracers of subscriptions; `None`: traces are not exported.
    #[must_use]
    pub const fn traces(&self) -> Option<&Traces> {
        self.traces.as_ref()
    }

    /// Exports what waits, for so long at the most.
    pub async fn close(self, within: Duration) {
        self.exporter.close(within).await;
    }
}

/// Who says it. What the configuration says goes before what is known without it.
fn resource(config: &TelemetryConfig, host: &str) -> Resource {
    let known = [
        ("service.name", config.service_name.as_str()),
        ("service.instance.id", host),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let known = known.into_iter().filter(|(name, _)| !config.attributes.contains_key(*name));
    let said = config.attributes.iter().map(|(name, value)| (name.clone(), value.clone()));
    Resource(known.map(|(name, value)| (name.to_owned(), value.to_owned())).chain(said).collect())
}
