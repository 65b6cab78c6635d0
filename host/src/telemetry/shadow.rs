//! What became of the copies that a shadow was given, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::side::MOST;

/// What became of a copy of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFate {
    /// Both versions did the same.
    Same,
    /// A fault stopped the run on the candidate, and not the other one, or another fault did.
    OtherFault,
    /// The candidate ended it otherwise.
    OtherOutcome,
    /// Both completed it, with other outputs.
    OtherOutputs,
    /// There was no room for it: it did not run.
    Dropped,
    /// Its run ended for reasons that are not the candidate's: it gave way to messages for too long.
    Unfinished,
}

impl CopyFate {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 6] =
        [Self::Same, Self::OtherFault, Self::OtherOutcome, Self::OtherOutputs, Self::Dropped, Self::Unfinished];

    /// The name in metric labels and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::OtherFault => "fault",
            Self::OtherOutcome => "outcome",
            Self::OtherOutputs => "outputs",
            Self::Dropped => "dropped",
            Self::Unfinished => "unfinished",
        }
    }
}

/// Counts of what became of copies.
#[derive(Debug, Default)]
pub struct ShadowFigures([AtomicU64; CopyFate::ALL.len()]);

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowCounts {
    /// Messages that ran on both versions to the same end.
    pub same: u64,
    /// Messages that ended differently: the sum of the next three.
    pub different: u64,
    /// A fault stopped the run on the candidate, and not the other one, or another fault did.
    pub by_fault: u64,
    /// The candidate ended the message otherwise.
    pub by_outcome: u64,
    /// Both completed it, with other outputs.
    pub by_outputs: u64,
    /// Copies that there was no room for: they did not run.
    pub dropped: u64,
    /// Copies whose run gave way to messages for too long to be compared.
    pub unfinished: u64,
}

impl ShadowFigures {
    /// One more.
    pub fn add(&self, fate: CopyFate) {
        if let Some(count) = self.0.get(fate as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, fate: CopyFate) -> u64 {
        self.0.get(fate as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> ShadowCounts {
        let (by_fault, by_outcome) = (self.get(CopyFate::OtherFault), self.get(CopyFate::OtherOutcome));
        let by_outputs = self.get(CopyFate::OtherOutputs);
        ShadowCounts {
            same: self.get(CopyFate::Same),
            different: by_fault + by_outcome + by_outputs,
            by_fault,
            by_outcome,
            by_outputs,
            dropped: self.get(CopyFate::Dropped),
            unfinished: self.get(CopyFate::Unfinished),
        }
    }
}

impl ShadowCounts {
    /// Messages that ran on both versions.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.same + self.different
    }

    /// Adds what became of the copies on another host.
    pub fn add(&mut self, other: &Self) {
        let Self { same, different, by_fault, by_outcome, by_outputs, dropped, unfinished } = self;
        let counts = [
            (same, other.same),
            (different, other.different),
            (by_fault, other.by_fault),
            (by_outcome, other.by_outcome),
            (by_outputs, other.by_outputs),
            (dropped, other.dropped),
            (unfinished, other.unfinished),
        ];
        // What others say may be anything.
        counts.into_iter().for_each(|(to, count)| *to = to.saturating_add(count).min(MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_is_counted_by_itself() {
        let figures = ShadowFigures::default();
        for (index, fate) in CopyFate::ALL.into_iter().enumerate() {
            assert_eq!(fate as usize, index);
            (0..=index).for_each(|_| figures.add(fate));
        }
        let counts = figures.counts();
        assert_eq!((counts.same, counts.by_fault, counts.by_outcome, counts.by_outputs), (1, 2, 3, 4));
        assert_eq!((counts.different, counts.compared(), counts.dropped, counts.unfinished), (9, 10, 5, 6));
        let (mut sum, one) = (counts, ShadowCounts { by_outputs: 1, different: 1, ..ShadowCounts::default() });
        sum.add(&one);
        assert_eq!(sum, ShadowCounts { by_outputs: 5, different: 10, ..counts });
        sum.add(&ShadowCounts { same: u64::MAX, ..one });
        assert_eq!((sum.same, sum.compared()), (MOST, MOST + 11), "whatever a host says");
    }
}
