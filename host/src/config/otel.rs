//! OpenTelemetry's own environment variables: what they say holds where neither the file nor a variable of ours says
//! otherwise.
//!
//! Platforms set them for every program that they start, so none of them keeps a host from starting: one that says nothing
//! that is known here is passed over. What is for a collector over gRPC is not for us.

use std::collections::BTreeMap;

use super::telemetry::unfit;
use super::tree::{Node, Origin, Value};
use crate::telemetry::otlp::pairs;

/// The variable that says where the collector is. Without it, and without an endpoint in the file, the others say nothing.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// Puts what they say under the tree.
pub(super) fn underlay(tree: &mut Node, variables: &[(String, String)]) {
    let get = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    };
    if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return;
    }
    let has_endpoint = tree.child("telemetry").is_some_and(|section| section.child("endpoint").is_some());
    if !has_endpoint {
        let is_grpc = get("OTEL_EXPORTER_OTLP_PROTOCOL").is_some_and(|protocol| protocol == "grpc");
        let Some(endpoint) = get(ENDPOINT).filter(|text| !is_grpc && unfit(text).is_none()) else { return };
        put(tree, &["telemetry", "endpoint"], ENDPOINT, text(endpoint));
        // What they are for is this collector, and no other.
        if get(HEADERS).is_some() {
            put(tree, &["telemetry", "headers", "env"], HEADERS, text(HEADERS));
        }
    }
    if let Some(millis) = get("OTEL_EXPORTER_OTLP_TIMEOUT").filter(|value| is_count(value)) {
        put(tree, &["telemetry", "timeout"], "OTEL_EXPORTER_OTLP_TIMEOUT", text(&format!("{millis}ms")));
    }
    if let Some(name) = get("OTEL_SERVICE_NAME") {
        put(tree, &["telemetry", "service_name"], "OTEL_SERVICE_NAME", text(name));
    }
    for (name, value) in get("OTEL_RESOURCE_ATTRIBUTES").and_then(pairs).unwrap_or_default() {
        // A name of its own in the list goes before none, and behind the variable for it.
        let path = if name == "service.name" {
            ["telemetry", "service_name"].as_slice()
        } else {
            &["telemetry", "attributes", &name]
        };
        put(tree, path, "OTEL_RESOURCE_ATTRIBUTES", text(&value));
    }
    if get("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none") {
        put(tree, &["telemetry", "traces", "enabled"], "OTEL_TRACES_EXPORTER", Value::Boolean(false));
    }
    // Its default is `otlp`, but here `/metrics` shows them already: they go out where somebody asks for it.
    if get("OTEL_METRICS_EXPORTER").is_some_and(|exporters| exporters.split(',').any(|one| one.trim() == "otlp")) {
        put(tree, &["telemetry", "metrics", "enabled"], "OTEL_METRICS_EXPORTER", Value::Boolean(true));
    }
    if let Some(millis) = get("OTEL_METRIC_EXPORT_INTERVAL").filter(|value| is_count(value)) {
        put(tree, &["telemetry", "metrics", "interval"], "OTEL_METRIC_EXPORT_INTERVAL", text(&format!("{millis}ms")));
    }
    if let Some(ratio) = get("OTEL_TRACES_SAMPLER").and_then(|sampler| ratio(sampler, get("OTEL_TRACES_SAMPLER_ARG"))) {
        put(tree, &["telemetry", "traces", "ratio"], "OTEL_TRACES_SAMPLER", Value::Float(ratio));
    }
}

/// The share that a sampler of OpenTelemetry takes. Where the publisher decided, it decided here too.
fn ratio(sampler: &str, argument: Option<&str>) -> Option<f64> {
    match sampler.strip_prefix("parentbased_").unwrap_or(sampler) {
        "always_on" => Some(1.0),
        "always_off" => Some(0.0),
        "traceidratio" => {
            let ratio = argument.map_or(Some(1.0), |argument| argument.parse().ok());
            ratio.filter(|ratio| (0.0..=1.0).contains(ratio))
        }
        _ => None,
    }
}

