//! What `examples/observability` has, held against the real thing: its alerts are run by Prometheus' own tool, and a real
//! Prometheus scrapes a real host by its configuration and evaluates every query of its dashboard.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tidegate::telemetry::names;

use crate::command_line::Desk;
use crate::support::ports::free_port;
use crate::support::until;

/// What a suffix in Prometheus adds to the name of a metric.
const SUFFIXES: [&str; 5] = ["", "_total", "_bucket", "_count", "_sum"];
/// What a host of the test has none of: rollouts, a cluster, a server of a broker, troubles that are on.
const MAY_BE_EMPTY: [&str; 6] = [
    "tidegate_rollout_runs",
    "tidegate_rollouts_ended",
    "tidegate_cluster_behind",
    "tidegate_ack_pending_limit",
    "tidegate_broker_advisories_total",
    "> 0",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/observability")
}

/// Prometheus; fetched when it is missing. A test never goes on without it.
fn prometheus() -> &'static PathBuf {
    static PROMETHEUS: OnceLock<PathBuf> = OnceLock::new();
    PROMETHEUS.get_or_init(|| {
        if let Some(path) = std::env::var_os("TIDEGATE_PROMETHEUS") {
            return PathBuf::from(path);
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = root.join("target/servers/prometheus");
        if !path.is_file() {
            let fetched = Command::new(env!("CARGO")).args(["xtask", "servers"]).current_dir(root).output().unwrap();
            let said = String::from_utf8_lossy(&fetched.stderr);
            assert!(fetched.status.success() && path.is_file(), "could not get Prometheus: {said}");
        }
        path
    })
}

