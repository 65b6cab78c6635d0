//! What `/metrics` of a real host shows after things that really happened.

use tokio::runtime::Runtime;

use super::{PATIENCE, agent, host, publish};
use crate::chaos::Rig;
use crate::support::exposition::series;
use crate::support::nats::NatsServer;
use crate::support::until;

/// A handler that sends and that asks to be called again an hour later; one that has no version yet.
const HANDLERS: &str = r#"
[handlers.first]
module = "behaviours.wasm"
outputs.echo = { broker = "queue", subject = "first" }
[subscriptions.first]
broker = "queue"
subjects = ["echo", "retry", "reject"]
handler = "first"
retry = { schedule = ["1h"], max_attempts = 3 }
[handlers.later]
[subscriptions.later]
broker = "queue"
subjects = ["later"]
handler = "later"
"#;

/// The value of the one series whose name this is and whose labels have these words; `None` when none is shown.
fn value(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let found = series(metrics, name, labels);
    assert!(found.len() < 2, "{name} {labels:?} is more than one series: {found:?}");
    found.first().copied()
}

/// Waits until a series has a value for which something holds.
fn shows(rig: &Rig, name: &str, labels: &[&str], is_right: impl Fn(f64) -> bool) {
    let mut last = String::new();
    until(&format!("{name} {labels:?} to be right"), PATIENCE, || {
        last = rig.metrics();
        value(&last, name, labels).is_some_and(&is_right)
    });
}

fn done(rig: &Rig, outcome: &str) {
    shows(rig, "tidegate_messages_settled_total", &[&format!("outcome=\"{outcome}\"")], |count| count > 0.0);
}

#[test]
fn a_host_on_the_embedded_queue_shows_what_happened() {
    let rig = host("type = \"embedded\"", &[HANDLERS]);
    for subject in ["echo", "retry", "reject"] {
        publish(&rig, subject, None);
    }
    ["completed", "retried", "dead-lettered"].iter().for_each(|outcome| done(&rig, outcome));
    let first = "subscription=\"first\"";
    shows(&rig, "tidegate_lease_remaining_at_settle_seconds_count", &[first], |count| count == 3.0);
    shows(&rig, "tidegate_lease_remaining_at_settle_seconds_bucket", &[first, "le=\"10.0\""], |count| count == 0.0);
    let settle = "messaging_operation_name=\"settle\"";
    shows(&rig, "messaging_client_operation_duration_seconds_count", &[first, settle], |count| count >= 1.0);
    shows(&rig, "messaging_client_operation_duration_seconds_sum", &[first, settle], |sum| sum > 0.0);
    shows(&rig, "tidegate_wasm_instantiate_duration_seconds_count", &[first], |count| count == 3.0);
    shows(&rig, "tidegate_wasm_instantiate_duration_seconds_sum", &[first], |sum| sum > 0.0);
    shows(&rig, "tidegate_circuit_state", &[first], |state| state == 0.0);
    shows(&rig, "tidegate_retry_in_place", &[first], |count| count == 1.0);
    // An hour, and a fifth of it either way.
    shows(&rig, "tidegate_retry_next_due_seconds", &[first], |left| (2000.0..4400.0).contains(&left));
    shows(&rig, "tidegate_paused", &["subscription=\"later\"", "kind=\"no-handler\""], |paused| paused == 1.0);
    shows(&rig, "tidegate_paused", &[first, "kind=\"no-handler\""], |paused| paused == 0.0);

    let queue = "broker=\"queue\"";
    shows(&rig, "tidegate_dlq_depth", &[queue], |depth| depth == 1.0);
    shows(&rig, "tidegate_dlq_oldest_age_seconds", &[queue], |age| age > 0.0 && age < 600.0);
    // The one that waits; what nobody wants goes when the queue is swept.
    shows(&rig, "tidegate_queue_messages", &[queue], |count| (1.0..4.0).contains(&count));
    shows(&rig, "tidegate_queue_bytes", &[queue], |bytes| bytes > 0.0);
    shows(&rig, "tidegate_dedupe_records", &[queue, "kind=\"ids\""], |count| count >= 1.0);
    shows(&rig, "tidegate_disk_free_bytes", &[queue], |free| free > 1e6);
    shows(&rig, "tidegate_queue_commit_duration_seconds_count", &[queue], |count| count >= 3.0);
    shows(&rig, "tidegate_queue_commit_duration_seconds_sum", &[queue], |sum| sum > 0.0);
    // What this broker has not.
    let metrics = rig.metrics();
    assert_eq!(value(&metrics, "tidegate_ack_pending_limit", &[first]), None);
    assert_eq!(value(&metrics, "tidegate_broker_advisories_total", &[queue]), None);
}

