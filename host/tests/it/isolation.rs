//! What a guest does stays in its sandbox: other tasks go on, memory stays flat, time ends.

use std::num::{NonZeroU32, NonZeroU64};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tidegate::broker::lease::Lease;
use tidegate::handler::{Handler as _, Run};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions, Version};
use tokio::time::Instant;

use crate::sandbox::{call, message, run, sandbox};
use crate::support::guests::guest;
use crate::support::modules::{handler_with_memory, outputs_that_share_a_body};

async fn behaviours(limits: &Limits) -> Arc<Version> {
    sandbox().load(guest("behaviours"), "behaviours", limits).await.unwrap()
}

fn said(run: &Run) -> String {
    format!("{} {}", run.outcome.code(), run.outcome.detail().unwrap_or_default())
}

fn lease_of(time: Duration) -> Lease {
    Lease::until(Instant::now() + time)
}

const NO_FUEL_LIMIT: Option<NonZeroU64> = NonZeroU64::new(u64::MAX / 2);

/// One worker thread, one guest that spins on it, one task that only wants to be woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_spinning_guest_does_not_hold_its_worker() {
    let limits = Limits { timeout: Duration::from_millis(400), fuel: NO_FUEL_LIMIT, ..Limits::default() };
    let version = behaviours(&limits).await;
    let spinning = tokio::spawn(async move { said(&run(&version, &message("hostile.spin", "")).await) });
    let other = tokio::spawn(async move {
        let mut ticks = 0;
        let mut interval = tokio::time::interval(Duration::from_millis(2));
        while !spinning.is_finished() {
            interval.tick().await;
            ticks += 1;
        }
        (ticks, spinning.await.unwrap())
    });
    let (ticks, said) = other.await.unwrap();
    assert!(said.starts_with("timeout"), "{said}");
    // A worker that is held lets one through, before the guest begins; a busy machine lets fewer through than 200.
    assert!(ticks > 5, "{ticks} ticks in 400 ms");
}

#[tokio::test]
async fn the_end_of_the_lease_ends_the_run() {
    let version = behaviours(&Limits { fuel: NO_FUEL_LIMIT, ..Limits::default() }).await;
    for subject in ["hostile.park", "hostile.spin"] {
        let sent = message(subject, "");
        let lease = lease_of(Duration::from_millis(50));
        let said = said(&version.handle(call(&sent, &lease)).await);
        assert!(said.starts_with("interrupted the lease on the message ended"), "{subject}: {said}");
    }
}

#[tokio::test]
async fn a_lease_that_is_extended_meanwhile_lets_the_run_go_on() {
    let version = behaviours(&Limits::default()).await;
    let sent = message("probe.sleep", "120");
    let lease = lease_of(Duration::from_millis(60));
    let extend = async { lease.extend_to(Instant::now() + Duration::from_secs(60)) };
    let (run, ()) = tokio::join!(version.handle(call(&sent, &lease)), extend);
    assert_eq!(said(&run), "handler-rejected told: slept");
}

#[tokio::test]
async fn a_handler_gets_more_time_up_to_max_run() {
    let limits = |max_run| Limits { timeout: Duration::from_millis(60), max_run, ..Limits::default() };
    let sent = message("probe.extend-and-sleep", "150");
    let patient = behaviours(&limits(Duration::from_secs(11))).await;
    let extended = said(&run(&patient, &sent).await);
    assert!(extended.starts_with("handler-rejected told: Ok("), "{extended}");
    let strict = behaviours(&limits(Duration::from_secs(1))).await;
    let refused = said(&run(&strict, &sent).await);
    assert!(refused.starts_with("timeout ran longer than 60 ms"), "{refused}");
}

#[tokio::test]
async fn a_dropped_run_gives_its_instance_back_and_a_full_pool_waits() {
    let options = SandboxOptions { max_instances: NonZeroU32::MIN, ..SandboxOptions::default() };
    let sandbox = Sandbox::new(options).unwrap();
    let version = sandbox.load(guest("behaviours"), "behaviours", &Limits::default()).await.unwrap();
    let (parks, completes) = (message("hostile.park", ""), message("complete", ""));
    let lease = lease_of(Duration::from_secs(60));
    // The smallest pool has four places; these take them all.
    let mut parked = (0..4).map(|_| version.handle(call(&parks, &lease))).collect::<Vec<_>>();
    for run in &mut parked {
        assert!(futures_util::poll!(run.as_mut()).is_pending());
    }
    let short = lease_of(Duration::from_millis(50));
    let waited = said(&version.handle(call(&completes, &short)).await);
    assert!(waited.starts_with("interrupted"), "{waited}");
    drop(parked);
    assert_eq!(said(&run(&version, &completes).await).trim(), "completed");
}

