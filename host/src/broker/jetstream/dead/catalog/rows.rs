//! A row a message of the stream, in the order of their sequences, in segments that are shared with whoever looks.
//!
//! A segment is copied when it changes while somebody looks at it: who looks sees all of it as it was.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What is known of one message: 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::jetstream::dead) struct Row {
    /// The ULID of a dead letter; 0 where its id is none, and stands in its group.
    pub(super) id: u128,
    /// When it died, in nanoseconds since 1970.
    pub(super) died: u64,
    /// When the server took it in, in nanoseconds since 1970.
    pub(super) stored: u64,
    /// The fingerprint, which is 16 hex digits: were it in a group, a handler that fails otherwise each time would make as many groups.
    pub(super) fingerprint: u64,
    /// What it has in common with others.
    pub(super) group: u32,
    /// Where in its segment.
    at: u32,
}

impl Row {
    pub(super) const fn new(id: u128, died: u64, stored: u64, fingerprint: u64, group: u32) -> Self {
        Self { id, died, stored, fingerprint, group, at: 0 }
    }
}

/// The rows.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// Sequences of a segment.
    size: u32,
    /// By their numbers; none is empty.
    segments: BTreeMap<u64, Arc<Vec<Row>>>,
    len: u64,
}

impl Rows {
    pub(super) fn new(size: u32) -> Self {
        Self { size: size.max(1), segments: BTreeMap::new(), len: 0 }
    }

    /// Sequences of a segment.
    pub(super) fn size(&self) -> u64 {
        u64::from(self.size)
    }

    fn place(&self, sequence: u64) -> (u64, u32) {
        let at = u32::try_from(sequence % self.size()).unwrap_or(u32::MAX);
        (sequence / self.size(), at)
    }

    /// Puts in a row, in the place of one of this sequence.
    pub(super) fn put(&mut self, sequence: u64, row: Row) {
        let (number, at) = self.place(sequence);
        let row = Row { at, ..row };
        if !self.segments.contains_key(&number)
            && let Some(mut last) = self.segments.last_entry()
        {
            // Rows come in their order, so that it grows no more.
            Arc::make_mut(last.get_mut()).shrink_to_fit();
        }
        let segment = Arc::make_mut(self.segments.entry(number).or_default());
        match segment.binary_search_by_key(&at, |row| row.at) {
            Ok(place) => segment.iter_mut().skip(place).take(1).for_each(|there| *there = row),
            Err(place) => {
                segment.insert(place, row);
                self.len += 1;
            }
        }
    }

    /// Takes a row out; whether there was one.
    pub(super) fn remove(&mut self, sequence: u64) -> bool {
        let (number, at) = self.place(sequence);
        let Some(segment) = self.segments.get_mut(&number) else { return false };
        let Ok(place) = segment.binary_search_by_key(&at, |row| row.at) else { return false };
        let segment = Arc::make_mut(segment);
        segment.remove(place);
        self.len -= 1;
        if segment.is_empty() {
            self.segments.remove(&number);
        }
        true
    }

    /// Takes all in a range of sequences out.
    pub(super) fn clear(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (first, last) = (range.start / self.size(), (range.end - 1) / self.size());
        let numbers: Vec<u64> = self.segments.range(first..=last).map(|(number, _)| *number).collect();
        for number in numbers {
            let start = number * self.size();
            let Some(segment) = self.segments.get_mut(&number) else { continue };
            let before = segment.len();
            Arc::make_mut(segment).retain(|row| !range.contains(&(start + u64::from(row.at))));
            self.len -= (before - segment.len()) as u64;
            if segment.is_empty() {
                self.segments.remove(&number);
            }
        }
    }

    /// Takes the oldest segments out until there are at most so many; gives back how many went, and the first sequence that is left in.
    pub(super) fn shorten(&mut self, most: u64) -> Option<(u64, u64)> {
        let before = self.len;
        while self.len > most
            && self.segments.len() > 1
            && let Some((_, segment)) = self.segments.pop_first()
        {
            self.len -= segment.len() as u64;
        }
        let first = self.segments.first_key_value().map(|(number, _)| number * self.size())?;
        (self.len < before).then_some((before - self.len, first))
    }

