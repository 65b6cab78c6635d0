//! Every way a run can end, a row each: which guest, with which limits, and what it comes to.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use tidegate::broker::lease::Lease;
use tidegate::handler::{Call, Effects, Handler as _, Run};
use tidegate::outcome::{Fault, FaultKind, Outcome, TrapCode};
use tidegate::sandbox::Sandbox;
use tidegate::sandbox::limits::Limits;
use tokio::time::Instant;

use crate::sandbox::{call, message, run, sandbox};
use crate::support::guests::guest;
use crate::support::modules::{answer, handler, handler_from, handler_with_memory, outputs_that_share_a_body};

/// The guest of a row.
enum Guest {
    /// `behaviours`, with this subject.
    Behaves(&'static str),
    /// A module of its own.
    Module(Vec<u8>),
    /// No version at all: what the dispatcher says then (`a_message_that_finds_no_version_is_held_and_costs_no_attempt`).
    Nothing,
}
use Guest::{Behaves, Module, Nothing};

struct Row {
    name: &'static str,
    guest: Guest,
    limits: Limits,
    code: &'static str,
    /// What a person reads contains this.
    detail: &'static str,
    /// Whether where it ends depends on the time, and so fuel and fingerprint do.
    timed: bool,
    /// How long the message is the host's.
    lease: Duration,
}

fn row(name: &'static str, guest: Guest, code: &'static str, detail: &'static str) -> Row {
    // The unmetered rows need a short clock, and no row that ends by itself needs more.
    let limits = Limits { timeout: Duration::from_secs(20), ..Limits::default() };
    let timed = code == "timeout" || code == "interrupted";
    Row { name, guest, limits, code, detail, timed, lease: Duration::from_secs(60) }
}

impl Row {
    fn with(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    fn fuel(self, fuel: u64) -> Self {
        self.with(|limits| limits.fuel = NonZeroU64::new(fuel))
    }

    /// WASI calls over the limit end the run at the next tick.
    fn ends_at_a_tick(mut self) -> Self {
        self.timed = true;
        self
    }

    fn unmetered(self) -> Self {
        self.with(|limits| {
            limits.fuel = None;
            limits.timeout = Duration::from_millis(60);
        })
    }

    fn lease_ms(mut self, lease: u64) -> Self {
        self.lease = Duration::from_millis(lease);
        self
    }

    fn timeout_ms(self, timeout: u64) -> Self {
        self.with(|limits| limits.timeout = Duration::from_millis(timeout))
    }
}

fn values() -> Vec<Row> {
    vec![
        row("completed", Behaves("complete"), "completed", ""),
        row("completed with an output", Behaves("echo"), "completed", ""),
        row("retry as the policy says", Behaves("retry"), "handler-retry", "later"),
        row("retry after a delay", Behaves("retry.after"), "handler-retry", "later"),
        row("reject", Behaves("reject"), "handler-rejected", "card-declined"),
        row("skip", Behaves("skip"), "skipped", "stale"),
        row("defer", Behaves("defer"), "deferred", "closed"),
    ]
}

fn traps() -> Vec<Row> {
    let table =
        "(table 2 funcref) (type $none (func)) (type $one (func (param i32))) (elem (i32.const 1) $f) (func $f)";
    let call = |index: i32, kind: &str| {
        let argument = if kind == "$one" { "(i32.const 0)" } else { "" };
        Module(handler(table, &answer(&format!("(call_indirect (type {kind}) {argument} (i32.const {index}))"))))
    };
    let computes = |what: &str| Module(handler("", what));
    vec![
        row("unreachable", Behaves("hostile.unreachable"), "trap:unreachable", "unreachable"),
        row("panic", Behaves("hostile.panic"), "trap:unreachable", "unreachable"),
        row("out of bounds", Behaves("hostile.out-of-bounds"), "trap:out-of-bounds", "out of bounds"),
        row("recursion", Module(handler("(func $f (call $f))", &answer("(call $f)"))), "trap:stack-overflow", "stack"),
        row("recursion in Rust", Behaves("hostile.recurse"), "trap:stack-overflow", "stack"),
        row(
            "division by zero",
            computes("(i32.div_u (i32.const 1) (i32.const 0))"),
            "trap:division-by-zero",
            "divide by zero",
        ),
        row(
            "division that overflows",
            computes("(i32.div_s (i32.const 0x80000000) (i32.const -1))"),
            "trap:integer-overflow",
            "integer overflow",
        ),
        row(
            "conversion that overflows",
            computes("(i32.trunc_f32_s (f32.const nan))"),
            "trap:integer-overflow",
            "conversion",
        ),
        row("call to null", call(0, "$none"), "trap:indirect-call", "uninitialized"),
        row("call of another type", call(1, "$one"), "trap:indirect-call", "mismatch"),
        row("call past the table", call(9, "$none"), "trap:indirect-call", "out of bounds table"),
        row(
            "null reference",
            Module(handler("(type $none (func))", &answer("(call_ref $none (ref.null $none))"))),
            "trap:other",
            "null reference",
        ),
    ]
}

fn loops() -> Vec<Row> {
    let forever = "(func $forever (loop $again (br $again)))";
    let starts = format!("{forever} (start $forever)");
    let cleans_up = r#"(func (export "cabi_post_tidegate:events/handler@0.1.0#handle") (param i32)
        (loop $again (br $again)))"#;
    let allocates = r#"(module (memory (export "memory") 2)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) (unreachable))
        (func (export "tidegate:events/handler@0.1.0#handle") (param i32) (result i32) (i32.const 1024)))"#;
    vec![
        row("spins", Behaves("hostile.spin"), "out-of-fuel", "5000000").fuel(5_000_000),
        row("spins unmetered", Behaves("hostile.spin"), "timeout", "60 ms").unmetered(),
        row("spins past its time", Behaves("hostile.spin"), "timeout", "50 ms").fuel(u64::MAX / 2).timeout_ms(50),
        row("parks in the host", Behaves("hostile.park"), "timeout", "50 ms").timeout_ms(50),
        row("loops over host calls", Behaves("hostile.spin-in-host-calls"), "output-limit", "calls into the host")
            .ends_at_a_tick(),
        row("start function loops", Module(handler(&starts, "(i32.const 1024)")), "out-of-fuel", "1000000")
            .fuel(1_000_000),
        row("start function loops unmetered", Module(handler(&starts, "(i32.const 1024)")), "timeout", "60 ms")
            .unmetered(),
        row("allocation loops", Module(handler_from(allocates)), "out-of-fuel", "1000000").fuel(1_000_000),
        row("clean-up loops", Module(handler(cleans_up, "(i32.const 1024)")), "out-of-fuel", "1000000").fuel(1_000_000),
    ]
}

