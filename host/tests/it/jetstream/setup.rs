//! Streams and consumers that stand there already: fine, mended when they are ours, refused with a mend when not.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::broker::{Broker as _, SubscribeError, SubscriptionSpec};
use tidegate::message::{Headers, Publish};

use super::{connect, options, place_on};
use crate::broker_contract::{LONG_LEASE, Place, receive};
use crate::support::nats::NatsServer;

/// Puts a question to the server as it is.
async fn api(server: &NatsServer, verb: &str, question: &Value) -> Value {
    let client = server.client().await;
    let answer = client.request(format!("$JS.API.{verb}"), question.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

pub(super) async fn api_ok(server: &NatsServer, verb: &str, question: &Value) {
    let answer = api(server, verb, question).await;
    assert!(answer.get("error").is_none(), "{verb}: {answer}");
}

pub(super) async fn refusal(place: &Place, name: &str) -> String {
    match place.broker.subscribe(&place.spec(name, &[">"], LONG_LEASE)).await {
        Err(SubscribeError::Refused { detail, .. }) => detail,
        Err(error) => panic!("{name}: {error}"),
        Ok(_) => panic!("{name} was taken as it is"),
    }
}

pub(super) fn consumer(name: &str, change: &Value) -> Value {
    let mut config = json!({
        "durable_name": name, "ack_policy": "explicit", "deliver_policy": "all", "replay_policy": "instant",
        "ack_wait": 60_000_000_000_u64, "max_deliver": -1, "max_ack_pending": 1000, "filter_subject": "test.>",
    });
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({ "stream_name": "TEST", "config": config })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_settings_are_refused_with_their_mend_and_left_alone() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    api_ok(&server, "STREAM.CREATE.TEST", &json!({ "name": "TEST", "subjects": ["test.>"] })).await;
    let rows = [
        ("deliver", json!({ "max_deliver": 5 }), "--max-deliver=-1"),
        ("backoff", json!({ "max_deliver": 5, "backoff": [1_000_000_000_u64, 2_000_000_000_u64] }), "--backoff=none"),
        ("wait", json!({ "ack_wait": 10_000_000_000_u64 }), "--wait=60000ms"),
        ("inactive", json!({ "inactive_threshold": 3_600_000_000_000_u64 }), "--inactive-threshold=0s"),
        ("pending", json!({ "max_ack_pending": 10 }), "--max-pending=1000"),
        ("filter", json!({ "filter_subject": "test.a" }), "--filter=test.>"),
        ("filters", json!({ "filter_subject": "", "filter_subjects": ["test.a", "test.b"] }), "--filter=test.>"),
        ("policy", json!({ "deliver_policy": "new" }), "nats consumer rm TEST policy"),
        ("acks", json!({ "ack_policy": "all" }), "nats consumer rm TEST acks"),
        ("headers", json!({ "headers_only": true }), "--no-headers-only"),
    ];
    for (name, change, mend) in rows {
        api_ok(&server, &format!("CONSUMER.DURABLE.CREATE.TEST.{name}"), &consumer(name, &change)).await;
        let before = api(&server, &format!("CONSUMER.INFO.TEST.{name}"), &json!({})).await;
        let detail = refusal(&place, name).await;
        assert!(detail.contains(mend), "{name}: {detail}");
        let after = api(&server, &format!("CONSUMER.INFO.TEST.{name}"), &json!({})).await;
        assert_eq!(before["config"], after["config"], "{name} was changed");
    }
    api_ok(&server, "CONSUMER.DURABLE.CREATE.TEST.fine", &consumer("fine", &json!({}))).await;
    place.subscribe("fine", &[">"], LONG_LEASE).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_made_ourselves_follows_the_configuration() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    place.subscribe("ours", &["a"], LONG_LEASE).await;
    let mut spec = place.spec("ours", &["a", "b"], Duration::from_secs(20));
    spec.max_in_flight = 5_000;
    let source = broker.subscribe(&spec).await.unwrap();
    place.publish("b", ["for us now"]).await;
    assert_eq!(receive(&*source, 1).await.len(), 1);
    let info = api(&server, "CONSUMER.INFO.TEST.ours", &json!({})).await;
    assert_eq!(info["config"]["ack_wait"], json!(20_000_000_000_u64));
    assert_eq!(info["config"]["max_ack_pending"], json!(20_000));
    // Without `create` it is not changed, though it is ours.
    let spec = SubscriptionSpec { create: false, ..place.spec("ours", &["a"], LONG_LEASE) };
    assert!(matches!(broker.subscribe(&spec).await, Err(SubscribeError::Refused { .. })));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_told_or_made() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let mut spec = place.spec("missing", &[">"], LONG_LEASE);
    spec.create = false;
    let told = broker.subscribe(&spec).await.map(drop).unwrap_err().to_string();
    assert!(told.contains("nats stream add TEST --subjects=test.>"), "{told}");
    api_ok(&server, "STREAM.CREATE.TEST", &json!({ "name": "TEST", "subjects": ["test.a"] })).await;
    let told = broker.subscribe(&spec).await.map(drop).unwrap_err().to_string();
    assert!(told.contains("nats stream edit TEST --subjects=test.a,test.>"), "{told}");
    spec.subjects = vec!["test.a".to_owned()];
    let told = broker.subscribe(&spec).await.map(drop).unwrap_err().to_string();
    assert!(told.contains("has no consumer `missing`"), "{told}");
    // Not ours: not even with `create` does it take in more.
    spec.subjects = vec!["test.>".to_owned()];
    spec.create = true;
    assert!(matches!(broker.subscribe(&spec).await, Err(SubscribeError::Refused { .. })));
    // No stream is named: found by its subjects, else made in the subscription's name, and then it is ours to widen.
    spec.stream = None;
    spec.subjects = vec!["test.a".to_owned()];
    broker.subscribe(&spec).await.unwrap();
    spec.name = "other".to_owned();
    spec.subjects = vec!["orders.eu".to_owned()];
    broker.subscribe(&spec).await.unwrap();
    spec.stream = Some("other".to_owned());
    spec.subjects.push("orders.us".to_owned());
    broker.subscribe(&spec).await.unwrap();
    let info = api(&server, "STREAM.INFO.other", &json!({})).await;
    assert_eq!(info["config"]["subjects"], json!(["orders.eu", "orders.us"]));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_cannot_hold_dead_letters_is_refused() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let question = json!({ "name": "DLQ_tidegate", "subjects": ["dlq.>"], "retention": "workqueue" });
    api_ok(&server, "STREAM.CREATE.DLQ_tidegate", &question).await;
    let detail = refusal(&place, "any").await;
    for part in ["dlq-redriven.>", "retention is workqueue", "max_msgs_per_subject", "allow_direct"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_consumer_on_a_work_queue_is_refused_and_not_away() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let question = json!({ "name": "TEST", "subjects": ["test.>"], "retention": "workqueue" });
    api_ok(&server, "STREAM.CREATE.TEST", &question).await;
    place.subscribe("one", &[">"], LONG_LEASE).await;
    let detail = refusal(&place, "two").await;
    assert!(detail.contains("workqueue"), "{detail}");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_without_a_stream_get_one_or_are_told() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let (invoices, routed) = ("invoices".to_owned(), "routed.>".to_owned());
    let told = broker.take_outputs("orders", &[invoices.clone(), routed.clone()], false).await.unwrap_err().to_string();
    assert!(told.contains("nats stream add orders-outputs --subjects=invoices,routed.>"), "{told}");
    // What somebody else takes in already is left there.
    api_ok(&server, "STREAM.CREATE.ROUTED", &json!({ "name": "ROUTED", "subjects": ["routed.*"] })).await;
    broker.take_outputs("orders", &[invoices.clone(), routed.clone()], true).await.unwrap();
    let subjects = async || api(&server, "STREAM.INFO.orders-outputs", &json!({})).await["config"]["subjects"].clone();
    assert_eq!(subjects().await, json!(["invoices"]));
    // A handler that sends elsewhere too, after a change.
    broker.take_outputs("orders", &[invoices, "mails".to_owned(), routed], true).await.unwrap();
    assert_eq!(subjects().await, json!(["invoices", "mails"]));
    let published = broker.publish(vec![Publish { subject: "mails".to_owned(), ..message() }]).await;
    assert!(published[0].is_ok(), "{published:?}");
    broker.close().await;
}

fn message() -> Publish {
    Publish { subject: String::new(), id: None, headers: Headers::default(), body: "x".into() }
}
