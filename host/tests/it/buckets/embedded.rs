//! The buckets of the embedded queue.

use std::sync::Arc;

use rusqlite::Connection;
use tidegate::broker::embedded::{EmbeddedQueue, Options};
use tidegate::broker::{Broker, BucketError, Status};
use tokio::time::timeout;

use super::contract::{bucket_contract, fill};
use super::{bucket, keys, text, value};
use crate::broker_contract::{LONG_LEASE, PATIENCE, Place, ack, eventually, receive_one, settle_one};
use crate::embedded::open;
use crate::embedded_disk::SmallDisk;

async fn place(_name: &'static str) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let (place, _) = open(Options::new(directory.path())).await;
    Place { _keep: Box::new(directory), ..place }
}

bucket_contract!(place);

/// What the store says of a bucket, and what is in it: entries and bytes, each twice.
pub(super) fn books(directory: &std::path::Path, name: &str) -> ((i64, i64), (i64, i64)) {
    let store = Connection::open(directory.join("buckets.db")).unwrap();
    let pair = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let said = store.query_row("SELECT entries, bytes FROM bucket WHERE name = ?1", [name], pair).unwrap();
    let sql = "SELECT count(*), coalesce(sum(octet_length(key) + length(value) + 64), 0) FROM entry
               WHERE bucket = (SELECT id FROM bucket WHERE name = ?1)";
    (said, store.query_row(sql, [name], pair).unwrap())
}

#[tokio::test]
async fn a_queue_whose_handlers_use_no_bucket_has_no_file_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let unused = bucket(&*place.broker, "unused");
    unused.check().await.unwrap();
    // Looking makes nothing: a run without effects does no more.
    assert_eq!(text(&*unused, "a").await, None);
    assert_eq!(unused.exists("a").await, Ok(false));
    assert_eq!(keys(&*unused, 10).await, Vec::<String>::new());
    assert!(!directory.path().join("buckets.db").exists());
    unused.ready().await.unwrap();
    assert!(directory.path().join("buckets.db").exists());
    queue.close().await;
    assert!(!directory.path().join("buckets.db-wal").exists(), "what remains is one file");
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_a_start_and_a_closed_queue_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let seen = bucket(&*place.broker, "seen");
    seen.set("a", "1".into()).await.unwrap();
    let revision = seen.find("a").await.unwrap().revision;
    seen.set("b", "2".into()).await.unwrap();
    seen.delete("b").await.unwrap();
    queue.close().await;
    for refused in [seen.set("a", "2".into()).await.unwrap_err(), seen.find("a").await.map(drop).unwrap_err()] {
        assert!(matches!(&refused, BucketError::Unavailable(why) if why.contains("closed")), "{refused}");
    }
    drop((place, queue));
    let (place, queue) = open(Options::new(directory.path())).await;
    let again = bucket(&*place.broker, "seen");
    assert_eq!(text(&*again, "a").await.as_deref(), Some("1"));
    assert_eq!(keys(&*again, 10).await, ["a"]);
    // What was looked at before the start can still be compared with; and no revision is given twice.
    assert_eq!(again.swap("a", revision, "2".into()).await, Ok(true));
    assert_eq!(again.swap("a", revision, "3".into()).await, Ok(false));
    again.set("c", "3".into()).await.unwrap();
    assert!(again.find("c").await.unwrap().revision > again.find("a").await.unwrap().revision);
    // Dropped without a word, as one that goes out of scope.
    drop((place, queue, again));
    let (said, found) = books(directory.path(), "seen");
    assert_eq!(said, found);
    assert_eq!(found.0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_takes_no_more_than_it_may_and_its_neighbours_do() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { max_bucket_bytes: 300_000, ..Options::new(directory.path()) };
    let (place, queue) = open(options).await;
    let taken = fill(&place.broker, "full").await;
    assert_eq!(taken, 29, "values of 10,000 with their keys, within 300,000");
    let refused = bucket(&*place.broker, "full").set("large", value(100_000)).await.unwrap_err();
    assert!(matches!(&refused, BucketError::Full(why) if why.contains("its limit is 300000")), "{refused}");
    bucket(&*place.broker, "other").set("a", value(100_000)).await.unwrap();
    place.publish("a", ["message"]).await;
    queue.close().await;
    let (said, found) = books(directory.path(), "full");
    assert_eq!(said, found);
}

