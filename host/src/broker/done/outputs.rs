//! How far the streams were that took what messages came to: their outputs and dead letters.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// By stream the furthest sequence whose storing was confirmed, and which of them the file does not have yet.
#[derive(Debug)]
pub(super) struct Outputs {
    furthest: HashMap<Arc<str>, u64>,
    dirty: HashSet<String>,
}

impl Outputs {
    /// What was in the file.
    pub(super) fn new(read: Vec<(String, u64)>) -> Self {
        let furthest = read.into_iter().map(|(stream, sequence)| (stream.into(), sequence)).collect();
        Self { furthest, dirty: HashSet::new() }
    }

    /// A stream is at least so far.
    pub(super) fn reached(&mut self, stream: &str, sequence: u64) {
        // Nearly always it is there already: no name is copied then.
        match self.furthest.get_mut(stream) {
            Some(furthest) if *furthest >= sequence => return,
            Some(furthest) => *furthest = sequence,
            None => {
                self.furthest.insert(stream.into(), sequence);
            }
        }
        if !self.dirty.contains(stream) {
            self.dirty.insert(stream.to_owned());
        }
    }

    /// A stream is no further than this. False: that is no news.
    pub(super) fn fell_back(&mut self, stream: &str, last: u64) -> bool {
        match self.furthest.get_mut(stream) {
            Some(known) if *known > last => {
                *known = last;
                self.dirty.insert(stream.to_owned());
                true
            }
            Some(_) | None => false,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(Arc<str>, u64)> {
        self.furthest.iter().map(|(stream, sequence)| (Arc::clone(stream), *sequence)).collect()
    }

    /// Takes what the file does not have yet.
    pub(super) fn take_dirty(&mut self) -> Vec<(String, u64)> {
        let furthest = &self.furthest;
        self.dirty
            .drain()
            .filter_map(|stream| furthest.get(stream.as_str()).map(|sequence| (stream, *sequence)))
            .collect()
    }

    /// Puts streams back that could not be written.
    pub(super) fn put_back(&mut self, streams: impl Iterator<Item = String>) {
        self.dirty.extend(streams);
    }
}
