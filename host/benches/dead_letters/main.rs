//! What looking at dead letters and working through them costs, a million deep beside ten thousand.
//!
//! `cargo bench -p tidegate --bench dead_letters -- [--letters 10000,1000000] [embedded] [jetstream]`
//!
//! Each broker is filled to the first depth, measured, filled to the next, and so on; a figure stands beside that of the first
//! depth of the same run. JetStream is a nats-server of its own, on the same cores. A figure is the median of its tries.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

#[path = "../../tests/it/support/nats.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use more of it")]
mod nats;
#[path = "../../tests/it/support/ports.rs"]
#[allow(unreachable_pub, clippy::panic, reason = "shared with the tests")]
mod ports;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _};
use tidegate::broker::done::{self, DoneRecord};
use tidegate::broker::embedded::{self, EmbeddedQueue};
use tidegate::broker::jetstream::{JetStream, Options};
use tidegate::broker::{Broker, By, DeadLetterFilter, DeadLetterQuery, DeadLetters, Source, SubscriptionSpec, Tally};
use tidegate::message::Headers;
use tidegate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord};
use tokio::runtime::Runtime;

/// Letters that are brought in at once.
const FILLED_AT_ONCE: usize = 256;
/// Letters that are worked through for a rate, and how many of them at once: as a task does.
const WORKED: usize = 2000;
const AT_ONCE: usize = 16;
/// Tries of a look.
const TRIES: usize = 5;
/// One in so many died of something else.
const RARE: u64 = 1000;
/// Bytes of a body.
const BODY: usize = 1024;

struct Arguments {
    letters: Vec<u64>,
    brokers: Vec<String>,
}

fn arguments() -> Arguments {
    let mut given = Arguments { letters: vec![10_000, 1_000_000], brokers: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--letters" => {
                let list = arguments.next().unwrap();
                given.letters = list.split(',').map(|number| number.parse().unwrap()).collect();
            }
            "embedded" | "jetstream" => given.brokers.push(argument),
            // Cargo's own.
            _ => {}
        }
    }
    given
}

fn main() {
    let given = arguments();
    let runtime = Runtime::new().unwrap();
    let wanted = |name: &str| given.brokers.is_empty() || given.brokers.iter().any(|broker| broker == name);
    if wanted("embedded") {
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let queue = EmbeddedQueue::open(embedded::Options::new(folder.path().join("queue"))).await.unwrap();
            measure("embedded queue", queue, &given.letters).await;
        });
    }
    if wanted("jetstream") {
        runtime.block_on(async {
            let (server, folder) = (nats::NatsServer::start().await, tempfile::tempdir().unwrap());
            let record = DoneRecord::open(&done::Options::at(folder.path().join("done.sqlite"))).unwrap();
            let broker = JetStream::connect(Options::new("nats", vec![server.url()]), record).await.unwrap();
            measure("JetStream", broker, &given.letters).await;
        });
    }
}

/// Fills a broker to each depth, and prints what everything costs there.
async fn measure(name: &str, broker: Arc<dyn Broker>, depths: &[u64]) {
    let fewest = 4 * WORKED as u64;
    assert!(
        depths.iter().all(|depth| *depth >= fewest),
        "at least {fewest} of them, or there is nothing left to work through"
    );
    let source = subscription(&*broker).await;
    let letters = broker.dead_letters();
    let mut columns: Vec<Vec<(&str, f64, &str)>> = Vec::new();
    let mut next = 0;
    for depth in depths {
        let begun = Instant::now();
        let missing = depth - letters.depth().await.unwrap();
        let fill = (next..next + missing).map(|number| letters.restore(letter(number)));
        next += missing;
        let fill: Vec<bool> = futures_util::stream::iter(fill).buffered(FILLED_AT_ONCE).try_collect().await.unwrap();
        assert!(fill.iter().all(|is_new| *is_new));
        println!("{name}: {missing} brought in within {:.0} s", begun.elapsed().as_secs_f64());
        columns.push(figures(&*letters, *depth).await);
    }
    drop(source);
    broker.close().await;
    let head: Vec<String> = depths.iter().map(|depth| format!("{depth:>22}")).collect();
    println!("\n{name:<44}{}", head.concat());
    for row in 0..columns[0].len() {
        let (what, first, unit) = columns[0][row];
        let cells =
            columns.iter().map(|column| format!("{:>10.1} {unit:<3} {:>5.2}x", column[row].1, column[row].1 / first));
        println!("{what:<44}{}", cells.map(|cell| format!("{cell:>22}")).collect::<String>());
    }
    println!();
}

