//! Bitmaps of sequences, 4096 to a block, bounded in number.

use std::collections::{HashMap, HashSet};

use super::SourceId;

/// Sequences in a block: 512 bytes, one row in the file.
pub(super) const SEQUENCES: u64 = 4096;
/// 64-bit words in a block.
pub(super) const WORDS: usize = 64;

/// Which block: its source and its number in it.
pub(super) type BlockKey = (SourceId, u64);
/// The bits of a block.
pub(super) type Bits = [u64; WORDS];

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
    bits: Box<Bits>,
    touched: u64,
}

impl Blocks {
    /// The blocks that were in the file.
    pub(super) fn new(limit: usize, read: Vec<(BlockKey, Bits)>) -> Self {
        // Of what was read the higher numbers are the later ones.
        let block = |(key, bits): (BlockKey, Bits)| (key, Block { bits: Box::new(bits), touched: key.1 });
        let blocks: HashMap<_, _> = read.into_iter().map(block).collect();
        let clock = blocks.values().map(|block| block.touched).max().unwrap_or(0);
        Self { limit: limit.max(1), blocks, dirty: HashSet::new(), clock }
    }

    /// The bits of a block, when there is one.
    pub(super) fn block(&self, source: SourceId, number: u64) -> Option<&Bits> {
        self.blocks.get(&(source, number)).map(|block| &*block.bits)
    }

    /// Puts sequences in. The caller evicts when it is done inserting.
    pub(super) fn insert_all(&mut self, source: SourceId, sequences: &[u64]) {
        // Neighbours mostly: one look for the block of each run.
        for run in sequences.chunk_by(|one, next| one / SEQUENCES == next / SEQUENCES) {
            let Some(first) = run.first() else { continue };
            let key = (source, first / SEQUENCES);
            self.clock += 1;
            let block = self.blocks.entry(key).or_insert_with(|| Block { bits: Box::new([0; WORDS]), touched: 0 });
            block.touched = self.clock;
            let mut changed = false;
            for sequence in run {
                let (word, mask) = place(*sequence);
                if let Some(bits) = block.bits.get_mut(word) {
                    changed |= *bits & mask == 0;
                    *bits |= mask;
                }
            }
            if changed {
                self.dirty.insert(key);
            }
        }
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

    /// Takes what the file does not have yet: the bits of a block, or `None` for one that is gone.
    pub(super) fn take_dirty(&mut self) -> Vec<(BlockKey, Option<Bits>)> {
        let blocks = &self.blocks;
        self.dirty.drain().map(|key| (key, blocks.get(&key).map(|block| *block.bits))).collect()
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

/// Whether a sequence is in the block that it belongs to.
pub(super) fn is_in(bits: &Bits, sequence: u64) -> bool {
    let (word, mask) = place(sequence);
    bits.get(word).is_some_and(|bits| bits & mask != 0)
}

/// The word and the bit of a sequence within its block.
fn place(sequence: u64) -> (usize, u64) {
    let within = sequence % SEQUENCES;
    // Below 64: fits any usize.
    (usize::try_from(within / 64).unwrap_or(0), 1 << (within % 64))
}
