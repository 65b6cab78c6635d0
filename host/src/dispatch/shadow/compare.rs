//! Whether two runs of a message did the same, and how they differ, in words. Pure.
//!
//! | compared | the same when |
//! |---|---|
//! | outcome | it is of the same kind; what the handler retries, defers, rejects or skips, for the same reason; faults, of the same kind |
//! | outputs, of what both completed | there are as many, in the same order, each with the same broker, subject, headers and body |
//! | what would have been done elsewhere, where it is known of both, but of faults | there is as much, in the same order: the same keys and sizes, the same requests |
//!
//! Time and fuel are figures and no differences. Words beside a reason are for people, and may say a time or a number.

use crate::dispatch::shadow::Ran;
use crate::handler::Effect;
use crate::outcome::Outcome;
use crate::settle::outputs::Routed;
use crate::telemetry::CopyFate;

/// What the candidate's run is, beside the other one's.
pub(crate) fn compare(stable: &Ran, candidate: &Ran) -> CopyFate {
    match (&stable.outcome, &candidate.outcome) {
        (one, other) if is_same(one, other) => match first_difference(stable, candidate) {
            None => CopyFate::Same,
            Some(_) => CopyFate::OtherOutputs,
        },
        (_, Outcome::Fault(_)) => CopyFate::OtherFault,
        (
            _,
            Outcome::Completed(_)
            | Outcome::Retry { .. }
            | Outcome::Defer { .. }
            | Outcome::Rejected(_)
            | Outcome::Skipped(_),
        ) => CopyFate::OtherOutcome,
    }
}

fn is_same(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Outcome::Completed(_), Outcome::Completed(_)) => true,
        (Outcome::Retry { reason: one, .. }, Outcome::Retry { reason: other, .. })
        | (Outcome::Defer { reason: one, .. }, Outcome::Defer { reason: other, .. })
        | (Outcome::Rejected(one), Outcome::Rejected(other))
        | (Outcome::Skipped(one), Outcome::Skipped(other)) => one.code == other.code,
        // The fingerprint has the module's digest in it, and so differs in any case.
        (Outcome::Fault(one), Outcome::Fault(other)) => one.kind == other.kind,
        (
            Outcome::Completed(_)
            | Outcome::Retry { .. }
            | Outcome::Defer { .. }
            | Outcome::Rejected(_)
            | Outcome::Skipped(_)
            | Outcome::Fault(_),
            _,
        ) => false,
    }
}

/// How two runs differ, on one line, without anything of a header or a body; nothing when they do not.
pub(crate) fn told(stable: &Ran, candidate: &Ran) -> String {
    match (&stable.outcome, &candidate.outcome) {
        (one, other) if is_same(one, other) => first_difference(stable, candidate).unwrap_or_default(),
        (one, other) => another_outcome(&in_short(one), &in_short(other)),
    }
}

/// How a run differs from what is recorded of an earlier one, which is the code of its outcome; nothing when it does not.
pub(crate) fn told_of_record(recorded: &str, now: &Outcome) -> String {
    if now.code().0 == recorded { String::new() } else { another_outcome(recorded, &in_short(now)) }
}

fn another_outcome(one: &str, other: &str) -> String {
    format!("{one} would have been {other}")
}

/// The code of an outcome, with the handler's own reason where it gave one.
fn in_short(outcome: &Outcome) -> String {
    let code = outcome.code();
    match outcome {
        Outcome::Retry { reason, .. }
        | Outcome::Defer { reason, .. }
        | Outcome::Rejected(reason)
        | Outcome::Skipped(reason) => format!("{code} ({})", reason.code),
        Outcome::Completed(_) | Outcome::Fault(_) => code.to_string(),
    }
}

/// The first thing that differs between what two runs do that end the same.
fn first_difference(stable: &Ran, candidate: &Ran) -> Option<String> {
    outputs_difference(stable, candidate).or_else(|| effects_difference(stable, candidate))
}

/// The first thing that differs between what two runs would have done elsewhere, where that is known of both.
fn effects_difference(stable: &Ran, candidate: &Ran) -> Option<String> {
    // How far a run came that was stopped is a matter of time.
    if matches!(stable.outcome, Outcome::Fault(_)) {
        return None;
    }
    let (ours, theirs) = (stable.effects.as_ref()?, candidate.effects.as_ref()?);
    if ours.len() != theirs.len() {
        let plural = if ours.len() == 1 { "" } else { "s" };
        return Some(format!("{} effect{plural} would have been {}", ours.len(), theirs.len()));
    }
    let index = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs)?;
    // A key may hold anything, and this is one line.
    let line = |effects: &[Effect]| effects.get(index).map(|effect| effect.to_string().replace(char::is_control, " "));
    Some(format!("effect {} differs: one {}, the other {}", index + 1, line(ours)?, line(theirs)?))
}

