//! Buckets of handlers: what every broker's promise, what each broker's alone do, and what a handler sees of them.

mod contract;
mod embedded;
mod guest;
mod host;
mod jetstream;

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use tidegate::broker::{Access, Broker, Bucket};

/// A bucket that may be written.
pub(crate) fn bucket(broker: &dyn Broker, name: &str) -> Arc<dyn Bucket> {
    broker.bucket(name, Access::ReadWrite).unwrap()
}

/// What stands under a key, as text.
pub(crate) async fn text(bucket: &dyn Bucket, key: &str) -> Option<String> {
    bucket.find(key).await.unwrap().value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Every key, in pages of so many.
pub(crate) async fn keys(bucket: &dyn Bucket, limit: u32) -> Vec<String> {
    let (limit, mut all) = (NonZeroU32::new(limit).unwrap(), Vec::<String>::new());
    loop {
        let page = bucket.keys(all.last().map(String::as_str), limit).await.unwrap();
        assert!(page.keys.len() <= limit.get() as usize, "{page:?}");
        assert!(!page.keys.is_empty() || !page.more, "a page without an end");
        all.extend(page.keys);
        if !page.more {
            return all;
        }
    }
}

fn value(size: usize) -> Bytes {
    Bytes::from(vec![b'x'; size])
}
