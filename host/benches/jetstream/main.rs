//! Pull, handle and acknowledge on JetStream, beside a native consumer that parses the same body with the same client.
//!
//! `cargo bench -p tidegate --bench jetstream` starts a nats-server of its own and prints, for bodies of 256 B and 1 KiB,
//! messages a second, and the CPU a message of this process and of the server. The server works on the same cores, so a
//! rate is what both reach together.
//!
//! The candidates: a native consumer with plain acknowledgements, a native one with single confirmations, and
//! ours with both ways of confirming, with instances reused and with a fresh one a message. All have as many messages
//! delivered and not acknowledged at most, and as many single confirmations under way. Rounds alternate.
//! Beside them a native consumer that has the parse done by the same handler in bare wasmtime: what is left between it and
//! ours is what delivery costs, what is between it and the native parse is the sandbox.
//! Words behind `--` choose candidates: those whose name has one of them. `TIDEGATE_BENCH_MESSAGES` says how many
//! messages a round has, `TIDEGATE_BENCH_ROUNDS` how many rounds there are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark prints, and stops at an error"
)]

#[path = "../shared/bare_wasmtime.rs"]
mod bare_wasmtime;
#[path = "../../tests/it/support/guests.rs"]
#[allow(dead_code, unreachable_pub, clippy::panic, reason = "shared with the tests, which use more of it")]
mod guests;
mod native;
#[path = "../../tests/it/support/nats.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use more of it")]
mod nats;
#[path = "../shared/order.rs"]
mod order;
mod ours;
#[path = "../../tests/it/support/ports.rs"]
#[allow(unreachable_pub, clippy::panic, reason = "shared with the tests")]
mod ports;

use std::time::{Duration, Instant};

use tidegate::broker::jetstream::Confirm;
use tidegate::sandbox::limits::Limits;
use tokio::runtime::Runtime;

use bare_wasmtime::Bare;
use nats::NatsServer;

/// What one round of a candidate came to.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    rate: f64,
    /// CPU of this process and of the server, in microseconds a message.
    ours_micros: f64,
    server_micros: f64,
}

/// Measures from a moment on, for so many messages.
pub struct Stopwatch {
    began: Instant,
    server: i32,
    cpu: [Duration; 2],
}

impl Stopwatch {
    pub(crate) fn start(server: &NatsServer) -> Self {
        let server = server.id().as_raw_nonzero().get();
        Self { began: Instant::now(), server, cpu: cpu_times(server) }
    }

    pub fn stop(&self, messages: usize) -> Round {
        let messages = messages as f64;
        let rate = messages / self.began.elapsed().as_secs_f64();
        let [ours, servers] = cpu_times(self.server);
        let micros = |now: Duration, before: Duration| (now - before).as_secs_f64() * 1e6 / messages;
        Round { rate, ours_micros: micros(ours, self.cpu[0]), server_micros: micros(servers, self.cpu[1]) }
    }
}

/// User and system time of this process and of the server so far, in ticks of 10 ms.
fn cpu_times(server: i32) -> [Duration; 2] {
    ["self".to_owned(), server.to_string()].map(|process| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = |index: usize| fields.get(index).unwrap().parse::<u64>().unwrap();
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    })
}

/// What is measured, in the order of the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Candidate {
    NativePlain,
    NativeEach,
    Sandboxed { reuse: bool },
    Ours { confirm: Confirm, reuse: u32 },
}

