//! Reads what stands in a broker at the end, through the broker's own port.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::{Duration, Instant};

use tidegate::broker::done::{self, DoneRecord};
use tidegate::broker::embedded::{self, EmbeddedQueue};
use tidegate::broker::jetstream::{self, JetStream};
use tidegate::broker::{Broker, DeadLetterQuery, Demand, Settle, SettleError, Settlement, SubscriptionSpec};
use tidegate::message::Message;

use super::books::Books;
use super::rig::Rig;
use crate::support::nats::NatsServer;

/// Reads the embedded queue of a host that has ended.
pub async fn read_embedded(rig: &Rig, books: &mut Books) {
    let options = embedded::Options::new(rig.path().join("tidegate-data/queue-queue"));
    let queue = EmbeddedQueue::open(options).await.unwrap();
    read(queue.as_ref(), None, books).await;
}

/// Reads the server that a host worked on, with a record of its own.
pub async fn read_jetstream(rig: &Rig, server: &NatsServer, books: &mut Books) {
    read_servers(rig, vec![server.url()], books).await;
}

/// The same of servers that are one cluster.
pub async fn read_servers(rig: &Rig, urls: Vec<String>, books: &mut Books) {
    let record = DoneRecord::open(&done::Options::at(rig.path().join("audit.sqlite"))).unwrap();
    let mut options = jetstream::Options::new("queue", urls);
    options.streams.by_name.entry("OUT".into()).or_default().subjects = vec!["out.>".into()];
    let broker = JetStream::connect(options, record).await.unwrap();
    read(broker.as_ref(), Some("OUT"), books).await;
    broker.close().await;
}

/// Takes every output and lists every dead letter.
pub async fn read(broker: &dyn Broker, stream: Option<&str>, books: &mut Books) {
    let until = Instant::now() + Duration::from_secs(120);
    let spec = SubscriptionSpec {
        name: "audit".into(),
        stream: stream.map(str::to_owned),
        subjects: vec!["out.>".into()],
        ack_wait: Duration::from_secs(60),
        max_in_flight: 1000,
        create: true,
    };
    let source = answered(until, || broker.subscribe(&spec)).await;
    // What is handed out again, as nobody confirmed that it was settled, stands there once.
    let mut seen = BTreeSet::new();
    loop {
        assert!(Instant::now() < until, "the outputs do not come to an end");
        let deliveries = answered(until, || source.receive(Demand { messages: 500, bytes: 64 << 20 })).await;
        if deliveries.is_empty() {
            // Copies may still be on their way to a server that has come back.
            let backlog = answered(until, || source.backlog()).await;
            if (backlog.ready, backlog.pending) == (0, 0) {
                break;
            }
        }
        let mut group = Vec::new();
        for delivery in deliveries {
            if seen.insert(delivery.message.sequence) {
                enter(&delivery.message, books);
            }
            group.push(Settle {
                receipt: delivery.receipt,
                settlement: Settlement::Ack { outputs: Vec::new() },
                lease_ends_at: delivery.lease_ends_at,
            });
        }
        for result in source.settle(group).await {
            assert!(matches!(result, Ok(()) | Err(SettleError::LeaseLost | SettleError::Unconfirmed(_))), "{result:?}");
        }
    }
    let letters = broker.dead_letters();
    let mut query = DeadLetterQuery { limit: 500, ..DeadLetterQuery::default() };
    loop {
        let page = answered(until, || letters.list(&query)).await;
        for stored in page.letters {
            *books.dead.entry(stored.letter.record.message_id).or_default() += 1;
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
}

fn enter(output: &Message, books: &mut Books) {
    let body = String::from_utf8(output.body.to_vec()).unwrap();
    let marker = |name: &str| output.headers.text(name).unwrap_or_default().to_owned();
    books.made_by.insert(body.clone(), (marker("Ledger-First"), marker("Ledger-Last")));
    books.output_ids.entry(body.clone()).or_default().insert(output.id.clone());
    *books.outputs.entry(body).or_default() += 1;
}

/// Asks until the broker answers: the servers of a cluster may just be choosing a leader.
async fn answered<T, E: Display, F: Future<Output = Result<T, E>>>(until: Instant, mut ask: impl FnMut() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
