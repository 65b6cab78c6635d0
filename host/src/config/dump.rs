//! The whole configuration as it holds, defaults and all, as a file that says for each value where it comes from.
//!
//! Invariants:
//! - What is written is a configuration again, and the same one.
//! - A secret is not in it: only where it is read from, as in the file.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use toml::Value;

use super::broker::{Authentication, BrokerConfig, JetStreamConfig};
use super::http::TokenConfig;
use super::raw::{LogFormat, LogThreshold};
use super::secret::SecretSource;
use super::subscription::SubscriptionConfig;
use super::telemetry::{MetricsConfig, TelemetryConfig, TracesConfig};
use super::tree::Origin;
use super::{Config, Document};
use crate::access::Scope;
use crate::broker::embedded;
use crate::broker::jetstream::Confirm;
use crate::dispatch::CircuitPolicy;
use crate::settle::policy::{Backoff, RetryPolicy};
use crate::signature::Policy;

mod handler;

use handler::handler;

/// Writes the configuration out.
pub(super) fn dump(config: &Config) -> String {
    let mut page = Page { text: String::new(), source: &config.source, path: Vec::new() };
    let host = &config.host;
    page.section(&["host"]);
    page.line("name", text(&host.name));
    page.line("data_dir", path(&host.data_dir));
    page.line("cache_dir", path(&host.cache_dir));
    if let Some(memory) = host.compile_memory {
        page.line("compile_memory", size(memory.get()));
    }
    page.line("max_in_flight_bytes", size(host.max_in_flight_bytes as u64));
    page.line("drain_timeout", duration(host.drain_timeout));
    page.section(&["host", "log"]);
    page.line("level", text(level(host.log.level)));
    page.line("format", text(format(host.log.format)));
    page.section(&["http"]);
    page.line("listen", text(&config.http.listen.to_string()));
    page.line("max_publish_bytes", size(config.http.max_publish_bytes as u64));
    page.line("insecure_plaintext", Value::Boolean(config.http.insecure_plaintext));
    if let Some(tls) = &config.http.tls {
        page.section(&["http", "tls"]);
        page.line("certificate", path(&tls.certificate));
        page.line("key", path(&tls.key));
        page.line_if("client_ca", tls.client_ca.as_deref().map(path));
    }
    for (name, token) in &config.http.tokens {
        http_token(&mut page, name, token);
    }
    page.section(&["registry"]);
    page.line("keep_versions", number(config.registry.keep_versions as u64));
    page.section(&["dead_letters"]);
    page.line("keep_redriven", duration(config.dead_letters.keep_redriven));
    signatures(&mut page, &config.signatures);
    if let Some(cluster) = &config.cluster {
        page.section(&["cluster"]);
        page.line("broker", text(&cluster.broker));
        page.line("name", text(&cluster.name));
        page.line_if("host", cluster.host.as_deref().map(text));
        page.line("replicas", number(cluster.replicas as u64));
    }
    if let Some(config) = &config.telemetry {
        telemetry(&mut page, config);
    }
    for (name, broker) in &config.brokers {
        page.section(&["brokers", name]);
        page.line("type", text(broker.kind()));
        match broker {
            BrokerConfig::Embedded(queue) => embedded(&mut page, queue),
            BrokerConfig::JetStream(jetstream_config) => jetstream(&mut page, name, jetstream_config),
        }
    }
    for (name, config) in &config.handlers {
        handler(&mut page, name, config);
    }
    for (name, config) in &config.subscriptions {
        subscription(&mut page, name, config);
    }
    page.text
}

fn http_token(page: &mut Page<'_>, name: &str, token: &TokenConfig) {
    page.section(&["http", "tokens", name]);
    page.line("hash", text(&token.hash.to_string()));
    page.line("role", text(token.role.word()));
    match &token.handlers {
        Scope::All => {}
        Scope::Only(patterns) => {
            let patterns = patterns.iter().map(|pattern| text(pattern.as_str())).collect();
            page.line("handlers", Value::Array(patterns));
        }
    }
    if let Some(expires) = token.expires {
        page.line("expires", text(&humantime::format_rfc3339(expires).to_string()));
    }
}