/// What the process holds now, and the most it ever held, in bytes.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kilobytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    (kilobytes("VmRSS:") << 10, kilobytes("VmHWM:") << 10)
}

/// Memory can only be measured in a process of its own: runs the named test there, and says whether this is it.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "TIDEGATE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    print!("{said}");
    false
}

#[test]
fn what_a_guest_claims_costs_no_memory() {
    if !is_alone("isolation::what_a_guest_claims_costs_no_memory") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let limits = Limits { memory: 128 << 20, ..Limits::default() };
        for (count, bytes) in [(200, 1 << 20), (1_000_000, 1 << 20), (1, u32::MAX), (u32::MAX / 72, 1)] {
            let guest = handler_with_memory("1200", "", &outputs_that_share_a_body(count, bytes));
            let version = sandbox().load(guest, "claims", &limits).await.unwrap();
            let (before, _) = memory();
            let said = said(&run(&version, &message("any", "")).await);
            assert!(!said.starts_with("completed"), "{said}");
            let (_, most) = memory();
            println!("{count} outputs of {bytes} bytes: {} MiB more at the most: {said}", (most - before) >> 20);
            // The guest's own memory is 75 MiB and is limited; what comes on top is the host's.
            assert!(most - before < 100 << 20, "{} MiB more", (most - before) >> 20);
        }
    });
}

#[test]
fn a_hundred_hostile_runs_at_once_leave_memory_flat() {
    if !is_alone("isolation::a_hundred_hostile_runs_at_once_leave_memory_flat") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let timeout = Duration::from_millis(300);
        let limits = Limits { memory: 8 << 20, fuel: NonZeroU64::new(20_000_000), timeout, ..Limits::default() };
        let version = behaviours(&limits).await;
        let mut held = Vec::new();
        for _ in 0..20 {
            let acts =
                ["spin", "park", "memory", "recurse", "panic", "outputs", "log-lines", "stdout", "series", "exit"];
            let runs = (0..100).map(|index| {
                let (version, subject) = (Arc::clone(&version), format!("hostile.{}", acts[index % acts.len()]));
                tokio::spawn(async move { said(&run(&version, &message(&subject, "")).await) })
            });
            for run in runs.collect::<Vec<_>>() {
                let said = run.await.unwrap();
                assert!(!said.starts_with("completed"), "{said}");
            }
            held.push(memory().0);
        }
        println!("MiB after each hundred: {:?}", held.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>());
        // The pool warms up first: each slot that was used keeps a few pages, and a stack its depth; on a busy machine that
        // goes on for all of the twenty. One page of memory that each of a thousand runs left behind would be 62 MiB.
        let (warm, last) = (held[9], held[19]);
        assert!(last < warm + (48 << 20), "it grows: {held:?}");
    });
}

#[test]
fn a_further_small_handler_takes_less_than_a_mebibyte() {
    const HANDLERS: u64 = 40;
    if !is_alone("isolation::a_further_small_handler_takes_less_than_a_mebibyte") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Compiling takes memory that is given back late, so the code is compiled into the cache first, by another
        // sandbox in another process of this same test.
        let modules = (0..HANDLERS).map(order_variant).collect::<Vec<_>>();
        let limits = Limits::default();
        if std::env::var_os("TIDEGATE_TEST_WARM").is_none() {
            for module in &modules {
                sandbox().load(module.clone(), "warming", &limits).await.unwrap();
            }
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "isolation::a_further_small_handler_takes_less_than_a_mebibyte", "--nocapture"])
                .env("TIDEGATE_TEST_WARM", "1")
                .output()
                .unwrap();
            print!("{}", String::from_utf8_lossy(&output.stdout));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let mut versions = Vec::new();
        let mut held = Vec::new();
        for module in modules {
            let version = sandbox().load(module, "small", &limits).await.unwrap();
            assert_eq!(said(&run(&version, &message("any", "{}")).await), "handler-rejected not-an-order");
            versions.push(version);
            held.push(memory().0);
        }
        let further = (held[held.len() - 1] - held[0]) / (HANDLERS - 1);
        println!("with one handler {} MiB, each further one {} KiB", held[0] >> 20, further >> 10);
        assert!(held[0] < 60 << 20, "{} MiB with one handler", held[0] >> 20);
        assert!(further < 1 << 20, "{} KiB each", further >> 10);
    });
}

/// The module `order` with a custom section behind it: another digest, so another handler.
fn order_variant(number: u64) -> Vec<u8> {
    let mut bytes = guest("order");
    bytes.extend_from_slice(&[0, 10, 1, b'n']);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}