impl Candidate {
    const ALL: [Self; 8] = [
        Self::NativePlain,
        Self::NativeEach,
        Self::Sandboxed { reuse: true },
        Self::Sandboxed { reuse: false },
        Self::Ours { confirm: Confirm::Groups, reuse: u32::MAX },
        Self::Ours { confirm: Confirm::Groups, reuse: 1 },
        Self::Ours { confirm: Confirm::Each, reuse: u32::MAX },
        Self::Ours { confirm: Confirm::Each, reuse: 1 },
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::NativePlain => "native, plain acks",
            Self::NativeEach => "native, 256 confirmations at once",
            Self::Sandboxed { reuse: true } => "bare wasmtime, plain acks, reused",
            Self::Sandboxed { reuse: false } => "bare wasmtime, plain acks, fresh",
            Self::Ours { confirm: Confirm::Groups, reuse: 1 } => "ours, groups, fresh instances",
            Self::Ours { confirm: Confirm::Groups, .. } => "ours, groups, instances reused",
            Self::Ours { confirm: Confirm::Each, reuse: 1 } => "ours, single, fresh instances",
            Self::Ours { confirm: Confirm::Each, .. } => "ours, single, instances reused",
        }
    }

    /// What it is held against, with the goal where there is one.
    fn against(self) -> Vec<(Self, Option<f64>)> {
        match self {
            Self::NativePlain | Self::NativeEach => Vec::new(),
            Self::Sandboxed { .. } => vec![(Self::NativePlain, None)],
            Self::Ours { confirm: Confirm::Groups, reuse } => {
                let goal = if reuse == 1 { 0.4 } else { 0.9 };
                vec![(Self::NativePlain, Some(goal)), (Self::Sandboxed { reuse: reuse > 1 }, None)]
            }
            Self::Ours { confirm: Confirm::Each, reuse } => {
                vec![(Self::NativeEach, Some(if reuse == 1 { 0.75 } else { 0.95 }))]
            }
        }
    }

    async fn round(self, server: &NatsServer, messages: usize, bare: &Bare) -> Round {
        match self {
            Self::NativePlain => native::plain(server, messages).await,
            Self::NativeEach => native::confirmed(server, messages).await,
            Self::Sandboxed { reuse } => native::sandboxed(server, messages, bare, reuse).await,
            Self::Ours { confirm, reuse } => ours::settled(server, messages, confirm, reuse).await,
        }
    }
}

fn median(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    rounds.get(rounds.len() / 2).copied()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let (messages, rounds) = (number("TIDEGATE_BENCH_MESSAGES", 200_000), number("TIDEGATE_BENCH_ROUNDS", 3));
    // What cargo adds starts with a dash.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen =
        |candidate: &Candidate| words.is_empty() || words.iter().any(|word| candidate.name().contains(word.as_str()));
    let candidates: Vec<Candidate> = Candidate::ALL.into_iter().filter(chosen).collect();
    let runtime = Runtime::new().unwrap();
    let bare = Bare::new(&guests::guest("order"), &Limits::default());
    runtime.block_on(async {
        let server = NatsServer::start().await;
        for size in [256, 1024] {
            native::fill(&server, &order::body(size), messages).await;
            let mut results: Vec<(Candidate, Vec<Round>)> =
                candidates.iter().map(|candidate| (*candidate, Vec::new())).collect();
            for _ in 0..rounds {
                for (candidate, results) in &mut results {
                    results.push(candidate.round(&server, messages, &bare).await);
                }
            }
            println!("{size} B, {messages} messages, {rounds} rounds, medians:");
            let medians: Vec<(Candidate, Round)> =
                results.into_iter().filter_map(|(candidate, rounds)| Some((candidate, median(rounds)?))).collect();
            for (candidate, round) in &medians {
                let of =
                    |base: Candidate| medians.iter().find(|(other, _)| *other == base).map(|(_, round)| round.rate);
                let against: String = (candidate.against().into_iter())
                    .filter_map(|(base, goal)| {
                        let goal = goal.map_or(String::new(), |goal| format!(" (goal: {goal})"));
                        Some(format!("  {:.2}x of {}{goal}", round.rate / of(base)?, base.name()))
                    })
                    .collect();
                println!(
                    "  {:<34} {:>8.0}/s {:>6.2} us CPU, server {:>6.2} us{}",
                    candidate.name(),
                    round.rate,
                    round.ours_micros,
                    round.server_micros,
                    against
                );
            }
        }
    });
}