fn floods() -> Vec<Row> {
    let grows_tables = "(table $t 1 funcref) (func $more (drop (table.grow $t (ref.null func) (i32.const 1000))))";
    let grows = answer("(loop $again (call $more) (br $again))");
    let shared = |count, bytes| Module(handler_with_memory("1200", "", &outputs_that_share_a_body(count, bytes)));
    vec![
        row("memory bomb", Behaves("hostile.memory"), "memory-limit", "the limit is 67108864"),
        row("table bomb", Module(handler(grows_tables, &grows)), "memory-limit", "the limit is 262144")
            .with(|limits| limits.memory = 256 << 10),
        row("many outputs", Behaves("hostile.outputs"), "output-limit", ""),
        row("an output too many", Behaves("hostile.outputs-just-past"), "output-limit", "more than 256 outputs"),
        row("a huge output", Behaves("hostile.output-large"), "output-limit", "4194304"),
        row("a byte too many", Behaves("hostile.output-just-past"), "output-limit", "4194304 bytes of outputs"),
        row("outputs that share one body", shared(200, 1 << 20), "output-limit", "at once")
            .with(|limits| limits.memory = 128 << 20),
        row("a million outputs that share one body", shared(1_000_000, 1 << 20), "output-limit", "at once")
            .with(|limits| limits.memory = 128 << 20),
        row("log lines", Behaves("hostile.log-lines"), "output-limit", "more than 256 lines of log"),
        row("log bytes", Behaves("hostile.log-bytes"), "output-limit", "65536 bytes of log"),
        row("stdout", Behaves("hostile.stdout"), "output-limit", "lines of log"),
        row("stdout without lines", Behaves("hostile.stdout-no-newline"), "output-limit", "calls into the host")
            .ends_at_a_tick(),
        row("a closed stdout", Behaves("hostile.stdout-closed"), "invalid-result", "unknown handle"),
        row("a panic with a huge message", Behaves("hostile.panic-huge"), "output-limit", "bytes of log"),
        row("metrics series", Behaves("hostile.series"), "output-limit", "more than 64 series"),
        row("host calls", Behaves("hostile.host-calls"), "output-limit", "more than 10000 calls into the host"),
        row("clock calls", Behaves("hostile.clock-calls"), "output-limit", "more than 10000 calls into the host")
            .ends_at_a_tick(),
    ]
}

