//! The settings of what is exported.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Checker;
use super::problem::Problem;
use super::raw_telemetry::{RawMetrics, RawRatio, RawTelemetry, RawTraces};
use super::secret::SecretSource;

/// OpenTelemetry's own default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A request over loopback takes a millisecond.
const LEAST_TIMEOUT: Duration = Duration::from_millis(10);
/// What a host is called that is given no name.
const SERVICE_NAME: &str = "tidegate";
/// One message in a hundred: enough to see where time goes, and under a hundredth of what tracing each one costs.
const RATIO: f64 = 0.01;
/// OpenTelemetry's own default.
const INTERVAL: Duration = Duration::from_secs(60);
/// Writing out a thousand subscriptions takes some milliseconds, and whoever looks on sees no more.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// The settings of `[telemetry]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryConfig {
    /// The collector's address, without the path of a signal.
    pub endpoint: String,
    /// Where further headers are read from.
    pub headers: Option<SecretSource>,
    /// How long one request may take.
    pub timeout: Duration,
    /// `service.name`.
    pub service_name: String,
    /// Further attributes of the host.
    pub attributes: BTreeMap<String, String>,
    /// Traces; `None`: they are not exported.
    pub traces: Option<TracesConfig>,
    /// Metrics; `None`: they are not exported, and `/metrics` shows them all the same.
    pub metrics: Option<MetricsConfig>,
}

/// The settings of `[telemetry.traces]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TracesConfig {
    /// Which share of the traces that begin here is recorded, from 0 to 1.
    pub ratio: f64,
    /// Whether failures of the others are.
    pub failures: bool,
}

/// The settings of `[telemetry.metrics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsConfig {
    /// How often they are exported.
    pub interval: Duration,
}

impl TelemetryConfig {
    pub(super) fn validate(raw: RawTelemetry, checker: &mut Checker) -> Self {
        let at = |key| ["telemetry", key];
        let endpoint = raw.endpoint.unwrap_or_default().trim().to_owned();
        if endpoint.is_empty() {
            let problem = Problem::at(&["telemetry"], "[telemetry] has no `endpoint`");
            checker
                .problem(problem.help("the collector's address for OTLP over HTTP, such as \"http://127.0.0.1:4318\""));
        } else if let Some(wrong) = unfit(&endpoint) {
            checker.problem(Problem::at(&at("endpoint"), wrong).help("such as \"http://127.0.0.1:4318\""));
        }
        let service_name = raw.service_name.unwrap_or_else(|| SERVICE_NAME.to_owned());
        if service_name.trim().is_empty() {
            checker.problem(Problem::at(&at("service_name"), "the name of the service is empty"));
        }
        Self {
            endpoint,
            headers: raw.headers.map(|secret| checker.secret(&secret)),
            timeout: checker.duration(&at("timeout"), raw.timeout, TIMEOUT, LEAST_TIMEOUT),
            service_name,
            attributes: raw.attributes,
            traces: TracesConfig::of(&raw.traces),
            metrics: MetricsConfig::of(raw.metrics, checker),
        }
    }
}

impl TracesConfig {
    fn of(raw: &RawTraces) -> Option<Self> {
        let ratio = raw.ratio.map_or(RATIO, |RawRatio(ratio)| ratio);
        raw.enabled.unwrap_or(true).then_some(Self { ratio, failures: raw.failures.unwrap_or(true) })
    }
}

impl MetricsConfig {
    fn of(raw: RawMetrics, checker: &mut Checker) -> Option<Self> {
        let at = ["telemetry", "metrics", "interval"];
        let interval = checker.duration(&at, raw.interval, INTERVAL, LEAST_INTERVAL);
        raw.enabled.unwrap_or(false).then_some(Self { interval })
    }
}

/// What is wrong with an address.
pub(super) fn unfit(endpoint: &str) -> Option<&'static str> {
    match parts(endpoint) {
        None => Some("expected the address of a collector"),
        Some((scheme, has_host)) if !has_host || !matches!(scheme, "http" | "https") => {
            Some("expected an address that begins with `http://` or `https://`")
        }
        Some(_) => None,
    }
}

/// Scheme, and whether a host follows.
fn parts(text: &str) -> Option<(&str, bool)> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = text.chars().all(|c| c.is_ascii_graphic()) && !text.contains(['?', '#']);
    plain.then_some((scheme, !authority.is_empty() && !authority.starts_with(':')))
}
