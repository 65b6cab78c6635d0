//! Where rows and the stream differ, found by the counts of a server alone.
//!
//! Behind the last sequence that was read nothing is added to a stream, only removed. So a range of sequences in which there are as
//! many rows as messages has the rows of these messages. Where they differ, halves are asked for, down to a segment, which is read.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rows::Rows;

/// What is done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// How many messages there are from these sequences on is asked.
    Ask(Vec<u64>),
    /// These ranges are read anew, each with so many messages; all others are as they should be.
    Read(Vec<(Range<u64>, u64)>),
}

/// Decides by how many messages there are from some sequences on.
pub(super) fn decide(rows: &Rows, counted: &BTreeMap<u64, u64>) -> Step {
    let (mut ask, mut read) = (Vec::new(), Vec::<(Range<u64>, u64)>::new());
    for ((start, from_start), (end, from_end)) in counted.iter().zip(counted.iter().skip(1)) {
        let range = *start..*end;
        let (there, ours) = (from_start.saturating_sub(*from_end), rows.count(range.clone()));
        if there == ours {
            continue;
        }
        // So few are read as soon as their counts are asked for, however far they lie apart.
        let is_small = there.max(ours) <= rows.size();
        if let Some(middle) = rows.middle(&range).filter(|_| !is_small) {
            ask.push(middle);
            continue;
        }
        match read.last_mut() {
            Some((last, messages)) if last.end == range.start => {
                last.end = range.end;
                *messages += there;
            }
            Some(_) | None => read.push((range, there)),
        }
    }
    if ask.is_empty() { Step::Read(read) } else { Step::Ask(ask) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::rows::Row;
    use super::*;

    /// Reconciles rows with a stream; how many questions were asked, and how many messages read.
    fn reconciled(rows: &mut Rows, stream: &BTreeSet<u64>, end: u64) -> (usize, u64) {
        let held = |from: u64| stream.range(from..).count() as u64;
        let mut counted = BTreeMap::from([(1, held(1)), (end, held(end))]);
        loop {
            match decide(rows, &counted) {
                Step::Ask(sequences) => {
                    assert!(sequences.iter().all(|sequence| !counted.contains_key(sequence)), "asked twice");
                    counted.extend(sequences.into_iter().map(|sequence| (sequence, held(sequence))));
                }
                Step::Read(ranges) => {
                    let read = ranges.iter().map(|(_, messages)| messages).sum();
                    for (range, messages) in ranges {
                        rows.clear(range.clone());
                        assert_eq!(stream.range(range.clone()).count() as u64, messages);
                        stream.range(range).for_each(|sequence| rows.put(*sequence, Row::new(0, 0, 0, 0, 0)));
                    }
                    return (counted.len(), read);
                }
            }
        }
    }

    #[test]
    fn whatever_was_removed_is_found() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..500 {
            let end = random.u64(2..3_000);
            let density = random.f64();
            let mut stream: BTreeSet<u64> = (1..end).filter(|_| random.f64() < density).collect();
            let mut rows = Rows::new(random.u32(1..200));
            stream.iter().for_each(|sequence| rows.put(*sequence, Row::new(0, 0, 0, 0, 0)));
            // One here and there, a stretch, all but some, all.
            let (start, keep) = (random.u64(..end), random.choice([0.0, 0.5, 0.99]).unwrap_or_default());
            stream.retain(|sequence| *sequence < start || random.f64() < keep);
            // What comes behind it is not known yet.
            stream.extend(end..end + random.u64(..50));
            reconciled(&mut rows, &stream, end);
            let left: Vec<u64> = rows.range(0..u64::MAX).map(|(sequence, _)| sequence).collect();
            assert_eq!(left, stream.range(..end).copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_little_was_removed_of_many_is_found_with_few_questions() {
        let mut stream: BTreeSet<u64> = (1..=1_000_000).collect();
        let mut rows = Rows::new(16_384);
        stream.iter().for_each(|sequence| rows.put(*sequence, Row::new(0, 0, 0, 0, 0)));
        assert_eq!(reconciled(&mut rows, &stream, 1_000_001), (2, 0), "nothing differs");
        stream.remove(&1);
        stream.remove(&777_777);
        let (questions, read) = reconciled(&mut rows, &stream, 1_000_001);
        assert!(questions <= 16 && read < 40_000, "{questions} questions, {read} read");
    }

    #[test]
    fn what_is_back_after_all_is_found_too() {
        // A server that lost a removal in a crash.
        let stream: BTreeSet<u64> = (1..=1_000).collect();
        let mut rows = Rows::new(64);
        stream.iter().filter(|sequence| **sequence % 100 != 0).for_each(|sequence| {
            rows.put(*sequence, Row::new(0, 0, 0, 0, 0));
        });
        reconciled(&mut rows, &stream, 1_001);
        assert_eq!(rows.count(0..u64::MAX), 1_000);
    }
}