#[test]
fn a_host_on_jetstream_shows_what_happened() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let broker = format!(
        "type = \"jetstream\"\nservers = [\"{}\"]\nstreams.ALL = {{ subjects = [\"echo\", \"retry\", \"reject\", \"first\", \"later\"] }}",
        server.url()
    );
    let handlers = HANDLERS.replace("subjects = [", "create = true\nstream = \"ALL\"\nsubjects = [");
    let rig = host(&broker, &[&handlers]);
    for subject in ["echo", "retry", "reject"] {
        publish(&rig, subject, None);
    }
    ["completed", "retried", "dead-lettered"].iter().for_each(|outcome| done(&rig, outcome));
    let (first, queue) = ("subscription=\"first\"", "broker=\"queue\"");
    shows(&rig, "tidegate_ack_pending_limit", &[first], |limit| limit >= 1000.0);
    shows(&rig, "tidegate_backlog_messages", &[first, "state=\"pending\""], |pending| pending == 1.0);
    shows(&rig, "tidegate_dedupe_records", &[queue, "kind=\"blocks\""], |blocks| blocks == 1.0);
    shows(&rig, "tidegate_dedupe_records", &[queue, "kind=\"notes\""], |notes| notes == 1.0);
    shows(&rig, "tidegate_dlq_oldest_age_seconds", &[queue], |age| age > 0.0 && age < 600.0);
    shows(&rig, "tidegate_disk_free_bytes", &[queue], |free| free > 1e6);
    shows(&rig, "tidegate_broker_advisories_total", &[queue, "type=\"pause\""], |count| count == 0.0);
    runtime.block_on(async {
        let until = humantime::format_rfc3339(std::time::SystemTime::now() + std::time::Duration::from_secs(1));
        let question = serde_json::json!({ "pause_until": until.to_string() }).to_string();
        let client = server.client().await;
        let answer = client.request("$JS.API.CONSUMER.PAUSE.ALL.first", question.into()).await.unwrap();
        assert!(!String::from_utf8_lossy(&answer.payload).contains("error"), "{:?}", answer.payload);
    });
    shows(&rig, "tidegate_broker_advisories_total", &[queue, "type=\"pause\""], |count| count >= 1.0);

    runtime.block_on(async {
        let js = async_nats::jetstream::new(server.client().await);
        js.get_stream("ALL").await.unwrap().delete_consumer("first").await.unwrap();
    });
    shows(&rig, "tidegate_broker_advisories_total", &[queue, "type=\"deleted\""], |count| count >= 1.0);
    let metrics = rig.metrics();
    assert_eq!(value(&metrics, "tidegate_queue_messages", &[queue]), None, "that is the embedded queue's");
    assert_eq!(value(&metrics, "tidegate_retry_in_place", &[first]), None, "other hosts may hold what is pending");
}

#[test]
fn what_is_shown_of_a_circuit_follows_it() {
    let retry = HANDLERS.replace("[\"1h\"]", "[\"10ms\"]").replace("max_attempts = 3", "max_attempts = 1000");
    let circuit = "circuit = { pause = \"1h\", max_pause = \"1h\" }\n[handlers.later]";
    let rig = host("type = \"embedded\"", &[&retry.replace("[handlers.later]", circuit)]);
    let first = "subscription=\"first\"";
    shows(&rig, "tidegate_circuit_state", &[first], |state| state == 0.0);
    (0..30).for_each(|_| publish(&rig, "retry", None));
    shows(&rig, "tidegate_circuit_state", &[first], |state| state == 1.0);
    let answer = agent().post(rig.url("/v1/subscriptions/first/resume")).send_empty().unwrap();
    assert_eq!(answer.status(), 200);
    // Everything fails still, and so it opens once more.
    shows(&rig, "tidegate_circuit_opened_total", &[first], |count| count >= 2.0);
}
