//! Which versions of a handler are kept. Pure.

/// The versions that are to be forgotten: all but the active one and the newest `keep`. `numbers` are in any order.
pub(super) fn forgotten(numbers: &[u64], active: Option<u64>, keep: usize) -> Vec<u64> {
    let mut newest = numbers.to_vec();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.into_iter().skip(keep).filter(|number| Some(*number) != active).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_active_one_and_the_newest_are_kept() {
        let rows = [
            (vec![1, 2, 3], Some(3), 10, vec![]),
            (vec![4, 2, 3, 1], Some(4), 2, vec![2, 1]),
            (vec![1, 2, 3, 4], Some(1), 2, vec![2]),
            (vec![1, 2], None, 0, vec![2, 1]),
            (vec![], None, 1, vec![]),
        ];
        for (numbers, active, keep, expected) in rows {
            assert_eq!(forgotten(&numbers, active, keep), expected, "{numbers:?} {active:?} {keep}");
        }
    }
}
