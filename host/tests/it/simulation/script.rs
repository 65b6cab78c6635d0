//! A handler whose behaviour on each run follows from the seed, the message and the attempt.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate::handler::{Call, Handler, Run};
use tidegate::message::Headers;
use tidegate::outcome::{Fault, FaultKind, Outcome, Output, Reason, TrapCode, Usage};
use tokio::time::Instant;

/// What a panic in the host says here.
pub const HOST_FAILS: &str = "the host itself fails";

pub struct Script {
    seed: u64,
    /// How many of all runs misbehave, from 0 to 1.
    trouble: f64,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// Messages that run now, on the present host.
    running: HashSet<u64>,
    /// What each message came to, run by run.
    runs: BTreeMap<u64, Vec<&'static str>>,
    /// Runs that have begun.
    begun: u64,
    host: u64,
}

/// Takes a message off the running ones, also when its run is dropped.
struct Running<'a>(&'a Script, u64, u64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut ledger = self.0.ledger.lock().unwrap();
        if ledger.host == self.2 {
            ledger.running.remove(&self.1);
        }
    }
}

impl Script {
    pub fn new(seed: u64, trouble: f64) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self { seed, trouble, ledger: Mutex::default() })
    }

    /// The host before this one is gone, with all that ran on it.
    pub fn new_host(&self) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.host += 1;
        ledger.running.clear();
    }

    /// What the runs of a message came to.
    pub fn runs(&self, sequence: u64) -> Vec<&'static str> {
        self.ledger.lock().unwrap().runs.get(&sequence).cloned().unwrap_or_default()
    }

    /// How many runs have begun, on all hosts.
    pub fn begun(&self) -> u64 {
        self.ledger.lock().unwrap().begun
    }

    fn outcome(&self, call: &Call<'_>, rng: &mut fastrand::Rng) -> Outcome {
        let reason = || Reason { code: "scripted".into(), detail: None };
        let fault = |kind| {
            Outcome::Fault(Fault {
                kind,
                detail: "scripted".into(),
                fingerprint: rng_free(kind),
                backtrace: Vec::new(),
            })
        };
        if rng.f64() > self.trouble {
            let output = |to: &str, index: usize| Output {
                to: Some(to.into()),
                subject: None,
                id: None,
                headers: Headers::default(),
                body: Bytes::from(format!("{}:{index}", call.message.sequence)),
            };
            let count = (call.message.sequence % 4) as usize;
            let outputs = (0..count).map(|index| output(if index % 2 == 0 { "same" } else { "other" }, index));
            return Outcome::Completed(outputs.collect());
        }
        match rng.u32(0..12) {
            0 | 1 => Outcome::Retry { after: None, reason: reason() },
            2 => Outcome::Retry { after: Some(Duration::from_millis(rng.u64(0..90_000))), reason: reason() },
            3 => Outcome::Defer { after: Duration::from_millis(rng.u64(0..90_000)), reason: reason() },
            4 => Outcome::Rejected(reason()),
            5 => Outcome::Skipped(reason()),
            6 => fault(FaultKind::Trap(TrapCode::Unreachable)),
            7 => fault(FaultKind::OutOfFuel),
            8 => fault(FaultKind::Timeout),
            9 => fault(FaultKind::MemoryLimit),
            10 => fault(FaultKind::InvalidMessage),
            _ => std::panic::panic_any(HOST_FAILS),
        }
    }
}

/// One fingerprint a kind: the same fault at the same place.
fn rng_free(kind: FaultKind) -> u64 {
    kind.code().0.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31) ^ u64::from(byte))
}

#[async_trait]
impl Handler for Script {
    async fn handle(&self, call: Call<'_>) -> Run {
        let sequence = call.message.sequence;
        let host = {
            let mut ledger = self.ledger.lock().unwrap();
            ledger.begun += 1;
            assert!(ledger.running.insert(sequence), "message {sequence} runs twice at once on one host");
            ledger.host
        };
        let _running = Running(self, sequence, host);
        let mut rng = fastrand::Rng::with_seed(self.seed ^ (sequence << 20) ^ u64::from(call.attempt));
        assert!(call.attempt <= call.max_attempts.unwrap(), "attempt {} of {:?}", call.attempt, call.max_attempts);
        let began = Instant::now();
        // Most are quick; some run for minutes, past several leases.
        let pause = match rng.u32(0..20) {
            0 => rng.u64(30_000..300_000),
            1..=4 => rng.u64(1..20_000),
            5..=10 => rng.u64(0..100),
            _ => 0,
        };
        if pause > 0 {
            let wake = began + Duration::from_millis(pause);
            // As the sandbox does: a run ends when its lease does, and the lease may be extended meanwhile.
            while Instant::now() < wake && !call.lease.is_over(Instant::now()) {
                tokio::time::sleep_until(wake.min(call.lease.ends_at())).await;
            }
        }
        let outcome = self.outcome(&call, &mut rng);
        self.ledger.lock().unwrap().runs.entry(sequence).or_default().push(outcome.code().0);
        let usage = Usage { fuel: 1, fuel_limit: 2, memory_peak: 3, duration: began.elapsed(), start: None };
        Run { usage, ..Run::without_usage(outcome) }
    }

    fn digest(&self) -> &str {
        "5c91"
    }
}
