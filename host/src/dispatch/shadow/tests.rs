#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests say what went wrong by failing")]

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::dispatch::share::Share;
use crate::dispatch::slot::Slot;
use crate::dispatch::trial::{Trial, Way};
use crate::dispatch::turns::Turns;
use crate::handler::{Call, Handler, LogLevel, LogLine, Run};
use crate::message::{Headers, Publish};
use crate::outcome::{Output, Reason, Usage};
use crate::settle::outputs::{Grant, Grants};
use crate::telemetry::{Metrics, ShadowCounts, VersionFigures};

/// Does what the message's body says.
struct Scripted;

#[async_trait]
impl Handler for Scripted {
    async fn handle(&self, call: Call<'_>) -> Run {
        let outcome = match call.message.body.as_ref() {
            b"panic" => panic!("as the message says"),
            b"never" => std::future::pending().await,
            b"reject" => Outcome::Rejected(Reason { code: "no".to_owned(), detail: None }),
            b"denied" => completed("elsewhere"),
            _ => completed("out"),
        };
        let line = LogLine {
            level: LogLevel::Error,
            text: "not to be seen".to_owned(),
            fields: vec![],
            at: Duration::ZERO,
            span: None,
        };
        Run { usage: Usage { fuel: 7, ..Usage::default() }, logs: vec![line], ..Run::without_usage(outcome) }
    }

    fn digest(&self) -> &'static str {
        "00"
    }
}

fn completed(to: &str) -> Outcome {
    let (to, body) = (Some(to.to_owned()), Bytes::from_static(b"1"));
    Outcome::Completed(vec![Output { to, subject: None, id: None, headers: Headers::default(), body }])
}

fn candidate() -> Arc<Deployed> {
    let grant = Grant { broker: "queue".into(), subject: "out.a".to_owned() };
    Arc::new(Deployed {
        number: 2,
        handler: Arc::new(Scripted),
        grants: Grants::from([("out".to_owned(), grant)]),
        max_run: Duration::from_secs(1),
        measurements: Metrics::new().handler("h", 1),
        figures: VersionFigures::default(),
    })
}

fn copied(id: usize, body: &[u8]) -> Copied {
    let message = Message {
        id: format!("m-{id}"),
        subject: "in.x".to_owned(),
        headers: Headers::default(),
        body: Bytes::copy_from_slice(body),
        sequence: 1,
        published_at: SystemTime::UNIX_EPOCH,
    };
    let publish =
        Publish { subject: "out.a".to_owned(), id: None, headers: Headers::default(), body: Bytes::from_static(b"1") };
    let outputs = vec![Routed { broker: "queue".into(), publish }];
    let stable = Ran {
        outcome: Outcome::Completed(Vec::new()),
        outputs,
        usage: Usage { fuel: 5, ..Usage::default() },
        effects: None,
    };
    Copied { message, subscription: "s".into(), attempt: 1, max_attempts: 3, stable }
}

fn shadow(trial: &Trial) -> &Shadow {
    match &trial.way {
        Way::Shadow(shadow) => shadow,
        Way::Canary => panic!("it is a shadow"),
    }
}

fn begun() -> (Arc<Trial>, Work) {
    Trial::shadow(candidate(), Share::ALL)
}

/// Until what is expected has happened.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_copy_runs_once_is_compared_and_has_no_effect() {
    let (trial, work) = begun();
    for (id, body) in [&b"same"[..], b"reject", b"denied", b"panic", b"never", b"same"].into_iter().enumerate() {
        shadow(&trial).offer(10, || copied(id, body));
    }
    let books = Arc::clone(shadow(&trial).books());
    let work = tokio::spawn(work.run(Turns::new(1)));
    while books.counts().same < 2 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let expected =
        ShadowCounts { same: 2, different: 2, by_outcome: 1, by_fault: 1, unfinished: 2, ..ShadowCounts::default() };
    assert_eq!(books.counts(), expected);
    let (tried, stable) = (trial.tried.counts(), trial.stable.counts());
    assert_eq!((tried.runs, tried.mean_fuel), (4, Some(7)));
    assert_eq!((stable.runs, stable.mean_fuel), (4, Some(5)), "the same messages, on the other version");
    assert_eq!(trial.candidate.figures.counts().runs, 0, "these were no real runs");
    let last = books.last();
    assert_eq!(last.iter().map(|one| one.message_id.as_str()).collect::<Vec<_>>(), ["m-2", "m-1"]);
    assert_eq!(last[0].told, "completed would have been denied");
    assert_eq!(
        (last[1].by, last[1].told.as_str()),
        (CopyFate::OtherOutcome, "completed would have been handler-rejected (no)")
    );
    assert_eq!((last[1].stable.outputs.len(), last[1].candidate.outputs.len()), (1, 0));
    assert_eq!(shadow(&trial).held.load(Ordering::Relaxed), 0, "all room is free again");
    drop(trial);
    work.await.unwrap();
}

