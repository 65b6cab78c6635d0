//! What one of two versions that are compared came to, from the start of the comparison on: recorded without a lock.
//!
//! A message is evidence once, by its first delivery: a message that fails is run again and again, and its runs are no
//! independent throws. So one unlucky message is one failure, however often it comes back.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::ending::Ending;
use super::version::{VersionCounts, VersionFigures, VersionSums};
use crate::outcome::{Outcome, Usage};

/// Buckets of a [`Scale`]: durations reach to a day this way, and fuel to a million millions.
pub const BUCKETS: usize = 184;
/// So many buckets up is half as much again: see [`Scale`].
pub const BUCKETS_OF_A_HALF: usize = 4;

/// What a run that takes nothing counts as, in seconds. A handler takes microseconds, and whether it takes 20 or 60 of
/// them is for the processor's caches and for nobody else: differences show from half a millisecond on.
const SECONDS_FLOOR: f64 = 0.001;
/// The same for fuel: what a small handler uses to parse its message.
const FUEL_FLOOR: f64 = 10_000.0;

/// Counts of values in buckets whose upper ends grow by a constant factor, the fourth root of 1.5: what is half as large
/// again lies [`BUCKETS_OF_A_HALF`] further up. A constant is added to each value first, so that the smallest ones do not
/// differ.
#[derive(Debug)]
struct Scale {
    floor: f64,
    counts: Box<[AtomicU64]>,
}

impl Scale {
    fn new(floor: f64) -> Self {
        Self { floor, counts: std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect() }
    }

