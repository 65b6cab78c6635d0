//! How long messages take from publish to the end of their run, while versions are swapped and modules compiled.

use std::collections::VecDeque;
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
use tidegate::outcome::Outcome;
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions, Version};
use tidegate::settle::outputs::Grants;
use tidegate::settle::policy::RetryPolicy;
use tidegate::settle::verdict::Identity;
use tidegate::telemetry::{Metrics, VersionFigures};

use super::{another, heading, row};
use crate::guests::guest;
use crate::modules::{answer, handler};
use crate::order;

/// Bytes of a message.
pub(super) const SIZE: usize = 222;
/// One message each, at a rate that leaves both cores room.
const EVERY: Duration = Duration::from_millis(1);
const PHASE: Duration = Duration::from_secs(5);
const SWAPS: usize = 200;
/// Messages that end so soon after a swap began are around it.
const AROUND: Duration = Duration::from_millis(5);

/// A version that notes how long each message took.
pub(super) struct Timed {
    pub(super) inner: Arc<dyn Handler>,
    pub(super) samples: Arc<Mutex<Vec<(Instant, Duration)>>>,
}

#[async_trait]
impl Handler for Timed {
    async fn handle(&self, call: Call<'_>) -> Run {
        let published = call.message.published_at;
        let run = self.inner.handle(call).await;
        // A message that is rejected makes a dead letter, and what that costs is not asked for here.
        assert!(matches!(run.outcome, Outcome::Completed(_)), "{:?}", run.outcome);
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

/// How a version comes into the place of another one, each time that one does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// Not at all: the moment passes. What is slow here too is slow for other reasons.
    Not,
    /// It is one of two that are loaded and have run before.
    Back,
    /// It was never run, as in a deploy; what was two before it is given back.
    Anew { made_ready: bool },
}

/// A subscription at work, and what is needed for versions to come and go.
struct Rig {
    sandbox: Arc<Sandbox>,
    slot: Arc<Slot>,
    metrics: Metrics,
    samples: Arc<Mutex<Vec<(Instant, Duration)>>>,
    order: Vec<u8>,
}

impl Rig {
    async fn load(&self, number: usize) -> Arc<Version> {
        self.sandbox.load(another(&self.order, number), "order", &Limits::default()).await.unwrap()
    }

    fn deployed(&self, inner: Arc<Version>) -> Arc<Deployed> {
        Arc::new(Deployed {
            number: 1,
            handler: Arc::new(Timed { inner, samples: Arc::clone(&self.samples) }) as _,
            grants: Grants::new(),
            max_run: Duration::from_secs(900),
            measurements: self.metrics.handler("order", 64),
            figures: VersionFigures::default(),
        })
    }

    /// What was measured since this was asked last.
    fn measured(&self) -> Vec<(Instant, Duration)> {
        std::mem::take(&mut *self.samples.lock().unwrap())
    }