fn signatures(page: &mut Page<'_>, policy: &Policy) {
    page.section(&["signatures"]);
    page.line("required", Value::Boolean(policy.required()));
    if !policy.keys().is_empty() {
        page.section(&["signatures", "keys"]);
        for (name, key) in policy.keys() {
            page.line(name, text(key.as_str()));
        }
    }
}

fn telemetry(page: &mut Page<'_>, config: &TelemetryConfig) {
    page.section(&["telemetry"]);
    page.line("endpoint", text(&config.endpoint));
    page.line_if("headers", config.headers.as_ref().map(secret));
    page.line("timeout", duration(config.timeout));
    page.line("service_name", text(&config.service_name));
    if !config.attributes.is_empty() {
        page.section(&["telemetry", "attributes"]);
        for (name, value) in &config.attributes {
            page.line(name, text(value));
        }
    }
    page.section(&["telemetry", "traces"]);
    page.line("enabled", Value::Boolean(config.traces.is_some()));
    if let Some(TracesConfig { ratio, failures }) = config.traces {
        page.line("ratio", Value::Float(ratio));
        page.line("failures", Value::Boolean(failures));
    }
    page.section(&["telemetry", "metrics"]);
    page.line("enabled", Value::Boolean(config.metrics.is_some()));
    if let Some(MetricsConfig { interval }) = config.metrics {
        page.line("interval", duration(interval));
    }
}

/// The file as it grows.
struct Page<'a> {
    text: String,
    source: &'a Document,
    /// Where the values that come next stand.
    path: Vec<String>,
}

impl Page<'_> {
    fn section(&mut self, path: &[&str]) {
        self.path = path.iter().map(|name| (*name).to_owned()).collect();
        let names: Vec<String> = path.iter().map(|name| key(name)).collect();
        let gap = if self.text.is_empty() { "" } else { "\n" };
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{gap}[{}]", names.join("."));
    }

    fn line(&mut self, name: &str, value: Value) {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        let origin = self.source.origin(&path);
        let _ = writeln!(self.text, "{} = {value}  # {origin}", key(name));
    }

    /// A setting that has no value when nobody gave one.
    fn line_if(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }
}

impl Document {
    /// Where the value at a path was written, in words.
    fn origin(&self, path: &[String]) -> String {
        let (node, depth) = self.tree.nearest(path);
        if depth < path.len() {
            return "default".to_owned();
        }
        match &node.origin {
            Origin::Environment(name) => name.clone(),
            Origin::File { value, .. } => {
                let before = self.text.get(..value.start).unwrap_or_default();
                let file = self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                format!("{}:{}", file.escape_debug(), before.matches('\n').count() + 1)
            }
        }
    }
}

fn embedded(page: &mut Page<'_>, queue: &embedded::Options) {
    page.line("path", path(&queue.path));
    page.line("dedupe_window", duration(queue.dedupe_window));
    page.line("dedupe_max", number(queue.dedupe_max as u64));
    page.line("max_bytes", size(queue.max_bytes));
    page.line("max_messages", number(queue.max_messages));
    page.line("max_age", duration(queue.max_age));
    let durability = match queue.durability {
        embedded::Durability::Fsync => "fsync",
        embedded::Durability::Relaxed => "relaxed",
    };
    page.line("durability", text(durability));
    page.line("max_payload", size(queue.max_payload as u64));
    page.line("reserve_bytes", size(queue.reserve_bytes));
    page.line("max_bucket_bytes", size(queue.max_bucket_bytes));
}

fn jetstream(page: &mut Page<'_>, name: &str, config: &JetStreamConfig) {
    page.line("servers", texts(&config.servers));
    match &config.auth {
        Authentication::None => {}
        Authentication::Password { user, password } => {
            page.line("user", text(user));
            page.line("password", secret(password));
        }
        Authentication::Token(source) | Authentication::Nkey(source) | Authentication::Credentials(source) => {
            page.line(config.auth.key(), secret(source));
        }
    }
    page.line("replicas", number(config.replicas as u64));
    page.line("duplicate_window", duration(config.duplicate_window));
    page.line("dead_letter_stream", text(&config.dead_letter_stream));
    page.line("publish_timeout", duration(config.publish_timeout));
    let confirm = match config.confirm {
        Confirm::Groups => "groups",
        Confirm::Each => "each",
    };
    page.line("confirm", text(confirm));
    page.line("max_bucket_bytes", size(config.max_bucket_bytes));
    if let Some(tls) = &config.tls {
        page.section(&["brokers", name, "tls"]);
        page.line_if("ca", tls.ca.as_deref().map(path));
        page.line_if("cert", tls.client.as_ref().map(|(cert, _)| path(cert)));
        page.line_if("key", tls.client.as_ref().map(|(_, key)| path(key)));
        page.line("required", Value::Boolean(tls.required));
    }
    for (stream, settings) in &config.streams {
        page.section(&["brokers", name, "streams", stream]);
        page.line("subjects", texts(&settings.subjects));
        page.line_if("max_bytes", settings.max_bytes.map(size));
        page.line_if("max_age", settings.max_age.map(duration));
    }
}