#[test]
fn what_there_is_no_room_for_is_dropped_and_counted() {
    let (trial, work) = begun();
    let offer = |count: usize, size: usize| (0..count).for_each(|id| shadow(&trial).offer(size, || copied(id, b"")));
    let dropped = || shadow(&trial).books().counts().dropped;
    offer(COPIES + 3, 1);
    assert_eq!((work.copies.len(), dropped()), (COPIES, 3));
    while work.copies.try_recv().is_ok() {}
    assert_eq!(shadow(&trial).held.load(Ordering::Relaxed), 0);
    // In bytes; one that is larger by itself is let in when it is alone.
    offer(5, BYTES / 4);
    assert_eq!((work.copies.len(), dropped()), (4, 4));
    while work.copies.try_recv().is_ok() {}
    offer(2, BYTES * 2);
    assert_eq!((work.copies.len(), dropped()), (1, 5));
    shadow(&trial).end();
    shadow(&trial).offer(1, || panic!("what is over copies nothing"));
    assert_eq!(dropped(), 5);
}

#[tokio::test]
async fn its_end_stops_what_runs_and_gives_the_turn_back() {
    let turns = Turns::new(1);
    // By its end; by a swap, and by a trial in its place; and when nobody has it any more.
    for how in 0..4 {
        let (trial, work) = begun();
        let slot = Slot::holding(candidate());
        slot.begin(Arc::clone(&trial));
        let pick = slot.pick(&copied(0, b"").message).unwrap();
        assert!(!Arc::ptr_eq(&pick.version, &trial.candidate), "messages run on the active version");
        pick.shadow("m-0").unwrap().offer(1, || copied(0, b"never"));
        let copies = work.copies.clone();
        let work = tokio::spawn(work.run(Arc::clone(&turns)));
        until(|| copies.is_empty()).await;
        match how {
            0 => slot.end_trial(),
            1 => drop(slot.swap(Arc::clone(&trial.candidate))),
            2 => slot.begin(begun().0),
            _ => drop((slot, pick, trial)),
        }
        work.await.unwrap();
        turns.seat().place().run(std::future::ready(())).await;
    }
}

#[test]
fn the_last_differences_are_few_and_none_is_large() {
    let books = Books::default();
    let long = "ü".repeat(10_000);
    for id in 0..40 {
        let mut copied = copied(id, &vec![7; 1 << 20]);
        copied.message.subject.clone_from(&long);
        let mut headers = Headers::default();
        (0..100).for_each(|_| headers.push("a-header", "x".repeat(100)));
        let publish = Publish { subject: long.clone(), id: None, headers, body: vec![7; 1 << 20].into() };
        let outputs = vec![Routed { broker: "queue".into(), publish }; 100];
        let outcome = Outcome::Rejected(Reason { code: long.clone(), detail: Some(long.clone()) });
        let ran = Ran { outcome, outputs, usage: Usage::default(), effects: None };
        books.differs(Difference::new(&copied, &ran, CopyFate::OtherOutcome, long.clone()));
    }
    let last = books.last();
    let ids: Vec<&str> = last.iter().map(|one| one.message_id.as_str()).collect();
    assert_eq!((ids.len(), ids[0], ids[15]), (16, "m-39", "m-24"));
    let (one, did) = (&last[0], &last[0].candidate);
    assert_eq!((one.body_size, one.body_start.len()), (1 << 20, 4 << 10));
    assert_eq!((did.outputs_count, did.outputs.len()), (100, 8));
    assert_eq!((did.outputs[0].size, did.outputs[0].start.len()), (1 << 20, 1 << 10));
    assert!(did.outputs[0].headers.size() <= 1 << 10 && !did.outputs[0].headers.0.is_empty());
    for text in [&one.subject, &one.told, did.detail.as_ref().unwrap(), &did.outputs[0].subject] {
        assert_eq!(text.chars().count(), 500);
    }
    assert_eq!(books.counts().different, 40, "all of them are counted");
}

#[test]
fn only_what_is_in_its_share_is_copied() {
    let slot = Slot::holding(candidate());
    let (trial, _work) = Trial::shadow(candidate(), "10%".parse().unwrap());
    slot.begin(trial);
    let sees = |id: usize| slot.pick(&copied(id, b"").message).unwrap().shadow(&format!("m-{id}")).is_some();
    let seen: Vec<usize> = (0..100).filter(|id| sees(*id)).collect();
    assert_eq!(seen, [8, 20, 31, 39, 68, 74, 94], "those that a canary would get");
    slot.begin(Trial::canary(candidate(), Share::ALL));
    assert!((0..100).all(|id| !sees(id)), "a canary is no shadow");
}