    fn observe(&self, value: f64) {
        if let Some(count) = self.counts.get(bucket(value, self.floor)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// The bucket of a value.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between nothing and some hundreds")]
#[expect(clippy::cast_precision_loss, reason = "four")]
fn bucket(value: f64, floor: f64) -> usize {
    let steps = (1.0 + value.max(0.0) / floor).ln() / 1.5f64.ln() * BUCKETS_OF_A_HALF as f64;
    (steps as usize).min(BUCKETS - 1)
}

/// The largest value of a bucket of durations, in seconds.
#[must_use]
pub fn seconds_of_bucket(bucket: usize) -> f64 {
    upper_end(bucket, SECONDS_FLOOR)
}

/// The largest value of a bucket of fuel.
#[must_use]
pub fn fuel_of_bucket(bucket: usize) -> f64 {
    upper_end(bucket, FUEL_FLOOR)
}

#[expect(clippy::cast_precision_loss, reason = "a bucket's number is small")]
fn upper_end(bucket: usize, floor: f64) -> f64 {
    (1.5f64.powf((bucket + 1) as f64 / BUCKETS_OF_A_HALF as f64) - 1.0) * floor
}

/// What is recorded of one side.
#[derive(Debug)]
pub struct SideFigures {
    /// Of all its runs, for people.
    all: VersionFigures,
    sampled: AtomicU64,
    faults: AtomicU64,
    failures: AtomicU64,
    seconds: Scale,
    fuel: Scale,
    ended: AtomicU64,
    dead: AtomicU64,
}

/// What one side came to at one moment, as far as sides are compared by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Messages that it ran on their first delivery.
    pub sampled: u64,
    /// Of those, the ones whose run was stopped by a fault: a trap, a limit, something that is not granted.
    pub faults: u64,
    /// Of those, the ones that it did not finish: faults, and what it returned, put off or rejected.
    pub failures: u64,
    /// How long those runs took, counted in buckets: see [`seconds_of_bucket`].
    #[serde(with = "sparse")]
    pub seconds: Vec<u64>,
    /// What fuel they took, counted in buckets: see [`fuel_of_bucket`].
    #[serde(with = "sparse")]
    pub fuel: Vec<u64>,
    /// Messages that ended on it, whichever way.
    pub ended: u64,
    /// Of those, the ones that went to the dead-letter queue.
    pub dead_letters: u64,
}

impl Evidence {
    /// Adds what the same side came to elsewhere.
    pub fn add(&mut self, other: &Self) {
        let Self { sampled, faults, failures, seconds, fuel, ended, dead_letters } = self;
        let counts = [
            (sampled, other.sampled),
            (faults, other.faults),
            (failures, other.failures),
            (ended, other.ended),
            (dead_letters, other.dead_letters),
        ];
        // What others say may be anything.
        let more = |to: &mut u64, count: u64| *to = to.saturating_add(count).min(MOST);
        counts.into_iter().for_each(|(to, count)| more(to, count));
        for (to, from) in [(seconds, &other.seconds), (fuel, &other.fuel)] {
            if to.len() < from.len() {
                to.resize(from.len(), 0);
            }
            to.iter_mut().zip(from).for_each(|(to, count)| more(to, *count));
        }
    }
}

/// More messages than anybody counts: sums of a few of these are still numbers.
pub(super) const MOST: u64 = 1 << 53;

/// Buckets as pairs of a bucket and its count: most are empty.
mod sparse {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::BUCKETS;

    pub(super) fn serialize<S: Serializer>(counts: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(counts.iter().enumerate().filter(|(_, count)| **count > 0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let mut counts = vec![0; BUCKETS];
        for (bucket, count) in Vec::<(usize, u64)>::deserialize(deserializer)? {
            if let Some(place) = counts.get_mut(bucket) {
                *place = count;
            }
        }
        Ok(counts)
    }
}

/// How a run ended, as far as it speaks for or against a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Well,
    Failed,
    Fault,
    /// It ended for reasons that are not the version's.
    Nothing,
}

/// Whether a run says something of its version: not when it ended for reasons of the host's.
pub(crate) const fn says_something(outcome: &Outcome) -> bool {
    !matches!(spoken(outcome), Spoken::Nothing)
}

const fn spoken(outcome: &Outcome) -> Spoken {
    match outcome {
        Outcome::Completed(_) | Outcome::Skipped(_) => Spoken::Well,
        Outcome::Retry { .. } | Outcome::Defer { .. } | Outcome::Rejected(_) => Spoken::Failed,
        Outcome::Fault(fault) if fault.kind.is_of_the_version() => Spoken::Fault,
        Outcome::Fault(_) => Spoken::Nothing,
    }
}

impl Default for SideFigures {
    fn default() -> Self {
        Self {
            all: VersionFigures::default(),
            sampled: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            seconds: Scale::new(SECONDS_FLOOR),
            fuel: Scale::new(FUEL_FLOOR),
            ended: AtomicU64::new(0),
            dead: AtomicU64::new(0),
        }
    }
}

impl SideFigures {
    /// A run ended. `first`: it was on the first delivery of its message.
    pub fn ran(&self, first: bool, outcome: &Outcome, usage: &Usage) {
        self.all.ran(outcome.code(), usage);
        let spoken = spoken(outcome);
        if !first || spoken == Spoken::Nothing {
            return;
        }
        let add = |to: &AtomicU64| to.fetch_add(1, Ordering::Relaxed);
        add(&self.sampled);
        if spoken != Spoken::Well {
            add(&self.failures);
        }
        if spoken == Spoken::Fault {
            add(&self.faults);
        }
        self.seconds.observe(usage.duration.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a bucket is wider than what is lost")]
        self.fuel.observe(usage.fuel as f64);
    }

    /// A message that ran on it was settled.
    pub fn settled(&self, ending: Ending) {
        if ending.is_final() {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        if ending == Ending::DeadLettered {
            self.dead.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Of all its runs, for people.
    #[must_use]
    pub fn counts(&self) -> VersionCounts {
        self.all.counts()
    }

    /// Of all its runs, added up.
    #[must_use]
    pub fn sums(&self) -> VersionSums {
        self.all.sums()
    }

    /// What it is compared by. What is counted meanwhile may be in one figure and not yet in another.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Evidence {
            sampled: read(&self.sampled),
            faults: read(&self.faults),
            failures: read(&self.failures),
            seconds: self.seconds.counts(),
            fuel: self.fuel.counts(),
            ended: read(&self.ended),
            dead_letters: read(&self.dead),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;
    use crate::outcome::{Fault, FaultKind, Reason};

    fn fault(kind: FaultKind) -> Outcome {
        Outcome::Fault(Fault { kind, detail: String::new(), fingerprint: 0, backtrace: Vec::new() })
    }

    #[test]
    fn a_message_is_evidence_once() {
        let side = SideFigures::default();
        let reason = || Reason { code: "no".to_owned(), detail: None };
        let usage = Usage { fuel: 8_000, duration: Duration::from_millis(10), ..Usage::default() };
        for (first, outcome) in [
            (true, Outcome::Completed(Vec::new())),
            (true, Outcome::Retry { after: None, reason: reason() }),
            (false, Outcome::Retry { after: None, reason: reason() }),
            (false, Outcome::Rejected(reason())),
            (true, Outcome::Skipped(reason())),
            (true, fault(FaultKind::OutOfFuel)),
            (true, fault(FaultKind::Interrupted)),
        ] {
            side.ran(first, &outcome, &usage);
        }
        for ending in [Ending::Completed, Ending::Retried, Ending::Retried, Ending::DeadLettered, Ending::Skipped] {
            side.settled(ending);
        }
        let evidence = side.evidence();
        assert_eq!((evidence.sampled, evidence.faults, evidence.failures), (4, 1, 2));
        assert_eq!((evidence.ended, evidence.dead_letters), (3, 1));
        assert_eq!((evidence.seconds.iter().sum::<u64>(), evidence.fuel.iter().sum::<u64>()), (4, 4));
        assert_eq!(side.counts().runs, 7, "people see all of them");
    }

    #[test]
    fn evidence_is_said_in_a_few_words_and_adds_up() {
        let side = SideFigures::default();
        for millis in [1, 1, 30, 4_000] {
            let usage = Usage { fuel: 8_000, duration: Duration::from_millis(millis), ..Usage::default() };
            side.ran(true, &Outcome::Completed(Vec::new()), &usage);
            side.settled(Ending::Completed);
        }
        let evidence = side.evidence();
        let text = serde_json::to_string(&evidence).unwrap_or_default();
        assert!(text.len() < 200, "{text}");
        let read: Evidence = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(read, evidence);
        let mut sum = Evidence::default();
        sum.add(&read);
        sum.add(&read);
        assert_eq!((sum.sampled, sum.ended, sum.seconds.iter().sum::<u64>()), (8, 8, 8));
        // Whatever a stranger says is a number, and there are no more buckets than there are.
        let wild = text.replace("\"sampled\":4", &format!("\"sampled\":{}", u64::MAX)).replace("[[", "[[9999999,1],[");
        let wild: Evidence = serde_json::from_str(&wild).unwrap_or_default();
        sum.add(&wild);
        sum.add(&wild);
        assert_eq!((sum.sampled, sum.ended, sum.seconds.len()), (MOST, 16, BUCKETS));
        assert_eq!(sum.seconds.iter().sum::<u64>(), 16);
    }

    #[test]
    fn half_as_much_again_lies_four_buckets_further_up() {
        for value in [0.002, 0.011, 0.5, 7.0, 800.0] {
            let (one, more) =
                (bucket(value, SECONDS_FLOOR), bucket((value + SECONDS_FLOOR) * 1.501 - SECONDS_FLOOR, SECONDS_FLOOR));
            assert!((BUCKETS_OF_A_HALF..=BUCKETS_OF_A_HALF + 1).contains(&(more - one)), "{value}: {one} {more}");
            assert!(value <= seconds_of_bucket(one) && (one == 0 || value > seconds_of_bucket(one - 1)), "{value}");
        }
        assert_eq!((bucket(0.0, 1.0), bucket(f64::NAN, 1.0), bucket(f64::MAX, 1.0)), (0, 0, BUCKETS - 1));
        assert!(bucket(1e12, FUEL_FLOOR) < BUCKETS - 1, "fuel without end has a bucket of its own");
    }
}