fn outputs_difference(stable: &Ran, candidate: &Ran) -> Option<String> {
    let (ours, theirs) = (&stable.outputs, &candidate.outputs);
    let pairs = ours.iter().zip(theirs).enumerate();
    let differs = pairs.map(|(index, (ours, theirs))| output_difference(index + 1, ours, theirs)).find_map(|one| one);
    // How many there are says the most; which one differs comes next.
    if ours.len() == theirs.len() {
        return differs;
    }
    let plural = if ours.len() == 1 { "" } else { "s" };
    Some(format!("{} output{plural} would have been {}", ours.len(), theirs.len()))
}

fn output_difference(number: usize, ours: &Routed, theirs: &Routed) -> Option<String> {
    let place = |routed: &Routed| format!("`{}` on broker `{}`", routed.publish.subject, routed.broker);
    if (&ours.broker, &ours.publish.subject) != (&theirs.broker, &theirs.publish.subject) {
        return Some(format!("output {number} to {} would have gone to {}", place(ours), place(theirs)));
    }
    if ours.publish.headers != theirs.publish.headers {
        return Some(format!("output {number} would have had other headers"));
    }
    let (one, other) = (&ours.publish.body, &theirs.publish.body);
    if one == other {
        return None;
    }
    let same = one.iter().zip(other.iter()).take_while(|(one, other)| one == other).count();
    let sizes = format!("{} bytes would have been {}", one.len(), other.len());
    Some(format!("output {number} would have had another body: {sizes}, from byte {same} on"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::{Headers, Publish};
    use crate::outcome::{Fault, FaultKind, Reason, TrapCode, Usage};

    fn reason(code: &str, detail: &str) -> Reason {
        Reason { code: code.to_owned(), detail: Some(detail.to_owned()) }
    }

    fn ran(outcome: Outcome) -> Ran {
        Ran { outcome, outputs: Vec::new(), usage: Usage::default(), effects: Some(Vec::new()) }
    }

    fn retry(code: &str, seconds: u64) -> Ran {
        ran(Outcome::Retry { after: Some(Duration::from_secs(seconds)), reason: reason(code, &seconds.to_string()) })
    }

    fn rejected(code: &str, detail: &str) -> Ran {
        ran(Outcome::Rejected(reason(code, detail)))
    }

    fn fault(kind: FaultKind, fingerprint: u64) -> Ran {
        ran(Outcome::Fault(Fault { kind, detail: fingerprint.to_string(), fingerprint, backtrace: Vec::new() }))
    }

    /// Subject, a header, body.
    type Plain = (&'static str, &'static str, &'static str);

    fn completed(outputs: &[Plain]) -> Ran {
        let routed = outputs.iter().map(|(subject, header, body)| {
            let mut headers = Headers::default();
            headers.push("Kind", header.as_bytes().to_vec());
            // The id says which version made it up, and is no difference.
            let id = Some(format!("{subject}{header}{body}"));
            let publish =
                Publish { subject: (*subject).to_owned(), id, headers, body: body.as_bytes().to_vec().into() };
            Routed { broker: "queue".into(), publish }
        });
        let outputs = routed.collect();
        Ran { outputs, ..ran(Outcome::Completed(Vec::new())) }
    }

    #[test]
    fn of_what_is_recorded_the_code_of_the_outcome_is_compared() {
        let now = rejected("bad", "then").outcome;
        assert_eq!(told_of_record("handler-rejected", &now), "");
        assert_eq!(told_of_record("timeout", &now), "timeout would have been handler-rejected (bad)");
    }

    fn check(stable: &Ran, candidate: &Ran, fate: CopyFate, words: &str) {
        assert_eq!(compare(stable, candidate), fate, "{stable:?} {candidate:?}");
        assert_eq!(told(stable, candidate), words);
    }

    #[test]
    fn outcomes_are_the_same_by_their_kind_and_their_reason() {
        let trap = |code| FaultKind::Trap(code);
        let (same, outcome, other_fault) = (CopyFate::Same, CopyFate::OtherOutcome, CopyFate::OtherFault);
        check(&completed(&[]), &completed(&[]), same, "");
        check(&retry("busy", 1), &retry("busy", 60), same, "");
        check(
            &retry("busy", 1),
            &retry("gone", 1),
            outcome,
            "handler-retry (busy) would have been handler-retry (gone)",
        );
        check(&rejected("bad", "at 3"), &rejected("bad", "at 4"), same, "");
        check(
            &rejected("bad", ""),
            &retry("bad", 1),
            outcome,
            "handler-rejected (bad) would have been handler-retry (bad)",
        );
        let skipped = |code| ran(Outcome::Skipped(reason(code, "")));
        check(&skipped("old"), &skipped("old"), same, "");
        check(&skipped("old"), &skipped("new"), outcome, "skipped (old) would have been skipped (new)");
        let deferred = |code| ran(Outcome::Defer { after: Duration::ZERO, reason: reason(code, "") });
        check(&deferred("shut"), &deferred("shut"), same, "");
        check(&deferred("shut"), &skipped("shut"), outcome, "deferred (shut) would have been skipped (shut)");
        check(&fault(FaultKind::OutOfFuel, 1), &fault(FaultKind::OutOfFuel, 2), same, "");
        check(
            &fault(trap(TrapCode::Unreachable), 1),
            &fault(trap(TrapCode::OutOfBounds), 1),
            other_fault,
            "trap:unreachable would have been trap:out-of-bounds",
        );
        check(&completed(&[]), &fault(FaultKind::Timeout, 1), other_fault, "completed would have been timeout");
        check(
            &rejected("bad", ""),
            &fault(FaultKind::Denied, 1),
            other_fault,
            "handler-rejected (bad) would have been denied",
        );
        // It is better than the other one, and differs all the same.
        check(&fault(FaultKind::Timeout, 1), &completed(&[]), outcome, "timeout would have been completed");
    }

    #[test]
    fn outputs_are_the_same_in_order_by_where_they_go_their_headers_and_their_bytes() {
        let one = completed(&[("a", "x", "12345"), ("b", "y", "")]);
        check(&one, &one.clone(), CopyFate::Same, "");
        let rows: [(&[Plain], &str); 7] = [
            (&[("a", "x", "12345")], "2 outputs would have been 1"),
            (&[], "2 outputs would have been 0"),
            (
                &[("b", "y", ""), ("a", "x", "12345")],
                "output 1 to `a` on broker `queue` would have gone to `b` on broker `queue`",
            ),
            (&[("a", "x", "12345"), ("b", "z", "")], "output 2 would have had other headers"),
            (
                &[("a", "x", "12x45"), ("b", "y", "")],
                "output 1 would have had another body: 5 bytes would have been 5, from byte 2 on",
            ),
            (
                &[("a", "x", "1234"), ("b", "y", "")],
                "output 1 would have had another body: 5 bytes would have been 4, from byte 4 on",
            ),
            (
                &[("a", "x", "12345"), ("b", "y", "!")],
                "output 2 would have had another body: 0 bytes would have been 1, from byte 0 on",
            ),
        ];
        for (outputs, words) in rows {
            check(&one, &completed(outputs), CopyFate::OtherOutputs, words);
        }
        check(&completed(&[("a", "x", "")]), &completed(&[]), CopyFate::OtherOutputs, "1 output would have been 0");
        let mut elsewhere = one.clone();
        elsewhere.outputs.iter_mut().for_each(|routed| routed.broker = "other".into());
        let words = "output 1 to `a` on broker `queue` would have gone to `a` on broker `other`";
        check(&one, &elsewhere, CopyFate::OtherOutputs, words);
    }

    #[test]
    fn what_runs_would_have_done_elsewhere_is_compared_where_it_is_known_of_both() {
        let set = |key: &str, bytes| Effect::Set { bucket: "seen".into(), key: key.into(), bytes };
        let with = |effects: Option<Vec<Effect>>| Ran { effects, ..rejected("bad", "") };
        let one = with(Some(vec![set("a", 1), set("b", 1)]));
        check(&one, &one.clone(), CopyFate::Same, "");
        check(&one, &with(Some(Vec::new())), CopyFate::OtherOutputs, "2 effects would have been 0");
        check(&one, &with(Some(vec![set("a", 1)])), CopyFate::OtherOutputs, "2 effects would have been 1");
        let words = "effect 2 differs: one would set b in bucket seen to 1 bytes, the other would set c d in bucket seen to 1 bytes";
        check(&one, &with(Some(vec![set("a", 1), set("c\nd", 1)])), CopyFate::OtherOutputs, words);
        // What the stable version has done beside a shadow is not recorded.
        check(&with(None), &one, CopyFate::Same, "");
        let stopped = |effects| Ran { effects: Some(effects), ..fault(FaultKind::Timeout, 1) };
        check(&stopped(vec![set("a", 1)]), &stopped(Vec::new()), CopyFate::Same, "");
        // How a run ended says more.
        check(
            &one,
            &retry("bad", 1),
            CopyFate::OtherOutcome,
            "handler-rejected (bad) would have been handler-retry (bad)",
        );
        // And so do outputs.
        let outputs = Ran { effects: one.effects.clone(), ..completed(&[("a", "x", "1")]) };
        check(&outputs, &completed(&[]), CopyFate::OtherOutputs, "1 output would have been 0");
    }

    #[test]
    fn time_and_fuel_are_no_differences() {
        let mut slow = completed(&[("a", "x", "1")]);
        slow.usage = Usage { fuel: 1 << 40, duration: Duration::from_secs(60), ..Usage::default() };
        check(&completed(&[("a", "x", "1")]), &slow, CopyFate::Same, "");
    }
}
