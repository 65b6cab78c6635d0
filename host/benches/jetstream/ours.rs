//! Ours: the whole way, from the pull through the sandbox to the confirmed settlement and the record of it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tidegate::broker::done::{self, DoneRecord};
use tidegate::broker::jetstream::{Confirm, JetStream, Options};
use tidegate::broker::{Broker, Directory, NamedBroker, SubscriptionSpec};
use tidegate::clock::Clock;
use tidegate::dispatch::{Deployed, Links, Setup, Slot, Subscription, Turns};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions};
use tidegate::settle::outputs::Grants;
use tidegate::settle::policy::RetryPolicy;
use tidegate::settle::verdict::Identity;
use tidegate::telemetry::{Metrics, VersionFigures};
use tokio::time::Instant;

use crate::guests::guest;
use crate::native::IN_FLIGHT;
use crate::nats::NatsServer;
use crate::{Round, Stopwatch};

pub async fn settled(server: &NatsServer, messages: usize, confirm: Confirm, reuse: u32) -> Round {
    let folder = tempfile::tempdir().unwrap();
    let record = DoneRecord::open(&done::Options::at(folder.path().join("done.sqlite"))).unwrap();
    let options = Options { confirm, ..Options::new("nats", vec![server.url()]) };
    let broker = JetStream::connect(options, record).await.unwrap();
    let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
    let limits = Limits { reuse: reuse.try_into().unwrap(), ..Limits::default() };
    let version = sandbox.load(guest("order"), "order", &limits).await.unwrap();
    let metrics = Metrics::new();
    let version = Arc::new(Deployed {
        number: 1,
        handler: version,
        grants: Grants::new(),
        max_run: Duration::from_secs(900),
        measurements: metrics.handler("order", 64),
        figures: VersionFigures::default(),
    });
    // A durable of its own for each round, so that each sees every message.
    let name: Arc<str> = format!("ours-{}", fastrand::u32(..)).into();
    let in_flight = NonZeroUsize::new(IN_FLIGHT).unwrap();
    let setup = Setup {
        identity: Identity {
            subscription: Arc::clone(&name),
            broker: "nats".into(),
            stream: Some("BENCH".into()),
            handler: "order".into(),
            host: "bench".into(),
        },
        spec: SubscriptionSpec {
            name: name.to_string(),
            stream: Some("BENCH".into()),
            subjects: vec!["bench.>".into()],
            ack_wait: Duration::from_secs(30),
            max_in_flight: IN_FLIGHT,
            create: true,
        },
        policy: RetryPolicy::standard(),
        circuit: None,
        stalled_after: Duration::from_secs(60),
        concurrency: NonZeroUsize::new(2).unwrap(),
        max_in_flight: in_flight,
        max_in_flight_bytes: NonZeroUsize::new(64 << 20).unwrap(),
        settle_time: Duration::from_secs(120),
        clock: Clock::system(),
        seed: 1,
    };
    let links = Links {
        broker: Arc::clone(&broker) as Arc<dyn Broker>,
        brokers: Directory::new(
            [("nats".into(), NamedBroker { kind: "jetstream", broker: Arc::clone(&broker) as _ })].into(),
        ),
        slot: Slot::holding(version),
        metrics: metrics.subscription("bench", "nats"),
        live: Arc::default(),
        tracer: None,
        hold: Arc::default(),
        told: None,
    };
    let watch = Stopwatch::start(server);
    let subscription = Subscription::start(setup, links, &Turns::new(2)).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    while subscription.counts().completed < messages as u64 {
        looks.tick().await;
    }
    let round = watch.stop(messages);
    let counts = subscription.counts();
    assert_eq!((counts.completed, counts.retried, counts.dead_lettered), (messages as u64, 0, 0));
    subscription.drain(Instant::now() + Duration::from_secs(5)).await;
    broker.close().await;
    round
}
