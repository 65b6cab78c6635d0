//! How long messages take from publish to the end of their run, while versions are swapped and modules compiled.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tidegate::broker::embedded::{Durability, EmbeddedQueue, Options};
use tidegate::broker::{Broker, Directory, NamedBroker, SubscriptionSpec};
use tidegate::clock::Clock;
use tidegate::dispatch::{Deployed, Links, Setup, Slot, Subscription, Turns};
use tidegate::handler::{Call, Handler, Run};
use tidegate::message::{Headers, Publish};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions};
use tidegate::settle::outputs::Grants;
use tidegate::settle::policy::RetryPolicy;
use tidegate::settle::verdict::Identity;
use tidegate::telemetry::{Metrics, VersionFigures};

use super::{another, heading, row};
use crate::guests::guest;
use crate::modules::{answer, handler};

const BODY: &[u8] = br#"{"id":17,"customer":"c-1","lines":[{"sku":"a","quantity":2,"price":1250}],"currency":"EUR"}"#;
/// One message each, at a rate that leaves both cores room.
const EVERY: Duration = Duration::from_millis(1);
const PHASE: Duration = Duration::from_secs(5);
const SWAPS: u32 = 200;
/// Messages that end so soon after a swap began are around it.
const AROUND: Duration = Duration::from_millis(5);

/// A version that notes how long each message took.
struct Timed {
    inner: Arc<dyn Handler>,
    samples: Arc<Mutex<Vec<(Instant, Duration)>>>,
}

#[async_trait]
impl Handler for Timed {
    async fn handle(&self, call: Call<'_>) -> Run {
        let published = call.message.published_at;
        let run = self.inner.handle(call).await;
        let took = SystemTime::now().duration_since(published).unwrap_or_default();
        self.samples.lock().unwrap().push((Instant::now(), took));
        run
    }

    fn digest(&self) -> &str {
        self.inner.digest()
    }

    fn serve(&self) {
        self.inner.serve();
    }

    fn rest(&self) {
        self.inner.rest();
    }
}

pub async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path().join("queue"));
    // The disk's own jitter would hide what is looked for.
    options.durability = Durability::Relaxed;
    let broker: Arc<dyn Broker> = EmbeddedQueue::open(options).await.unwrap();
    let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
    let metrics = Metrics::new();
    let samples = Arc::new(Mutex::new(Vec::new()));
    let mut versions = Vec::new();
    for number in 0..2 {
        let inner = sandbox.load(another(&guest("order"), number), "order", &Limits::default()).await.unwrap();
        versions.push(Arc::new(Deployed {
            number: number as u64,
            handler: Arc::new(Timed { inner, samples: Arc::clone(&samples) }) as _,
            grants: Grants::new(),
            max_run: Duration::from_secs(900),
            measurements: metrics.handler("order", 64),
            figures: VersionFigures::default(),
        }));
    }
    let slot = Slot::holding(Arc::clone(&versions[0]));
    let links = Links {
        broker: Arc::clone(&broker),
        brokers: Directory::new(
            [("q".into(), NamedBroker { kind: "embedded", broker: Arc::clone(&broker) as _ })].into(),
        ),
        slot: Arc::clone(&slot),
        metrics: metrics.subscription("s", "embedded"),
        live: Arc::default(),
    };
    let subscription = Subscription::start(setup(), links, &Turns::new(2)).await.unwrap();
    let publisher = tokio::spawn(publish(Arc::clone(&broker)));

    heading("messages, from publish to the end of the run");
    let phase = || std::mem::take(&mut *samples.lock().unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(phase());
    tokio::time::sleep(PHASE).await;
    let mut before: Vec<Duration> = phase().into_iter().map(|(_, took)| took).collect();
    before.sort_unstable();
    let p99 = before[before.len() * 99 / 100];
    let slow = |times: &[Duration]| {
        let slow = times.iter().filter(|took| **took > p99 * 2).count();
        format!("over {:.2} ms: {slow}, {:.2} %", p99.as_secs_f64() * 2e3, slow as f64 * 100.0 / times.len() as f64)
    };
    // Some are slow with nothing else too: that share is what the others are held against.
    let goal = slow(&before);
    row(&format!("with nothing else, {} of them", before.len()), &mut before, &goal);

    let (mut swaps, mut moments) = (Vec::new(), Vec::new());
    for number in 0..SWAPS {
        tokio::time::sleep(PHASE / SWAPS).await;
        let next = Arc::clone(&versions[(number as usize + 1) % 2]);
        let begun = Instant::now();
        drop(slot.swap(next));
        swaps.push(begun.elapsed());
        moments.push(begun);
    }
    tokio::time::sleep(AROUND).await;
    let near = |ended: Instant| moments.iter().any(|begun| ended >= *begun && ended - *begun < AROUND);
    let mut around: Vec<Duration> =
        phase().into_iter().filter(|(ended, _)| near(*ended)).map(|(_, took)| took).collect();
    let goal = format!("none over twice the p99; {}", slow(&around));
    row(&format!("around {SWAPS} swaps, {} of them", around.len()), &mut around, &goal);

    let large = large_module();
    let (bytes, begun) = (large.len(), Instant::now());
    sandbox.load(large, "large", &Limits::default()).await.unwrap();
    let took = begun.elapsed();
    let mut during: Vec<Duration> = phase().into_iter().map(|(_, took)| took).collect();
    let what = format!("while {:.1} MB compile for {:.1} s", bytes as f64 / 1e6, took.as_secs_f64());
    let goal = slow(&during);
    row(&what, &mut during, &goal);
    heading("the swap of the slot alone");
    row("of two loaded versions", &mut swaps, "1 ms");
    publisher.abort();
    subscription.drain(tokio::time::Instant::now() + Duration::from_secs(5)).await;
    broker.close().await;
}

fn setup() -> Setup {
    Setup {
        identity: Identity {
            subscription: "s".into(),
            broker: "q".into(),
            stream: None,
            handler: "order".into(),
            host: "bench".into(),
        },
        spec: SubscriptionSpec {
            name: "s".into(),
            stream: None,
            subjects: vec!["orders".into()],
            ack_wait: Duration::from_secs(30),
            max_in_flight: 256,
            create: true,
        },
        policy: RetryPolicy::standard(),
        concurrency: NonZeroUsize::new(16).unwrap(),
        max_in_flight: NonZeroUsize::new(256).unwrap(),
        max_in_flight_bytes: NonZeroUsize::new(64 << 20).unwrap(),
        settle_time: Duration::from_secs(120),
        clock: Clock::system(),
        seed: 1,
    }
}

async fn publish(broker: Arc<dyn Broker>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let message = Publish { subject: "orders".into(), id: None, headers: Headers::default(), body: BODY.into() };
        for published in broker.publish(vec![message]).await {
            published.unwrap();
        }
    }
}

/// A module of about 12 MB, as an interpreter in a module is.
fn large_module() -> Vec<u8> {
    let step = "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 31)) (i32.const 170000)))";
    let function = format!("(func (param i32) (result i32) {} (local.get 0))", step.repeat(64));
    handler(&function.repeat(14_000), &answer(""))
}
