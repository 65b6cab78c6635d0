//! Canaries on a host that works: who gets which message, and what a kill leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::admin::wire::AuditList;
use tidegate::deploy::report::{Done, Line, RolloutView};
use tidegate::dispatch::Share;
use tokio::runtime::Runtime;

use super::books::Books;
use super::deploys::with_golden_messages;
use super::rig::Rig;
use super::swap::ledger;
use super::{Feed, audit, balance, until_settled};
use crate::support::nats::NatsServer;
use crate::support::until;

pub(super) fn begin(rig: &Rig, query: &str, module: &[u8]) -> Done {
    match rig.deploy_as(query, module) {
        Some(Line::Done(done)) => *done,
        other => panic!("{query}: {other:?}"),
    }
}

pub(super) fn jetstream(server: &NatsServer) -> String {
    let streams = "streams.IN = { subjects = [\"in.>\"] }\nstreams.OUT = { subjects = [\"out.>\"] }";
    format!("type = \"jetstream\"\nservers = [\"{}\"]\n{streams}", server.url())
}

pub(super) fn rollout(rig: &Rig) -> RolloutView {
    rig.handler().rollout.expect("a version is tried")
}

/// A canary under load, through a kill: each message ran on the version that its id says, and the books balance.
fn share_under_load(rig: &mut Rig, what: &str, read: impl FnOnce(&Rig, &mut Books)) {
    let share: Share = "20%".parse().unwrap();
    rig.start();
    let done = begin(rig, "canary=20%25", &ledger(2));
    assert_eq!((done.version, done.rollout.unwrap().share), (2, share));
    let feed = Feed::start(rig.publisher(), "m");
    feed.go_on_for(600);
    let seen = rollout(rig);
    rig.kill();
    rig.start();
    let after = rollout(rig);
    assert_eq!((after.version, &after.plan, &after.started_at), (2, &seen.plan, &seen.started_at), "{what}");
    assert_eq!(rig.handler().active, Some(1));
    feed.go_on_for(600);
    let published = feed.finish();
    until_settled(rig);
    let both = rollout(rig);
    assert!(both.candidate.messages > 0 && both.stable.messages > both.candidate.messages, "{both:?}");
    let (books, balance) = balance(rig, published, read);
    let (tried, stable) = ("000002".to_owned(), "000001".to_owned());
    for (message, (first, last)) in &books.made_by {
        let expected = if share.has(message) { &tried } else { &stable };
        assert_eq!((first, last), (expected, expected), "{what}: {message}");
    }
    println!("{what}, a canary of 20% and a kill: {balance:?}");
}

#[test]
fn a_canary_gets_the_messages_of_its_share_through_a_kill() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    let runtime = Runtime::new().unwrap();
    share_under_load(&mut rig, "embedded queue", |rig, books| runtime.block_on(audit::read_embedded(rig, books)));
}

#[test]
fn a_canary_on_jetstream_gets_the_messages_of_its_share_through_a_kill() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = Rig::new(&jetstream(&server), Duration::from_secs(3), "create = true");
    share_under_load(&mut rig, "jetstream", |rig, books| {
        runtime.block_on(audit::read_jetstream(rig, &server, books));
    });
}

/// Where it dies, what is asked of it there, and what the next start finds: the active version, and the one on trial.
const PLACES: [(&str, Option<&str>, u64, Option<u64>); 13] = [
    ("arriving", None, 1, None),
    ("uploaded", None, 1, None),
    ("kept", None, 1, None),
    ("compiled", None, 1, None),
    ("initializing", None, 1, None),
    ("initialized", None, 1, None),
    ("tried", None, 1, None),
    ("checked", None, 1, None),
    ("recorded", None, 1, Some(2)),
    ("switched", None, 1, Some(2)),
    ("promoted", Some("promote"), 2, None),
    ("aborting", Some("abort"), 1, Some(2)),
    ("aborted", Some("abort"), 1, None),
];

