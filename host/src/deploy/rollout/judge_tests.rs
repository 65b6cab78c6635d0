#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::super::waits::ENOUGH;
use super::*;
use crate::cluster::NotYet;
use crate::outcome::{Fault, FaultKind, Outcome, Reason, TrapCode, Usage};
use crate::telemetry::{Ending, SideFigures};

/// What the messages of a version come to.
#[derive(Debug, Clone, Copy)]
struct Nature {
    faults: f64,
    failures: f64,
    dead: f64,
    /// A run's time, and how often it takes twenty times as long.
    seconds: f64,
    long: f64,
    /// Fuel of the one half of the messages; the other half takes a hundredth.
    fuel: f64,
}

/// An ordinary handler: some of everything, with a long tail.
const ORDINARY: Nature = Nature { faults: 0.01, failures: 0.04, dead: 0.01, seconds: 0.01, long: 0.02, fuel: 1e6 };
/// One that does all well.
const PERFECT: Nature = Nature { faults: 0.0, failures: 0.0, dead: 0.0, seconds: 0.01, long: 0.0, fuel: 1e6 };

impl Nature {
    fn one(self, side: &SideFigures, rng: &mut fastrand::Rng) {
        let reason = Reason { code: "no".to_owned(), detail: None };
        let kind = FaultKind::Trap(TrapCode::Unreachable);
        let fault = Fault { kind, detail: String::new(), fingerprint: 0, backtrace: Vec::new() };
        let draw = rng.f64();
        let outcome = if draw < self.faults {
            Outcome::Fault(fault)
        } else if draw < self.faults + self.failures {
            Outcome::Retry { after: None, reason }
        } else {
            Outcome::Completed(Vec::new())
        };
        // Between half and one and a half times, and now and then much longer.
        let spread = 0.5 + rng.f64();
        let seconds = self.seconds * spread * if rng.f64() < self.long { 20.0 } else { 1.0 };
        let fuel = self.fuel * if rng.bool() { 1.0 } else { 0.01 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "fuel of a test")]
        let usage = Usage { fuel: fuel as u64, duration: Duration::from_secs_f64(seconds), ..Usage::default() };
        side.ran(true, &outcome, &usage);
        side.settled(if rng.f64() < self.dead { Ending::DeadLettered } else { Ending::Completed });
    }
}

/// Runs a canary until it ends or has had so many messages, with a look after each; how many it had, and what ended it.
fn live(stable: Nature, candidate: Nature, share: f64, most: u64, seed: u64) -> (u64, Option<Objection>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (sides, mut looks) = ((SideFigures::default(), SideFigures::default()), Looks::default());
    for had in 1..=most {
        // The others come in between, as many as the share leaves.
        let others = (1.0 / share - 1.0) * 2.0 * rng.f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some tens")]
        (0..others.round() as u64).for_each(|_| stable.one(&sides.0, &mut rng));
        candidate.one(&sides.1, &mut rng);
        let seen = had * 2;
        if seen < looks.next_at {
            continue;
        }
        let (stable, candidate) = (sides.0.evidence(), sides.1.evidence());
        let situation = Situation {
            stable: &stable,
            candidate: &candidate,
            judges: 1,
            elapsed: Duration::ZERO,
            promote_after: None,
            others: Others::Begun,
            looks,
        };
        let (next, after) = decide(&situation);
        looks = after;
        match next {
            Next::Abort(objection) => return (had, Some(objection)),
            Next::Promote => panic!("promoted without a word"),
            Next::Wait(waits) => assert_eq!(waits, Waits::Word),
        }
    }
    (most, None)
}

#[test]
fn a_version_that_is_as_good_is_not_aborted_however_often_it_is_looked_at() {
    let mut aborted = Vec::new();
    for seed in 0..100 {
        for (nature, share) in
            [(ORDINARY, 0.05), (ORDINARY, 0.5), (PERFECT, 0.05), (Nature { failures: 0.5, ..ORDINARY }, 0.2)]
        {
            let (had, objection) = live(nature, nature, share, 500, seed);
            aborted.extend(objection.map(|objection| format!("seed {seed}, {nature:?}, after {had}: {objection}")));
        }
    }
    // 400 canaries at one in a thousand; the test is exact, and errs on the side of letting go on.
    assert!(aborted.len() <= 1, "{aborted:#?}");
}

