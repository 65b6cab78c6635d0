//! A case in a sandbox: run, under the faults that were asked for, and held against what is expected. With no effect.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::difference::Difference;
use super::expect::{Expectation, log_line};
use super::parse::Case;
use super::tightened::{Attempts, Stopped, Tightened};
use crate::broker::lease::Lease;
use crate::handler::{Call, Effects, Handler as _, Run};
use crate::message::Message;
use crate::outcome::{Outcome, ReasonCode};
use crate::sandbox::Version;
use crate::sandbox::limits::Limits;
use crate::settle::outputs::{Grants, route};

/// When a message was published that does not say: the first second of 2026, so that it is the same in each run.
pub const DEFAULT_TIME: Duration = Duration::from_secs(1_767_225_600);
/// What a run may take beside its own limit: waiting for an instance.
const PATIENCE: Duration = Duration::from_secs(60);
/// A machine that is so many times as slow.
const SLOW: u32 = 10;

/// What a case is run on.
#[derive(Debug, Clone, Copy)]
pub struct Bench<'a> {
    /// The version.
    pub version: &'a Arc<Version>,
    /// Where it may send; `None`: that is not known, so anywhere.
    pub grants: Option<&'a Grants>,
    /// The subscription that the handler is told, where the case names none.
    pub subscription: &'a str,
    /// When messages were published that do not say.
    pub now: SystemTime,
}

/// A fault that a case is run under, besides once without. It has to end as it does without; under limits, to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Injected {
    /// The same message once more, on the same instance where instances are reused: it must do the same again, with the
    /// same ids, so that a broker which de-duplicates takes its outputs once.
    Duplicate,
    /// The message comes again as the next attempt, after a run that ran out of its time.
    Redelivery,
    /// A machine that is ten times as slow: a tenth of the wall clock.
    Slow,
    /// Just less fuel than the run took, and just less memory: it is to be stopped, with nothing published and its message
    /// not done.
    Limits,
}

/// A case that was run.
#[derive(Debug)]
pub struct Checked {
    /// The run without faults.
    pub run: Run,
    /// Whether it ran at all; else the differences say why not.
    pub ran: bool,
    /// How it was not as expected.
    pub differences: Vec<Difference>,
    /// How a run under a fault was not as expected; where the one without was not either, not as that.
    pub under_faults: Vec<Difference>,
    /// The runs under limits that were too low, as they ended.
    pub stopped: Vec<Stopped>,
}

/// How the handler is told that a run stands to the others.
#[derive(Clone, Copy)]
struct Told<'a> {
    attempt: u32,
    max_attempts: Option<u32>,
    previous_failure: Option<&'a str>,
}

impl Injected {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::Duplicate, Self::Redelivery, Self::Slow, Self::Limits];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Redelivery => "redelivery",
            Self::Slow => "slow",
            Self::Limits => "limits",
        }
    }
}

impl Case {
    /// Runs it, then once under each fault that it names or that is named here, and says how that is not as expected.
    pub async fn check(&self, bench: &Bench<'_>, more: &BTreeSet<Injected>) -> Checked {
        let version = match self.version(bench, |_limits| {}) {
            Ok(version) => version,
            Err(difference) => return Checked::not_run(difference),
        };
        let told = self.told();
        let run = self.handed_over(bench, &version, told).await;
        let differences = self.expect.as_ref().map(|expect| expect.unmet(&run)).unwrap_or_default();
        let did = Expectation::of(&run);
        let expected = self.expect.as_ref().filter(|_| differences.is_empty()).unwrap_or(&did);
        let (mut under_faults, mut stopped) = (Vec::new(), Vec::new());
        for fault in self.faults.union(more) {
            let unmet = match fault {
                // What it did is what it has to do again, whatever was expected of it.
                Injected::Duplicate => did.unmet(&self.handed_over(bench, &version, told).await),
                Injected::Redelivery => self.redelivered(bench, expected).await,
                Injected::Slow => self.slow(bench, expected).await,
                Injected::Limits => self.limited(bench, &run, &mut stopped).await,
            };
            under_faults.extend(unmet.into_iter().map(|difference| difference.under(fault.name())));
        }
        Checked { run, ran: true, differences, under_faults, stopped }
    }

    /// Runs it once, without faults; whatever is expected.
    pub async fn run(&self, bench: &Bench<'_>) -> Run {
        match self.version(bench, |_limits| {}) {
            Ok(version) => self.handed_over(bench, &version, self.told()).await,
            Err(difference) => Checked::not_run(difference).run,
        }
    }

    async fn redelivered(&self, bench: &Bench<'_>, expected: &Expectation) -> Vec<Difference> {
        let attempt = self.attempt.saturating_add(1);
        let told = Told {
            attempt,
            max_attempts: self.max_attempts.map(|max| max.max(attempt)),
            previous_failure: Some("timeout: the run before ran out of its time"),
        };
        match self.version(bench, |_limits| {}) {
            Ok(version) => expected.unmet(&self.handed_over(bench, &version, told).await),
            Err(difference) => vec![difference],
        }
    }

    async fn slow(&self, bench: &Bench<'_>, expected: &Expectation) -> Vec<Difference> {
        let slower = |limits: &mut Limits| {
            limits.timeout /= SLOW;
            limits.max_run /= SLOW;
        };
        match self.version(bench, slower) {
            Ok(version) => expected.unmet(&self.handed_over(bench, &version, self.told()).await),
            Err(difference) => vec![difference],
        }
    }