    /// How many there are in a range of sequences.
    pub(super) fn count(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let (first, last) = (range.start / self.size(), (range.end - 1) / self.size());
        let within = self.segments.range(first..=last).map(|(number, segment)| {
            if *number == first || *number == last { self.part(*number, segment, &range).len() } else { segment.len() }
        });
        within.sum::<usize>() as u64
    }

    /// Those in a range of sequences.
    pub(super) fn range(&self, range: Range<u64>) -> impl DoubleEndedIterator<Item = (u64, &Row)> {
        let (first, last) = (range.start / self.size(), range.end.saturating_sub(1) / self.size());
        let segments = self.segments.range(first..=last.max(first));
        segments.flat_map(move |(number, segment)| {
            let start = number * self.size();
            self.part(*number, segment, &range).iter().map(move |row| (start + u64::from(row.at), row))
        })
    }

    /// The part of a segment that lies in a range of sequences.
    fn part<'a>(&self, number: u64, segment: &'a [Row], range: &Range<u64>) -> &'a [Row] {
        let start = number * self.size();
        let before = |sequence: u64| segment.partition_point(|row| start + u64::from(row.at) < sequence);
        segment.get(before(range.start)..before(range.end)).unwrap_or_default()
    }

    /// The first that was stored at a time or later: times of one stream go forward, but for a clock that was set back.
    pub(super) fn stored_from(&self, time: u64) -> Option<u64> {
        let is_later = |segment: &Arc<Vec<Row>>| segment.last().is_some_and(|last| last.stored >= time);
        let (number, segment) = self.segments.iter().find(|(_, segment)| is_later(segment))?;
        let first = segment.iter().find(|row| row.stored >= time)?;
        Some(number * self.size() + u64::from(first.at))
    }

    /// The bound of segments that is nearest to the middle of a range, when one lies in it.
    pub(super) fn middle(&self, range: &Range<u64>) -> Option<u64> {
        let middle = range.start + (range.end.saturating_sub(range.start)) / 2;
        let bound = middle / self.size() * self.size();
        let bound = if bound > range.start { bound } else { bound + self.size() };
        (bound > range.start && bound < range.end).then_some(bound)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_a_set_of_sequences() {
        let mut random = fastrand::Rng::with_seed(7);
        for size in [1, 3, 8, 100] {
            let (mut rows, mut model) = (Rows::new(size), BTreeSet::new());
            for _ in 0..2_000 {
                let (sequence, other) = (random.u64(..200), random.u64(..200));
                match random.u8(..8) {
                    0 => {
                        rows.clear(sequence..other);
                        model.retain(|there| !(sequence..other).contains(there));
                    }
                    1..4 => assert_eq!(rows.remove(sequence), model.remove(&sequence)),
                    4.. => {
                        rows.put(sequence, Row::new(0, 0, sequence, 0, 0));
                        model.insert(sequence);
                    }
                }
                let range = sequence.min(other)..sequence.max(other);
                let expected: Vec<u64> = model.range(range.clone()).copied().collect();
                assert_eq!(rows.range(range.clone()).map(|(sequence, _)| sequence).collect::<Vec<_>>(), expected);
                assert!(
                    rows.range(range.clone()).rev().map(|(sequence, _)| sequence).eq(expected.iter().rev().copied())
                );
                assert_eq!((rows.count(range), rows.len), (expected.len() as u64, model.len() as u64));
                assert_eq!(rows.stored_from(sequence), model.range(sequence..).next().copied());
            }
        }
    }

    #[test]
    fn who_looks_sees_all_as_it_was() {
        let mut rows = Rows::new(4);
        (1..20).for_each(|sequence| rows.put(sequence, Row::new(0, 0, 0, 0, 0)));
        let seen = rows.clone();
        rows.clear(3..15);
        rows.put(30, Row::new(0, 0, 0, 0, 0));
        assert_eq!((seen.len, seen.count(0..100), rows.len), (19, 19, 8));
    }

    #[test]
    fn the_oldest_make_room_for_the_newest() {
        let mut rows = Rows::new(4);
        (1..=19).for_each(|sequence| rows.put(sequence, Row::new(0, 0, 0, 0, 0)));
        assert_eq!(rows.shorten(19), None);
        assert_eq!(rows.shorten(10), Some((11, 12)));
        assert_eq!((rows.len, rows.count(0..12)), (8, 0));
    }

    #[test]
    fn a_row_takes_the_room_that_is_counted_with() {
        assert_eq!(size_of::<Row>(), 48);
    }
}
