//! What a handler sees of buckets: `wasi:keyvalue` in a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::broker::embedded::{EmbeddedQueue, Options};
use tidegate::broker::lease::Lease;
use tidegate::broker::{Access, Broker, Bucket};
use tidegate::handler::{Call, Effect, Effects, Handler as _, Run};
use tidegate::outcome::Outcome;
use tidegate::sandbox::granted::{Granted, GrantedBucket};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{LoadError, Version};
use tokio::time::Instant;

use super::{bucket, keys, text};
use crate::jetstream::{connect, options};
use crate::sandbox::{call, message, sandbox};
use crate::support::guests::guest;
use crate::support::nats::NatsServer;

async fn queue() -> (Arc<dyn Broker>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (EmbeddedQueue::open(Options::new(directory.path())).await.unwrap(), directory)
}

fn granted(broker: &dyn Broker) -> Granted {
    let grant = |name: &str, access| {
        let bucket = broker.bucket(name, access).unwrap();
        (name.to_owned(), GrantedBucket { bucket, access })
    };
    let buckets = BTreeMap::from([grant("seen", Access::ReadWrite), grant("shown", Access::Read)]);
    Granted { buckets, ..Granted::default() }
}

async fn load(granted: Granted, limits: &Limits) -> Result<Arc<Version>, LoadError> {
    sandbox().load_granted(guest("key_values"), "key-values", limits, granted).await
}

async fn run(version: &Version, effects: Effects, subject: &str, lines: &[&str]) -> Run {
    let message = message(subject, lines.join("\n"));
    let lease = Lease::until(Instant::now() + Duration::from_secs(60));
    version.handle(Call { effects, ..call(&message, &lease) }).await
}

/// What each line came to.
async fn said(version: &Version, effects: Effects, lines: &[&str]) -> (Vec<String>, Vec<Effect>) {
    let run = run(version, effects, "say", lines).await;
    match run.outcome {
        Outcome::Completed(outputs) => {
            let body = String::from_utf8(outputs[0].body.to_vec()).unwrap();
            (body.lines().map(str::to_owned).collect(), run.effects)
        }
        other => panic!("{other:?}"),
    }
}

/// Each line, and what is said of it.
async fn check(version: &Version, effects: Effects, rows: &[(&str, &str)]) -> Vec<Effect> {
    let lines: Vec<&str> = rows.iter().map(|(line, _)| *line).collect();
    let (said, recorded) = said(version, effects, &lines).await;
    for ((line, expected), said) in rows.iter().zip(&said) {
        assert_eq!(said, expected, "{line}");
    }
    assert_eq!(said.len(), rows.len());
    recorded
}

#[tokio::test]
async fn without_a_grant_it_is_not_loaded_and_the_error_says_which_key_grants_it() {
    let error = sandbox().load(guest("key_values"), "key-values", &Limits::default()).await.unwrap_err();
    assert!(matches!(error, LoadError::UngrantedImport { .. }), "{error:?}");
    assert!(error.to_string().contains("wasi:keyvalue/store@0.2.0-draft2"), "{error}");
    assert!(error.to_string().contains("buckets.NAME"), "{error}");
}

