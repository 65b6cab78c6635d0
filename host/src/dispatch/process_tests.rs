//! What becomes of a message that finds no version to run on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::broker::embedded::{EmbeddedQueue, Options};
use crate::broker::{Broker as _, Demand, Directory, Settlement, SubscriptionSpec};
use crate::clock::Clock;
use crate::dispatch::budget::Budget;
use crate::dispatch::in_flight::Table;
use crate::dispatch::{Links, Setup, Slot, Turns};
use crate::message::{Headers, Publish};
use crate::settle::policy::RetryPolicy;
use crate::settle::verdict::Identity;
use crate::telemetry::Metrics;

const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn setup() -> Setup {
    let identity = Identity {
        subscription: "s".into(),
        broker: "queue".into(),
        stream: None,
        handler: "gone".into(),
        host: "test".into(),
    };
    let spec = SubscriptionSpec {
        name: "s".into(),
        stream: None,
        subjects: vec![">".into()],
        ack_wait: Duration::from_secs(60),
        max_in_flight: 1,
        create: true,
    };
    Setup {
        identity,
        spec,
        policy: RetryPolicy::standard(),
        circuit: None,
        stalled_after: Duration::from_secs(60),
        concurrency: ONE,
        max_in_flight: ONE,
        max_in_flight_bytes: NonZeroUsize::new(1000).unwrap(),
        settle_time: Duration::from_secs(60),
        clock: Clock::system(),
        seed: 1,
    }
}

#[tokio::test]
async fn a_message_that_finds_no_version_is_held_and_costs_no_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let queue = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    let setup = setup();
    let source = queue.subscribe(&setup.spec).await.unwrap();
    let publish =
        Publish { subject: "a".to_owned(), id: None, headers: Headers::default(), body: Bytes::from_static(b"x") };
    queue.publish(vec![publish]).await.remove(0).unwrap();
    let deliveries = source.receive(Demand { messages: 1, bytes: 1000 }).await.unwrap();
    let metrics = Metrics::new().subscription("s", "embedded");
    let links = Links {
        broker: Arc::clone(&queue) as _,
        brokers: Directory::new([].into()),
        slot: Slot::empty(),
        metrics: Arc::clone(&metrics),
        live: Arc::default(),
        tracer: None,
        hold: Arc::default(),
        told: None,
    };
    let table = Table::new(Budget::new(1, 1000, metrics));
    let shared = Arc::new(Shared::new(setup, links, source, table, Turns::new(1).seat()));
    shared.crew.resize(1);
    let (line, in_line) = async_channel::bounded(1);
    for entry in shared.table.admit(deliveries, Instant::now()) {
        line.try_send(entry).unwrap();
    }
    line.close();
    let (decided, mut to_settle) = mpsc::channel(1);
    process(Arc::clone(&shared), in_line, decided, 1).await;

    let decided = to_settle.recv().await.unwrap();
    assert_eq!((decided.verdict.settled_as, decided.verdict.reason), (Ending::Returned, ReasonCode::NO_HANDLER));
    let Some(Settlement::Return { delay, progress }) = &decided.settlement else { panic!("{:?}", decided.settlement) };
    assert!(*delay >= Duration::from_secs(5) && *delay <= Duration::from_secs(30), "{delay:?}");
    assert_eq!((progress.uncounted, progress.failures), (1, 0), "it costs no attempt");
    queue.close().await;
}
