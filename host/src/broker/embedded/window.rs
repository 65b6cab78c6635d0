//! The message ids that are known: in memory to look up, in the store in the order of publishes to survive a restart.
//!
//! A table in the store keyed by ids would be written at random places and cost a factor of three; a row for each group
//! commit, in order, costs next to nothing. In memory, too, they stand in the order in which they came and go, and a
//! small table says where.

use std::collections::VecDeque;

use super::codec::IdDigest;
use super::table::Table;

/// An id's bytes in a row of the table `seen`: 16 of the digest, 8 of the sequence.
const ENTRY_BYTES: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Window {
    /// In the order of their sequences. An id that was published again stands here twice.
    entries: VecDeque<Entry>,
    /// The number of the first entry; each has the one after that of the entry before it, around the end of `u32`.
    first: u32,
    /// For each id the number of its last entry.
    table: Table,
    /// What this group adds, as it will be stored, and the key of its row.
    fresh: Vec<u8>,
    fresh_key: Option<i64>,
    /// The key and time of the oldest row; `None`: not looked up.
    pub(super) oldest: Option<Oldest>,
    journal: Vec<Change>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: IdDigest,
    sequence: i64,
}

/// How to undo what a group did.
#[derive(Debug)]
enum Change {
    /// An entry was added, in the place of another of the same id.
    Added { before: Option<u32> },
    /// The first entry was removed; `known`: it was the last of its id.
    Removed { entry: Entry, known: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oldest {
    pub(super) key: i64,
    pub(super) at_us: i64,
}

impl Window {
    /// More cannot be told apart by their numbers.
    pub(super) const MOST: usize = 1 << 31;

    pub(super) fn get(&self, id: &IdDigest) -> Option<i64> {
        let number = self.table.get(self.table.hash(id), is(&self.entries, self.first, id))?;
        self.entries.get(number.wrapping_sub(self.first) as usize).map(|entry| entry.sequence)
    }

    /// How many are remembered; an id that was published again counts twice until its first row is forgotten.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Remembers an id, for this group's row too. Sequences come in ascending order.
    pub(super) fn add(&mut self, id: IdDigest, sequence: i64) {
        self.fresh_key.get_or_insert(sequence);
        self.fresh.extend_from_slice(&id);
        self.fresh.extend_from_slice(&sequence.to_le_bytes());
        let before = self.push(Entry { id, sequence });
        self.journal.push(Change::Added { before });
    }

    /// Forgets the ids of the oldest row, but for those that were published again since. How many were forgotten.
    pub(super) fn forget_row(&mut self, ids: &[u8]) -> u64 {
        let Some(last) = entries(ids).map(|entry| entry.sequence).max() else { return 0 };
        let mut forgotten = 0;
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.sequence <= last) {
            let known = self.table.remove(self.table.hash(&entry.id), self.first);
            self.first = self.first.wrapping_add(1);
            self.journal.push(Change::Removed { entry, known });
            forgotten += u64::from(known);
        }
        forgotten
    }

    /// Takes in the ids of a row at the start; rows come in the order of their keys.
    pub(super) fn load_row(&mut self, ids: &[u8]) {
        for entry in entries(ids) {
            self.push(entry);
        }
    }

    /// The row of this group, if it has ids.
    pub(super) fn fresh_row(&self) -> Option<(i64, &[u8])> {
        self.fresh_key.map(|key| (key, self.fresh.as_slice()))
    }

    pub(super) fn commit(&mut self) {
        self.fresh.clear();
        self.fresh_key = None;
        self.journal.clear();
    }

    pub(super) fn rollback(&mut self) {
        while let Some(change) = self.journal.pop() {
            match change {
                Change::Added { before } => {
                    if let Some(entry) = self.entries.pop_back() {
                        let (hash, number) = (self.table.hash(&entry.id), self.number_behind());
                        match before {
                            Some(before) => {
                                self.table.set(hash, before, |of| of == number);
                            }
                            None => {
                                self.table.remove(hash, number);
                            }
                        }
                    }
                }
                Change::Removed { entry, known } => {
                    self.first = self.first.wrapping_sub(1);
                    self.entries.push_front(entry);
                    if known {
                        self.table.set(self.table.hash(&entry.id), self.first, |_| false);
                    }
                }
            }
        }
        self.fresh.clear();
        self.fresh_key = None;
        self.oldest = None;
    }

    /// Adds an entry; the number of the one that its id had before.
    fn push(&mut self, entry: Entry) -> Option<u32> {
        let (hash, number) = (self.table.hash(&entry.id), self.number_behind());
        let before = self.table.set(hash, number, is(&self.entries, self.first, &entry.id));
        self.entries.push_back(entry);
        before
    }

    /// The number that the next entry gets.
    fn number_behind(&self) -> u32 {
        // Fewer than `MOST` and those of one group.
        self.first.wrapping_add(u32::try_from(self.entries.len()).unwrap_or(u32::MAX))
    }
}

/// Whether the entry of a number is of an id.
fn is<'a>(entries: &'a VecDeque<Entry>, first: u32, id: &'a IdDigest) -> impl Fn(u32) -> bool + 'a {
    move |number| entries.get(number.wrapping_sub(first) as usize).is_some_and(|entry| entry.id == *id)
}

fn entries(ids: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    ids.chunks_exact(ENTRY_BYTES).filter_map(|entry| {
        let (id, sequence) = entry.split_first_chunk::<16>()?;
        Some(Entry { id: *id, sequence: i64::from_le_bytes(*sequence.first_chunk::<8>()?) })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on should say where")]
    use std::collections::{HashMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Add(u8),
        ForgetRow,
        Commit,
        Rollback,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..24).prop_map(Step::Add),
            2 => Just(Step::ForgetRow),
            3 => Just(Step::Commit),
            1 => Just(Step::Rollback),
        ]
    }

    /// What the window must do, said in the plainest way: a copy is taken, and comes back.
    #[derive(Clone, Default)]
    struct Plain {
        known: HashMap<u8, i64>,
        rows: VecDeque<Vec<u8>>,
        next: i64,
    }

    proptest! {
        #[test]
        fn it_does_what_a_copied_map_does(steps in proptest::collection::vec(step(), 1..200), first in any::<u32>()) {
            // The numbers of entries go around the end of `u32`.
            let mut window = Window { first: first | 0xffff_ffc0, ..Window::default() };
            let (mut plain, mut saved) = (Plain::default(), Plain::default());
            for step in steps {
                match step {
                    Step::Add(id) => {
                        plain.next += 1;
                        window.add([id; 16], plain.next);
                        plain.known.insert(id, plain.next);
                    }
                    Step::ForgetRow => {
                        let Some(row) = plain.rows.pop_front() else { continue };
                        let before = plain.known.len();
                        for entry in entries(&row) {
                            plain.known.retain(|id, sequence| (*id, *sequence) != (entry.id[0], entry.sequence));
                        }
                        prop_assert_eq!(window.forget_row(&row), (before - plain.known.len()) as u64);
                    }
                    Step::Commit => {
                        plain.rows.extend(window.fresh_row().map(|(_, row)| row.to_vec()));
                        window.commit();
                        saved = plain.clone();
                    }
                    Step::Rollback => {
                        window.rollback();
                        plain = saved.clone();
                    }
                }
                for id in 0..24 {
                    prop_assert_eq!(window.get(&[id; 16]), plain.known.get(&id).copied());
                }
            }
        }
    }

    #[test]
    fn a_group_that_is_rolled_back_leaves_the_window_as_it_was() {
        let mut window = Window::default();
        window.add([1; 16], 1);
        window.add([2; 16], 2);
        let row = window.fresh_row().unwrap().1.to_vec();
        window.commit();
        window.add([2; 16], 7);
        window.add([3; 16], 8);
        assert_eq!(window.forget_row(&row), 1, "an id that was published again is not forgotten with its first row");
        window.rollback();
        assert_eq!(window.get(&[1; 16]), Some(1));
        assert_eq!(window.get(&[2; 16]), Some(2));
        assert_eq!(window.get(&[3; 16]), None);
        assert_eq!(window.fresh_row(), None);
        let mut again = Window::default();
        again.load_row(&row);
        assert_eq!((again.get(&[1; 16]), again.get(&[2; 16]), again.len()), (Some(1), Some(2), 2));
    }
}
