//! What becomes of a canary: whether something speaks against it, and whether it has shown enough. Pure.
//!
//! # What is compared
//!
//! Both versions over the same time, from the start of the canary (or of the host, when that came later) on. Which of
//! them a message gets follows from a hash of its id, so both see the same traffic, and what differs is due to them or to
//! chance. A message counts once, by its first delivery: see [`crate::telemetry::side`].
//!
//! | measure | of | what counts | margin |
//! |---|---|---|---|
//! | faults | messages | the run was stopped: trap, fuel, timeout, memory, ... | half as many again, 0.1 to 10 percentage points |
//! | failures | messages | faults, and what was retried, deferred or rejected | the same |
//! | dead letters | messages that ended | the message was given up | the same |
//! | time, fuel | messages | more than half as much again as a bound | one percentage point |
//!
//! Time and fuel are compared at every bucket bound: as many runs of the canary take more than 1.5 times the bound as
//! runs of the other take more than the bound, unless the canary is slower than by half. That finds what is slower
//! throughout, and what is slower in one case of twenty, where means and ranks see only one of the two; and one run that
//! took a minute is one run, and not a minute.
//!
//! # How sure
//!
//! Each comparison is Fisher's exact test ([`super::exact`]), which holds at any count and knows no distribution. It may
//! be wrong with a probability that is chosen so that over a whole canary, with all measures, all bounds and all looks,
//! a version that is as good as the other is aborted once in [`LEVEL`] at the most: a look at the counts gets a share of
//! that level, the first one half of it, the next a sixth, a twelfth, and so on, which add up to the whole. So it may be
//! looked at for ever. Looks are taken when there is a quarter more to see than at the last one, because each costs. Where
//! several hosts judge by the sums of all, each by itself, they share the level.
//!
//! And never by fewer than three messages: one unlucky message, or two, abort nothing.

use std::fmt;
use std::time::Duration;

use super::exact::{Part, is_more_than_chance};
use super::waits::{Others, Waits, waits};
use crate::telemetry::Evidence;
use crate::telemetry::side::{BUCKETS, BUCKETS_OF_A_HALF, fuel_of_bucket, seconds_of_bucket};

/// How often a canary that is as good as the other version may be aborted, of all canaries: one in a thousand. Whoever
/// deploys ten times a day sees one in months.
const LEVEL: f64 = 0.001;
/// So many measures share the level.
const MEASURES: f64 = 5.0;
/// Fewer are bad luck.
const FEWEST: u64 = 3;
/// The first look: of ten messages that all fail, ten are enough.
const FIRST_LOOK: u64 = 10;
/// Rates may differ by so much and be called equal, at the least and at the most.
const MARGIN: std::ops::RangeInclusive<f64> = 0.001..=0.1;
/// So many more of a hundred have to be slow: less is no reason to abort, even when it is certain.
const SLOW_MARGIN: f64 = 0.01;

/// What both versions came to, and what was decided before.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) stable: &'a Evidence,
    pub(super) candidate: &'a Evidence,
    /// How many judge by these counts, each by itself: as many hosts as count.
    pub(super) judges: u32,
    /// How long both have been compared.
    pub(super) elapsed: Duration,
    /// When it is to be promoted; `None`: not by itself.
    pub(super) promote_after: Option<Duration>,
    /// The other hosts of a cluster.
    pub(super) others: Others<'a>,
    pub(super) looks: Looks,
}

/// The looks that were taken: each makes the next one more careful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looks {
    taken: u32,
    /// How much has to be seen for the next one.
    next_at: u64,
}

impl Default for Looks {
    fn default() -> Self {
        Self { taken: 0, next_at: FIRST_LOOK }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// Something speaks against it.
    Abort(Objection),
    /// It has had its time and shown enough, and nothing speaks against it.
    Promote,
    /// Neither, for now.
    Wait(Waits),
}

/// Decides, and says which looks were taken by then.
pub(super) fn decide(situation: &Situation<'_>) -> (Next, Looks) {
    let Situation { stable, candidate, judges, elapsed, promote_after, others, looks } = situation;
    let seen = candidate.sampled + candidate.ended;
    let waits = match waits(stable, candidate, *elapsed, *promote_after, *others) {
        Some(waits) if seen < looks.next_at => return (Next::Wait(waits), *looks),
        waits => waits,
    };
    let objection = objection(stable, candidate, looks.taken, *judges);
    let after = Looks { taken: looks.taken.saturating_add(1), next_at: seen + (seen / 4).max(1) };
    let next = match (objection, waits) {
        (Some(objection), _) => Next::Abort(objection),
        (None, None) => Next::Promote,
        (None, Some(waits)) => Next::Wait(waits),
    };
    (next, after)
}

/// What both are compared by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Measure {
    Faults,
    Failures,
    DeadLetters,
    /// Runs that took longer; the candidate's bound, in seconds.
    Time(f64),
    /// Runs that took more; the candidate's bound.
    Fuel(f64),
}

