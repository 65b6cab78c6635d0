//! What is remembered of messages that come back, bounded in number.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::blocks::is_later;
use super::{MessageIdentity, SourceId};
use crate::settle::progress::Progress;

/// Which message: its source and its sequence.
pub(super) type NoteKey = (SourceId, u64);

/// What is remembered of a message.
#[derive(Debug, Clone)]
pub(super) struct Note {
    /// Of the message that it is on: another one may come to have its sequence.
    pub(super) tag: u32,
    pub(super) progress: Progress,
}

/// All notes, and which of them the file does not have yet.
#[derive(Debug)]
pub(super) struct Notes {
    limit: usize,
    notes: HashMap<NoteKey, (u64, Note)>,
    /// The same keys in the order in which they were written, to evict the oldest.
    by_age: BTreeSet<(u64, NoteKey)>,
    dirty: HashSet<NoteKey>,
    clock: u64,
}

impl Notes {
    /// The notes that were in the file.
    pub(super) fn new(limit: usize, mut read: Vec<(NoteKey, Note)>) -> Self {
        read.sort_by_key(|(key, _)| *key);
        let mut notes = Self {
            limit: limit.max(1),
            notes: HashMap::new(),
            by_age: BTreeSet::new(),
            dirty: HashSet::new(),
            clock: 0,
        };
        for ((source, sequence), note) in read {
            notes.insert(source, sequence, note);
        }
        notes.dirty.clear();
        notes
    }

    /// The note on a message.
    pub(super) fn get(&self, source: SourceId, message: &MessageIdentity) -> Option<&Progress> {
        // Nearly always there are none at all.
        if self.notes.is_empty() {
            return None;
        }
        let (_, note) = self.notes.get(&(source, message.sequence))?;
        (note.tag == message.tag()).then_some(&note.progress)
    }

    /// Puts a note on a message, in the place of the one that is there.
    pub(super) fn insert(&mut self, source: SourceId, sequence: u64, note: Note) {
        let key = (source, sequence);
        if self.notes.get(&key).is_some_and(|(_, there)| there.tag != note.tag && !is_later(note.tag, there.tag)) {
            // Of one that the server lost, and that was still under way here.
            return;
        }
        self.clock += 1;
        if let Some((age, _)) = self.notes.insert(key, (self.clock, note)) {
            self.by_age.remove(&(age, key));
        }
        self.by_age.insert((self.clock, key));
        self.dirty.insert(key);
    }

    /// Takes the note on a message away.
    pub(super) fn remove(&mut self, source: SourceId, message: &MessageIdentity) {
        if self.get(source, message).is_none() {
            return;
        }
        let key = (source, message.sequence);
        if let Some((age, _)) = self.notes.remove(&key) {
            self.by_age.remove(&(age, key));
            self.dirty.insert(key);
        }
    }

    /// Makes room when there are too many: the oldest go. Gives back how many went.
    pub(super) fn evict(&mut self) -> u64 {
        let mut evicted = 0;
        while self.notes.len() > self.limit {
            let Some((_, key)) = self.by_age.pop_first() else { break };
            self.notes.remove(&key);
            self.dirty.insert(key);
            evicted += 1;
        }
        evicted
    }

    /// Takes what the file does not have yet: a note, or `None` for one that is gone.
    pub(super) fn take_dirty(&mut self) -> Vec<(NoteKey, Option<Note>)> {
        let notes = &self.notes;
        self.dirty.drain().map(|key| (key, notes.get(&key).map(|(_, note)| note.clone()))).collect()
    }

    /// Puts keys back that could not be written.
    pub(super) fn put_back(&mut self, keys: impl Iterator<Item = NoteKey>) {
        self.dirty.extend(keys);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.notes.len()
    }
}
