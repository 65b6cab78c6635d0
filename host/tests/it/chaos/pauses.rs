//! Subscriptions are paused and resumed: nothing runs meanwhile, whatever becomes of the host, and nothing costs an attempt.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::admin::wire::{AuditList, Readiness, SubscriptionView};
use tidegate::deploy::report::Line;

use super::books::Books;
use super::rig::Rig;
use super::swap::ledger;
use super::{Feed, audit, balance, on_jetstream};
use crate::support::nats::NatsServer;
use crate::support::until;

const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: &str = "/v1/subscriptions/ledger/pause";
const RESUME: &str = "/v1/subscriptions/ledger/resume";

pub(super) fn ask(rig: &Rig, path: &str, status: u16) -> Value {
    let (got, answer) = rig.ask(path).expect("the host answers");
    assert_eq!(got, status, "{path}: {answer}");
    answer
}

pub(super) fn seen(rig: &Rig) -> SubscriptionView {
    rig.status().expect("the host answers").subscriptions.remove(0)
}

pub(super) fn publish(rig: &Rig, numbers: std::ops::Range<u64>) {
    let ids: Vec<String> = numbers.map(|number| format!("m-{number}")).collect();
    rig.publisher().publish(&ids);
}

/// The broker says that so many wait, so the host had its chance to take them.
fn until_ready(rig: &Rig, count: u64) {
    until("the messages wait", PATIENCE, || seen(rig).counts.ready == count);
}

/// Each run was the attempt that it was to be: a pause costs none.
fn check_attempts(log: &str) {
    let runs = log.lines().filter_map(|line| line.split_once("ran m-")).map(|(_, rest)| rest);
    let mut seen = 0;
    for run in runs {
        let mut words = run.split_whitespace();
        let number: u64 = words.next().unwrap().parse().unwrap();
        let attempt: u32 = words.nth(1).unwrap().parse().unwrap();
        // By its number it asks for one retry.
        let most = if number % 20 == 19 { 2 } else { 1 };
        assert!(attempt <= most, "m-{number} ran as attempt {attempt}");
        seen += 1;
    }
    assert!(seen > 0, "the log tells of no run; has its form changed?");
}

#[test]
fn a_pause_outlasts_a_kill_another_configuration_and_a_deploy() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    publish(&rig, 0..20);
    until("the first messages are done", PATIENCE, || {
        seen(&rig).counts.in_flight == 0 && seen(&rig).counts.completed > 15
    });
    let paused = ask(&rig, &format!("{PAUSE}?why=the%20database%20moves"), 200);
    let first = &paused["subscriptions"][0];
    assert_eq!((&first["name"], &first["handler"]), (&json!("ledger"), &json!("ledger")));
    let expected = (&json!("operator"), &json!("local"), &json!("the database moves"));
    assert_eq!((&first["pause"]["kind"], &first["pause"]["by"], &first["pause"]["why"]), expected);
    publish(&rig, 20..60);
    until_ready(&rig, 40);
    assert_eq!(seen(&rig).counts.in_flight, 0);
    let ready: Readiness = serde_json::from_str(&rig.get("/ready").unwrap()).unwrap();
    assert!(ready.ready && ready.paused == ["ledger"], "what somebody paused is no trouble: {ready:?}");
    assert!(rig.metrics().contains("tidegate_paused{subscription=\"ledger\",kind=\"operator\"} 1"));

    rig.kill();
    rig.start();
    until_ready(&rig, 40);
    assert_eq!(seen(&rig).counts.consumed, 0, "after kill -9");
    assert_eq!(serde_json::to_value(seen(&rig).pause).unwrap(), first["pause"]);
    rig.edit(|text| text.replace("max_attempts = 100 }", "max_attempts = 100 }\nmax_in_flight = 50"));
    assert_eq!(rig.apply().unwrap().steps.len(), 1, "it is stopped and started");
    assert!(matches!(rig.deploy(&ledger(2)), Some(Line::Done(_))));
    publish(&rig, 60..100);
    until_ready(&rig, 80);
    assert_eq!(seen(&rig).counts.consumed, 0, "after an apply and a deploy");

    let resumed = ask(&rig, RESUME, 200);
    assert_eq!(resumed["subscriptions"][0]["was_paused"], json!(true));
    assert_eq!(ask(&rig, RESUME, 200)["subscriptions"][0]["was_paused"], json!(false));
    until("it takes messages again", PATIENCE, || seen(&rig).counts.completed > 0);
    assert!(rig.metrics().contains("tidegate_paused{subscription=\"ledger\",kind=\"operator\"} 0"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    balance(&mut rig, 100, |rig, books| runtime.block_on(audit::read_embedded(rig, books)));
    check_attempts(&rig.log());
}

#[test]
fn a_pause_ends_by_itself_and_stands_in_the_audit_log() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    ask(&rig, &format!("{PAUSE}?for=1h"), 200);
    assert!(seen(&rig).pause.is_some_and(|pause| pause.until.is_some()));
    // The later word holds.
    ask(&rig, "/v1/handlers/ledger/pause?for=1s", 200);
    until("it is over", PATIENCE, || seen(&rig).pause.is_none());
    publish(&rig, 0..1);
    until("it takes messages again", PATIENCE, || seen(&rig).counts.completed == 1);
    // Over while no host ran.
    ask(&rig, &format!("{PAUSE}?for=1s"), 200);
    rig.kill();
    super::rig::pause(Duration::from_secs(1));
    rig.start();
    assert!(seen(&rig).pause.is_none());

    let list: AuditList = serde_json::from_str(&rig.get("/v1/audit").unwrap()).unwrap();
    let told: Vec<(&str, &str)> =
        list.entries.iter().rev().map(|entry| (entry.action.as_str(), entry.who.as_str())).collect();
    let expected = [
        ("handler.deploy", "host"),
        ("subscription.pause", "local"),
        ("handler.pause", "local"),
        ("subscription.resume", "host"),
        ("subscription.pause", "local"),
    ];
    assert_eq!(told, expected);
    assert!(list.entries.iter().all(|entry| entry.result.as_ref().is_some_and(|result| result.status == Some(200))));
}

