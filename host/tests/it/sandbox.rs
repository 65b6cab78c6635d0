//! The sandbox as its users see it: load a module, run it on a message.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tidegate::broker::lease::Lease;
use tidegate::handler::{Call, Effects, Handler as _, LogLevel, MeasuredValue, Run};
use tidegate::message::{Headers, Message};
use tidegate::outcome::{Outcome, Output, Reason};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions, Version};
use tokio::time::Instant;

use crate::support::guests::guest;

/// The sandbox of all tests, with a cache on disk: the same few modules are loaded again and again.
pub(crate) fn sandbox() -> Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let cache_dir = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("code"));
    let options = SandboxOptions { cache_dir, ..SandboxOptions::default() };
    Arc::clone(SANDBOX.get_or_init(|| Sandbox::new(options).unwrap()))
}

/// A message with a subject and a body.
pub(crate) fn message(subject: &str, body: impl Into<bytes::Bytes>) -> Message {
    Message {
        id: "message-1".to_owned(),
        subject: subject.to_owned(),
        headers: Headers::default(),
        body: body.into(),
        sequence: 7,
        published_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
    }
}

/// Runs a version on a message, with a lease of a minute.
pub(crate) async fn run(version: &Version, message: &Message) -> Run {
    let lease = Lease::until(Instant::now() + Duration::from_secs(60));
    version.handle(call(message, &lease)).await
}

/// The second attempt of five, after a trap.
pub(crate) fn call<'a>(message: &'a Message, lease: &'a Lease) -> Call<'a> {
    Call {
        message,
        subscription: "orders",
        attempt: 2,
        max_attempts: Some(5),
        previous_failure: Some("trap:unreachable: it gave up"),
        lease,
        effects: Effects::Real,
        keeps_spans: true,
    }
}

async fn behaviours(limits: &Limits) -> Arc<Version> {
    sandbox().load(guest("behaviours"), "behaviours", limits).await.unwrap()
}

/// What a probe told, which is a reject's detail.
async fn told(version: &Version, subject: &str, body: &'static str) -> String {
    let run = run(version, &message(subject, body)).await;
    match run.outcome {
        Outcome::Rejected(Reason { detail: Some(detail), .. }) => detail,
        other => panic!("{subject}: {other:?}"),
    }
}

#[tokio::test]
async fn time_and_chance_are_the_same_in_each_run_where_that_is_asked_for() {
    let sandbox = |repeatable| Sandbox::new(SandboxOptions { repeatable, ..SandboxOptions::default() }).unwrap();
    let mut seen = Vec::new();
    for repeatable in [true, true, false, false] {
        let version = sandbox(repeatable).load(guest("behaviours"), "behaviours", &Limits::default()).await.unwrap();
        seen.push(told(&version, "probe.chance", "").await);
        assert_eq!(told(&version, "probe.clock", "").await, "true", "time goes on");
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0] != seen[2] && seen[2] != seen[3], "{seen:?}");
    assert!(seen[0].contains(" 1.0"), "time begins when the message was published: {seen:?}");
}

#[tokio::test]
async fn a_version_runs_within_other_limits_without_being_loaded_again() {
    let version = behaviours(&Limits::default()).await;
    let less = Limits { fuel: std::num::NonZeroU64::new(1000), ..Limits::default() };
    let within = version.within(less).unwrap();
    assert_eq!(run(&within, &message("complete", "")).await.outcome.code().0, "out-of-fuel");
    assert_eq!(run(&version, &message("complete", "")).await.outcome.code().0, "completed");
    assert!(version.within(Limits { fuel: None, ..Limits::default() }).is_none(), "its code counts fuel");
}

#[tokio::test]
async fn a_message_goes_in_and_its_parts_come_back() {
    let version = behaviours(&Limits::default()).await;
    let mut sent = message("echo", "the body");
    sent.headers.push("Tidegate-Key", "customer-1");
    sent.headers.push("X-One", "1");
    sent.headers.push("content-type", "text/plain");
    sent.headers.push("X-One", vec![0xff, 0]);
    let run = run(&version, &sent).await;
    let mut headers = Headers::default();
    headers.push("X-One", "1");
    headers.push("X-One", vec![0xff, 0]);
    headers.push("Content-Type", "text/plain");
    headers.push("Tidegate-Key", "customer-1");
    let expected = Output {
        to: Some("echo".to_owned()),
        subject: Some("orders".to_owned()),
        id: Some("message-1".to_owned()),
        headers,
        body: "the body".into(),
    };
    assert_eq!(run.outcome, Outcome::Completed(vec![expected]));
    assert!(run.usage.fuel > 0 && run.usage.fuel < run.usage.fuel_limit, "{:?}", run.usage);
    assert!(run.usage.memory_peak >= 64 << 10, "{:?}", run.usage);
    assert!(run.usage.duration > Duration::ZERO);
    assert_eq!(version.digest().len(), 64);
    assert!(version.exports().any(|export| export == "tidegate:events/handler@0.1.0"));
}

#[tokio::test]
async fn the_delivery_is_told_when_asked_for() {
    let version = behaviours(&Limits::default()).await;
    let seen = told(&version, "probe.message", "x").await;
    for part in ["attempt: 2", "max-attempts: Some(5)", "sequence: Some(7)", "published-at-ms: Some(1000)"] {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
    assert_eq!(told(&version, "probe.previous-failure", "").await, "Some(\"trap:unreachable: it gave up\")");
    let left = told(&version, "probe.remaining", "").await.parse::<u32>().unwrap();
    assert!((9_000..=10_000).contains(&left), "{left} ms of 10 s");
}

#[tokio::test]
async fn logs_and_measurements_come_back_in_order() {
    let version = behaviours(&Limits::default()).await;
    let run_ = run(&version, &message("probe.log", "")).await;
    let lines = run_.logs.iter().map(|line| (line.level, line.text.as_str())).collect::<Vec<_>>();
    let expected = [
        (LogLevel::Warn, "structured"),
        (LogLevel::Info, "to stdout"),
        (LogLevel::Warn, "to stderr"),
        (LogLevel::Info, "without an end"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(run_.logs[0].fields, [("key".to_owned(), "value".to_owned())]);
    let measured = run(&version, &message("probe.metrics", "")).await.measurements;
    let values = measured.iter().map(|one| (one.name.as_str(), one.value)).collect::<Vec<_>>();
    assert_eq!(values, [("seen", MeasuredValue::Count(2)), ("took", MeasuredValue::Value(1.5))]);
}

#[tokio::test]
async fn nothing_is_granted_but_clocks_and_random() {
    let version = behaviours(&Limits::default()).await;
    let rows = [
        ("probe.environment", "0 0"),
        ("probe.stdin", "0"),
        ("probe.file", "true"),
        ("probe.write-file", "true"),
        ("probe.clock", "true"),
        ("probe.random", "true"),
    ];
    for (subject, expected) in rows {
        assert_eq!(told(&version, subject, "").await, expected, "{subject}");
    }
}

#[tokio::test]
async fn a_fresh_instance_sees_nothing_of_the_message_before() {
    let version = behaviours(&Limits::default()).await;
    for _ in 0..3 {
        assert_eq!(told(&version, "probe.state", "").await, "0");
    }
}