fn is_count(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|number| number > 0)
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// Puts a value where there is none yet, and nothing that is no table is on the way.
fn put(tree: &mut Node, path: &[&str], variable: &str, value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    let Value::Table(entries) = &mut tree.value else { return };
    let origin = Origin::Environment(variable.to_owned());
    match rest {
        [] => {
            entries.entry((*first).to_owned()).or_insert(Node { origin, value });
        }
        rest => {
            let table = Node { origin, value: Value::Table(BTreeMap::new()) };
            put(entries.entry((*first).to_owned()).or_insert(table), rest, variable, value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::path::Path;
    use std::time::Duration;

    use super::super::{Config, MetricsConfig, SecretSource, TelemetryConfig};

    fn telemetry(text: &str, variables: &[(&str, &str)]) -> Option<TelemetryConfig> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::from_text(Path::new("/c/tidegate.toml"), text.to_owned(), &variables).unwrap().telemetry
    }

    const ALL: [(&str, &str); 9] = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=x"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_SERVICE_NAME", "orders"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=passed-over,deployment.environment.name=a%20b"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_METRICS_EXPORTER", "prometheus, otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
    ];

    #[test]
    fn what_they_say_holds_where_nothing_else_is_said() {
        let read = telemetry("", &ALL).unwrap();
        assert_eq!((read.endpoint.as_str(), read.timeout), ("http://collector:4318/", Duration::from_millis(2500)));
        assert_eq!(read.headers, Some(SecretSource::Env("OTEL_EXPORTER_OTLP_HEADERS".to_owned())));
        assert_eq!((read.service_name.as_str(), read.traces.unwrap().ratio), ("orders", 0.25));
        assert_eq!(read.metrics, Some(MetricsConfig { interval: Duration::from_secs(15) }));
        assert_eq!(
            read.attributes.into_iter().collect::<Vec<_>>(),
            [("deployment.environment.name".to_owned(), "a b".to_owned())]
        );

        let file = "[telemetry]\nendpoint = \"https://other\"\ntraces.ratio = 1\n";
        let mut variables = ALL.to_vec();
        variables.push(("TIDEGATE_TELEMETRY__SERVICE_NAME", "ours"));
        variables.push(("TIDEGATE_TELEMETRY__TRACES__FAILURES", "false"));
        let read = telemetry(file, &variables).unwrap();
        assert_eq!((read.endpoint.as_str(), read.service_name.as_str()), ("https://other", "ours"));
        assert_eq!((read.traces.unwrap().ratio, read.traces.unwrap().failures), (1.0, false));
        assert_eq!(read.headers, None, "a token is not shown to another collector");
        let variables = [("TIDEGATE_TELEMETRY__TRACES__RATIO", "0.5")];
        assert_eq!(telemetry(file, &variables).unwrap().traces.unwrap().ratio, 0.5);
    }

    #[test]
    fn what_is_not_for_us_is_passed_over() {
        let rows: [(&[(&str, &str)], bool); 7] = [
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")], false),
            (&[], false),
            (&[("OTEL_SERVICE_NAME", "orders"), ("OTEL_TRACES_SAMPLER", "always_on")], false),
            (&[ALL[0], ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], false),
            (&[ALL[0], ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], true),
            (&[ALL[0], ("OTEL_SDK_DISABLED", "True")], false),
            (
                &[
                    ALL[0],
                    ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
                    ("OTEL_TRACES_SAMPLER", "xray"),
                    ("OTEL_RESOURCE_ATTRIBUTES", "nonsense"),
                    ("OTEL_EXPORTER_OTLP_HEADERS", " "),
                    ("OTEL_METRICS_EXPORTER", "prometheus"),
                    ("OTEL_METRIC_EXPORT_INTERVAL", "often"),
                    ("OTEL_TRACES_EXPORTER", "otlp"),
                ],
                true,
            ),
        ];
        for (variables, is_exported) in rows {
            let read = telemetry("", variables);
            assert_eq!(read.is_some(), is_exported, "{variables:?}");
            if let Some(read) = read {
                assert_eq!((read.timeout, read.traces.unwrap().ratio), (Duration::from_secs(10), 0.01));
                assert_eq!((read.attributes.len(), read.headers, read.metrics), (0, None, None));
            }
        }
        let none = telemetry("", &[ALL[0], ("OTEL_TRACES_EXPORTER", "none")]).unwrap();
        assert_eq!(none.traces, None);
        assert!(telemetry("[host]\nname = \"h\"\n", &[ALL[5]]).is_none());
    }

    #[test]
    fn an_address_that_cannot_be_one_is_a_problem() {
        for (text, expected) in [
            ("[telemetry]\n", "no `endpoint`"),
            ("[telemetry]\nendpoint = \"collector:4318\"\n", "expected the address"),
            ("[telemetry]\nendpoint = \"grpc://collector:4317\"\n", "begins with `http://`"),
            ("[telemetry]\nendpoint = \"http://\"\n", "begins with `http://`"),
            ("[telemetry]\nendpoint = \"http://a\"\ntraces.ratio = 1.5\n", "a number from 0 to 1"),
            ("[telemetry]\nendpoint = \"http://a\"\nheaders = \"authorization=x\"\n", "a secret is not written"),
            ("[telemetry]\nendpoint = \"http://a\"\ntimeout = \"0s\"\n", "must be at least 10ms"),
            ("[telemetry]\nendpoint = \"http://a\"\nmetrics.interval = \"1ms\"\n", "must be at least 1s"),
        ] {
            let error = Config::from_text(Path::new("/c/t.toml"), text.to_owned(), &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
