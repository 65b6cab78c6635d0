//! Which versions of a handler are kept. Pure.

/// The versions that are to be forgotten: all but those in use and the newest `keep`. `numbers` are in any order; in use
/// are the active one and the one that is tried.
pub(crate) fn forgotten(numbers: &[u64], used: &[Option<u64>], keep: usize) -> Vec<u64> {
    let mut newest = numbers.to_vec();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.into_iter().skip(keep).filter(|number| !used.contains(&Some(*number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_and_the_newest_are_kept() {
        let rows = [
            (vec![1, 2, 3], [Some(3), None], 10, vec![]),
            (vec![4, 2, 3, 1], [Some(4), None], 2, vec![2, 1]),
            (vec![1, 2, 3, 4], [Some(1), None], 2, vec![2]),
            (vec![1, 2, 3, 4], [Some(1), Some(2)], 1, vec![3]),
            (vec![1, 2], [None, None], 0, vec![2, 1]),
            (vec![], [None, None], 1, vec![]),
        ];
        for (numbers, used, keep, expected) in rows {
            assert_eq!(forgotten(&numbers, &used, keep), expected, "{numbers:?} {used:?} {keep}");
        }
    }
}
