//! A message between process and settle: what is to be done about it, and what is needed to decide again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use ulid::Ulid;

use crate::broker::Settlement;
use crate::dispatch::in_flight::InFlight;
use crate::dispatch::live::Note;
use crate::dispatch::shared::Shared;
use crate::handler::LogLine;
use crate::message::Publish;
use crate::outcome::{Outcome, ReasonCode, Usage};
use crate::settle::dead_letter::DeadLetterId;
use crate::settle::decide::Decision;
use crate::settle::outputs::Routed;
use crate::settle::verdict::{Evidence, settlement};
use crate::telemetry::Ending;
use crate::telemetry::trace::Ran;

/// What a message is settled as, for the counters and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) settled_as: Ending,
    pub(crate) reason: ReasonCode,
}

/// A message on its way to being settled.
pub(crate) struct Decided {
    pub(crate) entry: Arc<InFlight>,
    /// `None`: nothing is sent.
    pub(crate) settlement: Option<Settlement>,
    /// Outputs for other brokers, published and confirmed before the settlement; emptied when that is done.
    pub(crate) elsewhere: Vec<Routed>,
    pub(crate) verdict: Verdict,
    /// What the run used, should the message have to be given up after all.
    usage: Usage,
    /// What is kept of the run for those who look; `None`: nobody did, or nothing ran.
    pub(crate) note: Option<Box<Note>>,
    /// What is kept of the run for its trace; `None`: that is not recorded, or nothing ran.
    pub(crate) ran: Option<Box<Ran>>,
    /// Failed tries of this settlement, and since when.
    pub(crate) tries: u32,
    pub(crate) failing_since: Option<Instant>,
    /// When the settlement was first sent.
    pub(crate) sent_at: Option<Instant>,
}

impl Decided {
    fn new(entry: &Arc<InFlight>, settlement: Option<Settlement>, verdict: Verdict) -> Self {
        Self {
            entry: Arc::clone(entry),
            settlement,
            elsewhere: Vec::new(),
            verdict,
            usage: Usage::default(),
            note: None,
            ran: None,
            tries: 0,
            failing_since: None,
            sent_at: None,
        }
    }

