//! What a deploy costs, and what it costs the messages that run meanwhile.
//!
//! `cargo bench -p tidegate --bench deploy` prints, beside the goals: upload to live of a small Rust module over HTTP, a
//! rollback, a swap of the slot alone, how long messages took before and around swaps and while a large module compiles,
//! a start with 200 handlers and a warm cache, what 1, 100 and 1,000 handlers on one host cost each and each message, and
//! what traces cost. Words behind `--` choose parts: deploy, traffic, start, handlers, traces. Handlers compile 1,000
//! modules first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark prints, and stops at an error"
)]

#[path = "../../tests/it/support/guests.rs"]
#[allow(dead_code, unreachable_pub, clippy::panic, reason = "shared with the tests, which use more of it")]
mod guests;
mod handlers;
#[path = "../../tests/it/support/modules.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use more of it")]
mod modules;
#[path = "../shared/order.rs"]
#[allow(dead_code, reason = "shared with other benchmarks, which use more of it")]
mod order;
mod traces;
mod traffic;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate::app::Host;
use tidegate::config::Config;
use tidegate::deploy::report::{Line, RolledBack};
use tidegate::sandbox::CompileIn;
use tokio::runtime::Runtime;

use guests::guest;

const DEPLOYS: usize = 30;
const ROLLBACKS: usize = 200;
const HANDLERS: usize = 200;

/// As a host has it: in a process of its own.
fn compile_in() -> CompileIn {
    CompileIn::OwnProcess { program: env!("CARGO_BIN_EXE_tidegate").into() }
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |part: &str| chosen.is_empty() || chosen.iter().any(|word| part.contains(word.as_str()));
    if handlers::is_asked() {
        return;
    }
    let runtime = Runtime::new().unwrap();
    if wanted("deploy") {
        deploys(&runtime);
    }
    if wanted("traffic") {
        runtime.block_on(traffic::measure());
    }
    if wanted("start") {
        starts(&runtime);
    }
    if wanted("handlers") {
        handlers::measure();
    }
    if wanted("traces") {
        runtime.block_on(traces::measure());
    }
}

/// The same module with another digest: a custom section of its own at the end.
pub fn another(module: &[u8], number: usize) -> Vec<u8> {
    let name = format!("bench-{number:06}");
    let mut bytes = module.to_vec();
    bytes.extend([0, name.len() as u8 + 1, name.len() as u8]);
    bytes.extend(name.as_bytes());
    bytes
}

/// Prints a row: the median, the 99th of a hundred and the worst, beside the goal.
pub fn row(what: &str, times: &mut [Duration], goal: &str) {
    times.sort_unstable();
    let at = |share: f64| shown(times[((times.len() - 1) as f64 * share).round() as usize]);
    println!("{what:<46} {:>10} {:>10} {:>10}   {goal}", at(0.5), at(0.99), at(1.0));
}

pub fn heading(what: &str) {
    println!("\n{what:<46} {:>10} {:>10} {:>10}   goal", "median", "p99", "worst");
}

/// Prints a row of a table with as many columns as there are values.
pub fn row_of(what: &str, values: &[String], goal: &str) {
    let values: String = values.iter().map(|value| format!(" {value:>22}")).collect();
    println!("{what:<40}{values}   {goal}");
}

fn shown(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros >= 1e6 {
        format!("{:.2} s", micros / 1e6)
    } else if micros >= 1e3 {
        format!("{:.2} ms", micros / 1e3)
    } else {
        format!("{micros:.1} us")
    }
}

pub fn config(folder: &Path, handlers: &str) -> Config {
    let text = format!("{handlers}\n[http]\nlisten = \"127.0.0.1:0\"\n[brokers.q]\ntype = \"embedded\"\n");
    Config::from_text(&folder.join("tidegate.toml"), text, &[]).unwrap()
}

fn deploys(runtime: &Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let entries = "[handlers.h]\n[subscriptions.s]\nbroker = \"q\"\nsubjects = [\">\"]\nhandler = \"h\"\n";
    let config = config(folder.path(), entries);
    let host = runtime.block_on(Host::start(&config, compile_in())).unwrap();
    let base = format!("http://{}/v1/handlers/h", host.address());
    let agent = ureq::Agent::new_with_defaults();
    let order = guest("order");
    let mut uploads = Vec::new();
    for number in 0..DEPLOYS {
        let module = another(&order, number);
        let begun = Instant::now();
        let mut answer = agent.post(format!("{base}/versions")).send(&module).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        uploads.push(begun.elapsed());
        let last = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(matches!(last, Line::Done(_)), "{last:?}");
    }
    let mut rollbacks = Vec::new();
    for number in 0..ROLLBACKS {
        let to = DEPLOYS - (number + 1) % 2;
        let begun = Instant::now();
        let mut answer = agent.post(format!("{base}/rollback?to={to}")).send_empty().unwrap();
        let rolled: RolledBack = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        rollbacks.push(begun.elapsed());
        assert!(rolled.was_loaded);
    }
    heading(&format!("over HTTP, a module of {} bytes", order.len()));
    row("upload to live, compiled each time", &mut uploads, "300 ms");
    row("rollback", &mut rollbacks, "10 ms");
    runtime.block_on(host.drain(Duration::from_secs(5)));
}

fn starts(runtime: &Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let order = guest("order");
    let mut entries = String::new();
    for number in 0..HANDLERS {
        std::fs::write(folder.path().join(format!("h{number}.wasm")), another(&order, number)).unwrap();
        writeln!(entries, "[handlers.h{number}]\nmodule = \"h{number}.wasm\"").unwrap();
        writeln!(entries, "[subscriptions.s{number}]\nbroker = \"q\"\nsubjects = [\"s{number}\"]").unwrap();
        writeln!(entries, "handler = \"h{number}\"").unwrap();
    }
    let config = config(folder.path(), &entries);
    let start = || {
        let begun = Instant::now();
        let host = runtime.block_on(Host::start(&config, compile_in())).unwrap();
        let took = begun.elapsed();
        runtime.block_on(host.drain(Duration::from_secs(5)));
        took
    };
    let mut first = [start()];
    let mut warm: Vec<Duration> = (0..5).map(|_| start()).collect();
    heading(&format!("a start with {HANDLERS} handlers, each with its module"));
    row("the first one, which compiles them", &mut first, "");
    row("with a warm cache", &mut warm, "1 s");
}
