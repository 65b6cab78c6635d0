//! The embedded queue beside SQLite alone doing the same writes, in the same run, at a small and a large backlog.
//!
//! `cargo bench -p tidegate --bench embedded -- [--messages N] [--backlogs 10000,10000000] [--directory PATH]`
//!
//! Both take in messages of 256 B with an id each, and then hand out and remove them. The queue: from 64 tasks,
//! confirmed after the fsync, through leases. SQLite alone: one loop over prepared statements on the same tables, in
//! groups of the size that the queue came to.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and stops where it cannot go on; its figures are not exact to 53 bits"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, params};
use tidegate::broker::embedded::{EmbeddedQueue, Options};
use tidegate::broker::{Broker, Demand, Settle, Settlement, Source, SubscriptionSpec};
use tidegate::message::{Headers, Publish};

/// Publishers and, over all of them, messages that wait for their confirmation: 64 x 8.
const PUBLISHERS: u64 = 64;
const AT_ONCE: u64 = 8;
/// Receivers, and what each asks for at once.
const RECEIVERS: u64 = 4;
const DEMAND: usize = 128;
const BODY: [u8; 256] = [b'x'; 256];

struct Arguments {
    messages: u64,
    backlogs: Vec<u64>,
    directory: PathBuf,
}

fn arguments() -> Arguments {
    let mut given =
        Arguments { messages: 200_000, backlogs: vec![10_000, 10_000_000], directory: std::env::temp_dir() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--messages" => given.messages = arguments.next().unwrap().parse().unwrap(),
            "--backlogs" => {
                given.backlogs = arguments.next().unwrap().split(',').map(|number| number.parse().unwrap()).collect();
            }
            "--directory" => given.directory = PathBuf::from(arguments.next().unwrap()),
            // Cargo's own.
            _ => {}
        }
    }
    given
}

/// Messages a second of each of the two halves.
#[derive(Clone, Copy)]
struct Rates {
    publish: f64,
    consume: f64,
}

fn main() {
    let arguments = arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{} messages of {} B in each measurement, confirmed after fsync\n", arguments.messages, BODY.len());
    println!(
        "{:>10}  {:<14} {:>12} {:>9} {:>16} {:>9}",
        "backlog", "", "publish/s", "us each", "receive + ack/s", "us each"
    );
    let mut first: Option<Rates> = None;
    for backlog in arguments.backlogs {
        let directory = tempfile::tempdir_in(&arguments.directory).unwrap();
        let ours = runtime.block_on(queue(directory.path(), backlog, arguments.messages));
        drop(directory);
        let directory = tempfile::tempdir_in(&arguments.directory).unwrap();
        let bare = bare(directory.path(), backlog, arguments.messages);
        line(backlog, "the queue", ours);
        line(backlog, "SQLite alone", bare);
        println!(
            "{:>10}  {:<14} {:>12.2} {:>9} {:>16.2}",
            backlog,
            "ratio",
            ours.publish / bare.publish,
            "",
            ours.consume / bare.consume
        );
        if let Some(first) = first {
            let (publish, consume) = (ours.publish / first.publish, ours.consume / first.consume);
            println!("{backlog:>10}  {:<14} {publish:>12.2} {:>9} {consume:>16.2}", "to the first", "");
        }
        first.get_or_insert(ours);
    }
}

fn line(backlog: u64, name: &str, rates: Rates) {
    let (publish, consume) = (1e6 / rates.publish, 1e6 / rates.consume);
    println!("{backlog:>10}  {name:<14} {:>12.0} {publish:>9.2} {:>16.0} {consume:>9.2}", rates.publish, rates.consume);
}

