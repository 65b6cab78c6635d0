//! What a candidate would change, added up. Pure.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;

use super::End;
use super::past::Past;
use crate::cli::table::{cut, harmless, number};
use crate::dispatch::{Ran, compare, told};
use crate::outcome::{Fault, FaultKind, Outcome};
use crate::telemetry::CopyFate;

/// What is told of one difference, in characters.
const WIDTH: usize = 160;

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Sums {
    active: String,
    candidate: String,
    sources: Vec<Source>,
    messages: u64,
    /// Whether somebody ended it before all were run.
    stopped: bool,
    same: u64,
    other_outputs: u64,
    other_outcome: u64,
    other_fault: u64,
    /// Of how many the wall clock ended one of both runs.
    timeouts: u64,
    /// How often which outcome would become which; those alone that differ.
    outcomes: Vec<Change>,
    fuel_before: u64,
    fuel_after: u64,
    /// The most that one message took.
    most_fuel_before: u64,
    most_fuel_after: u64,
    /// What one may take; nothing: it is unmetered.
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel_limit: Option<u64>,
    examples: Vec<Example>,
    #[serde(skip)]
    examples_of_each: usize,
}

#[derive(Debug, Serialize)]
struct Change {
    before: &'static str,
    after: &'static str,
    messages: u64,
}

/// A message on which both differ.
#[derive(Debug, Serialize)]
struct Example {
    kind: &'static str,
    subscription: String,
    sequence: u64,
    message_id: String,
    subject: String,
    difference: String,
    fuel_before: u64,
    fuel_after: u64,
}

/// Where messages came from, and how far back it goes.
#[derive(Debug, Default, Serialize)]
struct Source {
    name: String,
    messages: u64,
    /// When the oldest message was published that it still has.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    keeps_settled: bool,
    /// Whether there are more than were run.
    is_cut: bool,
}

impl Source {
    /// How many there were, and what somebody has to know of it.
    fn lines(&self, since: SystemTime) -> Vec<String> {
        let (name, messages) = (&self.name, number(self.messages));
        let mut lines = Vec::new();
        if self.keeps_settled {
            lines.push(format!("messages  {messages} of {name}"));
        } else {
            let plural = if self.messages == 1 { "" } else { "s" };
            lines.push(format!(
                "replayed  {messages} message{plural} of {name} that the queue still has: those that wait, are to be retried or \
                 are held by a pause"
            ));
            lines.push(
                "what every subscription has settled is gone, so it says nothing of what was completed; what was given up on \
                 is found with --dead-letters"
                    .to_owned(),
            );
        }
        if self.is_cut {
            lines.push("there are more; --limit runs more of them".to_owned());
        }
        let oldest = self.oldest.as_deref().and_then(|text| humantime::parse_rfc3339_weak(text).ok());
        if let (Some(oldest), Some(text), true) = (oldest, &self.oldest, self.keeps_settled)
            && oldest > since
        {
            lines.push(format!(
                "the stream goes back to {text} and no further; its max_age, max_msgs and max_bytes say what it keeps"
            ));
        }
        lines
    }
}

impl Sums {
    pub(super) fn new(active: String, candidate: String, fuel_limit: Option<u64>, examples_of_each: usize) -> Self {
        Self {
            active,
            candidate,
            sources: Vec::new(),
            messages: 0,
            stopped: false,
            same: 0,
            other_outputs: 0,
            other_outcome: 0,
            other_fault: 0,
            timeouts: 0,
            outcomes: Vec::new(),
            fuel_before: 0,
            fuel_after: 0,
            most_fuel_before: 0,
            most_fuel_after: 0,
            fuel_limit,
            examples: Vec::new(),
            examples_of_each,
        }
    }