    /// Has versions come for a phase, and gives back what each swap took and how long the messages around them did.
    async fn around(&self, comes: Comes) -> (Vec<Duration>, Vec<Duration>) {
        let (mut swaps, mut moments, mut before) = (Vec::new(), Vec::new(), VecDeque::new());
        let loaded = [self.load(0).await, self.load(1).await];
        let two = loaded.map(|version| self.deployed(version));
        drop(self.slot.swap(Arc::clone(&two[1])));
        drop(self.measured());
        for number in 0..SWAPS {
            let next = match comes {
                Comes::Not | Comes::Back => Arc::clone(&two[number % 2]),
                Comes::Anew { made_ready } => {
                    let version = self.load(2 + number).await;
                    if made_ready {
                        self.sandbox.warm(&version, None).await;
                    }
                    self.deployed(version)
                }
            };
            tokio::time::sleep(PHASE / SWAPS as u32).await;
            // This thread runs nothing else. The runtime's timers keep time with those that publish: a deploy does not.
            std::thread::sleep(Duration::from_micros(fastrand::u64(..1000)));
            let begun = Instant::now();
            if comes != Comes::Not {
                before.push_front(self.slot.swap(next).unwrap());
                before.truncate(2);
            }
            swaps.push(begun.elapsed());
            moments.push(begun);
        }
        tokio::time::sleep(AROUND).await;
        let near = |ended: Instant| moments.iter().any(|begun| ended >= *begun && ended - *begun < AROUND);
        let around = self.measured().into_iter().filter(|(ended, _)| near(*ended)).map(|(_, took)| took).collect();
        (swaps, around)
    }
}

pub async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path().join("queue"));
    // The disk's own jitter would hide what is looked for.
    options.durability = Durability::Relaxed;
    let broker: Arc<dyn Broker> = EmbeddedQueue::open(options).await.unwrap();
    let (cache_dir, compile_in) = (Some(folder.path().join("code")), super::compile_in());
    let sandbox = Sandbox::new(SandboxOptions { cache_dir, compile_in, ..SandboxOptions::default() });
    let (sandbox, slot, metrics) = (sandbox.unwrap(), Slot::empty(), Metrics::new());
    let rig = Rig { sandbox, slot, metrics, samples: Arc::default(), order: guest("order") };
    // All that comes is compiled before: how a deploy's steps disturb is the row below.
    for number in 0..SWAPS + 2 {
        drop(rig.load(number).await);
    }
    drop(rig.slot.swap(rig.deployed(rig.load(0).await)));
    let links = Links {
        broker: Arc::clone(&broker),
        brokers: Directory::new(
            [("q".into(), NamedBroker { kind: "embedded", broker: Arc::clone(&broker) as _ })].into(),
        ),
        slot: Arc::clone(&rig.slot),
        metrics: rig.metrics.subscription("s", "embedded"),
        live: Arc::default(),
        tracer: None,
        hold: Arc::default(),
        told: None,
    };
    let subscription = Subscription::start(setup("s", "orders"), links, &Turns::new(2)).await.unwrap();
    let publisher = tokio::spawn(publish(Arc::clone(&broker)));

    heading("messages, from publish to the end of the run");
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(rig.measured());
    tokio::time::sleep(PHASE).await;
    let mut before: Vec<Duration> = rig.measured().into_iter().map(|(_, took)| took).collect();
    before.sort_unstable();
    let p99 = before[before.len() * 99 / 100];
    let slow = |times: &[Duration]| {
        let slow = times.iter().filter(|took| **took > p99 * 2).count();
        format!("over {:.2} ms: {slow}, {:.2} %", p99.as_secs_f64() * 2e3, slow as f64 * 100.0 / times.len() as f64)
    };
    // Some are slow with nothing else too: that share is what the others are held against.
    let goal = slow(&before);
    row(&format!("with nothing else, {} of them", before.len()), &mut before, &goal);

    let mut swaps = Vec::new();
    for (what, comes) in [
        ("moments, nothing swapped", Comes::Not),
        ("swaps of two that ran before", Comes::Back),
        ("swaps to new ones, made ready", Comes::Anew { made_ready: true }),
        ("swaps to new ones, not made ready", Comes::Anew { made_ready: false }),
    ] {
        let (took, mut around) = rig.around(comes).await;
        let goal = format!("none over twice the p99; {}", slow(&around));
        row(&format!("{SWAPS} {what}, {}", around.len()), &mut around, &goal);
        swaps.push((what, took));
    }

    let large = large_module();
    let (bytes, begun) = (large.len(), Instant::now());
    rig.sandbox.load(large, "large", &Limits::default()).await.unwrap();
    let took = begun.elapsed();
    let mut during: Vec<Duration> = rig.measured().into_iter().map(|(_, took)| took).collect();
    let what = format!("while {:.1} MB compile for {:.1} s", bytes as f64 / 1e6, took.as_secs_f64());
    let goal = slow(&during);
    row(&what, &mut during, &goal);
    heading("the swap of the slot alone");
    for (what, mut took) in swaps.into_iter().skip(1) {
        row(what, &mut took, "1 ms");
    }
    publisher.abort();
    subscription.drain(tokio::time::Instant::now() + Duration::from_secs(5)).await;
    broker.close().await;
}

pub(super) fn setup(name: &str, subject: &str) -> Setup {
    Setup {
        identity: Identity {
            subscription: name.into(),
            broker: "q".into(),
            stream: None,
            handler: "order".into(),
            host: "bench".into(),
        },
        spec: SubscriptionSpec {
            name: name.into(),
            stream: None,
            subjects: vec![subject.into()],
            ack_wait: Duration::from_secs(30),
            max_in_flight: 256,
            create: true,
        },
        policy: RetryPolicy::standard(),
        circuit: None,
        stalled_after: Duration::from_secs(60),
        concurrency: NonZeroUsize::new(16).unwrap(),
        max_in_flight: NonZeroUsize::new(256).unwrap(),
        max_in_flight_bytes: NonZeroUsize::new(64 << 20).unwrap(),
        settle_time: Duration::from_secs(120),
        clock: Clock::system(),
        seed: 1,
    }
}

async fn publish(broker: Arc<dyn Broker>) {
    let body: bytes::Bytes = order::body(SIZE).into();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let message = Publish { subject: "orders".into(), id: None, headers: Headers::default(), body: body.clone() };
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
