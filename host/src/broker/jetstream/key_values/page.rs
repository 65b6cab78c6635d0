//! The first keys behind a given one, of keys that come in any order. Pure.
//!
//! A server lists the keys of a bucket by their place in it and in no other way. So all of them are looked at for a page, and
//! no more is kept than the page.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::ops::Bound;

use crate::broker::bucket::KeyPage;

/// A page as far as it is known.
#[derive(Debug)]
pub(super) struct Page {
    from: Bound<String>,
    limit: usize,
    keys: BTreeSet<String>,
    /// The first key that there was no room for. What lies behind it would leave a gap.
    end: Option<String>,
}

impl Page {
    pub(super) fn new(after: Option<&str>, limit: NonZeroU32) -> Self {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_owned()));
        Self::from(from, usize::try_from(limit.get()).unwrap_or(usize::MAX))
    }

    const fn from(from: Bound<String>, limit: usize) -> Self {
        Self { from, limit, keys: BTreeSet::new(), end: None }
    }

    /// A key stands there now, or does not any more.
    pub(super) fn see(&mut self, key: String, stands: bool) {
        if !stands {
            self.keys.remove(&key);
            return;
        }
        let is_before = match &self.from {
            Bound::Included(first) => key < *first,
            Bound::Excluded(after) => key <= *after,
            Bound::Unbounded => false,
        };
        let is_behind = self.end.as_ref().is_some_and(|end| key >= *end);
        if is_before || is_behind {
            return;
        }
        self.keys.insert(key);
        if self.keys.len() > self.limit {
            self.end = self.keys.pop_last();
        }
    }

    /// The keys, and whether there may be more; or, when all of the page went while it was looked at and there is more behind
    /// it, the page to look at instead, which begins further on.
    pub(super) fn finish(self) -> Result<KeyPage, Self> {
        match self.end {
            Some(end) if self.keys.is_empty() => Err(Self::from(Bound::Included(end), self.limit)),
            end => Ok(KeyPage { keys: self.keys.into_iter().collect(), more: end.is_some() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_have_every_key_that_stands_once_and_in_order(
            seen in proptest::collection::vec(("[a-f]{1,2}", any::<bool>()), 0..60),
            limit in 1u32..8,
        ) {
            let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
            let mut model = BTreeMap::new();
            for (key, stands) in &seen {
                model.insert(key.clone(), *stands);
            }
            let expected: Vec<String> = model.into_iter().filter(|(_, stands)| *stands).map(|(key, _)| key).collect();
            let mut all: Vec<String> = Vec::new();
            loop {
                let mut page = Page::new(all.last().map(String::as_str), limit);
                let found = loop {
                    seen.iter().for_each(|(key, stands)| page.see(key.clone(), *stands));
                    match page.finish() {
                        Ok(found) => break found,
                        Err(further) => page = further,
                    }
                };
                prop_assert!(found.keys.len() <= limit.get() as usize);
                prop_assert!(!found.keys.is_empty() || !found.more);
                all.extend(found.keys);
                if !found.more {
                    break;
                }
            }
            prop_assert_eq!(all, expected);
        }
    }
}
