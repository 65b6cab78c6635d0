//! The buckets of a cluster: who is second is told, what nobody names goes, and what the tools of NATS see is the same.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use tidegate::broker::Broker as _;
use tidegate::broker::jetstream::{Auth, BucketError, Buckets, Held, Keys, Options, SwapError};

use super::{connect, options};
use crate::support::nats::NatsServer;

const WAIT: Duration = Duration::from_secs(5);

async fn read(buckets: &Buckets, name: &str) -> Result<Vec<u8>, BucketError> {
    let (mut reader, mut bytes) = (buckets.read_module(name).await?, Vec::new());
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn value(text: &str) -> Option<bytes::Bytes> {
    Some(text.to_owned().into())
}

#[tokio::test]
async fn of_two_who_replace_a_key_the_second_is_told() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let buckets = broker.buckets("tidegate-x", 1).unwrap();
    buckets.ready(WAIT).await.unwrap();
    assert_eq!(buckets.get(Keys::Desired, "h").await.unwrap(), Held::default());
    let first = buckets.swap(Keys::Desired, "h", value("one").unwrap(), 0).await.unwrap();
    assert_eq!(buckets.swap(Keys::Desired, "h", value("other").unwrap(), 0).await, Err(SwapError::Conflict));
    assert_eq!(buckets.get(Keys::Desired, "h").await.unwrap(), Held { value: value("one"), revision: first });
    let second = buckets.swap(Keys::Desired, "h", value("two").unwrap(), first).await.unwrap();
    assert_eq!(buckets.swap(Keys::Desired, "h", value("late").unwrap(), first).await, Err(SwapError::Conflict));
    // Somebody removes it with a tool: it can be set again by whoever knows.
    let store = async_nats::jetstream::new(server.client().await).get_key_value("tidegate-x-desired").await.unwrap();
    assert_eq!(store.get("h").await.unwrap(), value("two"));
    store.delete("h").await.unwrap();
    let removed = buckets.get(Keys::Desired, "h").await.unwrap();
    assert!(removed.value.is_none() && removed.revision > second, "{removed:?}");
    buckets.swap(Keys::Desired, "h", value("again").unwrap(), removed.revision).await.unwrap();
    assert_eq!(buckets.keys_of_desired().await.unwrap(), ["h"]);
    let mut watch = buckets.watch(Keys::Desired).await.unwrap();
    let shown = watch.next().await.unwrap();
    assert_eq!((shown.key.as_str(), shown.value), ("h", value("again")));
    drop(broker);
}

#[tokio::test]
async fn what_nobody_names_is_removed_and_what_was_put_anew_stays() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let buckets = broker.buckets("tidegate-x", 1).unwrap();
    let module: Vec<u8> = (0..1_000_003u32).map(|number| number as u8).collect();
    for name in ["named", "unnamed"] {
        buckets.put_module(name, &module).await.unwrap();
    }
    assert_eq!(read(&buckets, "named").await.unwrap(), module);
    assert_eq!(read(&buckets, "nothing").await, Err(BucketError::NoModule("nothing".to_owned())));
    // A host died while it put a module: pieces without a name.
    let client = server.client().await;
    let context = async_nats::jetstream::new(client.clone());
    context.publish("$O.tidegate-x-modules.C.PIECES", "half".into()).await.unwrap().await.unwrap();
    let stream = context.get_stream("OBJ_tidegate-x-modules").await.unwrap();
    let pieces = || async { stream.get_last_raw_message_by_subject("$O.tidegate-x-modules.C.PIECES").await.is_ok() };
    let named = BTreeSet::from(["named".to_owned()]);
    let put_at = buckets.module_put_at("unnamed").await.unwrap().unwrap();
    assert_eq!(buckets.collect_modules(&named, put_at).await.unwrap(), 0, "it is too young");
    assert!(pieces().await);
    let later = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(buckets.collect_modules(&named, later).await.unwrap(), 1);
    assert!(!pieces().await);
    assert_eq!(buckets.module_put_at("unnamed").await.unwrap(), None);
    // Not even that it was removed: what is said there for ever is asked for at each removal.
    let said = stream.info_with_subjects("$O.tidegate-x-modules.>").await.unwrap();
    assert_eq!(said.count().await, 2, "what is said of the named one, and its pieces");
    assert_eq!(read(&buckets, "named").await.unwrap(), module);
    buckets.put_module("unnamed", &module).await.unwrap();
    assert_eq!(read(&buckets, "unnamed").await.unwrap(), module);
    drop(broker);
}

#[tokio::test]
async fn a_module_with_missing_pieces_is_not_waited_for() {
    let server = NatsServer::start().await;
    let mut options = options(&server);
    options.request_timeout = Duration::from_secs(1);
    let (broker, _folder) = connect(options).await;
    let buckets = broker.buckets("tidegate-x", 1).unwrap();
    buckets.put_module("m", &vec![1; 300_000]).await.unwrap();
    let stream = async_nats::jetstream::new(server.client().await).get_stream("OBJ_tidegate-x-modules").await.unwrap();
    stream.purge().filter("$O.tidegate-x-modules.C.*").await.unwrap();
    assert!(matches!(read(&buckets, "m").await, Err(BucketError::Away(_) | BucketError::Damaged { .. })));
    drop(broker);
}

