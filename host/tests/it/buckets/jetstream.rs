//! The buckets of NATS: what other programs see of them, and what the server does meanwhile.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::{Config, Store};
use futures_util::StreamExt as _;
use tidegate::broker::bucket::MAX_VALUE_BYTES;
use tidegate::broker::jetstream::{Auth, BucketOptions, JetStream, Options};
use tidegate::broker::{Access, Broker, BucketError};
use tokio::time::timeout;

use super::contract::{bucket_contract, fill};
use super::{bucket, keys, text, value};
use crate::broker_contract::{PATIENCE, Place};
use crate::jetstream::{connect, options, place_on};
use crate::support::nats::NatsServer;

async fn place(_name: &'static str) -> Place {
    let server = NatsServer::start().await;
    let (broker, folder) = connect(options(&server)).await;
    place_on(broker, (server, folder))
}

bucket_contract!(place);

/// A domain puts the subjects of buckets elsewhere.
async fn place_in_a_domain(_name: &'static str) -> Place {
    let server = NatsServer::start_with("jetstream { domain: hub, store_dir: \"$DIR/store\" }").await;
    let (broker, folder) = connect(Options { domain: Some("hub".to_owned()), ..options(&server) }).await;
    place_on(broker, (server, folder))
}

mod in_a_domain {
    use super::*;

    bucket_contract!(place_in_a_domain:
        what_is_set_is_found_and_what_is_deleted_is_not
        a_swap_is_done_only_over_what_was_found
        whoever_adds_at_once_is_counted
    );
}

/// With three copies, a write is there when most of them have it.
mod on_a_cluster {
    use super::*;

    bucket_contract!(crate::jetstream::cluster::place);
}

async fn store(server: &NatsServer, bucket: &str) -> Store {
    async_nats::jetstream::new(server.client().await).get_key_value(bucket).await.unwrap()
}

