//! The examples, as modules in the sandbox: what their native tests say is what a host sees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::broker::lease::Lease;
use tidegate::handler::{Call, Effects, Handler as _, LogLevel, MeasuredValue, Run};
use tidegate::message::CONTENT_TYPE_HEADER;
use tidegate::outcome::{Outcome, Reason};
use tidegate::sandbox::Version;
use tidegate::sandbox::limits::Limits;
use tokio::time::Instant;

use crate::sandbox::{message, sandbox};
use crate::support::guests::example;

async fn load(package: &str) -> Arc<Version> {
    sandbox().load(example(package), package, &Limits::default()).await.unwrap()
}

async fn attempt(version: &Version, attempt: u32, subject: &str, body: &Value) -> Run {
    let lease = Lease::until(Instant::now() + Duration::from_secs(60));
    let message = message(subject, body.to_string());
    let call = Call {
        message: &message,
        subscription: "examples",
        attempt,
        max_attempts: Some(5),
        previous_failure: None,
        lease: &lease,
        effects: Effects::Real,
        keeps_spans: false,
    };
    version.handle(call).await
}

#[tokio::test]
async fn hello_greets_and_rejects() {
    let version = load("hello").await;
    let ran = attempt(&version, 1, "visitors.new", &json!({"name": "Ada"})).await;
    let Outcome::Completed(outputs) = ran.outcome else { panic!("{:?}", ran.outcome) };
    assert_eq!(
        (outputs[0].to.as_deref().unwrap_or_default(), &outputs[0].body[..]),
        ("greetings", &b"Hello, Ada!"[..])
    );
    assert_eq!(outputs[0].headers.text(CONTENT_TYPE_HEADER), Some("text/plain; charset=utf-8"));
    assert_eq!((ran.logs[0].level, ran.logs[0].text.as_str()), (LogLevel::Info, "somebody came"));
    assert_eq!(ran.logs[0].fields, [("name".to_owned(), "Ada".to_owned())]);

    let nameless = attempt(&version, 1, "visitors.new", &json!({})).await;
    let detail = Some("missing field `name` at line 1 column 2".to_owned());
    assert_eq!(nameless.outcome, Outcome::Rejected(Reason { code: "invalid-payload".to_owned(), detail }));
}

#[tokio::test]
async fn the_webhook_feed_ends_as_its_native_test_says() {
    let version = load("github-webhooks").await;
    let mut counts = BTreeMap::<(u32, &str), u32>::new();
    for line in include_str!("../../../examples/github-webhooks/deliveries.jsonl").lines() {
        let delivery: Value = serde_json::from_str(line).unwrap();
        let subject = format!("github.{}", delivery["event"].as_str().unwrap());
        for nth in [1, 3] {
            let ran = attempt(&version, nth, &subject, &delivery["payload"]).await;
            *counts.entry((nth, ran.outcome.code().0)).or_default() += 1;
            if matches!(ran.outcome, Outcome::Completed(_)) {
                assert_eq!(ran.measurements.len(), 1);
                assert_eq!(ran.measurements[0].value, MeasuredValue::Count(1));
            }
        }
    }
    let expected = [
        ((1, "completed"), 145),
        ((1, "handler-rejected"), 19),
        ((1, "handler-retry"), 7),
        ((1, "skipped"), 6),
        ((3, "completed"), 152),
        ((3, "handler-rejected"), 19),
        ((3, "skipped"), 6),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
}

#[tokio::test]
async fn a_payment_is_retried_deferred_and_rejected() {
    let version = load("flaky-payment").await;
    let pay = async |nth, card: &str| {
        let payment = json!({"order": 7, "card": card, "cents": 1999});
        attempt(&version, nth, "payments.new", &payment).await.outcome
    };
    let reason = |code: &str| Reason { code: code.to_owned(), detail: None };
    let after = Some(Duration::from_millis(500));
    assert_eq!(pay(2, "4000000000000341").await, Outcome::Retry { after, reason: reason("gateway-down") });
    assert_eq!(pay(3, "4000000000000341").await.code().0, "completed");
    let after = Duration::from_secs(1);
    assert_eq!(pay(1, "4000000000000429").await, Outcome::Defer { after, reason: reason("rate-limited") });
    let declined = Reason { detail: Some("insufficient funds".to_owned()), ..reason("card-declined") };
    assert_eq!(pay(1, "4000000000000002").await, Outcome::Rejected(declined));
}