#[test]
fn killed_behind_the_disk_it_is_paused_at_the_next_start() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.dies_at = Some("paused-on-disk");
    rig.start();
    assert!(rig.ask(PAUSE).is_none(), "it died before it answered");
    rig.dead();
    rig.dies_at = None;
    rig.start();
    assert!(seen(&rig).pause.is_some());
    publish(&rig, 0..1);
    until_ready(&rig, 1);
    assert_eq!(seen(&rig).counts.consumed, 0);
}

#[test]
fn who_misspells_a_subscription_is_told_which_may_be_meant() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    for path in ["/v1/subscriptions/ledgr/pause", "/v1/subscriptions/ledgr/resume", "/v1/handlers/ledgr/pause"] {
        let message = ask(&rig, path, 404)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("`ledgr`") && message.contains("did you mean `ledger`?"), "{message}");
    }
    for query in ["for=soon", "for=0s", "for=31d", "until=tomorrow"] {
        ask(&rig, &format!("{PAUSE}?{query}"), 400);
    }
    assert!(seen(&rig).pause.is_none());
}

/// Pauses under load, waits until nothing is in flight, and resumes; twice.
fn pause_under_load(rig: &Rig) -> u64 {
    let feed = Feed::start(rig.publisher(), "m");
    for _ in 0..2 {
        feed.go_on_for(300);
        until("messages are on their way", PATIENCE, || seen(rig).counts.in_flight > 0);
        ask(rig, PAUSE, 200);
        until("what ran has ended", PATIENCE, || seen(rig).counts.in_flight == 0);
        feed.go_on_for(300);
        let done = seen(rig).counts;
        feed.go_on_for(300);
        let later = seen(rig).counts;
        assert_eq!((done.completed, done.runs), (later.completed, later.runs), "something ran while it was paused");
        ask(rig, RESUME, 200);
    }
    feed.finish()
}

#[test]
fn paused_under_load_nothing_is_lost_and_no_attempt_is_counted() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    let published = pause_under_load(&rig);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    balance(&mut rig, published, |rig, books| runtime.block_on(audit::read_embedded(rig, books)));
    check_attempts(&rig.log());
}

#[test]
fn paused_under_load_on_jetstream_nothing_is_lost_and_no_attempt_is_counted() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = Rig::new(&on_jetstream(&server), Duration::from_secs(30), "create = true");
    rig.start();
    let published = pause_under_load(&rig);
    let read = |rig: &Rig, books: &mut Books| runtime.block_on(audit::read_jetstream(rig, &server, books));
    balance(&mut rig, published, read);
    check_attempts(&rig.log());
}