/// One that receives what is sent back, and leaves it there.
async fn subscription(broker: &dyn Broker) -> Arc<dyn Source> {
    let spec = SubscriptionSpec {
        name: "invoices".to_owned(),
        stream: None,
        subjects: vec!["orders.>".to_owned()],
        ack_wait: Duration::from_secs(30),
        max_in_flight: 256,
        create: true,
    };
    broker.subscribe(&spec).await.unwrap()
}

fn letter(number: u64) -> DeadLetter {
    let (id, is_rare) = (DeadLetterId(ulid::Ulid::generate().to_string()), number.is_multiple_of(RARE));
    let mut headers = Headers::default();
    headers.push("Content-Type", "application/json");
    headers.push("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let record = DeadLetterRecord {
        subscription: "invoices".to_owned(),
        broker: "main".to_owned(),
        subject: "orders.created".to_owned(),
        message_id: format!("order-{number}"),
        sequence: number + 1,
        fingerprint: if is_rare { "00000000000000aa" } else { "00000000000000bb" }.to_owned(),
        handler: "invoice".to_owned(),
        digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        version: Some(7),
        attempts: 5,
        dead_at: SystemTime::now(),
        logs: (0..8).map(|line| format!("info looked up customer {number} in shard {line}")).collect(),
        ..DeadLetterRecord::bare(id, "handler-rejected", format!("no such customer {number}"))
    };
    DeadLetter { record, headers, body: vec![b'x'; BODY].into() }
}

/// What everything costs: the name, the figure and its unit.
async fn figures(letters: &dyn DeadLetters, depth: u64) -> Vec<(&'static str, f64, &'static str)> {
    let all = DeadLetterFilter::default();
    let of = |fingerprint: &str| DeadLetterFilter { fingerprint: Some(fingerprint.to_owned()), ..all.clone() };
    let page = |filter: &DeadLetterFilter, oldest_first| DeadLetterQuery {
        filter: filter.clone(),
        limit: 200,
        oldest_first,
        ..DeadLetterQuery::default()
    };
    let (frequent, rare) = (of("00000000000000bb"), of("00000000000000aa"));
    let mut figures = Vec::new();
    for (what, query) in [
        ("the newest 200", page(&all, false)),
        ("the oldest 200", page(&all, true)),
        ("the newest 200 of a frequent error", page(&frequent, false)),
        ("those of a rare error, the first page", page(&rare, false)),
    ] {
        figures.push((what, median(async || drop(letters.list(&query).await.unwrap())).await, "ms"));
    }
    let listed = letters.list(&page(&all, true)).await.unwrap().letters;
    let one = listed[listed.len() / 2].letter.record.id.clone();
    figures.push(("one by its id, whole", median(async || drop(letters.get(&one).await.unwrap())).await, "ms"));
    figures.push((
        "how many there are",
        median(async || assert_eq!(letters.depth().await.unwrap(), depth)).await,
        "ms",
    ));
    let tally = || Tally::new(By::Fingerprint, SystemTime::now()).at("main");
    let count = async || drop(letters.tally(&all, tally()).await.unwrap());
    figures.push(("counted by their error", median(count).await, "ms"));
    let count = async || assert_eq!(letters.tally(&all, tally().whole()).await.unwrap().finish(1).matched, depth);
    figures.push(("all of them counted by their error", median(count).await, "ms"));
    let (redriven, discarded) = (worked(letters, false).await, worked(letters, true).await);
    figures.push(("sent back, each", redriven, "us"));
    figures.push(("discarded, each", discarded, "us"));
    figures
}

/// Milliseconds.
async fn median(mut look: impl AsyncFnMut()) -> f64 {
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let begun = Instant::now();
        look().await;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    took[TRIES / 2]
}

/// Microseconds for each of the oldest ones, which are worked through in pages, some at once.
async fn worked(letters: &dyn DeadLetters, discards: bool) -> f64 {
    let (begun, mut done) = (Instant::now(), 0);
    while done < WORKED {
        let query = DeadLetterQuery { limit: AT_ONCE * 16, oldest_first: true, ..DeadLetterQuery::default() };
        let page = letters.list(&query).await.unwrap().letters;
        let acts = page.iter().map(async |letter| match discards {
            true => letters.discard(&letter.handle).await,
            false => letters.redrive(&letter.handle, false).await.map(drop),
        });
        let acts: Vec<_> = acts.collect();
        done += acts.len();
        futures_util::stream::iter(acts).buffered(AT_ONCE).try_collect::<Vec<()>>().await.unwrap();
    }
    begun.elapsed().as_secs_f64() * 1e6 / done as f64
}
