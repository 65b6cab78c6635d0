//! Buckets on a real host: from its configuration to what stands in them after it was killed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate::admin::wire::PublishSummary;
use tidegate::broker::embedded::{EmbeddedQueue, Options};

use super::{bucket, keys, text};
use crate::chaos::{QUIET, Rig, on_jetstream, pause};
use crate::support::guests::guest;
use crate::support::nats::NatsServer;
use crate::support::until;

const HANDLER: &str = r#"
[handlers.kv]
module = "kv.wasm"
buckets.counts = { broker = "queue" }
outputs.said = { broker = "queue", subject = "out.said" }

[subscriptions.kv]
broker = "queue"
subjects = ["kv.>", "say"]
handler = "kv"
ack_wait = "5s"
concurrency = 8
retry = { preset = "quick", max_attempts = 100 }
"#;

/// A host with the handler of this file beside the usual one.
fn rig(broker: &str) -> Rig {
    let rig = Rig::new(broker, Duration::from_secs(5), HANDLER);
    std::fs::write(rig.path().join("kv.wasm"), guest("key_values")).unwrap();
    rig
}

/// The same, with a NATS beside the queue.
fn beside(server: &NatsServer) -> Rig {
    let nats = on_jetstream(server).replace("streams.IN", "streams.OTHER").replace("in.>", "other.>");
    rig(&format!("type = \"embedded\"\n[brokers.nats]\n{nats}"))
}

/// What the message of a number does: it is counted, and leaves a key of its own.
fn line(number: u64) -> String {
    format!(
        "{{\"subject\":\"kv.x\",\"id\":\"m-{number}\",\"body\":\"add\\tcounts\\tn\\t1\\nset\\tcounts\\tm-{number:05}\\tx\"}}\n"
    )
}

/// Publishes the messages of these numbers, again and again while the host is away.
fn publish(rig: &Rig, numbers: std::ops::Range<u64>) {
    let count = usize::try_from(numbers.end - numbers.start).unwrap();
    let lines: String = numbers.map(line).collect();
    until("the host takes the messages", Duration::from_secs(60), || {
        let url = rig.url("/v1/publish?broker=queue");
        let sent = ureq::post(url).header("content-type", "application/x-ndjson").send(lines.as_str());
        let Ok(mut answer) = sent else { return false };
        let Ok(text) = answer.body_mut().read_to_string() else { return false };
        let summary: PublishSummary = serde_json::from_str(&text).unwrap();
        (summary.published + summary.duplicates) as usize == count
    });
}

/// Nothing waits for a subscription, for longer than its figures take to be looked at.
fn until_done(rig: &Rig, name: &str) {
    let mut quiet_since = None;
    until("every message is settled", Duration::from_secs(120), || {
        let status = rig.status();
        let own = status.and_then(|status| status.subscriptions.into_iter().find(|one| one.name == name));
        let is_quiet = own.is_some_and(|own| own.counts.ready + own.counts.pending + own.counts.in_flight == 0);
        quiet_since = if is_quiet { quiet_since.or_else(|| Some(Instant::now())) } else { None };
        quiet_since.is_some_and(|since| since.elapsed() >= QUIET)
    });
}

fn queue_of(rig: &Rig) -> std::path::PathBuf {
    rig.path().join("tidegate-data/queue-queue")
}

/// Each message left its key, and was counted once or, where a kill came between its writes and its end, more often.
async fn check(directory: &Path, messages: u64) {
    let queue = EmbeddedQueue::open(Options::new(directory)).await.unwrap();
    let counts = bucket(&*queue, "counts");
    let found: BTreeSet<String> = keys(&*counts, 1000).await.into_iter().filter(|key| key != "n").collect();
    let expected: BTreeSet<String> = (0..messages).map(|number| format!("m-{number:05}")).collect();
    assert_eq!(found, expected);
    let counted: u64 = text(&*counts, "n").await.unwrap().parse().unwrap();
    assert!(counted >= messages, "{counted} of {messages}");
    println!("{counted} runs of {messages} messages");
    tidegate::broker::Broker::close(&*queue).await;
    let (said, found) = super::embedded::books(directory, "counts");
    assert_eq!(said, found);
}

#[test]
fn killed_in_the_middle_of_writes_it_has_all_that_was_confirmed() {
    let mut rig = rig("type = \"embedded\"");
    let mut rng = fastrand::Rng::new();
    rig.start();
    let (kills, each) = (4, 400);
    for round in 0..kills {
        publish(&rig, round * each..(round + 1) * each);
        pause(Duration::from_millis(rng.u64(0..150)));
        rig.kill();
        rig.start();
    }
    until_done(&rig, "kv");
    rig.drain();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(check(&queue_of(&rig), kills * each));
}