    /// What the active version and the candidate are called.
    pub(super) fn names(&self) -> [&str; 2] {
        [&self.active, &self.candidate]
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// How many would be handled otherwise.
    pub(super) fn differ(&self) -> u64 {
        self.messages - self.same
    }

    /// What follows is of this source.
    pub(super) fn begin(&mut self, name: String, oldest: Option<String>, keeps_settled: bool) {
        self.sources.push(Source { name, oldest, keeps_settled, ..Source::default() });
    }

    /// The source has more than were asked for.
    pub(super) fn more(&mut self) {
        self.sources.iter_mut().next_back().into_iter().for_each(|source| source.is_cut = true);
    }

    /// Somebody ended it.
    pub(super) fn stop(&mut self) -> End {
        self.stopped = true;
        End::Stopped
    }

    /// What the active version and the candidate did with a message.
    pub(super) fn add(&mut self, past: &Past, [before, after]: &[Ran; 2]) {
        self.messages += 1;
        self.sources.iter_mut().next_back().into_iter().for_each(|source| source.messages += 1);
        let fuel = [before.usage.fuel, after.usage.fuel];
        self.fuel_before = self.fuel_before.saturating_add(fuel[0]);
        self.fuel_after = self.fuel_after.saturating_add(fuel[1]);
        self.most_fuel_before = self.most_fuel_before.max(fuel[0]);
        self.most_fuel_after = self.most_fuel_after.max(fuel[1]);
        self.timeouts += u64::from([before, after].into_iter().any(|ran| is_timeout(&ran.outcome)));
        let fate = compare(before, after);
        let count = match fate {
            // A comparison of two runs that ended is never one of the last two.
            CopyFate::Same | CopyFate::Dropped | CopyFate::Unfinished => {
                self.same += 1;
                return;
            }
            CopyFate::OtherOutputs => &mut self.other_outputs,
            CopyFate::OtherOutcome => &mut self.other_outcome,
            CopyFate::OtherFault => &mut self.other_fault,
        };
        *count += 1;
        let (one, other) = (before.outcome.code().0, after.outcome.code().0);
        match self.outcomes.iter_mut().find(|change| (change.before, change.after) == (one, other)) {
            Some(change) => change.messages += 1,
            None => self.outcomes.push(Change { before: one, after: other, messages: 1 }),
        }
        if self.examples.iter().filter(|example| example.kind == fate.name()).count() < self.examples_of_each {
            let message = &past.message;
            self.examples.push(Example {
                kind: fate.name(),
                subscription: past.subscription.clone(),
                sequence: message.sequence,
                message_id: message.id.clone(),
                subject: message.subject.clone(),
                difference: told(before, after),
                fuel_before: fuel[0],
                fuel_after: fuel[1],
            });
        }
    }

    pub(super) fn for_people(&self, since: SystemTime) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = self.write(since, &mut text);
        text
    }

    fn write(&self, since: SystemTime, out: &mut String) -> std::fmt::Result {
        let [active, candidate] = self.names();
        writeln!(out, "active    {active}\ncandidate {candidate}")?;
        writeln!(
            out,
            "          both ran now, by the limits of {active}; what became of the messages then is not looked at"
        )?;
        for source in &self.sources {
            let mut lines = source.lines(since).into_iter();
            writeln!(out, "{}", lines.next().unwrap_or_default())?;
            lines.try_for_each(|line| writeln!(out, "          {line}"))?;
        }
        if self.stopped {
            writeln!(out, "stopped   there are more; this is what was known by then")?;
        }
        if self.messages == 0 {
            return writeln!(out, "\nno message was run");
        }
        self.write_figures(out)?;
        let mut changes: Vec<&Change> = self.outcomes.iter().collect();
        changes.sort_by_key(|change| (Reverse(change.messages), change.before, change.after));
        if !changes.is_empty() {
            writeln!(out, "\nwhat would change")?;
        }
        for Change { before, after, messages } in changes {
            let what = if before == after { format!("{before}, otherwise") } else { format!("{before} -> {after}") };
            writeln!(out, "  {:>8}  {what}", number(*messages))?;
        }
        for Example { kind, subscription, sequence, message_id, subject, difference, .. } in &self.examples {
            writeln!(out, "\n{kind}: {} #{sequence} on {} ({subscription})", cut(message_id, 80), cut(subject, 80))?;
            writeln!(out, "  {}", cut(&harmless(difference), WIDTH))?;
        }
        writeln!(out, "\nnothing was sent, and nothing was settled")
    }

    fn write_figures(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nsame      {}", number(self.same))?;
        let kinds = [
            ("outputs", self.other_outputs, "completed by both, with other outputs"),
            ("outcome", self.other_outcome, "ended otherwise"),
            ("fault", self.other_fault, "stopped by a fault, where the active version has none or another"),
        ];
        for (kind, count, said) in kinds {
            let said = if count > 0 { format!("  {said}") } else { String::new() };
            writeln!(out, "{kind:<9} {}{said}", number(count))?;
        }
        let limit = self.fuel_limit.map(|limit| format!(" of {}", number(limit))).unwrap_or_default();
        writeln!(
            out,
            "fuel      {} before, {} after ({}); a message took {} and {} at the most{limit}",
            number(self.fuel_before),
            number(self.fuel_after),
            change(self.fuel_before, self.fuel_after),
            number(self.most_fuel_before),
            number(self.most_fuel_after)
        )?;
        if self.timeouts > 0 {
            writeln!(
                out,
                "timeouts  {}, which say as much of this machine as of the module: the wall clock ended a run",
                number(self.timeouts)
            )?;
        }
        Ok(())
    }
}

fn is_timeout(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Fault(Fault { kind: FaultKind::Timeout, .. }))
}

