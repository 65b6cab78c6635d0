//! Fisher's exact test: whether one of two groups has more of something than chance would give it. Pure.

/// So many of a group have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) count: u64,
    pub(super) of: u64,
}

impl Part {
    /// A part of a group; what is counted beyond the group, because it was counted a moment later, is left out.
    pub(super) fn new(count: u64, of: u64) -> Self {
        Self { count: count.min(of), of }
    }

    /// The share of the group, from 0 to 1; 0 of an empty one.
    pub(super) fn rate(self) -> f64 {
        if self.of == 0 { 0.0 } else { float(self.count) / float(self.of) }
    }
}

/// Whether `more` has so much more than `fewer` that chance alone would do it with a probability of `level` at the most:
/// when what both have together was dealt out to both groups blindly.
///
/// It holds for groups of any size, with no assumption on how anything is spread; where the groups are too small to tell
/// it says no.
pub(super) fn is_more_than_chance(more: Part, fewer: Part, level: f64) -> bool {
    if more.rate() <= fewer.rate() {
        return false;
    }
    let (having, all) = (more.count + fewer.count, more.of + fewer.of);
    let lacking = all - having;
    // The probability of exactly this many, and of each number above it from the one before.
    let log = choose(having, more.count) + choose(lacking, more.of - more.count) - choose(all, more.of);
    let mut term = log.exp();
    let mut sum = term;
    for count in more.count..having.min(more.of) {
        let up = float(having - count) * float(more.of - count);
        let down = float(count + 1) * (float(lacking + count + 1) - float(more.of));
        term *= up / down;
        sum += term;
        // Above the mean each term is smaller than the one before it, and soon they do not matter.
        if sum > level || term < sum * 1e-9 {
            break;
        }
    }
    sum <= level
}

/// The logarithm of the number of ways to choose so many of so many.
fn choose(all: u64, some: u64) -> f64 {
    factorial(all) - factorial(some) - factorial(all - some)
}

/// The logarithm of a factorial.
fn factorial(number: u64) -> f64 {
    libm::lgamma(float(number) + 1.0)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and no host runs more messages in a rollout")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The level at which it begins to say yes, to four digits.
    fn probability(more: (u64, u64), fewer: (u64, u64)) -> f64 {
        let (mut low, mut high) = (-60.0f64, 0.0f64);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            let found = is_more_than_chance(Part::new(more.0, more.1), Part::new(fewer.0, fewer.1), 10f64.powf(middle));
            if found { high = middle } else { low = middle }
        }
        10f64.powf(high)
    }

    /// Computed with whole numbers of any length: the ways to deal out that are as uneven, among all ways.
    #[test]
    fn probabilities_are_those_of_all_ways_to_deal_out() {
        let rows = [
            ((3, 4), (1, 4), 2.428_571e-01),
            ((10, 10), (0, 190), 4.454_144e-17),
            ((1, 20), (0, 380), 5.000_000e-02),
            ((4, 20), (0, 380), 4.611_036e-06),
            ((5, 100), (20, 1900), 6.751_341e-03),
            ((60, 100), (40, 100), 3.529_758e-03),
            ((300, 10_000), (4_000, 190_000), 6.982_060e-09),
            ((12, 1000), (100, 20_000), 7.075_205e-03),
        ];
        for (more, fewer, expected) in rows {
            let found = probability(more, fewer);
            assert!((found / expected - 1.0).abs() < 1e-4, "{more:?} {fewer:?}: {found:e} and not {expected:e}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_told() {
        for (more, fewer) in
            [((0, 0), (0, 0)), ((1, 1), (0, 0)), ((0, 0), (5, 5)), ((5, 10), (50, 100)), ((1, 20), (0, 380))]
        {
            let found = is_more_than_chance(Part::new(more.0, more.1), Part::new(fewer.0, fewer.1), 0.01);
            assert!(!found, "{more:?} {fewer:?}");
        }
        assert_eq!(Part::new(7, 5), Part { count: 5, of: 5 });
    }
}