#[test]
fn killed_at_each_step_of_a_canary_the_next_start_goes_on_with_it_or_knows_nothing_of_it() {
    killed_at_each_step("canary=50%25");
}

/// Kills the host at each step of a rollout that is begun as the query says.
pub(super) fn killed_at_each_step(query: &str) {
    for (place, asked, active, tried) in PLACES {
        let mut rig = with_golden_messages();
        // The first version is deployed by a life that is not cut short.
        rig.start();
        rig.drain();
        rig.dies_at = Some(place);
        rig.start();
        let answer = rig.deploy_as(query, &ledger(2));
        assert!(!matches!(answer, Some(Line::Failed(_))), "{place}: {answer:?}");
        if let Some(asked) = asked {
            assert!(matches!(answer, Some(Line::Done(_))), "{place}: {answer:?}");
            assert_eq!(rig.post(asked), None, "{place}");
        }
        rig.dead();
        rig.dies_at = None;
        rig.start();
        let handler = rig.handler();
        let found = handler.rollout.map(|rollout| rollout.version);
        assert_eq!((handler.active, found), (Some(active), tried), "{place}");
        // From there it goes on as ever: what is tried is promoted, and else it is begun again.
        if tried.is_none() {
            begin(&rig, query, &ledger(3));
        }
        assert_eq!(rig.post("promote").unwrap().0, 200, "{place}");
        assert_eq!(rig.handler().rollout, None, "{place}");
        rig.drain();
    }
}

/// An order to promote 2 promoted 3, which had begun meanwhile.
#[test]
fn what_is_promoted_or_aborted_is_what_was_looked_at() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    begin(&rig, "canary=5%25", &ledger(2));
    assert_eq!(rig.post("abort?version=2").unwrap().0, 200);
    begin(&rig, "canary=5%25", &ledger(3));
    for what in ["promote?version=2", "abort?version=2"] {
        let (status, answer) = rig.post(what).unwrap();
        assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("other-version-tried")), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("that is version 3"), "{answer}");
    }
    let handler = rig.handler();
    assert_eq!((handler.active, handler.rollout.map(|rollout| rollout.version)), (Some(1), Some(3)));
    assert_eq!(rig.post("promote?version=3").unwrap().0, 200);
    assert_eq!(rig.handler().active, Some(3));
}

/// Waits until no version is tried any more, while messages come.
fn until_ended(rig: &Rig) {
    until("the rollout ends by itself", Duration::from_secs(120), || rig.handler().rollout.is_none());
}

/// A candidate that is worse, under load: it is aborted by itself, for the right reason, and its messages are not lost.
fn worse_is_aborted(rig: &mut Rig, number: u32, why: &str, read: impl FnOnce(&Rig, &mut Books)) {
    rig.start();
    begin(rig, "canary=20%25&promote_after=1h", &ledger(number));
    let feed = Feed::start(rig.publisher(), "m");
    until_ended(rig);
    let handler = rig.handler();
    let last = &handler.history[0];
    assert_eq!((handler.active, last.event.as_str(), last.who.as_str()), (Some(1), "aborted", "host"), "{handler:?}");
    assert!(last.version == Some(2) && last.detail.starts_with(why), "{last:?}");
    // It is done a moment before it is on record.
    let target = format!("ledger@2: {}", last.detail);
    until("the audit log has it", Duration::from_secs(20), || {
        let list: AuditList = serde_json::from_str(&rig.get("/v1/audit").unwrap()).unwrap();
        let mut entries = list.entries.iter();
        entries.any(|entry| entry.action == "handler.abort" && entry.who == "host" && target.starts_with(&entry.target))
    });
    feed.go_on_for(300);
    let published = feed.finish();
    until_settled(rig);
    let metrics = rig.metrics();
    assert!(metrics.contains("tidegate_rollouts_ended_total{handler=\"ledger\",result=\"aborted\",by=\"host\"} 1"));
    assert!(!metrics.contains("tidegate_rollout_runs_total"), "what is over is not shown");
    let (_books, balance) = balance(rig, published, read);
    println!("a candidate that is worse ({}): {balance:?}", last.detail);
}