fn rate(messages: u64, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

fn message(n: u64) -> Publish {
    Publish {
        subject: "bench.event".to_owned(),
        id: Some(format!("b3f7c2d1-{n:027}")),
        headers: Headers::default(),
        body: Bytes::from_static(&BODY),
    }
}

async fn queue(directory: &Path, backlog: u64, messages: u64) -> Rates {
    let queue = EmbeddedQueue::open(Options::new(directory)).await.unwrap();
    let spec = SubscriptionSpec {
        name: "bench".to_owned(),
        stream: None,
        subjects: vec!["bench.>".to_owned()],
        ack_wait: Duration::from_secs(600),
        max_in_flight: 1000,
        create: true,
    };
    let source = queue.subscribe(&spec).await.unwrap();
    publish(&queue, 0, backlog).await;
    let before = queue.stats().commits;
    let started = Instant::now();
    publish(&queue, backlog, messages).await;
    let published = started.elapsed();
    let between = queue.stats().commits;
    let started = Instant::now();
    consume(&source, messages).await;
    let consumed = started.elapsed();
    let stats = queue.stats();
    assert_eq!(stats.messages, backlog);
    let group = |commits: u64| messages / commits.max(1);
    println!(
        "{backlog:>10}  messages a commit: {} published, {} received and acknowledged",
        group(between - before),
        group(stats.commits - between)
    );
    queue.close().await;
    Rates { publish: rate(messages, published), consume: rate(messages, consumed) }
}

async fn publish(queue: &Arc<EmbeddedQueue>, from: u64, count: u64) {
    let next = Arc::new(AtomicU64::new(from));
    let end = from + count;
    let publishers = (0..PUBLISHERS).map(|_| {
        let (queue, next) = (Arc::clone(queue), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let first = next.fetch_add(AT_ONCE, Ordering::Relaxed);
                if first >= end {
                    return;
                }
                let group = (first..end.min(first + AT_ONCE)).map(message).collect();
                for published in queue.publish(group).await {
                    assert!(!published.unwrap().duplicate);
                }
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
}

async fn consume(source: &Arc<dyn Source>, count: u64) {
    let left = Arc::new(AtomicU64::new(count));
    let receivers = (0..RECEIVERS).map(|_| {
        let (source, left) = (Arc::clone(source), Arc::clone(&left));
        tokio::spawn(async move {
            loop {
                // Claimed before it is received, so that all of them together take just so many.
                let claim = |left: u64| (left > 0).then(|| left.saturating_sub(DEMAND as u64));
                let Ok(before) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim) else { return };
                let mut wanted = usize::try_from(before).unwrap().min(DEMAND);
                while wanted > 0 {
                    let came = source.receive(Demand { messages: wanted, bytes: usize::MAX }).await.unwrap();
                    wanted -= came.len();
                    let group = came.into_iter().map(|delivery| Settle {
                        receipt: delivery.receipt,
                        settlement: Settlement::Ack { outputs: Vec::new() },
                        lease_ends_at: delivery.lease_ends_at,
                    });
                    for settled in source.settle(group.collect()).await {
                        settled.unwrap();
                    }
                }
            }
        })
    });
    for receiver in receivers.collect::<Vec<_>>() {
        receiver.await.unwrap();
    }
}

/// The tables that the queue writes to on this path, as in its own schema, and the same settings.
const TABLES: &str = "
PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096;
PRAGMA cache_size = -16384;
CREATE TABLE message (seq INTEGER PRIMARY KEY, subject TEXT NOT NULL, target INTEGER, id TEXT,
    published_us INTEGER NOT NULL, checksum INTEGER NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE seen (first_seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, ids BLOB NOT NULL);
CREATE TABLE subscription (id INTEGER PRIMARY KEY, cursor INTEGER NOT NULL, floor INTEGER NOT NULL,
    ready INTEGER NOT NULL);
CREATE TABLE totals (one INTEGER PRIMARY KEY, next_seq INTEGER NOT NULL, messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL);
INSERT INTO subscription VALUES (1, 0, 1, 0);
INSERT INTO totals VALUES (1, 1, 0, 0);
";

fn bare(directory: &Path, backlog: u64, messages: u64) -> Rates {
    let connection = Connection::open(directory.join("bare.db")).unwrap();
    connection.execute_batch(TABLES).unwrap();
    bare_publish(&connection, 0, backlog);
    let started = Instant::now();
    bare_publish(&connection, backlog, messages);
    let published = started.elapsed();
    let started = Instant::now();
    bare_consume(&connection, messages);
    let consumed = started.elapsed();
    let left: u64 =
        connection.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned();
    assert_eq!(left, backlog);
    Rates { publish: rate(messages, published), consume: rate(messages, consumed) }
}

fn bare_publish(connection: &Connection, from: u64, count: u64) {
    let mut insert = connection.prepare("INSERT INTO message VALUES (?1, ?2, NULL, ?3, ?4, ?5, x'', ?6)").unwrap();
    let mut seen = connection.prepare("INSERT INTO seen VALUES (?1, ?2, ?3)").unwrap();
    let mut totals = connection.prepare("UPDATE totals SET next_seq = ?1, messages = ?1, bytes = ?1").unwrap();
    let mut ready = connection.prepare("UPDATE subscription SET ready = ?1").unwrap();
    let mut next = from;
    while next < from + count {
        let end = (from + count).min(next + PUBLISHERS * AT_ONCE);
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for n in next..end {
            let message = message(n);
            let sequence = n.cast_signed() + 1;
            insert
                .execute(params![
                    sequence,
                    message.subject,
                    message.id,
                    1_700_000_000_000_000_i64,
                    0x1234_5678,
                    &BODY[..]
                ])
                .unwrap();
        }
        let ids = vec![7_u8; usize::try_from(end - next).unwrap() * 24];
        seen.execute(params![next.cast_signed() + 1, 1_700_000_000_000_000_i64, ids]).unwrap();
        totals.execute([end.cast_signed()]).unwrap();
        ready.execute([end.cast_signed()]).unwrap();
        connection.execute_batch("COMMIT").unwrap();
        next = end;
    }
}

/// In groups of what the receivers have at once.
fn bare_consume(connection: &Connection, count: u64) {
    let group = RECEIVERS * DEMAND as u64;
    let sql = "SELECT seq, subject, id, published_us, checksum, headers, body FROM message WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut scan = connection.prepare(sql).unwrap();
    let mut delete = connection.prepare("DELETE FROM message WHERE seq = ?1").unwrap();
    let mut totals = connection.prepare("UPDATE totals SET messages = ?1, bytes = ?1").unwrap();
    let mut cursor_row = connection.prepare("UPDATE subscription SET cursor = ?1, floor = ?1, ready = ?1").unwrap();
    let mut cursor = 0;
    let mut left = count;
    while left > 0 {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let rows = scan.query_map([cursor, group.min(left).cast_signed()], |row| {
            let body = Bytes::copy_from_slice(row.get_ref(6)?.as_blob()?);
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, body))
        });
        let came: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
        for (sequence, ..) in &came {
            delete.execute([sequence]).unwrap();
            cursor = *sequence;
        }
        totals.execute([cursor]).unwrap();
        cursor_row.execute([cursor]).unwrap();
        connection.execute_batch("COMMIT").unwrap();
        left -= came.len() as u64;
    }
}
