//! How many of something there were over time, counted in one go and in any order, in bounded memory.
//!
//! Invariants:
//! - Every one that was counted is in one step: the sum is exact.
//! - What is told depends on what was counted alone, and not on the order.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Steps at the most: a line of a terminal has room for them. Two lengths that follow each other differ by seven times at the most, so
/// that of a span that is long enough there are nine or more.
const MOST_STEPS: u64 = 64;

/// How long a step may be, in seconds; each holds a whole number of the one before.
const LENGTHS: [u64; 13] = [1, 5, 15, 60, 300, 900, 3_600, 10_800, 43_200, 86_400, 604_800, 2_419_200, 14_515_200];

/// A count over time.
#[derive(Debug, Clone, Default)]
pub(super) struct Timeline {
    /// Which of the lengths a step has.
    length: usize,
    /// By their numbers since the beginning of time; those without any are not there.
    steps: BTreeMap<u64, u64>,
}

/// How many there were in each step of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverTime {
    /// When the first step begins.
    pub from: SystemTime,
    /// How long each is.
    pub step: Duration,
    /// How many there were in each.
    pub counts: Vec<u64>,
}

impl Timeline {
    /// Counts one.
    pub(super) fn count(&mut self, at: SystemTime) {
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        *self.steps.entry(seconds / self.seconds()).or_default() += 1;
        while self.span() > MOST_STEPS && self.length + 1 < LENGTHS.len() {
            let before = self.seconds();
            self.length += 1;
            let by = self.seconds() / before;
            for (number, count) in std::mem::take(&mut self.steps) {
                *self.steps.entry(number / by).or_default() += count;
            }
        }
    }

    /// What was counted; `None`: nothing.
    pub(super) fn finish(&self) -> Option<OverTime> {
        let first = *self.steps.keys().next()?;
        // A clock that was centuries off makes no endless line.
        let numbers = first..first + self.span().min(MOST_STEPS);
        let mut counts: Vec<u64> = numbers.map(|number| self.steps.get(&number).copied().unwrap_or(0)).collect();
        let beyond: u64 = self.steps.range(first + counts.len() as u64..).map(|(_, count)| count).sum();
        if let Some(last) = counts.last_mut() {
            *last += beyond;
        }
        let step = Duration::from_secs(self.seconds());
        let since = Duration::from_secs(first.saturating_mul(self.seconds()));
        Some(OverTime { from: SystemTime::UNIX_EPOCH + since, step, counts })
    }

    fn seconds(&self) -> u64 {
        LENGTHS.get(self.length).copied().unwrap_or(1)
    }

    /// From the first step to the last.
    fn span(&self) -> u64 {
        let (first, last) = (self.steps.keys().next(), self.steps.keys().next_back());
        first.zip(last).map_or(0, |(first, last)| last - first + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(seconds: &[u64]) -> Option<(u64, u64, Vec<u64>)> {
        let mut timeline = Timeline::default();
        for second in seconds {
            timeline.count(SystemTime::UNIX_EPOCH + Duration::from_secs(*second));
        }
        let told = timeline.finish()?;
        let from = told.from.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some((from.as_secs(), told.step.as_secs(), told.counts))
    }

    #[test]
    fn steps_are_as_long_as_the_span_needs_and_the_order_is_no_matter() {
        assert_eq!(over(&[]), None);
        assert_eq!(over(&[7]), Some((7, 1, vec![1])));
        assert_eq!(over(&[7, 10, 7]), Some((7, 1, vec![2, 0, 0, 1])));
        // An hour and five minutes: 66 steps of a minute are too many.
        let hour = Some((0, 300, vec![1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]));
        assert_eq!(over(&[0, 600, 3900, 4000]), hour);
        assert_eq!(over(&[4000, 600, 0, 3900]), hour);
    }

    #[test]
    fn a_million_over_years_take_bounded_room_and_none_is_left_out() {
        let seconds: Vec<u64> = (0..100_000).map(|number| number * 9_973 % 900_000_000).collect();
        let (_, step, counts) = over(&seconds).unwrap_or_default();
        assert_eq!((step, counts.iter().sum::<u64>()), (14_515_200, 100_000));
        assert!(counts.len() <= 64, "{}", counts.len());
        let (_, _, counts) = over(&[0, u64::MAX / 1_000_000_000]).unwrap_or_default();
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (64, 2), "a clock that was far off");
    }
}