#[test]
fn a_version_that_is_clearly_worse_is_aborted_soon() {
    let rows: Vec<(&str, Nature, Nature, u64, &str)> = vec![
        ("all fail", PERFECT, Nature { faults: 1.0, ..PERFECT }, 10, "too many faults: 5 of 5 (100.0%)"),
        ("all fail beside some", ORDINARY, Nature { failures: 0.99, ..ORDINARY }, 12, "too many failures"),
        ("one in five fails", PERFECT, Nature { failures: 0.2, ..PERFECT }, 80, "too many failures"),
        ("one in twenty has a fault", PERFECT, Nature { faults: 0.05, ..PERFECT }, 300, "too many faults"),
        (
            "more faults among failures",
            Nature { failures: 0.4, ..PERFECT },
            Nature { failures: 0.3, faults: 0.1, ..PERFECT },
            200,
            "too many faults",
        ),
        ("all are given up", ORDINARY, Nature { dead: 1.0, ..ORDINARY }, 10, "too many dead letters"),
        ("three times as slow", ORDINARY, Nature { seconds: 0.03, ..ORDINARY }, 60, "too slow"),
        ("slow in one of ten", PERFECT, Nature { long: 0.1, ..PERFECT }, 250, "too slow"),
        ("twice the fuel of a half", PERFECT, Nature { fuel: 2e6, ..PERFECT }, 60, "too much fuel"),
    ];
    for (what, stable, candidate, within, why) in rows {
        for seed in 0..20 {
            let (had, objection) = live(stable, candidate, 0.05, within, seed);
            let objection = objection.unwrap_or_else(|| panic!("{what}, seed {seed}: not aborted by {had}"));
            assert!(objection.to_string().starts_with(why), "{what}: {objection}");
        }
    }
}

#[test]
fn what_is_within_the_margin_is_no_reason() {
    let rows = [
        ("slower by a fifth", Nature { seconds: 0.012, ..ORDINARY }),
        ("a third more fuel", Nature { fuel: 1.33e6, ..ORDINARY }),
        ("a few more failures", Nature { failures: 0.045, ..ORDINARY }),
        ("faster", Nature { seconds: 0.001, fuel: 1e5, ..ORDINARY }),
        ("better", PERFECT),
    ];
    for (what, candidate) in rows {
        let (had, objection) = live(ORDINARY, candidate, 0.3, 3000, 7);
        assert_eq!(objection, None, "{what}, after {had}");
    }
}

/// Counts in which everything went well, but for `bad` messages of all kinds at once.
fn evidence(sampled: u64, bad: u64) -> Evidence {
    let spread = |at: usize| {
        let mut counts = vec![0; BUCKETS];
        counts.iter_mut().enumerate().for_each(|(bucket, count)| match bucket {
            5 => *count = sampled - bad,
            _ if bucket == at => *count = bad,
            _ => {}
        });
        counts
    };
    Evidence {
        sampled,
        faults: bad,
        failures: bad,
        seconds: spread(100),
        fuel: spread(150),
        ended: sampled,
        dead_letters: bad,
    }
}

#[test]
fn one_unlucky_message_never_aborts_and_neither_do_two() {
    for sampled in 2..400 {
        for (bad, others) in [(1, 19), (2, 19), (1, 1), (2, 100_000)] {
            for taken in [0, 1, 40] {
                let (stable, candidate) = (evidence(sampled * others, 0), evidence(sampled, bad));
                assert_eq!(objection(&stable, &candidate, taken, 1), None, "{bad} of {sampled}");
            }
        }
    }
}

#[test]
fn it_is_promoted_when_it_has_had_its_time_and_enough_messages() {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let rows = [
        // Its time, how long it went on, messages of it and of the other, what follows.
        (None, minutes(1000), 1000, 1000, Next::Wait(Waits::Word)),
        (Some(minutes(10)), minutes(4), 1000, 1000, Next::Wait(Waits::Time(minutes(6)))),
        (Some(minutes(10)), minutes(10), 0, 1000, Next::Wait(Waits::Messages(0))),
        (Some(minutes(10)), minutes(500), 99, 1000, Next::Wait(Waits::Messages(99))),
        (Some(minutes(10)), minutes(10), 1000, 99, Next::Wait(Waits::Comparison(99))),
        (Some(minutes(10)), minutes(10), 100, 100, Next::Promote),
        (Some(minutes(10)), minutes(11), 100, 100, Next::Promote),
    ];
    for (promote_after, elapsed, tried, other, expected) in rows {
        let (stable, candidate) = (evidence(other, 0), evidence(tried, 0));
        // No look is due by the counts; promoting takes one all the same.
        let looks = Looks { taken: 3, next_at: u64::MAX };
        let others = Others::Begun;
        let situation =
            Situation { stable: &stable, candidate: &candidate, judges: 1, elapsed, promote_after, others, looks };
        assert_eq!(decide(&situation).0, expected, "{elapsed:?} {tried} {other}");
        // A host that is there and has not begun is waited for, and one that is not seen may be there.
        let late = [NotYet { host: "late".to_owned(), refusal: None }];
        for others in [Others::NotYet(&late), Others::Unseen] {
            let next = decide(&Situation { others, ..situation }).0;
            assert!(matches!(next, Next::Wait(_)), "{others:?} {next:?}");
        }
        let bad = evidence(tried, tried / 2);
        let next = decide(&Situation { candidate: &bad, ..situation }).0;
        assert_eq!(matches!(next, Next::Abort(_)), expected == Next::Promote, "{next:?}");
    }
}