/// Removes a stream, and makes another of the same settings in its place when it is said.
async fn remove(server: &NatsServer, stream: &str, anew: bool) {
    let context = async_nats::jetstream::new(server.client().await);
    let config = context.get_stream(stream).await.unwrap().cached_info().config.clone();
    context.delete_stream(stream).await.unwrap();
    if !anew {
        return;
    }
    // Right behind its removal a busy nats-server 2.15.1 makes it with the messages that it had, once in some tries.
    while context.create_stream(config.clone()).await.unwrap().cached_info().state.messages > 0 {
        context.delete_stream(stream).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_when_its_bucket_is_removed_and_the_next_one_finds_what_is_there() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let buckets = broker.buckets("tidegate-x", 1).unwrap();
    for anew in [false, true] {
        let mut watch = buckets.watch(Keys::Desired).await.unwrap();
        for revision in 0..5 {
            let revision = buckets.swap(Keys::Desired, "h", value("one").unwrap(), revision).await.unwrap();
            assert_eq!(watch.next().await.unwrap().key, "h", "{revision}");
        }
        remove(&server, "KV_tidegate-x-desired", anew).await;
        if anew {
            // What is put into it now stands at a sequence that the watch has seen long ago.
            buckets.swap(Keys::Desired, "h", value("two").unwrap(), 0).await.unwrap();
        }
        assert_eq!(tokio::time::timeout(WAIT * 6, watch.next()).await.unwrap(), None, "made anew: {anew}");
        let mut watch = buckets.watch(Keys::Desired).await.unwrap();
        if !anew {
            assert_eq!(buckets.get(Keys::Desired, "h").await.unwrap(), Held::default(), "it is there again, and empty");
            buckets.swap(Keys::Desired, "h", value("two").unwrap(), 0).await.unwrap();
        }
        assert_eq!(watch.next().await.unwrap().value, value("two"));
        remove(&server, "KV_tidegate-x-desired", false).await;
    }
    // Whoever uses a bucket that was just removed is told once; then it is there.
    assert!(buckets.get(Keys::Desired, "h").await.is_err());
    assert_eq!(buckets.get(Keys::Desired, "h").await.unwrap(), Held::default());
    drop(broker);
}

/// The permissions of `docs/cluster.md`, as they stand there.
fn permissions() -> String {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cluster.md");
    let text = std::fs::read_to_string(page).unwrap();
    let (_, rest) = text.split_once("```\npublish: [").unwrap();
    let (block, _) = rest.split_once("\n```").unwrap();
    format!("publish: [{block}")
}

/// A server with two users: one who may do what the page names, and one who may do all but change what is to run.
async fn with_permissions() -> NatsServer {
    let may_not = "publish: { deny: [\"$KV.tidegate-main-desired.>\"] }";
    let user = |name: &str, may: &str| format!("{{ user: {name}, password: word, permissions: {{ {may} }} }}");
    let users = [user("host", &permissions()), user("guest", may_not)].join("\n");
    NatsServer::start_with(&format!("authorization: {{ users: [\n{users}\n] }}")).await
}

fn user(server: &NatsServer, name: &str) -> Options {
    let auth = Auth::UserPassword { user: name.to_owned(), password: "word".to_owned() };
    Options { auth, request_timeout: Duration::from_secs(2), ..options(server) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_that_the_page_names_are_enough() {
    let server = with_permissions().await;
    let (broker, _folder) = connect(user(&server, "host")).await;
    let buckets = broker.buckets("tidegate-main", 1).unwrap();
    buckets.ready(WAIT).await.unwrap();
    let mut hosts = buckets.watch(Keys::Hosts).await.unwrap();
    let mut desired = buckets.watch(Keys::Desired).await.unwrap();
    buckets.swap(Keys::Desired, "h", value("one").unwrap(), 0).await.unwrap();
    assert_eq!(desired.next().await.unwrap().value, value("one"));
    buckets.say("a", value("word").unwrap()).await.unwrap();
    assert_eq!(hosts.next().await.unwrap().value, value("word"));
    assert_eq!(buckets.get(Keys::Desired, "h").await.unwrap().value, value("one"));
    assert_eq!(buckets.keys_of_desired().await.unwrap(), ["h"]);
    let module = vec![7; 300_000];
    for _ in 0..2 {
        buckets.put_module("m", &module).await.unwrap();
    }
    assert_eq!(read(&buckets, "m").await.unwrap(), module);
    assert!(buckets.module_put_at("m").await.unwrap().is_some());
    let later = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(buckets.collect_modules(&BTreeSet::new(), later).await.unwrap(), 1);
    drop(broker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_permitted_is_not_done_and_says_so() {
    let server = with_permissions().await;
    let (broker, _folder) = connect(user(&server, "guest")).await;
    let buckets = broker.buckets("tidegate-main", 1).unwrap();
    buckets.ready(WAIT).await.unwrap();
    match buckets.swap(Keys::Desired, "h", value("one").unwrap(), 0).await {
        Err(SwapError::Unconfirmed(why)) => assert!(why.contains("whether the credentials permit it"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(buckets.get(Keys::Desired, "h").await.unwrap(), Held::default());
    drop(broker);
    // One who may not even ask whether the buckets are there.
    let (broker, _folder) = connect(user(&server, "host")).await;
    let error = broker.buckets("tidegate-other", 1).unwrap().ready(WAIT).await.unwrap_err();
    let denied = "the server does not permit it: Permissions Violation for Publish to \"$JS.API.STREAM.INFO.";
    assert!(error.to_string().contains(denied), "{error}");
    drop(broker);
}
