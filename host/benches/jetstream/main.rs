//! Pull, handle and acknowledge on JetStream, beside a native consumer that parses the same body with the same client.
//!
//! `cargo bench -p tidegate --bench jetstream` starts a nats-server of its own and prints, for bodies of 256 B and 1 KiB,
//! messages a second and this process's CPU a message. The server works on the same cores, so a rate is what both reach
//! together; the CPU a message is ours alone.
//!
//! The candidates: a native consumer with plain acknowledgements, a native one with 64 single confirmations under way,
//! and ours, settled with confirmation in groups, with instances reused and with a fresh one a message. Rounds alternate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark prints, and stops at an error"
)]

#[path = "../../tests/it/support/guests.rs"]
#[allow(dead_code, unreachable_pub, clippy::panic, reason = "shared with the tests, which use more of it")]
mod guests;
mod native;
#[path = "../../tests/it/support/nats.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use more of it")]
mod nats;
mod ours;
#[path = "../../tests/it/support/ports.rs"]
#[allow(unreachable_pub, clippy::panic, reason = "shared with the tests")]
mod ports;

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

const ROUNDS: usize = 3;

/// What one round of a candidate came to.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub rate: f64,
    pub cpu_micros: f64,
}

/// Measures from a moment on, for so many messages.
pub struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_time() }
    }

    pub fn stop(&self, messages: usize) -> Round {
        let messages = messages as f64;
        let cpu = cpu_time() - self.cpu;
        Round { rate: messages / self.began.elapsed().as_secs_f64(), cpu_micros: cpu.as_secs_f64() * 1e6 / messages }
    }
}

/// User and system time of this process so far, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |index: usize| fields.get(index).unwrap().parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// An order of so many bytes: what is missing is a note.
fn body(size: usize) -> String {
    let order = |note: &str| {
        format!(
            "{{\"id\":\"ord-2026-000017\",\"customer\":\"c-48213\",\"currency\":\"EUR\",\"lines\":[{{\"sku\":\"TEA-GRN-250\",\
             \"quantity\":2,\"price_cents\":895}},{{\"sku\":\"CUP-STONE-WHITE\",\"quantity\":4,\"price_cents\":1250}}],\
             \"total_cents\":6790,\"note\":\"{note}\"}}"
        )
    };
    order(&"x".repeat(size - order("").len()))
}

fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    *rounds.get(rounds.len() / 2).unwrap()
}

fn main() {
    let messages: usize = std::env::var("TIDEGATE_BENCH_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let server = nats::NatsServer::start().await;
        for size in [256, 1024] {
            let body = body(size);
            let mut rounds: [Vec<Round>; 4] = Default::default();
            native::fill(&server, &body, messages).await;
            for _ in 0..ROUNDS {
                rounds[0].push(native::plain(&server, messages).await);
                rounds[1].push(native::confirmed(&server, messages).await);
                rounds[2].push(ours::settled(&server, messages, u32::MAX).await);
                rounds[3].push(ours::settled(&server, messages, 1).await);
            }
            let [plain, confirmed, reused, fresh] = rounds.map(median);
            println!("{size} B, {messages} messages, {ROUNDS} rounds, medians:");
            let row = |name: &str, round: Round, against: &[(&str, Round)]| {
                let ratios: String =
                    against.iter().map(|(name, base)| format!("  {:.2}x of {name}", round.rate / base.rate)).collect();
                println!("  {name:<34} {:>8.0}/s {:>6.2} us CPU{ratios}", round.rate, round.cpu_micros);
            };
            row("native, plain acks", plain, &[]);
            row("native, 64 confirmations at once", confirmed, &[]);
            row("ours, groups, instances reused", reused, &[("plain", plain), ("confirmed", confirmed)]);
            row("ours, groups, fresh instances", fresh, &[("plain", plain), ("confirmed", confirmed)]);
        }
    });
}
