//! What a host exports, as a real receiver understands it, and what becomes of messages while no receiver takes it.

mod chain;
mod metrics;
mod shown;
mod spans;
mod trouble;

use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::Rig;
use crate::support::guests::guest;
use crate::support::receiver::{Receiver, Seen};
use crate::support::until;

/// A trace that a publisher began, and the span in which it made the message.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const MADE: &str = "00f067aa0ba902b7";
const PATIENCE: Duration = Duration::from_secs(60);

/// A first handler, whose output a second one cannot handle; and one that logs and rejects. The subject of what the first
/// sends is the name of its subscription.
const FIRST: &str = r#"
[handlers.first]
module = "behaviours.wasm"
outputs.echo = { broker = "queue", subject = "retry" }
[subscriptions.retry]
broker = "queue"
subjects = ["echo"]
handler = "first"
"#;
const SECOND: &str = r#"
[handlers.second]
module = "behaviours.wasm"
[subscriptions.second]
broker = "queue"
subjects = ["retry"]
handler = "second"
retry = { schedule = ["10ms"], max_attempts = 3 }
[subscriptions.logs]
broker = "queue"
subjects = ["probe.*", "complete"]
handler = "second"
"#;

/// A host with a configuration of these parts that is started.
fn host(broker: &str, parts: &[&str]) -> Rig {
    let mut rig = Rig::new(broker, Duration::from_secs(30), "");
    std::fs::write(rig.path().join("behaviours.wasm"), guest("behaviours")).unwrap();
    rig.edit(|text| {
        let head = text.split("[handlers.ledger]").next().unwrap();
        let head = head.replace("level = \"debug\"", "level = \"debug\", format = \"json\"");
        format!("{head}{}", parts.concat())
    });
    rig.start();
    rig
}

/// `[telemetry]` of a host.
fn to(url: &str, traces: &str) -> String {
    format!("[telemetry]\nendpoint = \"{url}\"\ntimeout = \"2s\"\ntraces = {{ {traces} }}\n")
}

/// Publishes one message.
fn publish(rig: &Rig, subject: &str, traceparent: Option<&str>) {
    let mut request = agent().post(rig.url(&format!("/v1/publish?broker=queue&subject={subject}")));
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent).header("tracestate", "vendor=value");
    }
    assert_eq!(request.send("a body").unwrap().status(), 200);
}

/// Waits until a trace has as many spans as it is to have.
fn trace(receiver: &Receiver, id: &str, count: usize) -> Vec<Seen> {
    let mut spans = Vec::new();
    until("the spans to be there", PATIENCE, || {
        spans = receiver.of_trace(id);
        spans.len() >= count
    });
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

/// Waits until so many dead letters are there; the newest first.
fn dead(rig: &Rig, count: usize) -> Vec<Value> {
    let mut letters = json!([]);
    until("the messages to be dead", PATIENCE, || {
        let list: Value = serde_json::from_str(&rig.get("/v1/dead-letters").unwrap()).unwrap();
        letters = list["letters"].clone();
        letters.as_array().unwrap().len() == count
    });
    letters.as_array().unwrap().clone()
}

/// The value of a metric of the host; 0 when it is not shown.
fn counted(rig: &Rig, name: &str) -> u64 {
    let metrics = rig.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .build()
        .into()
}