const EVERY_CALL: [(&str, &str); 22] = [
    ("open\tseen", "open"),
    ("get\tseen\ta", "nothing"),
    ("exists\tseen\ta", "false"),
    ("set\tseen\ta\tone", "done"),
    ("get\tseen\ta", "`one`"),
    ("exists\tseen\ta", "true"),
    ("delete\tseen\ta", "done"),
    ("get\tseen\ta", "nothing"),
    ("add\tseen\tn\t5", "5"),
    ("add\tseen\tn\t-7", "-2"),
    ("swap\tseen\tc\tfirst", "swapped"),
    ("race\tseen\tc\tother\tsecond", "swapped after `other`"),
    ("look\tseen\tc\tthird", "`second`"),
    ("get\tseen\tc", "`third`"),
    ("set-many\tseen\tx=1\ty=22\tz=333", "done"),
    ("get-many\tseen\ty\tnone\tx", "y=2 - x=1"),
    ("delete-many\tseen\tx\tnone\ty", "done"),
    ("list\tseen", "3 true c z"),
    ("set\tseen\tn\tword", "done"),
    ("add\tseen\tn\t1", "what stands under the key is not a whole number that this can be added to"),
    ("set\tseen\t\tempty", "a key has from 1 to 1024 bytes, and this one has 0"),
    ("fill\tseen\tlarge\t1048577", "the value has 1048577 bytes, and the bucket takes at most 1048576"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_does_what_it_says_on_every_broker() {
    let (queue, _directory) = queue().await;
    let server = NatsServer::start().await;
    let (nats, _folder) = connect(options(&server)).await;
    let nats: Arc<dyn Broker> = nats;
    for broker in [queue, nats] {
        // Read before it is there.
        bucket(&*broker, "shown").set("a", "1".into()).await.unwrap();
        let version = load(granted(&*broker), &Limits::default()).await.unwrap();
        let recorded = check(&version, Effects::Real, &EVERY_CALL).await;
        assert_eq!(recorded, [], "what is done is not what would have been done");
        let seen = bucket(&*broker, "seen");
        assert_eq!(keys(&*seen, 10).await, ["c", "n", "z"]);
        assert_eq!(text(&*seen, "c").await.as_deref(), Some("third"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_granted_is_denied() {
    let (queue, _directory) = queue().await;
    bucket(&*queue, "shown").set("a", "1".into()).await.unwrap();
    let version = load(granted(&*queue), &Limits::default()).await.unwrap();
    for effects in [Effects::Real, Effects::Suppressed] {
        let rows = [
            ("open\tother", "access denied"),
            ("open\t", "access denied"),
            ("get\tshown\ta", "`1`"),
            ("list\tshown", "1 true a a"),
            ("get-many\tshown\ta", "a=1"),
            ("set\tshown\ta\t2", "access denied"),
            ("delete\tshown\ta", "access denied"),
            ("add\tshown\ta\t1", "access denied"),
            ("swap\tshown\ta\t2", "access denied"),
            ("set-many\tshown\ta=2", "access denied"),
            ("delete-many\tshown\ta", "access denied"),
        ];
        assert_eq!(check(&version, effects, &rows).await, []);
    }
    assert_eq!(text(&*bucket(&*queue, "shown"), "a").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_effects_a_run_sees_what_it_wrote_and_nobody_else_does() {
    let (queue, _directory) = queue().await;
    let seen = bucket(&*queue, "seen");
    // One instance for all runs: what one wrote is not there for the next.
    let limits = Limits { reuse: std::num::NonZeroU32::new(100).unwrap(), ..Limits::default() };
    let version = load(granted(&*queue), &limits).await.unwrap();
    for _ in 0..2 {
        let recorded = check(&version, Effects::Suppressed, &EVERY_CALL).await;
        let set = |key: &str, bytes| Effect::Set { bucket: "seen".into(), key: key.into(), bytes };
        let deleted = |key: &str| Effect::Deleted { bucket: "seen".into(), key: key.into() };
        let added = |by| Effect::Incremented { bucket: "seen".into(), key: "n".into(), by };
        let expected = [
            set("a", 3),
            deleted("a"),
            added(5),
            added(-7),
            set("c", 5),
            set("c", 5),
            set("c", 6),
            set("c", 5),
            set("x", 1),
            set("y", 2),
            set("z", 3),
            deleted("x"),
            deleted("none"),
            deleted("y"),
            set("n", 4),
        ];
        assert_eq!(recorded, expected);
        assert_eq!(keys(&*seen, 10).await, Vec::<String>::new());
    }
    // What stands there is seen, and stays.
    seen.set("n", "41".into()).await.unwrap();
    seen.set("m", "1".into()).await.unwrap();
    let rows = [("add\tseen\tn\t1", "42"), ("delete\tseen\tm", "done"), ("list\tseen", "1 true n n")];
    check(&version, Effects::Suppressed, &rows).await;
    assert_eq!(text(&*seen, "n").await.as_deref(), Some("41"));
    assert_eq!(keys(&*seen, 10).await, ["m", "n"]);
    // And a run with effects does what it says.
    let rows = [("get\tseen\tm", "`1`"), ("add\tseen\tn\t1", "42")];
    assert_eq!(check(&version, Effects::Real, &rows).await, []);
    assert_eq!(text(&*seen, "n").await.as_deref(), Some("42"));
}

#[tokio::test]
async fn a_module_without_a_configuration_finds_every_bucket_empty() {
    let version = load(Granted::anything(), &Limits::default()).await.unwrap();
    let recorded = check(&version, Effects::Suppressed, &EVERY_CALL).await;
    assert_eq!(recorded.len(), 15);
    let rows = [("get\tanother\ta", "nothing"), ("open\tno name", "access denied")];
    check(&version, Effects::Suppressed, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_held_to_its_limits() {
    let (queue, _directory) = queue().await;
    let seen = bucket(&*queue, "seen");
    seen.set("large", super::value(400_000)).await.unwrap();
    let limits = Limits { output_bytes: 1_000_000, host_calls: 200, ..Limits::default() };
    let version = load(granted(&*queue), &limits).await.unwrap();
    let outcomes = [
        ("without-end\tseen\ta", "output-limit", "more than 200 calls into the host"),
        ("write-without-end\tseen\ta\t100000", "output-limit", "more than 1000000 bytes written into buckets"),
        ("hoard\tseen\tlarge", "output-limit", "more than 1000000 bytes held to be compared with"),
    ];
    for effects in [Effects::Real, Effects::Suppressed] {
        for (line, code, detail) in outcomes {
            let run = run(&version, effects, "say", &[line]).await;
            let Outcome::Fault(fault) = &run.outcome else { panic!("{line}: {:?}", run.outcome) };
            assert_eq!((run.outcome.code().0, fault.detail.as_str()), (code, detail), "{line}");
        }
        let rows = [
            ("get-many\tseen\tlarge\tlarge", "large=400000 large=400000"),
            (
                "get-many\tseen\tlarge\tlarge\tlarge",
                "the values together have more than 1000000 bytes; ask for fewer at once",
            ),
        ];
        check(&version, effects, &rows).await;
    }
    // A batch counts each of its keys.
    let keys = vec!["a"; 201].join("\t");
    let run = run(&version, Effects::Real, "say", &[&format!("get-many\tseen\t{keys}")]).await;
    assert_eq!(run.outcome.code().0, "output-limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_ends_the_run_at_its_time_and_at_its_lease() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    bucket(&*broker, "seen").set("a", "1".into()).await.unwrap();
    bucket(&*broker, "shown").set("a", "1".into()).await.unwrap();
    let limits = Limits { timeout: Duration::from_millis(300), ..Limits::default() };
    let short = load(granted(&*broker), &limits).await.unwrap();
    check(&short, Effects::Real, &[("get\tseen\ta", "`1`")]).await;
    let long = load(granted(&*broker), &Limits::default()).await.unwrap();
    server.freeze();
    for line in ["get\tseen\ta", "add\tseen\tn\t1", "list\tseen", "get-many\tseen\ta\tb"] {
        let run = run(&short, Effects::Real, "say", &[line]).await;
        assert_eq!(run.outcome.code().0, "timeout", "{line}");
        let message = message("say", line);
        let lease = Lease::until(Instant::now() + Duration::from_millis(300));
        let run = long.handle(call(&message, &lease)).await;
        assert_eq!(run.outcome.code().0, "interrupted", "{line}");
    }
}

/// A bucket that cannot be used is an error that the handler sees, and not the end of its run.
#[tokio::test]
async fn a_broker_that_is_not_there_is_told_to_the_handler() {
    let directory = tidegate::broker::Directory::new(BTreeMap::new());
    let later: Arc<dyn Bucket> = directory.bucket("queue", "seen", Access::ReadWrite);
    let grant = GrantedBucket { bucket: later, access: Access::ReadWrite };
    let granted = Granted { buckets: BTreeMap::from([("seen".to_owned(), grant)]), ..Granted::default() };
    let version = load(granted, &Limits::default()).await.unwrap();
    let away = "the broker did not confirm: broker `queue` is not open";
    check(&version, Effects::Real, &[("get\tseen\ta", away), ("set\tseen\ta\t1", away)]).await;
    let left = run(&version, Effects::Real, "do", &["set\tseen\ta\t1"]).await;
    assert_eq!(left.outcome.code().0, "handler-retry");
    // It comes, goes, and comes again as another one.
    for _ in 0..2 {
        let (broker, _folder) = queue().await;
        let named = tidegate::broker::NamedBroker { kind: "embedded", broker: Arc::clone(&broker) };
        directory.add(&BTreeMap::from([("queue".to_owned(), named)]));
        check(&version, Effects::Real, &[("add\tseen\tn\t1", "1")]).await;
        broker.close().await;
        directory.remove("queue");
        check(&version, Effects::Real, &[("get\tseen\tn", away)]).await;
    }
}