/// The order of values: buckets stop first, then publishes, and what was confirmed of either is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_stop_before_the_queue_does_when_the_disk_fills_up() {
    let disk = SmallDisk::mount();
    let options = Options { reserve_bytes: 16 << 20, ..Options::new(disk.mounted.join("queue")) };
    let (place, queue) = open(options).await;
    let source = place.subscribe("s", &[">"], LONG_LEASE).await;
    let filling = bucket(&*place.broker, "filling");
    let mut taken = 0;
    let refused = loop {
        match filling.set(&format!("key-{taken}"), value(1 << 20)).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "the disk never filled up");
    };
    assert!(matches!(&refused, BucketError::Full(why) if why.contains("leave 32 MiB to messages")), "{refused}");
    // The queue has what buckets left to it.
    let body = "x".repeat(100_000);
    place.publish("a", (0..50).map(|_| &body)).await;
    settle_one(&*source, ack(&receive_one(&*source).await)).await.unwrap();
    assert_eq!(place.broker.status(), Status::Connected);
    assert_eq!(keys(&*filling, 1000).await.len(), taken);
    for number in 0..taken {
        filling.delete(&format!("key-{number}")).await.unwrap();
    }
    // The file has room inside now.
    eventually("the bucket takes more again", || async { filling.set("again", value(1000)).await.is_ok() }).await;
    timeout(PATIENCE, queue.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_buckets_that_is_damaged_costs_no_message() {
    let directory = tempfile::tempdir().unwrap();
    let options = || Options::new(directory.path());
    std::fs::write(directory.path().join("buckets.db"), vec![7; 50_000]).unwrap();
    let (place, queue) = open(options()).await;
    let source = place.subscribe("s", &[">"], LONG_LEASE).await;
    let damaged = bucket(&*place.broker, "seen");
    for refused in [damaged.ready().await.unwrap_err(), damaged.set("a", value(1)).await.unwrap_err()] {
        assert!(matches!(&refused, BucketError::Unavailable(why) if why.contains("cannot be opened")), "{refused}");
    }
    place.publish("a", ["message"]).await;
    settle_one(&*source, ack(&receive_one(&*source).await)).await.unwrap();
    assert_eq!(place.broker.status(), Status::Connected);
    // A person moves it away, and the next use begins anew.
    std::fs::remove_file(directory.path().join("buckets.db")).unwrap();
    eventually("it is tried again", || async { damaged.set("a", "1".into()).await.is_ok() }).await;
    assert_eq!(text(&*damaged, "a").await.as_deref(), Some("1"));
    queue.close().await;
    drop((place, queue));
    // Pages that are damaged behind a head that is whole.
    let file = directory.path().join("buckets.db");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096..].fill(0xaa);
    std::fs::write(&file, bytes).unwrap();
    let (place, _queue) = open(options()).await;
    let damaged = bucket(&*place.broker, "seen");
    assert!(matches!(damaged.set("a", "2".into()).await, Err(BucketError::Unavailable(_))));
    assert!(damaged.find("a").await.is_err());
    place.publish("a", ["another message"]).await;
    assert_eq!(place.broker.status(), Status::Connected);
}

/// Somebody looks into the file with a SQL shell and holds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_the_file_is_waited_for_and_then_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let (place, _queue) = open(Options::new(directory.path())).await;
    let seen = bucket(&*place.broker, "seen");
    seen.set("a", "1".into()).await.unwrap();
    let held = Connection::open(directory.path().join("buckets.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = seen.set("a", "2".into()).await.unwrap_err();
    assert!(matches!(&refused, BucketError::Unavailable(why) if why.contains("another program")), "{refused}");
    assert_eq!(text(&*seen, "a").await.as_deref(), Some("1"), "reading goes on");
    place.publish("a", ["message"]).await;
    held.execute_batch("ROLLBACK").unwrap();
    seen.set("a", "2".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_together_share_a_commit_and_keep_its_books() {
    let directory = tempfile::tempdir().unwrap();
    let queue = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    let mut writing = tokio::task::JoinSet::new();
    for task in 0..32_u64 {
        let broker: Arc<dyn Broker> = Arc::clone(&queue) as Arc<dyn Broker>;
        writing.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(task);
            let shared = bucket(&*broker, "shared");
            for _ in 0..50 {
                let key = format!("key-{}", rng.u8(0..20));
                match rng.u8(0..4) {
                    0 => shared.delete(&key).await.unwrap(),
                    1 => drop(shared.increment("n", 1).await.unwrap()),
                    2 => {
                        let found = shared.find(&key).await.unwrap();
                        shared.swap(&key, found.revision, value(rng.usize(0..5000))).await.unwrap();
                    }
                    _ => shared.set(&key, value(rng.usize(0..5000))).await.unwrap(),
                }
            }
        });
    }
    writing.join_all().await;
    queue.close().await;
    let (said, found) = books(directory.path(), "shared");
    assert_eq!(said, found);
}
