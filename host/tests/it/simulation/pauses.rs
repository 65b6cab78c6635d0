//! A subscription is paused and resumed in the middle of everything else.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate::clock::Clock;
use tidegate::dispatch::{Hold, RAMP, Subscription, ramp};
use tokio::time::Instant;

use super::broker::{Faults, SimBroker};
use super::script::Script;
use super::{setup, start};

/// Pauses the subscription after a while; sometimes the host goes before it is resumed. While it is paused, all that is held
/// comes to its end, and nothing begins.
pub async fn steer(
    subscription: &Subscription,
    hold: &Hold,
    here: &SimBroker,
    script: &Script,
    rng: &mut fastrand::Rng,
) {
    if hold.is_closed() {
        assert_eq!(subscription.held(), (0, 0), "a host that starts paused takes nothing");
        return hold.open(Instant::now());
    }
    tokio::time::sleep(Duration::from_millis(rng.u64(0..60_000))).await;
    hold.close();
    if rng.u32(0..4) == 0 {
        return;
    }
    here.quiesce(subscription).await;
    let begun = script.begun();
    tokio::time::sleep(Duration::from_millis(rng.u64(1..120_000))).await;
    assert_eq!((script.begun(), subscription.held()), (begun, (0, 0)), "something began while it was paused");
    if rng.u32(0..4) > 0 {
        hold.open(Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_subscription_takes_few_messages_at_first() {
    let mut rng = fastrand::Rng::with_seed(5);
    let clock = Clock::simulated(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let here = SimBroker::new(rng.fork(), clock, Faults::NONE);
    let there = SimBroker::new(rng.fork(), clock, Faults::NONE);
    let script = Script::new(7, 0.0);
    let limit = 8;
    let mut setup = setup(3, clock, &mut rng);
    setup.circuit = None;
    setup.concurrency = NonZeroUsize::new(limit).unwrap();
    setup.max_in_flight = NonZeroUsize::new(64).unwrap();
    setup.max_in_flight_bytes = NonZeroUsize::new(1 << 20).unwrap();
    for number in 0..5_000 {
        here.seed_message(number, 10);
    }
    let hold: Arc<Hold> = Arc::default();
    let subscription = start(&setup, &here, &there, &script, &hold).await;
    // Without a pause it holds as many as may run as soon as the broker answers.
    until_held(&subscription, limit).await;
    hold.close();
    here.quiesce(&subscription).await;

    let resumed = Instant::now();
    hold.open(resumed);
    let mut most = 0;
    while let Some(may) = ramp(limit, resumed.elapsed()) {
        let held = subscription.held().0;
        assert!(held <= may, "{held} held {:?} after it was resumed, and {may} may be", resumed.elapsed());
        most = most.max(held);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(resumed.elapsed() >= RAMP && most > 1, "it came to {most} at the end of the ramp");
    until_held(&subscription, limit).await;
    drop(subscription);
}

async fn until_held(subscription: &Subscription, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while subscription.held().0 < count {
        assert!(Instant::now() < deadline, "it holds {} and never {count}", subscription.held().0);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
