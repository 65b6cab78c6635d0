//! Which versions of a handler are kept. Pure.

use std::cmp::Reverse;

use super::previous::{Ran, before};

/// Versions that were never active and stay for a while beside the others: they were tried and not taken, and who looks into
/// one of them looks into the last few. A canary a day would else push out in two weeks what a rollback goes to.
const NEVER_ACTIVE: usize = 3;

/// The versions that are to be forgotten: all but those in use, the newest `keep` of those that were active, and the newest few
/// of the others. In use are the active one, the one that is tried, and the one that a rollback goes to. `versions` are in any
/// order; those to be forgotten are the newest first.
pub(crate) fn forgotten(versions: &[Ran], active: Option<u64>, tried: Option<u64>, keep: usize) -> Vec<u64> {
    let used = [active, tried, active.and_then(|active| before(versions, active))];
    let mut newest = versions.to_vec();
    newest.sort_unstable_by_key(|version| Reverse(version.number));
    let (mut active_left, mut others_left) = (keep, keep.min(NEVER_ACTIVE));
    newest.retain(|version| {
        let left = if version.was_active { &mut active_left } else { &mut others_left };
        let is_beyond = *left == 0;
        *left = left.saturating_sub(1);
        is_beyond && !used.contains(&Some(version.number))
    });
    newest.into_iter().map(|version| version.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ran(number: u64) -> Ran {
        Ran { number, was_active: true, replaced: None }
    }

    const fn after(number: u64, replaced: u64) -> Ran {
        Ran { number, was_active: true, replaced: Some(replaced) }
    }

    const fn never(number: u64) -> Ran {
        Ran { number, was_active: false, replaced: None }
    }

    #[test]
    fn what_is_in_use_and_the_newest_are_kept() {
        let rows = [
            (vec![ran(1), ran(2), ran(3)], Some(3), None, 10, vec![]),
            (vec![ran(4), ran(2), ran(3), ran(1)], Some(4), None, 2, vec![2, 1]),
            (vec![ran(1), ran(2), ran(3), ran(4)], Some(1), None, 2, vec![2]),
            (vec![ran(1), never(2), ran(3), ran(4)], Some(1), Some(2), 1, vec![3]),
            (vec![ran(1), ran(2)], None, None, 0, vec![2, 1]),
            (vec![], None, None, 1, vec![]),
        ];
        for (versions, active, tried, keep, expected) in rows {
            assert_eq!(forgotten(&versions, active, tried, keep), expected, "{versions:?} {active:?} {tried:?} {keep}");
        }
    }

    /// The story: version 2 ran after a rollback and 12 was the newest; the deploy of 13 forgot 2, which ran a moment ago.
    #[test]
    fn what_a_rollback_goes_to_is_kept() {
        let mut versions: Vec<Ran> = (1..=12).map(ran).collect();
        versions.push(after(13, 2));
        assert_eq!(forgotten(&versions, Some(13), None, 10), [3, 1]);
        assert_eq!(forgotten(&versions, Some(13), None, 0), [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 1]);
    }

    /// The story: ten canaries that were aborted pushed out the version that ran before.
    #[test]
    fn what_was_never_active_pushes_out_nothing_that_was() {
        let mut versions = vec![ran(1), after(2, 1), after(3, 2)];
        versions.extend((4..=13).map(never));
        assert_eq!(forgotten(&versions, Some(3), None, 10), [10, 9, 8, 7, 6, 5, 4]);
        assert_eq!(forgotten(&versions, Some(3), Some(4), 10), [10, 9, 8, 7, 6, 5], "what is tried is in use");
        assert_eq!(forgotten(&versions, Some(3), None, 2), [11, 10, 9, 8, 7, 6, 5, 4, 1], "no more than of the others");
    }
}