/// Something that speaks against a candidate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Objection {
    measure: Measure,
    candidate: Part,
    stable: Part,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measure, candidate, stable } = self;
        let part = |part: &Part| format!("{} of {} ({:.1}%)", part.count, part.of, part.rate() * 100.0);
        let (tried, other) = (part(candidate), part(stable));
        match measure {
            Measure::Faults => write!(f, "too many faults: {tried} messages, against {other}"),
            Measure::Failures => write!(f, "too many failures: {tried} messages, against {other}"),
            Measure::DeadLetters => write!(f, "too many dead letters: {tried} messages, against {other}"),
            Measure::Time(bound) => {
                let (bound, third) = (bound * 1e3, bound * 1e3 / 1.5);
                write!(
                    f,
                    "too slow: {tried} runs took more than {bound:.1} ms, and {other} more than {third:.1} ms before"
                )
            }
            Measure::Fuel(bound) => {
                let third = bound / 1.5;
                write!(
                    f,
                    "too much fuel: {tried} runs took more than {bound:.0}, and {other} more than {third:.0} before"
                )
            }
        }
    }
}

/// What speaks against the candidate at this look, if anything does; the worst thing first.
fn objection(stable: &Evidence, candidate: &Evidence, look: u32, judges: u32) -> Option<Objection> {
    // 1/2 + 1/6 + 1/12 + ... = 1.
    let level = LEVEL / (f64::from(look) + 1.0) / (f64::from(look) + 2.0) / MEASURES / f64::from(judges.max(1));
    let rates = [
        (Measure::Faults, (candidate.faults, candidate.sampled), (stable.faults, stable.sampled)),
        (Measure::Failures, (candidate.failures, candidate.sampled), (stable.failures, stable.sampled)),
        (Measure::DeadLetters, (candidate.dead_letters, candidate.ended), (stable.dead_letters, stable.ended)),
    ];
    let rates = rates.into_iter().find_map(|(measure, tried, other)| {
        let (tried, other) = (Part::new(tried.0, tried.1), Part::new(other.0, other.1));
        let margin = (other.rate() / 2.0).clamp(*MARGIN.start(), *MARGIN.end());
        exceeds(measure, tried, other, margin, level)
    });
    let slower =
        || beyond(&stable.seconds, &candidate.seconds, level, |bucket| Measure::Time(seconds_of_bucket(bucket)));
    let dearer = || beyond(&stable.fuel, &candidate.fuel, level, |bucket| Measure::Fuel(fuel_of_bucket(bucket)));
    // What burns more takes longer too: the cause before its effect.
    rates.or_else(dearer).or_else(slower)
}

fn exceeds(measure: Measure, candidate: Part, stable: Part, margin: f64, level: f64) -> Option<Objection> {
    let worse = candidate.count >= FEWEST && candidate.rate() >= stable.rate() + margin;
    let found = worse && is_more_than_chance(candidate, stable, level);
    found.then_some(Objection { measure, candidate, stable })
}

/// Whether more runs of the candidate lie beyond half as much again as a bound than runs of the other beyond the bound,
/// at any bound; the one at which most do.
fn beyond(stable: &[u64], candidate: &[u64], level: f64, measure: impl Fn(usize) -> Measure) -> Option<Objection> {
    let (all_stable, all_candidate) = (stable.iter().sum(), candidate.iter().sum());
    let bounds = BUCKETS - BUCKETS_OF_A_HALF;
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let level = level / bounds as f64;
    // What lies up to a bound grows with it.
    let (mut below_stable, mut below_candidate) = (0, candidate.iter().take(BUCKETS_OF_A_HALF).sum::<u64>());
    let mut worst: Option<Objection> = None;
    for bucket in 0..bounds {
        let at = |counts: &[u64], bucket: usize| counts.get(bucket).copied().unwrap_or(0);
        below_stable += at(stable, bucket);
        below_candidate += at(candidate, bucket + BUCKETS_OF_A_HALF);
        let tried = Part::new(all_candidate - below_candidate, all_candidate);
        let other = Part::new(all_stable - below_stable, all_stable);
        let more = tried.rate() - other.rate();
        if worst.as_ref().is_none_or(|worst| more > worst.candidate.rate() - worst.stable.rate()) {
            worst = exceeds(measure(bucket + BUCKETS_OF_A_HALF), tried, other, SLOW_MARGIN, level).or(worst);
        }
    }
    worst
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
