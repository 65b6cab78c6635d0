//! A bucket as a run without effects sees it: what it writes is kept for that run alone, over what stands there.
//!
//! Invariants:
//! - Nothing is written to what lies under it.
//! - A run reads back what it has written, by whichever call.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::broker::bucket::{Bucket, BucketError, Held, KeyPage, check_key, check_value, sum};

/// Above all revisions of brokers: sequences and row numbers have 63 bits.
const FIRST_REVISION: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Overlay {
    under: Arc<dyn Bucket>,
    written: Mutex<Written>,
}

/// What was written, keys that were removed among it.
#[derive(Debug, Default)]
struct Written {
    keys: BTreeMap<String, Held>,
    changes: u64,
}

impl Overlay {
    pub(super) fn new(under: Arc<dyn Bucket>) -> Self {
        Self { under, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        // What the lock guards is changed in single steps: it is whole even if a holder died.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &str, value: Option<Bytes>) {
        let mut written = self.written();
        let revision = FIRST_REVISION + written.changes;
        written.changes += 1;
        written.keys.insert(key.to_owned(), Held { value, revision });
    }
}

#[async_trait]
impl Bucket for Overlay {
    async fn ready(&self) -> Result<(), BucketError> {
        self.under.ready().await
    }

    async fn check(&self) -> Result<(), BucketError> {
        self.under.check().await
    }

    async fn find(&self, key: &str) -> Result<Held, BucketError> {
        check_key(key)?;
        let written = self.written().keys.get(key).cloned();
        match written {
            Some(held) => Ok(held),
            None => self.under.find(key).await,
        }
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), BucketError> {
        check_key(key)?;
        check_value(&value)?;
        self.write(key, Some(value));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), BucketError> {
        check_key(key)?;
        self.write(key, None);
        Ok(())
    }

    async fn increment(&self, key: &str, by: i64) -> Result<i64, BucketError> {
        let sum = sum(self.find(key).await?.value.as_deref(), by)?;
        self.write(key, Some(sum.to_string().into()));
        Ok(sum)
    }

    async fn swap(&self, key: &str, revision: u64, value: Bytes) -> Result<bool, BucketError> {
        check_value(&value)?;
        let stands = self.find(key).await?.revision == revision;
        if stands {
            self.write(key, Some(value));
        }
        Ok(stands)
    }

    async fn keys(&self, after: Option<&str>, limit: NonZeroU32) -> Result<KeyPage, BucketError> {
        let mut after = after.map(ToOwned::to_owned);
        loop {
            let page = self.under.keys(after.as_deref(), limit).await?;
            let last = page.keys.last().filter(|_| page.more).cloned();
            let merged = merge(page.keys, last.as_deref(), after.as_deref(), &self.written().keys);
            // All of the page was removed by this run, and there is more behind it.
            if merged.is_empty() && last.is_some() {
                after = last;
                continue;
            }
            let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
            let more = last.is_some() || merged.len() > limit;
            return Ok(KeyPage { keys: merged.into_iter().take(limit).collect(), more });
        }
    }
}

/// The keys of a page with those that were written put in and those that were removed taken out. `last`: the page ends with
/// this key, and those behind it belong to the next one.
fn merge(page: Vec<String>, last: Option<&str>, after: Option<&str>, written: &BTreeMap<String, Held>) -> Vec<String> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let to = last.map_or(Bound::Unbounded, Bound::Included);
    let mut keys: BTreeMap<String, bool> = page.into_iter().map(|key| (key, true)).collect();
    for (key, held) in written.range::<str, _>((from, to)) {
        keys.insert(key.clone(), held.value.is_some());
    }
    keys.into_iter().filter(|(_key, stands)| *stands).map(|(key, _stands)| key).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;
    use crate::broker::EmptyBucket;

    /// What is written into one overlay is what lies under another.
    async fn over(values: &[(&str, &str)]) -> Overlay {
        // Its revisions are not those of what is over it.
        let written = Written { changes: 1_000_000, ..Written::default() };
        let under = Overlay { under: Arc::new(EmptyBucket), written: Mutex::new(written) };
        for (key, value) in values {
            under.set(key, Bytes::from((*value).to_owned())).await.unwrap();
        }
        Overlay::new(Arc::new(under))
    }

    async fn value(bucket: &dyn Bucket, key: &str) -> Option<String> {
        bucket.find(key).await.unwrap().value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_and_what_lies_under_it_stays() {
        let overlay = over(&[("a", "1"), ("b", "two"), ("c", "3")]).await;
        overlay.set("a", "one".into()).await.unwrap();
        overlay.delete("b").await.unwrap();
        assert_eq!(overlay.increment("c", 4).await, Ok(7));
        assert_eq!(overlay.increment("d", -1).await, Ok(-1));
        assert_eq!(overlay.increment("a", 1).await, Err(BucketError::NotANumber));
        for (key, over, under) in [("a", Some("one"), Some("1")), ("b", None, Some("two")), ("c", Some("7"), Some("3"))]
        {
            assert_eq!(value(&overlay, key).await.as_deref(), over, "{key}");
            assert_eq!(value(&*overlay.under, key).await.as_deref(), under, "{key}");
        }
        assert_eq!(overlay.exists("b").await, Ok(false));
        assert_eq!(overlay.find("").await, Err(BucketError::Key(0)));
    }

    #[tokio::test]
    async fn a_swap_compares_with_what_the_run_sees() {
        let overlay = over(&[("a", "1")]).await;
        let before = overlay.find("a").await.unwrap().revision;
        assert_eq!(overlay.swap("a", before, "2".into()).await, Ok(true));
        assert_eq!(overlay.swap("a", before, "3".into()).await, Ok(false));
        let now = overlay.find("a").await.unwrap().revision;
        overlay.delete("a").await.unwrap();
        assert_eq!(overlay.swap("a", now, "3".into()).await, Ok(false));
        assert_eq!(overlay.swap("new", 0, "1".into()).await, Ok(true));
        assert_eq!(overlay.swap("new", 0, "2".into()).await, Ok(false));
        assert_eq!(value(&*overlay.under, "a").await.as_deref(), Some("1"));
    }

    proptest! {
        #[test]
        fn pages_over_what_was_written_have_every_key_once_and_in_order(
            under in proptest::collection::btree_set("[a-e]{1,2}", 0..20),
            writes in proptest::collection::vec(("[a-e]{1,2}", any::<bool>()), 0..20),
            limit in 1u32..5,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (seen, expected) = runtime.block_on(async {
                let values: Vec<(&str, &str)> = under.iter().map(|key| (key.as_str(), "x")).collect();
                let (overlay, mut expected) = (over(&values).await, under.clone());
                for (key, stands) in &writes {
                    if *stands {
                        overlay.set(key, "y".into()).await.unwrap();
                        expected.insert(key.clone());
                    } else {
                        overlay.delete(key).await.unwrap();
                        expected.remove(key);
                    }
                }
                let mut seen: Vec<String> = Vec::new();
                loop {
                    let page = overlay.keys(seen.last().map(String::as_str), NonZeroU32::new(limit).unwrap()).await.unwrap();
                    assert!(page.keys.len() <= limit as usize && !(page.keys.is_empty() && page.more));
                    seen.extend(page.keys);
                    if !page.more {
                        return (seen, expected);
                    }
                }
            });
            prop_assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