    /// Runs it with less than it took: of fuel, as near to its end as it can be stopped; then of memory.
    async fn limited(&self, bench: &Bench<'_>, without: &Run, stopped: &mut Vec<Stopped>) -> Vec<Difference> {
        let mut got_away = None;
        for tightened in Tightened::fuel(without.usage.fuel) {
            let (code, judged) = self.tightened(bench, without, tightened).await;
            got_away = judged.map(|one| stopped.push(one)).err();
            // Only one that got away is tried with less: what ended otherwise is to be told.
            if got_away.is_none() || code != Some(without.outcome.code()) {
                break;
            }
        }
        let mut unmet: Vec<Difference> = got_away.into_iter().collect();
        if let Some(tightened) = Tightened::memory(without.usage.memory_peak) {
            match self.tightened(bench, without, tightened).await.1 {
                Ok(one) => stopped.push(one),
                Err(difference) => unmet.push(difference),
            }
        }
        unmet
    }

    /// How a run under a limit ended, when there was one, and whether that is as it has to be.
    async fn tightened(
        &self,
        bench: &Bench<'_>,
        without: &Run,
        tightened: Tightened,
    ) -> (Option<ReasonCode>, Result<Stopped, Difference>) {
        match self.version(bench, |limits| tightened.apply(limits)) {
            Ok(version) => {
                let run = self.handed_over(bench, &version, self.told()).await;
                let attempts = Attempts { this: self.attempt, last: self.max_attempts };
                (Some(run.outcome.code()), tightened.judge(&run, &without.outcome, attempts))
            }
            Err(difference) => (None, Err(difference)),
        }
    }

    fn told(&self) -> Told<'_> {
        Told {
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            previous_failure: self.previous_failure.as_deref(),
        }
    }

    /// The version under the limits of the case, and without instances that other cases have left.
    fn version(&self, bench: &Bench<'_>, change: impl FnOnce(&mut Limits)) -> Result<Arc<Version>, Difference> {
        let own = bench.version.limits();
        let mut limits = own.clone();
        let higher = |key: &str, case: String, handler: String| {
            let text = format!("the case's is {case}, and the handler's is {handler}: a case can lower a limit only");
            Err(Difference::new(format!("limits.{key}"), text))
        };
        if let Some(fuel) = self.lowered.fuel {
            match own.fuel {
                Some(limit) if fuel <= limit => limits.fuel = Some(fuel),
                Some(limit) => return higher("fuel", fuel.to_string(), limit.to_string()),
                None => {
                    let text = "the handler is unmetered, so its fuel cannot be limited";
                    return Err(Difference::new("limits.fuel", text));
                }
            }
        }
        if let Some(timeout) = self.lowered.timeout {
            if timeout > own.timeout {
                let spelled = |duration| humantime::format_duration(duration).to_string();
                return higher("timeout", spelled(timeout), spelled(own.timeout));
            }
            limits.timeout = timeout;
            limits.max_run = timeout;
        }
        if let Some(memory) = self.lowered.memory {
            if memory > own.memory {
                return higher("memory", memory.to_string(), own.memory.to_string());
            }
            limits.memory = memory;
        }
        change(&mut limits);
        let none = || Difference::new("limits", "the module cannot be run within these limits");
        bench.version.within(limits).ok_or_else(none)
    }

    /// Hands the message over once; where its outputs may not go, that is how it ended.
    async fn handed_over(&self, bench: &Bench<'_>, version: &Arc<Version>, told: Told<'_>) -> Run {
        let message = Message {
            id: self.id.clone().unwrap_or_else(|| self.place.clone()),
            subject: self.subject.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            sequence: self.sequence,
            published_at: self.published_at.unwrap_or(bench.now),
        };
        run(version, &message, bench, self.subscription.as_deref(), told).await
    }
}

async fn run(
    version: &Version,
    message: &Message,
    bench: &Bench<'_>,
    subscription: Option<&str>,
    told: Told<'_>,
) -> Run {
    // No broker waits: the lease lasts as long as any run may.
    let lease = Lease::until(Instant::now() + version.limits().max_run + PATIENCE);
    let subscription = subscription.unwrap_or(bench.subscription);
    let Told { attempt, max_attempts, previous_failure } = told;
    let effects = Effects::Suppressed;
    let call = Call {
        message,
        subscription,
        attempt,
        max_attempts,
        previous_failure,
        lease: &lease,
        effects,
        keeps_spans: false,
    };
    let mut run = version.handle(call).await;
    if let (Outcome::Completed(outputs), Some(grants)) = (&run.outcome, bench.grants)
        && let Err(fault) = route(outputs.clone(), grants, subscription, &message.id)
    {
        run.outcome = Outcome::Fault(fault);
    }
    run
}

impl Checked {
    /// What the run without faults logged: level, text, fields.
    #[must_use]
    pub fn logs(&self) -> Vec<String> {
        self.run.logs.iter().map(log_line).collect()
    }

    fn not_run(difference: Difference) -> Self {
        let outcome = Outcome::Fault(crate::outcome::Fault {
            kind: crate::outcome::FaultKind::NoHandler,
            detail: difference.text.clone(),
            fingerprint: 0,
            backtrace: Vec::new(),
        });
        let run = Run::without_usage(outcome);
        Self { run, ran: false, differences: vec![difference], under_faults: Vec::new(), stopped: Vec::new() }
    }
}
