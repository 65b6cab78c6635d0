//! A bucket by the names of the configuration: its broker is looked up each time that it is used.
//!
//! So a version can be loaded while its broker is not open, and one that stays in memory while its broker goes and comes
//! again reaches the one that is there.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;

use super::bucket::{Access, Bucket, BucketError, Held, KeyPage};
use super::{Broker, Directory};

#[derive(Debug)]
pub(super) struct NamedBucket {
    directory: Arc<Directory>,
    broker: String,
    bucket: String,
    access: Access,
    last: Mutex<Option<Last>>,
}

/// The bucket of the broker that was there last.
struct Last {
    broker: Weak<dyn Broker>,
    bucket: Arc<dyn Bucket>,
}

impl std::fmt::Debug for Last {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bucket.fmt(f)
    }
}

impl NamedBucket {
    pub(super) fn new(directory: Arc<Directory>, broker: &str, bucket: &str, access: Access) -> Self {
        let (broker, bucket) = (broker.to_owned(), bucket.to_owned());
        Self { directory, broker, bucket, access, last: Mutex::default() }
    }

    fn now(&self) -> Result<Arc<dyn Bucket>, BucketError> {
        let Some(named) = self.directory.get(&self.broker) else {
            return Err(BucketError::Unavailable(format!("broker `{}` is not open", self.broker)));
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last
            && std::ptr::addr_eq(last.broker.as_ptr(), Arc::as_ptr(&named.broker))
        {
            return Ok(Arc::clone(&last.bucket));
        }
        let bucket = named.broker.bucket(&self.bucket, self.access)?;
        *last = Some(Last { broker: Arc::downgrade(&named.broker), bucket: Arc::clone(&bucket) });
        Ok(bucket)
    }
}

#[async_trait]
impl Bucket for NamedBucket {
    async fn ready(&self) -> Result<(), BucketError> {
        self.now()?.ready().await
    }

    async fn check(&self) -> Result<(), BucketError> {
        self.now()?.check().await
    }

    async fn find(&self, key: &str) -> Result<Held, BucketError> {
        self.now()?.find(key).await
    }

    async fn exists(&self, key: &str) -> Result<bool, BucketError> {
        self.now()?.exists(key).await
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), BucketError> {
        self.now()?.set(key, value).await
    }

    async fn delete(&self, key: &str) -> Result<(), BucketError> {
        self.now()?.delete(key).await
    }

    async fn increment(&self, key: &str, by: i64) -> Result<i64, BucketError> {
        self.now()?.increment(key, by).await
    }

    async fn swap(&self, key: &str, revision: u64, value: Bytes) -> Result<bool, BucketError> {
        self.now()?.swap(key, revision, value).await
    }

    async fn keys(&self, after: Option<&str>, limit: NonZeroU32) -> Result<KeyPage, BucketError> {
        self.now()?.keys(after, limit).await
    }
}