fn subscription(page: &mut Page<'_>, name: &str, config: &SubscriptionConfig) {
    let spec = &config.spec;
    page.section(&["subscriptions", name]);
    page.line("broker", text(&config.broker));
    page.line_if("stream", spec.stream.as_deref().map(text));
    page.line("subjects", texts(&spec.subjects));
    page.line("handler", text(&config.handler));
    page.line("concurrency", number(config.concurrency.get() as u64));
    page.line("max_in_flight", number(spec.max_in_flight as u64));
    page.line("max_in_flight_bytes", size(config.max_in_flight_bytes as u64));
    page.line("ack_wait", duration(spec.ack_wait));
    page.line("stalled_after", duration(config.stalled_after));
    page.line("create", Value::Boolean(spec.create));
    let RetryPolicy { max_attempts, max_deliveries, max_age, backoff, retry_after_max } = &config.retry;
    page.section(&["subscriptions", name, "retry"]);
    match backoff {
        Backoff::Quick => page.line("preset", text("quick")),
        Backoff::Standard => page.line("preset", text("standard")),
        Backoff::Patient => page.line("preset", text("patient")),
        Backoff::Schedule(delays) => {
            page.line("schedule", Value::Array(delays.iter().map(|delay| duration(*delay)).collect()));
        }
    }
    page.line("max_attempts", number(max_attempts.get().into()));
    page.line("max_deliveries", number(max_deliveries.get().into()));
    page.line("max_age", duration(*max_age));
    page.line("retry_after_max", duration(*retry_after_max));
    page.section(&["subscriptions", name, "circuit"]);
    page.line("enabled", Value::Boolean(config.circuit.is_some()));
    if let Some(CircuitPolicy { messages, failures, window, pause, max_pause }) = &config.circuit {
        page.line("messages", number(messages.get().into()));
        page.line("failures_percent", number((*failures).into()));
        page.line("window", duration(*window));
        page.line("pause", duration(*pause));
        page.line("max_pause", duration(*max_pause));
    }
}

/// A name as TOML takes it: bare where it may be.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if is_bare { name.to_owned() } else { text(name).to_string() }
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn texts(values: &[String]) -> Value {
    Value::Array(values.iter().map(|value| text(value)).collect())
}

fn path(value: &Path) -> Value {
    Value::String(value.to_string_lossy().into_owned())
}

fn number(value: u64) -> Value {
    // TOML's numbers end there, and so does what the file could have said.
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Spelled out in units that the file takes; days are the largest, as a month has no fixed length.
fn duration(value: Duration) -> Value {
    let seconds = value.as_secs();
    let nanos = value.subsec_nanos();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1_000 % 1_000), "us"),
        (u64::from(nanos % 1_000), "ns"),
    ];
    let said: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    Value::String(if said.is_empty() { "0s".to_owned() } else { said.join(" ") })
}

/// In the largest unit that gives a whole number, so that nothing is lost.
fn size(bytes: u64) -> Value {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    Value::String(whole.map_or_else(|| format!("{bytes}B"), |(unit, shift)| format!("{}{unit}", bytes >> shift)))
}

fn secret(source: &SecretSource) -> Value {
    let (way, of) = match source {
        SecretSource::Env(name) => ("env", text(name)),
        SecretSource::File(file) => ("file", path(file)),
    };
    Value::Table(std::iter::once((way.to_owned(), of)).collect())
}

const fn level(threshold: LogThreshold) -> &'static str {
    match threshold {
        LogThreshold::Error => "error",
        LogThreshold::Warn => "warn",
        LogThreshold::Info => "info",
        LogThreshold::Debug => "debug",
        LogThreshold::Trace => "trace",
    }
}

