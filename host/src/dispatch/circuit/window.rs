//! How many messages ran well and how many failed lately. A message that fails again and again counts once: one that is bad by
//! itself is no sign of anything else.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// The window moves on by a sixth of itself: that much may be missing of it.
const PARTS: u32 = 6;
/// So many failed messages are told apart in each part; those beyond are taken for others, and by then there are enough.
const TOLD_APART: usize = 1024;

/// The counts of a window of time.
#[derive(Debug, Default)]
pub(super) struct Window {
    parts: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    begins: Instant,
    good: u64,
    bad: HashSet<u64>,
    more_bad: u64,
}

impl Window {
    /// A message ran well.
    pub(super) fn good(&mut self, now: Instant, length: Duration) {
        if let Some(part) = self.part(now, length) {
            part.good += 1;
        }
    }

    /// A message failed. Gives back how many ran well in the window, and how many messages failed, this one included.
    pub(super) fn bad(&mut self, message: u64, now: Instant, length: Duration) -> (u64, u64) {
        let is_known = self.parts.iter().any(|part| part.is_within(now, length) && part.bad.contains(&message));
        if let Some(part) = self.part(now, length)
            && !is_known
        {
            if part.bad.len() < TOLD_APART {
                part.bad.insert(message);
            } else {
                part.more_bad += 1;
            }
        }
        let good = self.parts.iter().map(|part| part.good).sum();
        let bad = self.parts.iter().map(|part| part.bad.len() as u64 + part.more_bad).sum();
        (good, bad)
    }

    /// The part of now; what has left the window is dropped.
    fn part(&mut self, now: Instant, length: Duration) -> Option<&mut Part> {
        while self.parts.front().is_some_and(|part| !part.is_within(now, length)) {
            self.parts.pop_front();
        }
        let is_over = |part: &Part| now.saturating_duration_since(part.begins) >= length / PARTS;
        if self.parts.back().is_none_or(is_over) {
            self.parts.push_back(Part { begins: now, good: 0, bad: HashSet::new(), more_bad: 0 });
        }
        self.parts.back_mut()
    }
}

impl Part {
    /// Whether all of it lies within the window.
    fn is_within(&self, now: Instant, length: Duration) -> bool {
        now.saturating_duration_since(self.begins) < length
    }
}