fn lies() -> Vec<Row> {
    let says = |stores: &str| Module(handler("", &answer(stores)));
    let outputs = |address: u32, count: u32| {
        says(&format!(
            "(i32.store offset=1028 (i32.const 0) (i32.const {address})) (i32.store offset=1032 (i32.const 0) (i32.const {count}))"
        ))
    };
    let allocates_nowhere = r#"(module (memory (export "memory") 2)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const -8))
        (func (export "tidegate:events/handler@0.1.0#handle") (param i32) (result i32) (i32.const 1024)))"#;
    let broken_text =
        "(i32.store8 offset=1024 (i32.const 0) (i32.const 1)) (i32.store8 offset=1028 (i32.const 0) (i32.const 1))
        (i32.store offset=1032 (i32.const 0) (i32.const 2048)) (i32.store offset=1036 (i32.const 0) (i32.const 2))
        (i32.store16 offset=2048 (i32.const 0) (i32.const 0xfeff))";
    let code = "invalid-result";
    vec![
        row("a bad discriminant", says("(i32.store8 offset=1024 (i32.const 0) (i32.const 2))"), code, "discriminant"),
        row(
            "a bad failure",
            says(
                "(i32.store8 offset=1024 (i32.const 0) (i32.const 1)) (i32.store8 offset=1028 (i32.const 0) (i32.const 9))",
            ),
            code,
            "discriminant",
        ),
        row("text that is not UTF-8", says(broken_text), code, "utf-8"),
        row("a list of 4 GiB", outputs(0, u32::MAX), code, "out of bounds"),
        row("a list past the end", outputs(130_000, 1000), code, "out of bounds"),
        row("a list at an odd place", outputs(1, 1), code, "aligned"),
        row("a result past the end", Module(handler("", "(i32.const -16)")), code, "out of bounds"),
        row("an allocation past the end", Module(handler_from(allocates_nowhere)), code, "beyond end of memory"),
        row("exits", Behaves("hostile.exit"), code, "status"),
    ]
}

fn refusals() -> Vec<Row> {
    vec![
        row("a socket", Behaves("probe.socket"), "denied", "wasi:sockets/tcp-create-socket"),
        row("a name", Behaves("probe.name"), "denied", "wasi:sockets/ip-name-lookup"),
        row("a body too large", Behaves("complete"), "invalid-message", "the handler takes 3")
            .with(|limits| limits.payload = 3),
    ]
}

/// What the host ends for reasons of its own, or never begins.
fn stops() -> Vec<Row> {
    vec![
        row("the lease ends in mid-run", Behaves("hostile.park"), "interrupted", "the lease on the message ended")
            .lease_ms(50),
        row("the lease ends while it spins", Behaves("hostile.spin"), "interrupted", "the lease on the message ended")
            .fuel(u64::MAX / 2)
            .lease_ms(50),
        row("no version", Nothing, "no-handler", "handler `no version` has no version that could run; deploy one"),
    ]
}

