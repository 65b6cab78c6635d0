//! How fencing tokens are spread over the table of leases, which is asked three times for each message.
//!
//! They are the queue's own numbers, one after the other, and nobody else can choose one: a multiplication spreads them as
//! well as the standard library's hash, which is made for keys that an enemy picks, at a tenth of its cost.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes the hashers.
pub(super) type Tokens = BuildHasherDefault<TokenHasher>;

/// Spreads one token.
#[derive(Debug, Default)]
pub(super) struct TokenHasher(u64);

/// The golden ratio in 64 bits (Knuth, The Art of Computer Programming, 6.4): neighbours come far apart, in the high bits too.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, token: u64) {
        let spread = token.wrapping_mul(SPREAD);
        // The table takes the lowest bits and the highest.
        self.0 = spread ^ (spread >> 32);
    }

    fn write(&mut self, bytes: &[u8]) {
        // No token comes this way; what does is spread as well as it goes.
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn neighbours_come_into_places_of_their_own() {
        let hash = |token: u64| Tokens::default().hash_one(token);
        let places: BTreeSet<u64> = (1..=4096).map(|token| hash(token) & 0xFFFF).collect();
        assert!(places.len() > 3800, "{} of 4096", places.len());
        let tags: BTreeSet<u64> = (1..=4096).map(|token| hash(token) >> 57).collect();
        assert_eq!(tags.len(), 128);
    }
}
