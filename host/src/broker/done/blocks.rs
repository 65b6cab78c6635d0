//! What is done, 128 sequences to a block, bounded in number.

use std::collections::{HashMap, HashSet};

use super::{MessageIdentity, SourceId};

/// Sequences in a block: 512 bytes, a row in the file. A row of more than 1,002 bytes takes a page of 4 KiB for what is over.
pub(super) const SEQUENCES: u64 = LENGTH as u64;
const LENGTH: usize = 128;

/// Which block: its source and its number in it.
pub(super) type BlockKey = (SourceId, u64);
/// For each sequence of a block the tag of the message that is done; 0: none is.
pub(super) type Tags = [u32; LENGTH];

/// A block in which nothing is done.
pub(super) const NONE: Tags = [0; LENGTH];

/// All blocks, and which of them the file does not have yet.
#[derive(Debug)]
pub(super) struct Blocks {
    limit: usize,
    blocks: HashMap<BlockKey, Block>,
    dirty: HashSet<BlockKey>,
    /// Counts insertions; a block's `touched` is its value at the last one.
    clock: u64,
}

#[derive(Debug)]
struct Block {
    /// Boxed: the map has room for twice as many as there are, and is copied when it grows.
    tags: Box<Tags>,
    touched: u64,
}

impl Blocks {
    /// The blocks that were in the file.
    pub(super) fn new(limit: usize, read: Vec<(BlockKey, Tags)>) -> Self {
        // Of what was read the higher numbers are the later ones.
        let block = |(key, tags): (BlockKey, Tags)| (key, Block { tags: Box::new(tags), touched: key.1 });
        let blocks: HashMap<_, _> = read.into_iter().map(block).collect();
        let clock = blocks.values().map(|block| block.touched).max().unwrap_or(0);
        Self { limit: limit.max(1), blocks, dirty: HashSet::new(), clock }
    }

    /// The tags of a block, when there is one.
    pub(super) fn block(&self, source: SourceId, number: u64) -> Option<&Tags> {
        self.blocks.get(&(source, number)).map(|block| &*block.tags)
    }

    /// Puts messages in. The caller evicts when it is done inserting.
    pub(super) fn insert_all(&mut self, source: SourceId, messages: &[MessageIdentity]) {
        // Neighbours mostly: one look for the block of each run.
        for run in messages.chunk_by(|one, next| one.sequence / SEQUENCES == next.sequence / SEQUENCES) {
            let Some(first) = run.first() else { continue };
            let key = (source, first.sequence / SEQUENCES);
            self.clock += 1;
            let block = self.blocks.entry(key).or_insert_with(|| Block { tags: Box::new(NONE), touched: 0 });
            block.touched = self.clock;
            let mut changed = false;
            for message in run {
                if let Some(tag) = block.tags.get_mut(place(message.sequence))
                    && is_later(message.tag(), *tag)
                {
                    *tag = message.tag();
                    changed = true;
                }
            }
            if changed {
                self.dirty.insert(key);
            }
        }
    }

    /// Takes all of them out.
    pub(super) fn clear(&mut self) {
        self.dirty.extend(self.blocks.drain().map(|(key, _)| key));
    }

    /// Makes room when there are too many: those that were touched longest ago go, a 64th of the limit more than needed
    /// so that the search through all of them is rare. Gives back how many went.
    pub(super) fn evict(&mut self) -> u64 {
        if self.blocks.len() <= self.limit {
            return 0;
        }
        let excess = (self.blocks.len() - self.limit + self.limit / 64).min(self.blocks.len().saturating_sub(1));
        let mut by_age: Vec<(u64, BlockKey)> = self.blocks.iter().map(|(key, block)| (block.touched, *key)).collect();
        by_age.sort_unstable();
        for (_, key) in by_age.iter().take(excess) {
            self.blocks.remove(key);
            self.dirty.insert(*key);
        }
        excess as u64
    }

    /// Takes what the file does not have yet: the tags of a block, or `None` for one that is gone.
    pub(super) fn take_dirty(&mut self) -> Vec<(BlockKey, Option<Box<Tags>>)> {
        let blocks = &self.blocks;
        self.dirty.drain().map(|key| (key, blocks.get(&key).map(|block| block.tags.clone()))).collect()
    }

    /// Puts keys back that could not be written.
    pub(super) fn put_back(&mut self, keys: impl Iterator<Item = BlockKey>) {
        self.dirty.extend(keys);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }
}

/// Whether a tag is of a later message than another: of two at one sequence the later one counts, as the server has the
/// earlier no more, and the end of that may come after the end of the other. Tags come round; what is closer than half of the
/// way (24 days) is ahead.
pub(super) const fn is_later(tag: u32, than: u32) -> bool {
    than == 0 || (tag != than && tag.wrapping_sub(than) < 1 << 31)
}

/// Whether a message is in the block that it belongs to.
pub(super) fn is_in(tags: &Tags, message: &MessageIdentity) -> bool {
    tags.get(place(message.sequence)) == Some(&message.tag())
}

/// The place of a sequence within its block.
fn place(sequence: u64) -> usize {
    // Below `LENGTH`: fits.
    usize::try_from(sequence % SEQUENCES).unwrap_or(0)
}