const fn format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    const FULL: &str = r#"
[host]
name = "h1"
compile_memory = "768MiB"
max_in_flight_bytes = "1000001B"

[http]
insecure_plaintext = true
tls = { certificate = "host.pem", key = "host.key", client_ca = "clients.pem" }

[http.tokens.ci]
hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
role = "operate"
handlers = ["invoice", "billing-*"]
expires = "2027-01-01"

[signatures]
required = false
keys.release = "RWTkF1wLySnzuspbqsSutj3OxOD7dgfKgoTAYc2oI60aS5FOEKREYncv"

[telemetry]
endpoint = "https://collector.example:4318"
headers = { env = "OTLP_HEADERS" }
timeout = "2s"
attributes."deployment.environment.name" = "production"
traces = { ratio = 1, failures = false }
metrics = { enabled = true, interval = "15s" }

[brokers.main]
type = "embedded"
max_age = "36h"

[brokers.nats]
type = "jetstream"
servers = ["nats://127.0.0.1:4222"]
user = "ann"
password = { env = "SECRET" }
tls = { ca = "ca.pem" }
streams.ORDERS = { subjects = ["orders.>"], max_bytes = "3GiB" }
confirm = "each"

[handlers.invoice]
module = "invoice.wasm"
golden = "golden"
limits.fuel = "unmetered"
outputs.all = { broker = "main", subject = "all.>" }

[subscriptions.orders]
broker = "nats"
subjects = ["orders.>"]
handler = "invoice"
retry.schedule = ["250ms", "1m 30s"]
circuit = { messages = 7, failures_percent = 90, window = "10s", pause = "1s 500ms", max_pause = "1h" }

[subscriptions.local]
broker = "main"
subjects = ["a", "b.*"]
handler = "invoice"
retry.preset = "patient"
circuit.enabled = false
"#;

    #[test]
    fn what_is_dumped_is_the_same_configuration_again() {
        let variables = [("TIDEGATE_HTTP__LISTEN".to_owned(), "127.0.0.1:9000".to_owned())];
        let file = Path::new("/etc/tidegate/tidegate.toml");
        let config = Config::from_text(file, FULL.to_owned(), &variables).unwrap();
        let text = dump(&config);
        let again = Config::from_text(file, text.clone(), &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(
            (&again.host, &again.http, &again.registry, &again.brokers, &again.handlers, &again.subscriptions),
            (&config.host, &config.http, &config.registry, &config.brokers, &config.handlers, &config.subscriptions)
        );
        assert_eq!(again.signatures, config.signatures);
        assert_eq!(again.telemetry, config.telemetry);
    }

    #[test]
    fn each_value_says_where_it_comes_from() {
        let variables = [("TIDEGATE_HTTP__LISTEN".to_owned(), "127.0.0.1:9000".to_owned())];
        let file = Path::new("/etc/tidegate/tidegate.toml");
        let text = dump(&Config::from_text(file, FULL.to_owned(), &variables).unwrap());
        // The line of the file above on which something stands.
        let at = |what: &str| FULL.lines().position(|line| line.contains(what)).unwrap() + 1;
        for (value, from) in [
            ("name = \"h1\"", format!("tidegate.toml:{}", at("h1"))),
            ("data_dir = \"/etc/tidegate/tidegate-data\"", "default".to_owned()),
            ("compile_memory = \"768MiB\"", format!("tidegate.toml:{}", at("768MiB"))),
            ("max_in_flight_bytes = \"1000001B\"", format!("tidegate.toml:{}", at("1000001"))),
            ("listen = \"127.0.0.1:9000\"", "TIDEGATE_HTTP__LISTEN".to_owned()),
            ("max_age = \"1d 12h\"", format!("tidegate.toml:{}", at("max_age"))),
            ("password = { env = \"SECRET\" }", format!("tidegate.toml:{}", at("password"))),
            ("concurrency = 16", "default".to_owned()),
            ("preset = \"patient\"", format!("tidegate.toml:{}", at("patient"))),
        ] {
            let line = format!("{value}  # {from}");
            assert!(text.lines().any(|one| one == line), "no line `{line}` in\n{text}");
        }
    }
}
