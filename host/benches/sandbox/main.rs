//! What the sandbox costs for each message, beside bare wasmtime and beside the same parse without any sandbox.
//!
//! `cargo bench -p tidegate --bench sandbox` prints microseconds a message, on one thread: the median of the rounds,
//! and the best of them. The rounds of all candidates alternate, so that a busy moment of the machine hits all alike.
//! Bare wasmtime has the same pool, fuel, epochs and memory limit, and nothing else of ours.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark prints, and stops at an error"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tidegate::broker::lease::Lease;
use tidegate::handler::{Call, Effects, Handler as _};
use tidegate::message::{Headers, Message};
use tidegate::outcome::Outcome;
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions, Version};
use tokio::runtime::Runtime;

use bare_wasmtime::Bare;

#[path = "../shared/bare_wasmtime.rs"]
mod bare_wasmtime;
#[path = "../../tests/it/support/guests.rs"]
#[allow(dead_code, unreachable_pub, clippy::panic, reason = "shared with the tests, which use more of it")]
mod guests;
#[path = "../shared/order.rs"]
mod order;

/// Bytes of JSON in each message.
const SIZE: usize = 222;
/// Messages in a round, and rounds.
const MESSAGES: u32 = 2_000;
const ROUNDS: usize = 31;

/// The times of one candidate, in microseconds a message.
struct Candidate {
    name: &'static str,
    times: Vec<f64>,
}

impl Candidate {
    fn round(&mut self, work: impl FnOnce()) {
        let started = Instant::now();
        work();
        self.times.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(MESSAGES));
    }

    fn median(&self) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    fn best(&self) -> f64 {
        self.times.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

async fn ours(version: &Version, message: &Message) {
    let lease = Lease::until(tokio::time::Instant::now() + Duration::from_secs(60));
    let (subscription, effects) = ("orders", Effects::Real);
    let call = Call {
        message,
        subscription,
        attempt: 1,
        max_attempts: None,
        previous_failure: None,
        lease: &lease,
        effects,
        keeps_spans: false,
    };
    for _ in 0..MESSAGES {
        let run = version.handle(call).await;
        assert_eq!(run.outcome, Outcome::Completed(Vec::new()));
    }
}

async fn bare_fresh(bare: &Bare, message: &Message) {
    for _ in 0..MESSAGES {
        bare.fresh(message).await;
    }
}

async fn bare_reused(bare: &Bare, message: &Message) {
    let mut started = bare.start().await;
    for _ in 0..MESSAGES {
        bare.reused(&mut started, message).await;
    }
}

fn main() {
    let body = order::body(SIZE);
    let bytes = guests::guest("order");
    let runtime = Runtime::new().unwrap();
    let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
    let load = |reuse: u32| -> Arc<Version> {
        let limits = Limits { reuse: reuse.try_into().unwrap(), ..Limits::default() };
        runtime.block_on(sandbox.load(bytes.clone(), "order", &limits)).unwrap()
    };
    let (fresh, reused) = (load(1), load(u32::MAX));
    let bare = Bare::new(&bytes, &Limits::default());
    let message = Message {
        id: "order-17".to_owned(),
        subject: "orders.new".to_owned(),
        headers: Headers::default(),
        body: body.clone().into(),
        sequence: 17,
        published_at: SystemTime::now(),
    };
    let candidate = |name| Candidate { name, times: Vec::new() };
    let mut parse = candidate("native parse");
    let mut fresh_bare = candidate("bare wasmtime, fresh");
    let mut our_fresh = candidate("tidegate, fresh");
    let mut reused_bare = candidate("bare wasmtime, reused");
    let mut our_reused = candidate("tidegate, reused");
    // The first round warms up and is not counted.
    for round in 0..=ROUNDS {
        parse.round(|| (0..MESSAGES).for_each(|_| assert!(order::parse(black_box(body.as_bytes())))));
        fresh_bare.round(|| runtime.block_on(bare_fresh(&bare, &message)));
        our_fresh.round(|| runtime.block_on(ours(&fresh, &message)));
        reused_bare.round(|| runtime.block_on(bare_reused(&bare, &message)));
        our_reused.round(|| runtime.block_on(ours(&reused, &message)));
        if round == 0 {
            for each in [&mut parse, &mut fresh_bare, &mut our_fresh, &mut reused_bare, &mut our_reused] {
                each.times.clear();
            }
        }
    }
    println!("microseconds a message, {SIZE} bytes of JSON, {ROUNDS} rounds of {MESSAGES}");
    println!("{:24} {:>8} {:>8}", "", "median", "best");
    for each in [&parse, &fresh_bare, &our_fresh, &reused_bare, &our_reused] {
        println!("{:24} {:8.2} {:8.2}", each.name, each.median(), each.best());
    }
    for (name, ours, bare) in [("fresh", &our_fresh, &fresh_bare), ("reused", &our_reused, &reused_bare)] {
        let (median, best) = (ours.median() / bare.median(), ours.best() / bare.best());
        println!("{name}: {median:.2}x of bare wasmtime by the medians, {best:.2}x by the best (goal: 1.10x)");
    }
    println!("reused over the native parse: {:.2} us by the best", our_reused.best() - parse.best());
}
