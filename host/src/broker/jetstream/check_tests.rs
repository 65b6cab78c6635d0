#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;

fn spec() -> SubscriptionSpec {
    SubscriptionSpec {
        name: "billing".to_owned(),
        stream: Some("ORDERS".to_owned()),
        subjects: vec!["orders.*".to_owned()],
        ack_wait: Duration::from_secs(30),
        max_in_flight: 512,
        create: true,
    }
}

fn changed(change: Value) -> Map<String, Value> {
    let mut config = consumer_config(&spec());
    config.extend(change.as_object().unwrap().clone());
    config
}

#[test]
fn what_is_made_here_has_no_problem() {
    let config = consumer_config(&spec());
    assert_eq!(consumer_problems("ORDERS", &config, false, &spec()), []);
    assert!(is_ours(&config));
    assert_eq!(number(&config, "max_ack_pending"), 2048);
}

#[test]
fn each_foreign_setting_is_named_with_its_mend() {
    let rows = [
        (json!({"ack_policy": "none"}), "ack_policy", "nats consumer rm"),
        (json!({"max_deliver": 5}), "max_deliver", "--max-deliver=-1"),
        (json!({"backoff": [1_000_000_000]}), "backoff", "--backoff=none"),
        (json!({"ack_wait": 1_000_000_000}), "ack_wait", "--wait=30000ms"),
        (json!({"inactive_threshold": 5_000_000_000_i64}), "inactive_threshold", "--inactive-threshold=0s"),
        (json!({"max_ack_pending": 100}), "max_ack_pending", "--max-pending=2048"),
        (json!({"filter_subject": "orders.paid"}), "filter_subjects", "--filter=orders.*"),
        (json!({"filter_subject": ""}), "filter_subjects", "--filter=orders.*"),
        (json!({"deliver_policy": "new"}), "deliver_policy", "nats consumer rm"),
        (json!({"headers_only": true}), "headers_only", "--no-headers-only"),
        (json!({"deliver_subject": "push.here"}), "deliver_subject", "nats consumer rm"),
        (json!({"priority_groups": ["a"]}), "priority_groups", "nats consumer rm"),
    ];
    for (change, setting, mend) in rows {
        let problems = consumer_problems("ORDERS", &changed(change.clone()), false, &spec());
        let [problem] = problems.as_slice() else { unreachable!("{change}: {problems:?}") };
        assert_eq!(problem.setting, setting);
        assert!(problem.to_string().contains(mend), "{problem}");
    }
    let paused = consumer_problems("ORDERS", &consumer_config(&spec()), true, &spec());
    assert!(paused.iter().any(|problem| problem.mend == "nats consumer resume ORDERS billing"));
}

#[test]
fn what_can_be_mended_is_mended() {
    let config = changed(json!({
        "max_deliver": 5, "ack_wait": 1, "max_ack_pending": 10, "inactive_threshold": 5, "backoff": [1],
        "filter_subject": "", "filter_subjects": ["a", "b"], "headers_only": true, "kept": "as it is"
    }));
    let mended = mended(&config, &spec());
    assert_eq!(consumer_problems("ORDERS", &mended, false, &spec()), []);
    assert_eq!(text(&mended, "kept"), "as it is");
}

#[test]
fn larger_limits_and_several_filters_are_fine() {
    for fine in [json!({"max_ack_pending": -1}), json!({"max_ack_pending": 100_000}), json!({"max_deliver": 0})] {
        assert_eq!(consumer_problems("ORDERS", &changed(fine.clone()), false, &spec()), [], "{fine}");
    }
    let mut two = spec();
    two.subjects = vec!["b".to_owned(), "a".to_owned()];
    let config = changed(json!({"filter_subject": "", "filter_subjects": ["a", "b"]}));
    assert_eq!(consumer_problems("ORDERS", &config, false, &two), []);
}

#[test]
fn what_a_stream_takes_in_is_known() {
    let rows = [
        (">", "a.b", true),
        ("a.>", "a.*", true),
        ("a.>", "a.>", true),
        ("a.*", "a.>", false),
        ("a.*", "a.b", true),
        ("a.b", "a.*", false),
        ("a.>", "a", false),
        ("a", "a", true),
        ("a.*.c", "a.b.c", true),
        ("a.*.c", "a.*.*", false),
    ];
    for (outer, inner, expected) in rows {
        assert_eq!(covers(outer, inner), expected, "{outer} {inner}");
    }
    let stream = json!({"subjects": ["a.>", "b"]});
    let wanted = ["a.b".to_owned(), "b".to_owned(), "c".to_owned()];
    assert_eq!(not_covered(stream.as_object().unwrap(), &wanted), ["c"]);
    let mirror = json!({"mirror": {"name": "OTHER"}});
    assert!(not_covered(mirror.as_object().unwrap(), &wanted).is_empty());
}
