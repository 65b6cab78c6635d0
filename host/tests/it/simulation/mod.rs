//! The whole host with everything around it simulated: time is paused, chance is seeded, the broker and the handler
//! misbehave as the seed says. After each run the books must balance.
//!
//! `TIDEGATE_SEED=17 cargo test --test it simulation` runs one seed; `TIDEGATE_SEEDS=5000` runs more than the default.

mod broker;
mod pauses;
mod script;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate::broker::{Directory, NamedBroker, SubscriptionSpec};
use tidegate::clock::Clock;
use tidegate::dispatch::{CircuitPolicy, Deployed, Hold, Links, Setup, Slot, Subscription, Turns};
use tidegate::settle::outputs::{Grant, Grants};
use tidegate::settle::policy::RetryPolicy;
use tidegate::settle::verdict::Identity;
use tidegate::telemetry::{Metrics, VersionFigures};
use tokio::time::Instant;

use broker::{Faults, SimBroker};
use script::Script;

const MESSAGES: u64 = 60;

fn setup(seed: u64, clock: Clock, rng: &mut fastrand::Rng) -> Setup {
    let mut policy = if rng.bool() { RetryPolicy::quick() } else { RetryPolicy::standard() };
    // A server that gives deliveries back and hosts that are killed use attempts up; enough of them are left.
    policy.max_attempts = NonZeroU32::new(rng.u32(3..12)).unwrap();
    policy.max_deliveries = policy.max_attempts.saturating_mul(NonZeroU32::new(10).unwrap());
    let max_in_flight = rng.usize(1..40);
    Setup {
        identity: Identity {
            subscription: "sub".into(),
            broker: "here".into(),
            stream: None,
            handler: "script".into(),
            host: "sim".into(),
        },
        spec: SubscriptionSpec {
            name: "sub".into(),
            stream: None,
            subjects: vec!["in.>".into()],
            ack_wait: Duration::from_secs(30),
            max_in_flight,
            create: true,
        },
        policy,
        circuit: circuit(rng),
        stalled_after: Duration::from_secs(60),
        concurrency: NonZeroUsize::new(rng.usize(1..=max_in_flight.min(8))).unwrap(),
        max_in_flight: NonZeroUsize::new(max_in_flight).unwrap(),
        max_in_flight_bytes: NonZeroUsize::new(rng.usize(50..100_000)).unwrap(),
        settle_time: Duration::from_secs(rng.u64(30..450)),
        clock,
        seed,
    }
}

/// One that opens soon, so that it does; or none.
fn circuit(rng: &mut fastrand::Rng) -> Option<CircuitPolicy> {
    let policy = CircuitPolicy {
        messages: NonZeroU32::new(rng.u32(1..12)).unwrap(),
        failures: rng.u32(1..=100),
        window: Duration::from_secs(rng.u64(1..120)),
        // What fails for good is probed until its deliveries are used up: with long pauses a run would be of months.
        pause: Duration::from_secs(rng.u64(1..5)),
        max_pause: Duration::from_secs(rng.u64(5..30)),
    };
    rng.bool().then_some(policy)
}

fn version(script: &Arc<Script>, setup: &Setup, metrics: &Metrics) -> Arc<Deployed> {
    let grant = |broker: &str, subject: &str| Grant { broker: broker.into(), subject: subject.into() };
    let grants =
        Grants::from([("same".into(), grant("here", "out.same")), ("other".into(), grant("there", "out.other"))]);
    // As long again as settling may take: together a message is held for 60 to 900 seconds.
    Arc::new(Deployed {
        number: 0,
        handler: Arc::clone(script) as _,
        grants,
        max_run: setup.settle_time,
        measurements: metrics.handler("script", 64),
        figures: VersionFigures::default(),
    })
}

async fn start(
    setup: &Setup,
    here: &Arc<SimBroker>,
    there: &Arc<SimBroker>,
    script: &Arc<Script>,
    hold: &Arc<Hold>,
) -> Subscription {
    let metrics = Metrics::new();
    let named = |broker: &Arc<SimBroker>| NamedBroker { kind: "embedded", broker: Arc::clone(broker) as _ };
    let brokers = [("here".to_owned(), named(here)), ("there".to_owned(), named(there))];
    let links = Links {
        broker: Arc::clone(here) as _,
        brokers: Directory::new(brokers.into()),
        slot: Slot::holding(version(script, setup, &metrics)),
        metrics: metrics.subscription("sub", "embedded"),
        live: Arc::default(),
        tracer: None,
        hold: Arc::clone(hold),
        told: None,
    };
    loop {
        match Subscription::start(setup.clone(), links.clone(), &Turns::new(2)).await {
            Ok(subscription) => return subscription,
            Err(_away) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// One life of a queue: hosts come, are killed or drained, and come again, until everything has ended.
async fn live(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let clock = Clock::simulated(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let faults = Faults::draw(&mut rng);
    let here = SimBroker::new(rng.fork(), clock, faults);
    let there = SimBroker::new(rng.fork(), clock, Faults { gives_back: 0.0, ..faults });
    let script = Script::new(rng.u64(..), rng.f64());
    let setup = setup(rng.u64(..), clock, &mut rng);
    for number in 0..MESSAGES {
        here.seed_message(number, rng.usize(0..200));
    }
    let hold: Arc<Hold> = Arc::default();
    let quiet_at = Instant::now() + Duration::from_secs(rng.u64(60..4_000));
    loop {
        script.new_host();
        let subscription = start(&setup, &here, &there, &script, &hold).await;
        let stay = Duration::from_millis(rng.u64(1..600_000));
        let until = if Instant::now() >= quiet_at { None } else { Some(Instant::now() + stay) };
        match until {
            Some(until) => {
                if rng.u32(0..3) == 0 {
                    pauses::steer(&subscription, &hold, &here, &script, &mut rng).await;
                }
                tokio::time::sleep_until(until).await;
                if rng.bool() {
                    // kill -9: nothing gets a chance to say goodbye.
                    drop(subscription);
                } else {
                    let drained = subscription.drain(Instant::now() + Duration::from_secs(rng.u64(0..25))).await;
                    here.check_drained(&drained, faults);
                }
            }
            None => {
                here.calm();
                there.calm();
                hold.open(Instant::now());
                let deadline = Instant::now() + Duration::from_secs(60 * 24 * 3600);
                while here.unsettled() > 0 {
                    assert!(Instant::now() < deadline, "{} messages never ended", here.unsettled());
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                let (held, bytes) = subscription.held();
                here.quiesce(&subscription).await;
                assert!(held <= setup.max_in_flight.get() * 2, "{held} held, {bytes} bytes");
                subscription.drain(Instant::now() + Duration::from_secs(25)).await;
                break;
            }
        }
    }
    here.check_books(MESSAGES, &setup.policy, &there, &script, faults);
}

/// The panics of the script are part of the play: they are not printed.
fn hush_the_script() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(script::HOST_FAILS) {
            others(info);
        }
    }));
}

fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(live(seed))));
    if let Err(cause) = outcome {
        eprintln!("the simulation failed with seed {seed}: TIDEGATE_SEED={seed} runs it again");
        std::panic::resume_unwind(cause);
    }
}

#[test]
fn the_books_balance_whatever_goes_wrong() {
    hush_the_script();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("TIDEGATE_SEED") {
        Some(seed) => run(seed),
        None => {
            let count = number("TIDEGATE_SEEDS").unwrap_or(1_000);
            for seed in 0..count {
                run(seed);
            }
            println!("{count} seeds, each with {MESSAGES} messages");
        }
    }
}
