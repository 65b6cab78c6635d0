//! The message ids that are known: in memory to look up, in the store in the order of publishes to survive a restart.
//!
//! A table keyed by ids would be written at random places and cost a factor of three; a row for each group commit,
//! in order, costs next to nothing.

use std::collections::HashMap;

use super::codec::IdDigest;

/// An id's bytes in a row of the table `seen`: 16 of the digest, 8 of the sequence.
const ENTRY_BYTES: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Window {
    known: HashMap<IdDigest, i64>,
    /// What this group adds, as it will be stored, and the key of its row.
    fresh: Vec<u8>,
    fresh_key: Option<i64>,
    /// The key and time of the oldest row; `None`: not looked up.
    pub(super) oldest: Option<Oldest>,
    journal: Vec<(IdDigest, Option<i64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oldest {
    pub(super) key: i64,
    pub(super) at_us: i64,
}

impl Window {
    pub(super) fn get(&self, id: &IdDigest) -> Option<i64> {
        self.known.get(id).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Remembers an id, for this group's row too.
    pub(super) fn add(&mut self, id: IdDigest, sequence: i64) {
        self.fresh_key.get_or_insert(sequence);
        self.fresh.extend_from_slice(&id);
        self.fresh.extend_from_slice(&sequence.to_le_bytes());
        let before = self.known.insert(id, sequence);
        self.journal.push((id, before));
    }

    /// Forgets the ids of a row, but for those that were published again since. How many were forgotten.
    pub(super) fn forget_row(&mut self, ids: &[u8]) -> u64 {
        let mut forgotten = 0;
        for (id, sequence) in entries(ids) {
            if self.known.get(&id) == Some(&sequence) {
                self.known.remove(&id);
                self.journal.push((id, Some(sequence)));
                forgotten += 1;
            }
        }
        forgotten
    }

    /// Takes in the ids of a row at the start.
    pub(super) fn load_row(&mut self, ids: &[u8]) {
        self.known.extend(entries(ids));
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
        for (id, before) in self.journal.drain(..).rev() {
            match before {
                Some(sequence) => self.known.insert(id, sequence),
                None => self.known.remove(&id),
            };
        }
        self.fresh.clear();
        self.fresh_key = None;
        self.oldest = None;
    }
}

fn entries(ids: &[u8]) -> impl Iterator<Item = (IdDigest, i64)> + '_ {
    ids.chunks_exact(ENTRY_BYTES).filter_map(|entry| {
        let (id, sequence) = entry.split_first_chunk::<16>()?;
        Some((*id, i64::from_le_bytes(*sequence.first_chunk::<8>()?)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
    use super::*;

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