/// Runs the tool that comes with Prometheus.
fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut tool = Command::new(prometheus().with_file_name("promtool"))
        .args(arguments)
        .current_dir(folder().join("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    tool.wait_with_output().unwrap()
}

fn passes(arguments: &[&str], input: &str) {
    let output = promtool(arguments, input);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

fn alerts() -> String {
    std::fs::read_to_string(folder().join("prometheus/alerts.yml")).unwrap()
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(folder().join("grafana/dashboards/tidegate.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every query of the dashboard, with the title of its panel.
fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let with_targets = panels.filter(|panel| panel["type"] != "row");
    let each = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| (title.clone(), target["expr"].as_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    with_targets.flat_map(each).collect()
}

#[test]
fn each_alert_fires_when_it_should_and_does_not_when_it_should_not() {
    passes(&["check", "rules", "--lint-fatal", "alerts.yml"], "");
    passes(&["check", "config", "--lint-fatal", "prometheus.yml"], "");
    passes(&["test", "rules", "alerts_test.yml"], "");
    let cases = std::fs::read_to_string(folder().join("prometheus/alerts_test.yml")).unwrap();
    let alerts = alerts();
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 7, "{names:?}");
    for name in names {
        assert!(cases.contains(&format!("- alertname: {name}\n")), "no case in which {name} fires");
        assert!(cases.contains(&format!("- {{ alertname: {name}, ")), "no case in which {name} does not fire");
    }
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() {
    let there_are: BTreeSet<String> =
        names::all().flat_map(|name| SUFFIXES.map(|suffix| name.prometheus() + suffix)).collect();
    let texts = queries().into_iter().map(|(_, query)| query).chain([alerts(), dashboard()["templating"].to_string()]);
    let mut asked = BTreeSet::new();
    for text in texts {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics = words.filter(|word| word.starts_with("tidegate_") || word.starts_with("messaging_"));
        // Two labels have that start too.
        let is_label = |word: &&str| ["messaging_system", "messaging_operation_name"].contains(word);
        asked.extend(metrics.filter(|word| !is_label(word)).map(str::to_owned));
    }
    let missing: Vec<&String> = asked.difference(&there_are).collect();
    assert!(missing.is_empty(), "the host has no such metric: {missing:?}");
    assert!(asked.len() > 30, "{asked:?}");
}

/// A Prometheus that is killed when the test is over.
struct Server {
    child: Child,
    _data: tempfile::TempDir,
    base: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// One by the configuration of the example, that scrapes this host, and more often.
    fn start(host: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let example = folder().join("prometheus");
        let config = std::fs::read_to_string(example.join("prometheus.yml")).unwrap();
        let config = config.replace("127.0.0.1:7171", host).replace("15s", "200ms");
        assert!(config.contains(host) && config.contains("200ms"), "{config}");
        std::fs::write(data.path().join("prometheus.yml"), config).unwrap();
        std::fs::copy(example.join("alerts.yml"), data.path().join("alerts.yml")).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let log = std::fs::File::create(data.path().join("log")).unwrap();
        let child = Command::new(prometheus())
            .arg(format!("--config.file={}", data.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { child, _data: data, base: format!("http://{address}/api/v1") };
        until("Prometheus answers", Duration::from_secs(60), || server.try_ask("query", "1").is_ok());
        server
    }

    fn try_ask(&self, path: &str, query: &str) -> Result<Value, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = agent.get(format!("{}/{path}", self.base));
        if !query.is_empty() {
            request = request.query("query", query);
        }
        let mut answer = request.call().map_err(|error| error.to_string())?;
        let answer: Value = answer.body_mut().read_json().map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
    }

    fn ask(&self, path: &str, query: &str) -> Value {
        self.try_ask(path, query).unwrap_or_else(|error| panic!("{path} {query}: {error}"))
    }

    /// Whether a query finds something.
    fn finds(&self, query: &str) -> bool {
        !self.ask("query", query)["result"].as_array().unwrap().is_empty()
    }
}

/// A host to which something of everything happened.
fn busy() -> (Desk, crate::command_line::Running) {
    let desk = Desk::with_handler();
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &(text + "retry = { preset = \"quick\", max_attempts = 2 }\n"));
    let host = desk.host();
    happens(&desk);
    (desk, host)
}

fn happens(desk: &Desk) {
    let subjects = ["skip", "reject", "retry", "hostile.unreachable"];
    let lines: String = subjects.iter().map(|subject| format!("{{\"subject\":\"{subject}\"}}\n")).collect();
    desk.expect(&["publish", "--lines"], &lines, 0);
}

#[test]
fn a_real_prometheus_scrapes_a_host_and_evaluates_every_query() {
    let (desk, _host) = busy();
    let server = Server::start(&desk.address());
    until("the host was scraped", Duration::from_secs(60), || server.finds("up{job=\"tidegate\"} == 1"));
    let targets = server.ask("targets", "");
    assert_eq!(targets["activeTargets"][0]["lastError"], "", "{targets}");
    // Something goes on, so that rates have what they are made of.
    until("rates are there", Duration::from_secs(60), || {
        happens(&desk);
        server.finds("rate(tidegate_dlq_published_total[1m]) > 0")
            && server.finds("rate(tidegate_wasm_traps_total[1m]) > 0")
    });
    // A task over dead letters; they fail again, and that is as it should be.
    desk.run(&["dlq", "redrive", "--all"], "");
    for (title, query) in queries() {
        let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$subscription", ".*");
        assert!(!query.contains('$'), "{title}: {query}");
        if MAY_BE_EMPTY.iter().any(|part| query.contains(part)) {
            server.finds(&query);
        } else {
            until(&format!("{title} has something to show: {query}"), Duration::from_secs(60), || server.finds(&query));
        }
    }
    for (metric, label) in [("tidegate_broker_connected", "instance"), ("tidegate_inflight", "subscription")] {
        assert!(
            server.finds(&format!("group by ({label}) ({metric}{{{label}!=\"\"}})")),
            "what a variable chooses from"
        );
    }
    until("every rule was evaluated", Duration::from_secs(60), || {
        let rules = server.ask("rules", "");
        let rules = rules["groups"][0]["rules"].as_array().unwrap();
        assert!(rules.iter().all(|rule| rule["lastError"].is_null()), "{rules:?}");
        rules.len() > 7 && rules.iter().all(|rule| rule["health"] == "ok")
    });
}

#[test]
fn the_metrics_of_a_host_are_such_as_prometheus_asks_for() {
    let (desk, _host) = busy();
    until("all are dead letters", Duration::from_secs(60), || {
        desk.json(&["status", "--json"], "", 0)["status"]["brokers"][0]["dead_letters"] == 3
    });
    let metrics = ureq::get(format!("http://{}/metrics", desk.address())).call().unwrap().body_mut().read_to_string();
    let metrics = metrics.unwrap();
    // The tool reads the format before OpenMetrics, which has a counter's whole name in its comments.
    let counters: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                format!("# {what} {name}_total {rest}\n")
            }
            _ => format!("{line}\n"),
        }
    };
    passes(&["check", "metrics"], &metrics.lines().map(line).collect::<String>());
}
