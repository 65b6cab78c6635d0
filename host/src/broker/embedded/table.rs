//! A hash table from ids to numbers, for the window of known ids: it adds and removes an id for each message.
//!
//! Why not the standard library's: with a million ids each of looking up, adding and removing misses the processor's
//! caches, and there each of them misses twice, in a table three times this size. Its removals leave marks, too, and
//! when these have used up the free places it doubles what is more than half full. Here the places are eight bytes,
//! looked at one after the other (linear probing), and a removal closes the gap, so that nothing is left of it.
//!
//! Invariants:
//! - From the place where an id belongs to the place where it stands there is no free place.
//! - At most five of eight places are taken.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;

use super::codec::IdDigest;

const FEWEST_PLACES: usize = 1024;

#[derive(Debug)]
pub(super) struct Table {
    /// None at all, or a power of two.
    places: Vec<Option<Slot>>,
    taken: usize,
    secret: [u64; 2],
}

/// What stands in a place; eight bytes, and as many when there is nothing.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: Hash,
    number: u32,
}

/// 31 bits of an id's hash, above a set one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(NonZeroU32);

impl Default for Table {
    fn default() -> Self {
        // Random from the operating system.
        let secret = RandomState::new();
        Self { places: Vec::new(), taken: 0, secret: [secret.hash_one(0), secret.hash_one(1)] }
    }
}

impl Table {
    /// The hash of an id in this table. The digest is even already, but whoever chooses ids can choose those whose
    /// digests are alike; a product with two secret numbers, folded, cannot be aimed at.
    pub(super) fn hash(&self, id: &IdDigest) -> Hash {
        let id = u128::from_le_bytes(*id);
        let [low, high] = [0, 64].map(|shift| (id >> shift) & u128::from(u64::MAX));
        let [one, other] = self.secret.map(u128::from);
        let product = (low ^ one) * (high ^ other);
        let folded = (product ^ (product >> 64)) & u128::from(u32::MAX);
        Hash(NonZeroU32::MIN | u32::try_from(folded).unwrap_or(0))
    }

    /// The number of an id: the first with its hash for which `is` holds.
    pub(super) fn get(&self, hash: Hash, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.find(hash, is).map(|(_, slot)| slot.number)
    }

    /// Adds an id that is not in, or gives it another number; its number before.
    pub(super) fn set(&mut self, hash: Hash, number: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some((place, slot)) = self.find(hash, is) {
            self.put(place, Some(Slot { hash, number }));
            return Some(slot.number);
        }
        if (self.taken + 1) * 8 > self.places.len() * 5 {
            self.grow();
        }
        self.add(Slot { hash, number });
        None
    }

    /// Removes an id that has this number; says whether it was in.
    pub(super) fn remove(&mut self, hash: Hash, number: u32) -> bool {
        let Some((place, _)) = self.find(hash, |of| of == number) else { return false };
        let (mut gap, mut place) = (place, place);
        loop {
            place = self.behind(place);
            let Some(slot) = self.at(place) else { break };
            // It may move to the gap unless it belongs behind it.
            if self.distance(self.home(slot.hash), place) >= self.distance(gap, place) {
                self.put(gap, Some(slot));
                gap = place;
            }
        }
        self.put(gap, None);
        self.taken -= 1;
        true
    }

    fn find(&self, hash: Hash, is: impl Fn(u32) -> bool) -> Option<(usize, Slot)> {
        let mut place = self.home(hash);
        while let Some(slot) = self.at(place) {
            if slot.hash == hash && is(slot.number) {
                return Some((place, slot));
            }
            place = self.behind(place);
        }
        None
    }

    fn add(&mut self, slot: Slot) {
        let mut place = self.home(slot.hash);
        while self.at(place).is_some() {
            place = self.behind(place);
        }
        self.put(place, Some(slot));
        self.taken += 1;
    }

    fn grow(&mut self) {
        let more = (self.places.len() * 2).max(FEWEST_PLACES);
        let before = std::mem::replace(&mut self.places, vec![None; more]);
        self.taken = 0;
        before.into_iter().flatten().for_each(|slot| self.add(slot));
    }

    fn home(&self, hash: Hash) -> usize {
        (hash.0.get() >> 1) as usize & self.mask()
    }

    fn behind(&self, place: usize) -> usize {
        (place + 1) & self.mask()
    }

    /// How many places one is behind another, around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }

    fn at(&self, place: usize) -> Option<Slot> {
        self.places.get(place).copied().flatten()
    }

    fn put(&mut self, place: usize, slot: Option<Slot>) {
        if let Some(there) = self.places.get_mut(place) {
            *there = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on should say where")]
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn table_with(secret: [u64; 2]) -> Table {
        Table { secret, ..Table::default() }
    }

    proptest! {
        /// Few hashes, so that ids crowd: the table must do what a map of the standard library does.
        #[test]
        fn it_does_what_a_map_does(steps in proptest::collection::vec((any::<bool>(), 0u32..48), 1..400)) {
            let hash = |id: u32| Hash(NonZeroU32::MIN | ((id % 7).wrapping_sub(3) << 1));
            // A number says which id it is of, and how often that id was set before.
            let is = |id: u32| move |number: u32| number % 48 == id;
            let (mut table, mut map, mut numbers) = (Table::default(), HashMap::new(), 0);
            for (adds, id) in steps {
                if adds {
                    numbers += 48;
                    prop_assert_eq!(table.set(hash(id), numbers + id, is(id)), map.insert(id, numbers + id));
                } else {
                    let number = map.remove(&id);
                    prop_assert_eq!(table.remove(hash(id), number.unwrap_or(id)), number.is_some());
                }
                for id in 0..48 {
                    prop_assert_eq!(table.get(hash(id), is(id)), map.get(&id).copied());
                }
                prop_assert_eq!(table.taken, map.len());
            }
        }
    }

    #[test]
    fn it_never_grows_while_as_many_are_removed_as_added() {
        let mut table = Table::default();
        let id = |number: u32| u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes();
        let kept = 640;
        for number in 0..kept {
            table.set(table.hash(&id(number)), number, |_| false);
        }
        let places = table.places.len();
        assert_eq!(places, FEWEST_PLACES, "five of eight are allowed");
        for number in kept..100_000 {
            assert!(table.remove(table.hash(&id(number - kept)), number - kept));
            table.set(table.hash(&id(number)), number, |_| false);
        }
        assert_eq!((table.places.len(), table.taken), (places, kept as usize));
        assert_eq!(size_of::<Option<Slot>>(), 8);
    }

    #[test]
    fn ids_that_are_alike_crowd_in_no_table() {
        // Digests that an attacker sought out: they differ in a few bits only, at either end.
        let ids: Vec<IdDigest> =
            (0..512_u128).map(|n| if n % 2 == 0 { n } else { n << 119 }).map(u128::to_le_bytes).collect();
        for secret in [[0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344], [0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89]] {
            let mut table = table_with(secret);
            for (number, id) in (0..).zip(&ids) {
                table.set(table.hash(id), number, |_| false);
            }
            let way = |id| {
                let slot = table.find(table.hash(id), |_| true).unwrap();
                table.distance(table.home(slot.1.hash), slot.0)
            };
            assert!(ids.iter().map(way).max().unwrap() < 64, "{secret:x?}");
        }
    }
}