/// Each outcome's place in the table. A new variant has to be put here, and then the table lacks a row until it has one.
fn place(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Completed(_) => 0,
        Outcome::Retry { .. } => 1,
        Outcome::Defer { .. } => 2,
        Outcome::Rejected(_) => 3,
        Outcome::Skipped(_) => 4,
        Outcome::Fault(fault) => match fault.kind {
            FaultKind::Trap(code) => match code {
                TrapCode::Unreachable => 5,
                TrapCode::StackOverflow => 6,
                TrapCode::OutOfBounds => 7,
                TrapCode::DivisionByZero => 8,
                TrapCode::IntegerOverflow => 9,
                TrapCode::IndirectCall => 10,
                TrapCode::Other => 11,
            },
            FaultKind::OutOfFuel => 12,
            FaultKind::Timeout => 13,
            FaultKind::MemoryLimit => 14,
            FaultKind::OutputLimit => 15,
            FaultKind::InvalidResult => 16,
            FaultKind::Denied => 17,
            FaultKind::InvalidMessage => 18,
            FaultKind::Interrupted => 19,
            FaultKind::NoHandler => 20,
        },
    }
}

/// How many outcomes have a place.
const PLACES: usize = 21;

/// Runs a row twice, each time on the same message.
async fn run_twice(sandbox: &Sandbox, row: &Row) -> (Run, Run) {
    let (bytes, subject) = match &row.guest {
        Behaves(subject) => (guest("behaviours"), *subject),
        Module(bytes) => (bytes.clone(), "any"),
        Nothing => {
            let none = || Run::without_usage(Outcome::Fault(Fault::no_handler(row.name)));
            return (none(), none());
        }
    };
    let version =
        sandbox.load(bytes, row.name, &row.limits).await.unwrap_or_else(|error| panic!("{}: {error:?}", row.name));
    let sent = message(subject, "four");
    let run = async || version.handle(call(&sent, &Lease::until(Instant::now() + row.lease))).await;
    (run().await, run().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_a_run_can_end() {
    let sandbox = sandbox();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in [values(), traps(), loops(), floods(), lies(), refusals(), stops()].into_iter().flatten() {
        let (first, second) = run_twice(&sandbox, &row).await;
        seen.insert(place(&first.outcome));
        let detail = first.outcome.detail().unwrap_or_default();
        if first.outcome.code().0 != row.code || !detail.contains(row.detail) {
            wrong.push(format!("{}: {} ({detail}), not {} ({})", row.name, first.outcome.code(), row.code, row.detail));
        }
        wrong.extend(check_pair(&row, &first, &second));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen, (0..PLACES).collect::<BTreeSet<_>>(), "an outcome has no row");
}

/// The same message twice: the same outcome, the same fuel where nothing depends on time, the same fingerprint.
fn check_pair(row: &Row, first: &Run, second: &Run) -> Vec<String> {
    let (name, limits) = (row.name, &row.limits);
    let mut wrong = Vec::new();
    if !row.timed && first.usage.fuel != second.usage.fuel {
        wrong.push(format!("{name}: fuel {} and then {}", first.usage.fuel, second.usage.fuel));
    }
    if let (Outcome::Fault(one), Outcome::Fault(two)) = (&first.outcome, &second.outcome) {
        if !row.timed && one.fingerprint != two.fingerprint {
            wrong.push(format!("{name}: fingerprints differ: {one:?} {two:?}"));
        }
        if one.backtrace.len() > 16 || one.detail.len() > 4096 {
            wrong.push(format!("{name}: {} frames, {} bytes", one.backtrace.len(), one.detail.len()));
        }
    } else if first.outcome != second.outcome {
        wrong.push(format!("{name}: {:?} and then {:?}", first.outcome, second.outcome));
    }
    let ran = !["invalid-message", "no-handler"].contains(&row.code);
    if limits.fuel.is_some() && ran && (first.usage.fuel == 0 || first.usage.fuel > first.usage.fuel_limit) {
        wrong.push(format!("{name}: {:?}", first.usage));
    }
    if ran && (first.usage.memory_peak == 0 || first.usage.memory_peak > limits.memory as u64) {
        wrong.push(format!("{name}: peak {}", first.usage.memory_peak));
    }
    wrong
}

#[tokio::test]
async fn a_fault_is_told_with_its_place() {
    let version = sandbox().load(guest("behaviours"), "behaviours", &Limits::default()).await.unwrap();
    let run = run(&version, &message("hostile.panic", "")).await;
    let Outcome::Fault(fault) = &run.outcome else { panic!("{run:?}") };
    assert!(fault.backtrace.iter().any(|frame| frame.contains("behaviours::Handler")), "{fault:?}");
    assert!(run.logs.iter().any(|line| line.text.contains("the handler gave up")), "{:?}", run.logs);
}

#[tokio::test]
async fn different_faults_of_one_module_have_different_fingerprints() {
    let version = sandbox().load(guest("behaviours"), "behaviours", &Limits::default()).await.unwrap();
    let mut fingerprints = BTreeSet::new();
    let subjects = ["hostile.panic", "hostile.unreachable", "hostile.memory", "hostile.exit", "hostile.log-lines"];
    for subject in subjects {
        let Outcome::Fault(fault) = run(&version, &message(subject, "")).await.outcome else { panic!("{subject}") };
        fingerprints.insert(fault.fingerprint);
    }
    assert_eq!(fingerprints.len(), subjects.len());
}

/// Fuel is a count of what the guest does, so it is the same on every machine, for the same module and the same
/// wasmtime. When it changes, handlers near their limit are affected: say so in the changelog.
#[tokio::test]
async fn fuel_is_the_same_everywhere() {
    let rows = [
        ("six additions", "(i32.add (i32.const 1) (i32.const 2)) (drop)".repeat(6), 32),
        ("nothing", String::new(), 14),
    ];
    for (name, body, expected) in rows {
        let bytes = handler("", &answer(&body));
        let version = sandbox().load(bytes, name, &Limits::default()).await.unwrap();
        let run = run(&version, &message("any", "four")).await;
        assert_eq!(run.outcome, Outcome::Completed(Vec::new()), "{name}");
        assert_eq!(run.usage.fuel, expected, "{name}");
    }
}

#[tokio::test]
async fn reuse_keeps_state_and_ends_with_a_fault() {
    let limits = Limits { reuse: NonZeroU32::new(3).unwrap(), ..Limits::default() };
    let version: Arc<_> = sandbox().load(guest("behaviours"), "behaviours", &limits).await.unwrap();
    let mut told = Vec::new();
    for subject in ["state", "state", "state", "state", "state"] {
        told.push(run(&version, &message(&format!("probe.{subject}"), "")).await.outcome.detail().unwrap());
    }
    assert_eq!(told, ["told: 0", "told: 1", "told: 2", "told: 0", "told: 1"]);
    assert_eq!(run(&version, &message("hostile.panic", "")).await.outcome.code().0, "trap:unreachable");
    assert_eq!(run(&version, &message("probe.state", "")).await.outcome.detail().unwrap(), "told: 0");
}

/// A shadow that is promoted has instances that remember what they never did.
#[tokio::test]
async fn an_instance_that_ran_without_effects_serves_no_message_with_them() {
    let limits = Limits { reuse: NonZeroU32::new(100).unwrap(), ..Limits::default() };
    let version: Arc<_> = sandbox().load(guest("behaviours"), "behaviours", &limits).await.unwrap();
    let mut told = Vec::new();
    for effects in [Effects::Suppressed, Effects::Suppressed, Effects::Real, Effects::Real, Effects::Suppressed] {
        let message = message("probe.state", "");
        let lease = Lease::until(Instant::now() + Duration::from_secs(60));
        told.push(version.handle(Call { effects, ..call(&message, &lease) }).await.outcome.detail().unwrap());
    }
    assert_eq!(told, ["told: 0", "told: 1", "told: 0", "told: 1", "told: 0"]);
}
