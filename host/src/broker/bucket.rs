//! The port for key-value buckets, which every broker that has them implements.
//!
//! Invariants:
//! - What was set is durable when `set`, `increment` or `swap` gives `Ok`.
//! - `increment` and `swap` are atomic over all hosts that have the bucket.
//! - A key and a value are bounded, and so is a bucket: what does not fit is refused and changes nothing.

use std::num::NonZeroU32;

use async_trait::async_trait;
use bytes::Bytes;

/// Keys and values, kept by a broker.
#[async_trait]
pub trait Bucket: Send + Sync + std::fmt::Debug {
    /// The value of a key; `None`: there is none.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, BucketError>;

    /// Sets a value, in the place of what is there. Durable when it returns.
    ///
    /// # Errors
    /// When the value does not fit or cannot be stored. Nothing was changed then, unless the broker went away in between.
    async fn set(&self, key: &str, value: &[u8]) -> Result<(), BucketError>;

    /// Removes a key; that there was none is no error.
    ///
    /// # Errors
    /// As [`Bucket::set`].
    async fn delete(&self, key: &str) -> Result<(), BucketError>;

    /// Whether a key has a value.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    async fn exists(&self, key: &str) -> Result<bool, BucketError>;

    /// At most so many keys in their order, from the first one behind `after` on.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    async fn keys(&self, after: Option<&str>, limit: NonZeroU32) -> Result<Vec<String>, BucketError>;

    /// Adds to a number, which is 0 where there is no value, and gives the sum.
    ///
    /// # Errors
    /// When the value is no number, the sum is none that fits, or as [`Bucket::set`].
    async fn increment(&self, key: &str, by: i64) -> Result<i64, BucketError>;

    /// Sets a value when the one that is there is the expected one; `None`: there is none. Gives whether it did.
    ///
    /// # Errors
    /// As [`Bucket::set`].
    async fn swap(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> Result<bool, BucketError>;
}

/// Why a bucket did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The key is not one that the bucket takes.
    #[error("the key cannot be used: {why}")]
    Key {
        /// What a key has to be.
        why: &'static str,
    },
    /// The value is larger than the bucket takes.
    #[error("the value has {size} bytes, and the bucket takes {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The most.
        limit: usize,
    },
    /// The bucket holds as much as it may.
    #[error("the bucket is full: {why}")]
    Full {
        /// Of what it is full.
        why: String,
    },
    /// A number was to be added to what is none, or the sum is too large.
    #[error("the value is not a whole number that could be added to")]
    NotANumber,
    /// There is no such bucket.
    #[error("there is no bucket `{bucket}`: {why}")]
    Missing {
        /// Its name on the broker.
        bucket: String,
        /// What to do.
        why: String,
    },
    /// The broker cannot be asked just now.
    #[error("the bucket cannot be reached")]
    Away {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