/// The messages that the stream of a bucket keeps.
async fn kept(server: &NatsServer, bucket: &str) -> u64 {
    let context = async_nats::jetstream::new(server.client().await);
    let mut stream = context.get_stream(format!("KV_{bucket}")).await.unwrap();
    stream.info().await.unwrap().state.messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tools_of_nats_see_what_a_handler_writes_and_it_sees_what_they_write() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let seen = bucket(&*broker, "seen");
    seen.set("orders.17", "one".into()).await.unwrap();
    seen.set("order:17", "two".into()).await.unwrap();
    let tools = store(&server, "seen").await;
    assert_eq!(tools.get("orders.17").await.unwrap().unwrap(), "one");
    assert_eq!(tools.get("order=3A17").await.unwrap().unwrap(), "two");
    let client = server.client().await;
    let mut words = client.subscribe("$KV.seen.>").await.unwrap();
    client.flush().await.unwrap();
    tools.put("theirs", "three".into()).await.unwrap();
    tools.put("n", "41".into()).await.unwrap();
    // None that a handler could name, and so it is not shown.
    tools.put("a=b", "four".into()).await.unwrap();
    assert_eq!(text(&*seen, "theirs").await.as_deref(), Some("three"));
    assert_eq!(seen.increment("n", 1).await, Ok(42));
    tools.delete("theirs").await.unwrap();
    assert_eq!(text(&*seen, "theirs").await, None);
    assert_eq!(keys(&*seen, 10).await, ["n", "order:17", "orders.17"]);
    // What they removed can be compared with, too.
    let removed = seen.find("theirs").await.unwrap();
    assert_eq!(seen.swap("theirs", removed.revision, "again".into()).await, Ok(true));
    // What is removed is said, for those who watch, and nothing of it stays in the bucket.
    let before = kept(&server, "seen").await;
    seen.delete("orders.17").await.unwrap();
    seen.delete("nothing").await.unwrap();
    assert_eq!(kept(&server, "seen").await, before - 1);
    let mut removed = Vec::new();
    while removed.last().is_none_or(|last| last != "$KV.seen.nothing") {
        let word = timeout(PATIENCE, words.next()).await.unwrap().unwrap();
        let operation = word.headers.as_ref().and_then(|headers| headers.get("KV-Operation"));
        if operation.is_some_and(|operation| operation.as_str() == "DEL") {
            removed.push(word.subject.to_string());
        }
    }
    assert_eq!(removed, ["$KV.seen.theirs", "$KV.seen.orders.17", "$KV.seen.nothing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_add_at_once_and_both_are_counted() {
    let server = NatsServer::start().await;
    let mut adding = tokio::task::JoinSet::new();
    let mut folders = Vec::new();
    for _ in 0..2 {
        let (broker, folder) = connect(options(&server)).await;
        folders.push(folder);
        for _ in 0..4 {
            let counts = bucket(&*broker, "counts");
            adding.spawn(async move {
                for _ in 0..50 {
                    counts.increment("n", 1).await.unwrap();
                }
            });
        }
    }
    adding.join_all().await;
    assert_eq!(store(&server, "counts").await.get("n").await.unwrap().unwrap(), "400");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_bucket_takes_no_more_and_is_emptied() {
    let server = NatsServer::start().await;
    let buckets = BucketOptions { replicas: 1, max_bytes: 300_000 };
    let (broker, _folder) = connect(Options { buckets, ..options(&server) }).await;
    let broker: Arc<dyn Broker> = broker;
    fill(&broker, "full").await;
    bucket(&*broker, "other").set("a", value(100_000)).await.unwrap();
    // To the last byte: there is no room for the word that something is removed.
    let full = bucket(&*broker, "full");
    let mut last = String::new();
    for size in [1000, 100, 10, 1] {
        for number in 0.. {
            let key = format!("small-{size}-{number}");
            if full.set(&key, value(size)).await.is_err() {
                break;
            }
            last = key;
        }
    }
    assert_eq!(full.exists(&last).await, Ok(true));
    let before = kept(&server, "full").await;
    full.delete(&last).await.unwrap();
    assert_eq!(full.exists(&last).await, Ok(false));
    assert_eq!(kept(&server, "full").await, before - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_less_has_smaller_values() {
    let server = NatsServer::start_with("max_payload: 64KB").await;
    let (broker, _folder) = connect(options(&server)).await;
    let seen = bucket(&*broker, "seen");
    let limit = 64 << 10;
    let refused = seen.set("a", value(limit + 1)).await.unwrap_err();
    assert_eq!(refused, BucketError::TooLarge { size: limit + 1, limit });
    seen.set("a", value(limit)).await.unwrap();
    // What it is compared by goes along.
    let refused = seen.swap("b", 0, value(limit)).await.unwrap_err();
    assert!(matches!(refused, BucketError::TooLarge { .. }), "{refused}");
    assert_eq!(seen.swap("b", 0, value(limit - 1000)).await, Ok(true));
    assert!(seen.set("c", value(MAX_VALUE_BYTES)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_others_is_used_when_it_loses_nothing_and_fills_no_disk() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let context = async_nats::jetstream::new(server.client().await);
    let make = async |name: &str, max_bytes: i64, history: i64| {
        let config = Config { bucket: name.to_owned(), max_bytes, history, ..Config::default() };
        context.create_key_value(config).await.unwrap()
    };
    // With values of before, which are none of its keys.
    let theirs = make("bounded", 1 << 20, 5).await;
    for round in 0..5 {
        for key in ["a", "b", "c"] {
            theirs.put(key, round.to_string().into()).await.unwrap();
        }
    }
    theirs.delete("b").await.unwrap();
    let bounded = bucket(&*broker, "bounded");
    bounded.check().await.unwrap();
    for limit in 1..4 {
        assert_eq!(keys(&*bounded, limit).await, ["a", "c"]);
    }
    bounded.set("a", "5".into()).await.unwrap();
    assert_eq!(bounded.increment("c", 1).await, Ok(5));
    make("unbounded", -1, 1).await;
    let unbounded = bucket(&*broker, "unbounded");
    for refused in [
        unbounded.ready().await.unwrap_err(),
        unbounded.check().await.unwrap_err(),
        unbounded.set("a", value(1)).await.unwrap_err(),
    ] {
        let text = refused.to_string();
        assert!(text.contains("max_bytes is without end") && text.contains("nats stream edit KV_unbounded"), "{text}");
    }
    // For reading it does.
    let read = broker.bucket("unbounded", Access::Read).unwrap();
    read.ready().await.unwrap();
    assert_eq!(text(&*read, "a").await, None);
    // Mended as the text says, it is used at once.
    let mut config = context.get_stream("KV_unbounded").await.unwrap().cached_info().config.clone();
    config.max_bytes = 1 << 20;
    context.update_stream(config).await.unwrap();
    unbounded.set("a", "1".into()).await.unwrap();
    // Nothing is made for whoever may only read.
    let missing = broker.bucket("missing", Access::Read).unwrap();
    let refused = missing.find("a").await.unwrap_err().to_string();
    assert!(refused.contains("nats kv add missing"), "{refused}");
    assert!(context.get_stream("KV_missing").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_and_comes_again_has_what_was_confirmed() {
    let mut server = NatsServer::start().await;
    let request_timeout = Duration::from_secs(1);
    let (broker, _folder) = connect(Options { request_timeout, ..options(&server) }).await;
    let counts = bucket(&*broker, "counts");
    for number in 1..=20 {
        assert_eq!(counts.increment("n", 1).await, Ok(number));
    }
    // As a machine that hangs: nobody waits without an end.
    server.freeze();
    let refused = timeout(PATIENCE, counts.increment("n", 1)).await.unwrap().unwrap_err();
    assert!(matches!(refused, BucketError::Unavailable(_)), "{refused}");
    let limit = NonZeroU32::new(10).unwrap();
    let refused = timeout(PATIENCE, counts.keys(None, limit)).await.unwrap().unwrap_err();
    assert!(matches!(refused, BucketError::Unavailable(_)), "{refused}");
    server.kill();
    let refused = timeout(PATIENCE, counts.set("a", value(1))).await.unwrap().unwrap_err();
    assert!(matches!(refused, BucketError::Unavailable(_)), "{refused}");
    server.restart().await;
    let again = async {
        loop {
            match counts.increment("n", 0).await {
                Ok(sum) => return sum,
                Err(BucketError::Unavailable(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    // One was not confirmed, and may have been done.
    let sum = timeout(PATIENCE, again).await.unwrap();
    assert!((20..=21).contains(&sum), "{sum}");
    // Somebody removes the bucket: it is made anew.
    let context = async_nats::jetstream::new(server.client().await);
    context.delete_stream("KV_counts").await.unwrap();
    let made = async { while counts.increment("n", 1).await.is_err() {} };
    timeout(PATIENCE, made).await.unwrap();
    assert_eq!(text(&*counts, "n").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_permitted_is_told() {
    let users =
        "{ user: host, password: word, permissions: { publish: { deny: [\"$JS.API.STREAM.CREATE.KV_seen\"] } } }";
    let server = NatsServer::start_with(&format!("authorization: {{ users: [ {users} ] }}")).await;
    let auth = Auth::UserPassword { user: "host".to_owned(), password: "word".to_owned() };
    let request_timeout = Duration::from_secs(1);
    let (broker, _folder) = connect(Options { auth, request_timeout, ..options(&server) }).await;
    let refused = bucket(&*broker, "seen").ready().await.unwrap_err().to_string();
    let denied =
        "the server does not permit it: Permissions Violation for Publish to \"$JS.API.STREAM.CREATE.KV_seen\"";
    assert!(refused.contains(denied), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_into_a_bucket_makes_none() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let context = async_nats::jetstream::new(server.client().await);
    let unmade = bucket(&*broker, "unmade");
    unmade.check().await.unwrap();
    assert_eq!(text(&*unmade, "a").await, None);
    assert_eq!(unmade.exists("a").await, Ok(false));
    assert_eq!(keys(&*unmade, 10).await, Vec::<String>::new());
    assert!(context.get_stream("KV_unmade").await.is_err());
    // What was found there can be compared with when it is made.
    let none = unmade.find("a").await.unwrap();
    assert_eq!(unmade.swap("a", none.revision, "1".into()).await, Ok(true));
    assert_eq!(text(&*unmade, "a").await.as_deref(), Some("1"));
    // Removed by somebody, it is empty again for whoever looks, and not made.
    context.delete_stream("KV_unmade").await.unwrap();
    let looked = async { while unmade.find("a").await.is_err() {} };
    timeout(PATIENCE, looked).await.unwrap();
    assert_eq!(text(&*unmade, "a").await, None);
    assert!(context.get_stream("KV_unmade").await.is_err());
}

/// Opened by two hosts at once, which is when it is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_make_a_bucket_at_once_have_the_same() {
    let server = NatsServer::start().await;
    let mut hosts: Vec<(Arc<JetStream>, _)> = Vec::new();
    for max_bytes in [300_000, 400_000, 300_000] {
        let buckets = BucketOptions { replicas: 1, max_bytes };
        hosts.push(connect(Options { buckets, ..options(&server) }).await);
    }
    let opened = hosts.iter().map(|(broker, _)| {
        let seen = bucket(&**broker, "seen");
        async move { seen.ready().await }
    });
    futures_util::future::try_join_all(opened).await.unwrap();
    bucket(&*hosts[0].0, "seen").set("a", "1".into()).await.unwrap();
    assert_eq!(text(&*bucket(&*hosts[1].0, "seen"), "a").await.as_deref(), Some("1"));
}
