//! What stands on a server that loses nothing by itself, but may: told once, with what to do, and received from all the same.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::broker::Broker as _;
use tidegate::broker::jetstream::{Auth, JetStream, Options};

use super::setup::{api_ok, consumer, refusal};
use super::{connect, options, place_on};
use crate::broker_contract::{LONG_LEASE, ack, receive_one, settle_one};
use crate::support::nats::NatsServer;

/// That each of these is told, and nothing else.
fn told(broker: &JetStream, expected: &[&str]) {
    let warnings = broker.warnings();
    for part in expected {
        assert_eq!(warnings.iter().filter(|warning| warning.contains(part)).count(), 1, "{part}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
}

/// A stream of somebody else's.
fn stream(name: &str, subject: &str, change: &Value) -> Value {
    let mut config = json!({ "name": name, "subjects": [subject], "storage": "file", "retention": "limits" });
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_is_made_here_nothing_is_told() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    for name in ["one", "two", "one"] {
        place.subscribe(name, &[">"], LONG_LEASE).await;
    }
    broker.take_outputs("one", &["elsewhere.>".to_owned()], true).await.unwrap();
    told(&broker, &[]);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_by_which_messages_go_are_told_and_received_from() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let risky =
        json!({ "storage": "memory", "max_age": 3_600_000_000_000_u64, "max_msgs": 100, "retention": "interest" });
    api_ok(&server, "STREAM.CREATE.TEST", &stream("TEST", "test.>", &risky)).await;
    let narrow = json!({ "mem_storage": true, "max_waiting": 2, "replay_policy": "original" });
    api_ok(&server, "CONSUMER.DURABLE.CREATE.TEST.risky", &consumer("risky", &narrow)).await;
    let dead = json!({
        "subjects": ["dlq.>", "dlq-redriven.>", "dlq-body.>"], "discard": "new", "discard_new_per_subject": true,
        "max_msgs_per_subject": 1, "allow_direct": true, "max_age": 86_400_000_000_000_u64, "max_msg_size": 4096,
        "deny_delete": true,
    });
    api_ok(&server, "STREAM.CREATE.DLQ_tidegate", &stream("DLQ_tidegate", "dlq.>", &dead)).await;
    let window = json!({ "duplicate_window": 1_000_000_000_u64, "no_ack": true });
    api_ok(&server, "STREAM.CREATE.OUT", &stream("OUT", "out.>", &window)).await;

    let source = place.subscribe("risky", &[">"], LONG_LEASE).await;
    broker.take_outputs("risky", &["out.>".to_owned()], false).await.unwrap();
    told(
        &broker,
        &[
            "stream `TEST` is kept in memory: all of it",
            "(max_age is 1h, max_msgs is 100)",
            "(retention interest)",
            "consumer `risky` of stream `TEST` is kept in memory",
            "(replay_policy original)",
            "lets 2 pull(s) wait at once",
            "`DLQ_tidegate` removes dead letters after 1day",
            "no dead letter of more than 4096 bytes",
            "`DLQ_tidegate` lets nothing be removed",
            "`OUT` does not confirm what it stores",
            "`OUT` remembers the ids of messages for 1s only",
        ],
    );
    place.publish("a", ["all the same"]).await;
    settle_one(&*source, ack(&receive_one(&*source).await)).await.unwrap();
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_confirms_no_dead_letter_is_refused() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let dead = json!({
        "subjects": ["dlq.>", "dlq-redriven.>", "dlq-body.>"], "discard": "new", "discard_new_per_subject": true,
        "max_msgs_per_subject": 1, "allow_direct": true, "no_ack": true,
    });
    api_ok(&server, "STREAM.CREATE.DLQ_tidegate", &stream("DLQ_tidegate", "dlq.>", &dead)).await;
    let detail = refusal(&place, "any").await;
    assert!(detail.contains("no_ack is on"), "{detail}");
    broker.close().await;
}

/// A server that has three users: one may acknowledge by the shorter form of subjects alone, one by both, one not at all. With
/// `long` it is the longer form that it uses.
async fn with_users(long: bool) -> NatsServer {
    let may =
        |acks: &str| format!("publish: [\"$JS.API.>\", \"dlq.>\", \"test.>\", \"_INBOX.>\"{acks}], subscribe: \">\"");
    let user = |name: &str, acks: &str| format!("{{ user: {name}, password: word, permissions: {{ {} }} }}", may(acks));
    let users = [
        user("short", ", \"$JS.ACK.TEST.>\""),
        user("both", ", \"$JS.ACK.TEST.>\", \"$JS.ACK.*.*.TEST.>\""),
        user("none", ""),
    ];
    let flags = if long { "feature_flags { js_ack_fc_v2: true }" } else { "" };
    NatsServer::start_with(&format!("{flags}\nauthorization: {{ users: [\n{}\n] }}", users.join("\n"))).await
}

/// What is told of each, and whether it is true.
async fn acknowledges_as_told(long: bool) {
    let server = with_users(long).await;
    let (short, longer) = ("may not publish to `$JS.ACK.TEST.acks.>`", "may not publish to `$JS.ACK.*.*.TEST.acks.>`");
    for (name, expected, may) in
        [("both", vec![], true), ("short", vec![longer], !long), ("none", vec![short, longer], false)]
    {
        let auth = Auth::UserPassword { user: name.to_owned(), password: "word".to_owned() };
        let options = Options { auth, request_timeout: Duration::from_secs(1), ..options(&server) };
        let (broker, _folder) = connect(options).await;
        let place = place_on(broker.clone(), ());
        let source = place.subscribe("acks", &[">"], LONG_LEASE).await;
        told(&broker, &expected);
        place.publish("a", [name]).await;
        let delivery = receive_one(&*source).await;
        let token = String::from_utf8_lossy(&delivery.receipt.token).into_owned();
        assert_eq!(token.split('.').count() > 9, long, "{token}");
        let settled = settle_one(&*source, ack(&delivery)).await;
        assert_eq!(settled.is_ok(), may, "{name}: {settled:?}");
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_may_not_acknowledge_is_told_before_anything_is_handled() {
    acknowledges_as_told(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_may_not_acknowledge_by_the_longer_subjects_is_told_too() {
    acknowledges_as_told(true).await;
}
