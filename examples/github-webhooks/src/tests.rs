//! The routing of single deliveries, and of the whole feed with exact counts.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects by failing")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_sdk::FailureKind;
use tidegate_sdk::testing::{Ran, TestMessage};

use super::triage;

fn deliver(event: &str, payload: &Value, attempt: u32) -> Ran {
    TestMessage::json(payload).id("d-1").subject(format!("github.{event}")).attempt(attempt).run::<triage>()
}

#[test]
fn a_push_goes_to_those_who_write_code() {
    let payload = json!({"repository": {"full_name": "octo/site"}, "sender": {"login": "ada"}, "commits": []});
    let ran = deliver("push", &payload, 1);
    let output = ran.output();
    assert_eq!((output.to(), output.subject(), output.key()), ("routed", Some("routed.code"), Some(&b"octo/site"[..])));
    let expected = json!({
        "event": "push", "action": null, "repository": "octo/site", "sender": "ada", "mergeable": null, "delivery": "d-1",
    });
    assert_eq!(output.json::<Value>(), expected);
    assert_eq!(ran.log_lines(), ["info routed event=push team=code"]);
    assert_eq!(ran.metric_lines(), [r#"routed{team="code"} +1"#]);
}

#[test]
fn a_failed_build_also_raises_an_alert() {
    let subjects = |payload| {
        let ran = deliver("check_run", &payload, 1);
        ran.outputs().iter().map(|output| output.subject().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let run = |action, conclusion| json!({"action": action, "check_run": {"conclusion": conclusion}});
    assert_eq!(subjects(run("completed", Some("failure"))), ["routed.builds", "routed.alerts"]);
    assert_eq!(subjects(run("completed", Some("success"))), ["routed.builds"]);
    assert_eq!(subjects(run("rerequested", Some("failure"))), ["routed.builds"]);
    assert_eq!(subjects(run("created", None)), ["routed.builds"]);
}

#[test]
fn a_pull_request_waits_until_it_is_known_whether_it_can_be_merged() {
    let unknown = json!({"action": "opened", "pull_request": {"mergeable": null}});
    let known = json!({"action": "opened", "pull_request": {"mergeable": false}});
    assert_eq!(deliver("pull_request", &unknown, 1).retried("mergeable-unknown"), None, "the host's backoff");
    deliver("pull_request", &unknown, 2).retried("mergeable-unknown");
    assert_eq!(deliver("pull_request", &unknown, 3).output().json::<Value>()["mergeable"], Value::Null);
    assert_eq!(deliver("pull_request", &known, 1).output().json::<Value>()["mergeable"], json!(false));
    assert_eq!(deliver("pull_request_review", &unknown, 1).output().subject(), Some("routed.code"));
}

#[test]
fn what_nobody_waits_for_is_skipped_and_what_nobody_knows_is_rejected() {
    assert_eq!(deliver("ping", &json!({}), 1).skipped("nobody-waits"), "ping");
    assert_eq!(deliver("project_card", &json!({}), 1).rejected("unknown-event"), "no team takes `project_card`");
    let elsewhere = TestMessage::text("{}").subject("gitlab.push").run::<triage>();
    elsewhere.rejected("not-a-github-subject");
    let torn = TestMessage::text(r#"{"action":"#).subject("github.push").run::<triage>();
    assert_eq!(torn.rejected("invalid-payload"), "EOF while parsing a value at line 1 column 10");
}

/// What became of each delivery of the feed: how often each outcome, and how often each subject.
fn feed(attempt: u32) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let (mut outcomes, mut subjects) = (BTreeMap::new(), BTreeMap::new());
    for line in include_str!("../deliveries.jsonl").lines() {
        let delivery: Value = serde_json::from_str(line).unwrap();
        let ran = deliver(delivery["event"].as_str().unwrap(), &delivery["payload"], attempt);
        let outcome = match ran.outcome() {
            Ok(_) => "completed".to_owned(),
            Err(failure) => match failure.kind() {
                FailureKind::Retry { .. } => format!("retry {}", failure.code()),
                FailureKind::Defer { .. } => format!("defer {}", failure.code()),
                FailureKind::Reject => format!("reject {}", failure.code()),
                FailureKind::Skip => format!("skip {}", failure.code()),
            },
        };
        *outcomes.entry(outcome).or_default() += 1;
        for output in ran.outcome().iter().flatten() {
            *subjects.entry(output.subject().unwrap().to_owned()).or_default() += 1;
        }
    }
    (outcomes, subjects)
}

fn counts<const N: usize>(rows: [(&str, usize); N]) -> BTreeMap<String, usize> {
    rows.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[test]
fn the_whole_feed_is_routed() {
    let (first, _) = feed(1);
    let rest = [("reject unknown-event", 19), ("skip nobody-waits", 6)];
    assert_eq!(first, counts([("completed", 145), ("retry mergeable-unknown", 7), rest[0], rest[1]]));
    let (last, subjects) = feed(3);
    assert_eq!(last, counts([("completed", 152), rest[0], rest[1]]));
    assert_eq!(
        subjects,
        counts([
            ("routed.access", 26),
            ("routed.alerts", 2),
            ("routed.builds", 34),
            ("routed.code", 39),
            ("routed.planning", 41),
            ("routed.security", 12),
        ])
    );
}

#[test]
fn another_broker_is_another_entry_and_nothing_else() {
    let beside_the_broker = |text: &'static str| text.split_once("[handlers.").unwrap().1;
    let embedded = beside_the_broker(include_str!("../tidegate.toml"));
    assert_eq!(beside_the_broker(include_str!("../nats.toml")), embedded);
}