#[test]
fn a_host_that_has_not_begun_holds_up_a_promotion_and_no_abort() {
    let late = [NotYet { host: "late".to_owned(), refusal: None }];
    let (stable, bad) = (evidence(1000, 0), evidence(100, 50));
    let (elapsed, looks) = (Duration::from_secs(60), Looks::default());
    let situation = Situation {
        stable: &stable,
        candidate: &bad,
        judges: 2,
        elapsed,
        promote_after: Some(elapsed),
        others: Others::NotYet(&late),
        looks,
    };
    assert!(matches!(decide(&situation).0, Next::Abort(_)));
}

#[test]
fn a_reason_to_abort_tells_both_sides() {
    let (stable, candidate) = (evidence(1900, 2), evidence(100, 12));
    let told = objection(&stable, &candidate, 0, 1).unwrap().to_string();
    assert_eq!(told, "too many faults: 12 of 100 (12.0%) messages, against 2 of 1900 (0.1%)");
    let mut slow = evidence(100, 0);
    slow.seconds.rotate_right(10);
    let told = objection(&evidence(1900, 0), &slow, 0, 1).unwrap().to_string();
    assert!(told.starts_with("too slow: 100 of 100 (100.0%) runs took more than 1.8 ms, and 0 of 1900"), "{told}");
}

#[test]
fn several_who_judge_by_the_same_counts_share_the_level() {
    for (bad, judges, is_aborted) in [(4, 1, true), (4, 3, false), (5, 3, true), (5, 100, false), (7, 100, true)] {
        let found = objection(&evidence(1900, 2), &evidence(100, bad), 0, judges);
        assert_eq!(found.is_some(), is_aborted, "{bad} bad ones, {judges} who judge");
    }
}

/// Counts of a version, in any relation.
fn any_evidence() -> impl Strategy<Value = Evidence> {
    (0u64..3000, 0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64, 0usize..BUCKETS, 0usize..BUCKETS).prop_map(
        |(sampled, faults, failures, dead, slow, dear)| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "counts of a test"
            )]
            let part = |share: f64| (sampled as f64 * share) as u64;
            let mut evidence = evidence(sampled, 0);
            evidence.faults = part(faults);
            evidence.failures = evidence.faults.max(part(failures));
            evidence.dead_letters = part(dead);
            evidence.seconds.rotate_right(slow);
            evidence.fuel.rotate_right(dear);
            evidence
        },
    )
}

proptest! {
    /// Whatever the counts: it depends on them only, it aborts by what is worse by its margin and by no less than three
    /// messages, it promotes nothing before its time, and never what a look speaks against.
    #[test]
    fn what_is_decided_follows_from_the_counts(
        stable in any_evidence(),
        candidate in any_evidence(),
        elapsed in 0u64..2000,
        after in proptest::option::of(0u64..2000),
        taken in 0u32..60,
        next_at in 0u64..6000,
    ) {
        let promote_after = after.map(Duration::from_secs);
        let looks = Looks { taken, next_at };
        let situation = Situation {
            stable: &stable, candidate: &candidate, judges: 3, elapsed: Duration::from_secs(elapsed), promote_after,
            others: Others::Begun, looks,
        };
        let (next, later) = decide(&situation);
        prop_assert_eq!(decide(&situation), (next.clone(), later));
        match next {
            Next::Abort(Objection { candidate: tried, stable: other, .. }) => {
                prop_assert!(tried.count >= 3 && tried.rate() > other.rate());
                // A version is never aborted for being what the other is.
                prop_assert_eq!(objection(&candidate, &candidate, taken, 3), None);
            }
            Next::Promote => {
                prop_assert!(after.is_some_and(|after| elapsed >= after));
                prop_assert!(candidate.sampled >= ENOUGH && stable.sampled >= ENOUGH);
                prop_assert_eq!(objection(&stable, &candidate, taken, 3), None);
            }
            Next::Wait(_) => {}
        }
        if later == looks {
            prop_assert!(candidate.sampled + candidate.ended < next_at);
        } else {
            prop_assert_eq!(later.taken, taken + 1);
            prop_assert!(later.next_at > candidate.sampled + candidate.ended);
        }
    }
}