#[test]
fn a_candidate_that_fails_is_aborted_by_itself_and_loses_nothing() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    let runtime = Runtime::new().unwrap();
    let read = |rig: &Rig, books: &mut Books| runtime.block_on(audit::read_embedded(rig, books));
    worse_is_aborted(&mut rig, 900_001, "too many failures", read);
}

#[test]
fn a_candidate_that_fails_on_jetstream_is_aborted_by_itself_and_loses_nothing() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = Rig::new(&jetstream(&server), Duration::from_secs(30), "create = true");
    let read = |rig: &Rig, books: &mut Books| runtime.block_on(audit::read_jetstream(rig, &server, books));
    worse_is_aborted(&mut rig, 900_001, "too many failures", read);
}

#[test]
fn a_candidate_that_burns_fuel_or_takes_longer_is_aborted_by_itself() {
    for (number, why) in [(900_002, "too much fuel"), (900_003, "too slow")] {
        let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
        let runtime = Runtime::new().unwrap();
        let read = |rig: &Rig, books: &mut Books| runtime.block_on(audit::read_embedded(rig, books));
        worse_is_aborted(&mut rig, number, why, read);
    }
}

/// A candidate that is as good gets its messages until its time is over, and all of them from then on.
fn as_good_is_promoted(rig: &mut Rig, read: impl FnOnce(&Rig, &mut Books)) {
    rig.start();
    begin(rig, "canary=50%25&promote_after=1s", &ledger(2));
    let feed = Feed::start(rig.publisher(), "m");
    until_ended(rig);
    let handler = rig.handler();
    let last = &handler.history[0];
    assert_eq!((handler.active, last.event.as_str(), last.who.as_str()), (Some(2), "promoted", "host"), "{handler:?}");
    assert!(last.detail.starts_with("nothing spoke against it: ") && last.detail.contains("version 1"), "{last:?}");
    feed.go_on_for(300);
    let published = feed.finish();
    let (books, balance) = balance(rig, published, read);
    let makers: BTreeSet<&str> = books.made_by.values().map(|(first, _)| first.as_str()).collect();
    assert_eq!(makers, BTreeSet::from(["000001", "000002"]), "both versions worked");
    println!("a candidate that is as good: {balance:?}");
}

#[test]
fn a_candidate_that_is_as_good_is_promoted_by_itself() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    let runtime = Runtime::new().unwrap();
    as_good_is_promoted(&mut rig, |rig, books| runtime.block_on(audit::read_embedded(rig, books)));
}

#[test]
fn a_candidate_that_is_as_good_is_promoted_by_itself_on_jetstream() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = Rig::new(&jetstream(&server), Duration::from_secs(30), "create = true");
    as_good_is_promoted(&mut rig, |rig, books| runtime.block_on(audit::read_jetstream(rig, &server, books)));
}

#[test]
fn a_canary_without_traffic_is_not_promoted_and_says_so() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    begin(&rig, "canary=50%25&promote_after=1s", &ledger(2));
    until("it says that it waits for messages", Duration::from_secs(60), || {
        rollout(&rig).note.contains("no message came to it")
    });
    until("the log says so too", Duration::from_secs(60), || rig.log().contains("no message came to it"));
    rig.publisher().publish(&(0..30).map(|number| format!("m-{number}")).collect::<Vec<_>>());
    until("it says how many are missing", Duration::from_secs(60), || {
        rollout(&rig).note.contains("of the 100 messages that it takes")
    });
    assert_eq!((rig.handler().active, rollout(&rig).version), (Some(1), 2));
    // A person may all the same.
    assert_eq!(rig.post("promote").unwrap().0, 200);
    let handler = rig.handler();
    assert_eq!((handler.active, handler.history[0].who.as_str()), (Some(2), "local"));
    assert_eq!(rig.post("promote").unwrap().0, 404);
    rig.drain();
}