/// A handler whose bucket is away retries; no message of it is lost, nor one of its neighbour held up.
#[test]
fn a_bucket_whose_broker_goes_away_costs_no_message() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = runtime.block_on(NatsServer::start());
    let mut rig = beside(&server);
    rig.edit(|text| text.replace("buckets.counts = { broker = \"queue\" }", "buckets.counts = { broker = \"nats\" }"));
    server.kill();
    rig.start();
    publish(&rig, 0..100);
    rig.publisher().publish(&["a-1".to_owned()]);
    until_done(&rig, "ledger");
    let counts_of = |name: &str| {
        let status = rig.status().unwrap();
        status.subscriptions.into_iter().find(|one| one.name == name).unwrap().counts
    };
    assert_eq!(counts_of("ledger").completed, 1, "the neighbour goes on");
    assert_eq!(counts_of("kv").completed, 0);
    runtime.block_on(server.restart());
    until_done(&rig, "kv");
    let broker = runtime.block_on(crate::jetstream::connect(crate::jetstream::options(&server)));
    let counts = bucket(&*broker.0, "counts");
    assert_eq!(runtime.block_on(keys(&*counts, 1000)).len(), 101);
    let own = counts_of("kv");
    assert_eq!((own.completed, own.dead_lettered), (100, 0));
    assert!(own.retried + own.returned > 0, "{own:?}");
    // A write that was not confirmed may have been done, and its run comes again.
    let counted: u64 = runtime.block_on(text(&*counts, "n")).unwrap().parse().unwrap();
    assert!((100..=100 + own.retried + own.returned).contains(&counted), "{counted}: {own:?}");
    rig.drain();
}

#[test]
fn what_a_handler_may_do_with_a_bucket_is_changed_while_it_runs() {
    let mut rig = rig("type = \"embedded\"");
    rig.start();
    publish(&rig, 0..10);
    until_done(&rig, "kv");
    // A bucket of another broker, which comes with it; the one of before keeps what it has.
    rig.edit(|text| {
        let text = text.replace("buckets.counts = { broker = \"queue\" }", "buckets.counts = { broker = \"second\" }");
        format!("{text}\n[brokers.second]\ntype = \"embedded\"\n")
    });
    let applied = rig.apply().unwrap();
    assert_eq!(applied.deployed.iter().map(|one| one.handler.as_str()).collect::<Vec<_>>(), ["kv"]);
    assert_eq!(applied.troubles, Vec::<String>::new());
    publish(&rig, 10..15);
    until_done(&rig, "kv");
    // And back, while the other broker goes.
    rig.edit(|text| {
        text.replace("buckets.counts = { broker = \"second\" }", "buckets.counts = { broker = \"queue\" }")
            .replace("\n[brokers.second]\ntype = \"embedded\"\n", "")
    });
    rig.apply().unwrap();
    publish(&rig, 15..20);
    until_done(&rig, "kv");
    rig.drain();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let count = |directory: std::path::PathBuf| {
        runtime.block_on(async {
            let queue = EmbeddedQueue::open(Options::new(directory)).await.unwrap();
            text(&*bucket(&*queue, "counts"), "n").await
        })
    };
    assert_eq!(count(queue_of(&rig)).as_deref(), Some("15"));
    assert_eq!(count(rig.path().join("tidegate-data/queue-second")).as_deref(), Some("5"));
}

/// What stands in the handler's own buckets made its golden messages end otherwise than `tidegate test` did; and a bucket that
/// could not be reached kept the whole host from starting.
#[test]
fn golden_messages_are_tried_on_empty_buckets() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = runtime.block_on(NatsServer::start());
    let mut rig = beside(&server);
    let golden = r#"{"subject":"say","body":"add\tcounts\tn\t1\nset\tcounts\tgolden\tx","expect":{"outcome":"completed","outputs":[{"to":"said","body":"1\ndone"}]}}"#;
    std::fs::create_dir(rig.path().join("golden")).unwrap();
    std::fs::write(rig.path().join("golden/first.json"), golden).unwrap();
    let before = "buckets.counts = { broker = \"queue\" }";
    let with = |limit: u64| {
        format!("buckets.counts = {{ broker = \"nats\" }}\ngolden = \"golden\"\nlimits.fuel = {limit}_000_000")
    };
    rig.edit(|text| text.replace(before, &with(100)));
    rig.start();
    publish(&rig, 0..10);
    until_done(&rig, "kv");
    rig.edit(|text| text.replace("fuel = 100_", "fuel = 101_"));
    let applied = rig.apply().unwrap();
    assert_eq!(applied.deployed.iter().map(|one| one.version).collect::<Vec<_>>(), [2]);
    rig.drain();
    server.kill();
    rig.edit(|text| text.replace("fuel = 101_", "fuel = 102_"));
    rig.start();
    let kv = rig.handlers().handlers.into_iter().find(|handler| handler.name == "kv").unwrap();
    assert_eq!((kv.active.map(|active| active.number), kv.trouble), (Some(3), None));
    runtime.block_on(server.restart());
    publish(&rig, 10..12);
    until_done(&rig, "kv");
    rig.drain();
    let broker = runtime.block_on(crate::jetstream::connect(crate::jetstream::options(&server)));
    let counts = bucket(&*broker.0, "counts");
    let found = runtime.block_on(keys(&*counts, 1000));
    assert!(found.len() == 13 && !found.contains(&"golden".to_owned()), "no golden message leaves anything: {found:?}");
}