    /// The earliest moment at which the broker may hand over again what is returned to it.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        let delay = match &self.settlement {
            Some(Settlement::Return { delay, .. }) => *delay,
            Some(Settlement::Ack { .. } | Settlement::DeadLetter(_)) | None => Duration::ZERO,
        };
        self.sent_at.unwrap_or(now) + delay
    }

    /// Nothing is sent: the lease is over, or what the host knows is not enough to settle.
    pub(crate) fn abandoned(entry: Arc<InFlight>) -> Self {
        let verdict = Verdict { settled_as: Ending::Abandoned, reason: ReasonCode::LEASE_LOST };
        Self::new(&entry, None, verdict)
    }

    /// Acknowledged, with no outputs.
    pub(crate) fn acknowledged(entry: Arc<InFlight>, verdict: Verdict) -> Self {
        Self::new(&entry, Some(Settlement::Ack { outputs: Vec::new() }), verdict)
    }

    /// Given up before a run. Without a detail, the record says what is known of earlier runs.
    pub(crate) fn without_run(
        shared: &Shared,
        entry: &Arc<InFlight>,
        reason: ReasonCode,
        detail: Option<&str>,
    ) -> Self {
        let mut decided = Self::new(entry, None, Verdict { settled_as: Ending::DeadLettered, reason });
        decided.decide_again(shared, &Decision::DeadLetter { reason }, detail);
        decided
    }

    /// Returned to be run by someone else: this host stops.
    pub(crate) fn interrupted(shared: &Shared, entry: &Arc<InFlight>) -> Self {
        Self::unrun(shared, entry, ReasonCode::INTERRUPTED, Duration::ZERO)
    }

    /// Returned because the subscription is paused. What the broker may still send on an earlier question of ours would
    /// otherwise come straight back, so the message stays away for as long as that can be.
    pub(crate) fn paused(shared: &Shared, entry: &Arc<InFlight>) -> Self {
        Self::unrun(shared, entry, ReasonCode::PAUSED, shared.source().still_owed())
    }

    /// Returned without a run that counts.
    fn unrun(shared: &Shared, entry: &Arc<InFlight>, reason: ReasonCode, delay: Duration) -> Self {
        let mut decided = Self::new(entry, None, Verdict { settled_as: Ending::Returned, reason });
        decided.decide_again(shared, &Decision::Return { delay, counted: false, reason }, None);
        decided
    }

    /// What a run has led to.
    pub(crate) fn after_run(
        shared: &Shared,
        entry: &Arc<InFlight>,
        outcome: &Outcome,
        decision: &Decision,
        routed: Vec<Routed>,
        usage: Usage,
        logs: &[LogLine],
    ) -> Self {
        let (here, elsewhere): (Vec<Routed>, Vec<Routed>) =
            routed.into_iter().partition(|routed| routed.broker == shared.setup.identity.broker);
        let outputs: Vec<Publish> = here.into_iter().map(|routed| routed.publish).collect();
        let evidence = Evidence { logs, ..evidence(shared, entry, Some(outcome), None, usage) };
        let settlement = settlement(decision, &evidence, outputs, new_id);
        Self { elsewhere, usage, ..Self::new(entry, Some(settlement), verdict(outcome.code(), decision)) }
    }

    /// The same, with what is kept of its run.
    pub(crate) fn noted(self, note: Option<Box<Note>>) -> Self {
        Self { note, ..self }
    }

    /// The same, with what is kept of its run for its trace.
    pub(crate) fn traced(self, ran: Option<Box<Ran>>) -> Self {
        Self { ran, ..self }
    }

    /// What its run used.
    pub(crate) const fn usage(&self) -> Usage {
        self.usage
    }

    /// Puts another decision in the place of the one that could not be carried out.
    pub(crate) fn decide_again(&mut self, shared: &Shared, decision: &Decision, detail: Option<&str>) {
        let evidence = evidence(shared, &self.entry, None, detail, self.usage);
        self.settlement = Some(settlement(decision, &evidence, Vec::new(), new_id));
        self.elsewhere.clear();
        self.verdict = match decision {
            Decision::Acknowledge => self.verdict,
            Decision::Return { reason, .. } | Decision::DeadLetter { reason } => verdict(*reason, decision),
        };
        self.tries = 0;
        self.failing_since = None;
    }

    /// Puts nothing in the place of the settlement.
    pub(crate) fn abandon(&mut self) {
        self.settlement = None;
        self.elsewhere.clear();
        self.verdict = Verdict { settled_as: Ending::Abandoned, reason: ReasonCode::LEASE_LOST };
    }
}

fn evidence<'a>(
    shared: &'a Shared,
    entry: &'a InFlight,
    outcome: Option<&'a Outcome>,
    detail: Option<&'a str>,
    usage: Usage,
) -> Evidence<'a> {
    let now = shared.setup.clock.now();
    let ran = entry.runs_on().map(|pick| &pick.version);
    Evidence {
        identity: &shared.setup.identity,
        delivery: &entry.delivery,
        outcome,
        detail,
        usage,
        max_attempts: shared.policy().max_attempts.get(),
        logs: &[],
        span: entry.trace().map(|trace| trace.own),
        // Empty when no module ran.
        digest: ran.map_or("", |version| version.handler.digest()),
        // A simulation's has none.
        version: ran.map(|version| version.number).filter(|number| *number > 0),
        now,
    }
}

fn verdict(code: ReasonCode, decision: &Decision) -> Verdict {
    match decision {
        Decision::Acknowledge if code == ReasonCode::SKIPPED => Verdict { settled_as: Ending::Skipped, reason: code },
        Decision::Acknowledge => Verdict { settled_as: Ending::Completed, reason: code },
        Decision::Return { counted: true, reason, .. } => Verdict { settled_as: Ending::Retried, reason: *reason },
        Decision::Return { counted: false, reason, .. } => Verdict { settled_as: Ending::Returned, reason: *reason },
        Decision::DeadLetter { reason } => Verdict { settled_as: Ending::DeadLettered, reason: *reason },
    }
}

fn new_id() -> DeadLetterId {
    DeadLetterId(Ulid::generate().to_string())
}