/// By how much something became more or less.
fn change(before: u64, after: u64) -> String {
    let tenths = i128::from(after.abs_diff(before)) * 1000 / i128::from(before.max(1));
    let sign = match after.cmp(&before) {
        std::cmp::Ordering::Less => "-",
        std::cmp::Ordering::Equal => return "the same".to_owned(),
        std::cmp::Ordering::Greater => "+",
    };
    format!("{sign}{}.{}%", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::*;
    use crate::message::{Headers, Message, Publish};
    use crate::outcome::{Reason, Usage};
    use crate::settle::outputs::Routed;

    fn past(sequence: u64) -> Past {
        let message = Message {
            id: format!("m-{sequence}"),
            subject: "orders.eu".to_owned(),
            headers: Headers::default(),
            body: bytes::Bytes::new(),
            sequence,
            published_at: SystemTime::UNIX_EPOCH,
        };
        let subscription = "orders".to_owned();
        Past { message, subscription, attempt: 1, max_attempts: None, previous_failure: None }
    }

    fn ran(outcome: Outcome, fuel: u64) -> Ran {
        Ran { outcome, outputs: Vec::new(), usage: Usage { fuel, ..Usage::default() }, effects: Some(Vec::new()) }
    }

    fn completed(body: &'static str, fuel: u64) -> Ran {
        let publish = Publish { subject: "out".into(), id: None, headers: Headers::default(), body: body.into() };
        Ran { outputs: vec![Routed { broker: "queue".into(), publish }], ..ran(Outcome::Completed(Vec::new()), fuel) }
    }

    fn skipped(fuel: u64) -> Ran {
        ran(Outcome::Skipped(Reason { code: "old".into(), detail: None }), fuel)
    }

    fn timeout(fuel: u64) -> Ran {
        let fault = Fault { kind: FaultKind::Timeout, detail: String::new(), fingerprint: 0, backtrace: Vec::new() };
        ran(Outcome::Fault(fault), fuel)
    }

    fn sums() -> Sums {
        Sums::new("invoice@3".into(), "new.wasm".into(), Some(1_000_000), 1)
    }

    #[test]
    fn what_would_change_is_added_up_and_shown_by_examples() {
        let mut sums = sums();
        sums.begin("orders".into(), Some("2026-11-29T00:00:00Z".into()), true);
        let rows = [completed("a", 90), completed("b", 90), skipped(90), skipped(95), timeout(900)];
        for (sequence, after) in (1..).zip(rows) {
            sums.add(&past(sequence), &[completed("a", 100), after]);
        }
        assert_eq!((sums.messages(), sums.differ()), (5, 4));
        expect![[r"
            active    invoice@3
            candidate new.wasm
                      both ran now, by the limits of invoice@3; what became of the messages then is not looked at
            messages  5 of orders
                      the stream goes back to 2026-11-29T00:00:00Z and no further; its max_age, max_msgs and max_bytes say what it keeps

            same      1
            outputs   1  completed by both, with other outputs
            outcome   2  ended otherwise
            fault     1  stopped by a fault, where the active version has none or another
            fuel      500 before, 1,265 after (+153.0%); a message took 100 and 900 at the most of 1,000,000
            timeouts  1, which say as much of this machine as of the module: the wall clock ended a run

            what would change
                     2  completed -> skipped
                     1  completed, otherwise
                     1  completed -> timeout

            outputs: m-2 #2 on orders.eu (orders)
              output 1 would have had another body: 1 bytes would have been 1, from byte 0 on

            outcome: m-3 #3 on orders.eu (orders)
              completed would have been skipped (old)

            fault: m-5 #5 on orders.eu (orders)
              completed would have been timeout

            nothing was sent, and nothing was settled
        "]]
        .assert_eq(&sums.for_people(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn what_the_queue_does_not_keep_is_said_and_that_somebody_ended_it() {
        let mut sums = sums();
        sums.begin("orders".into(), Some("2026-11-29T00:00:00Z".into()), false);
        sums.add(&past(1), &[skipped(100), skipped(100)]);
        sums.more();
        sums.stop();
        expect![[r"
            active    invoice@3
            candidate new.wasm
                      both ran now, by the limits of invoice@3; what became of the messages then is not looked at
            replayed  1 message of orders that the queue still has: those that wait, are to be retried or are held by a pause
                      what every subscription has settled is gone, so it says nothing of what was completed; what was given up on is found with --dead-letters
                      there are more; --limit runs more of them
            stopped   there are more; this is what was known by then

            same      1
            outputs   0
            outcome   0
            fault     0
            fuel      100 before, 100 after (the same); a message took 100 and 100 at the most of 1,000,000

            nothing was sent, and nothing was settled
        "]]
        .assert_eq(&sums.for_people(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn how_far_back_a_stream_goes_is_said_when_more_was_asked_for() {
        let source = Source { oldest: Some("1970-01-01T00:00:01Z".into()), keeps_settled: true, ..Source::default() };
        let notes = |seconds| source.lines(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).len() - 1;
        assert_eq!((notes(0), notes(1)), (1, 0));
    }
}
