//! Values under keys, kept by a broker for handlers: what a run of a handler may read and write in its middle.
//!
//! A bucket is no part of the way of a message. What is written stays written, whatever becomes of the run that wrote it,
//! and nothing of a bucket stands in a transaction with a message.
//!
//! Invariants:
//! - A write that gives `Ok` is as durable as a publish to the same broker, and every read that begins after it shows it, or
//!   something newer.
//! - What is not confirmed may have been done: [`BucketError::Unavailable`] says no more than that.
//! - Every value, every key and every bucket that a host makes is bounded; what would go beyond a bound is refused, and
//!   nothing is removed to make room.

use std::fmt::Debug;
use std::num::NonZeroU32;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest key in bytes. On NATS a key is a subject: written as one it takes three times as much at the most, and a
/// server takes lines of 4 KiB.
pub const MAX_KEY_BYTES: usize = 1024;
/// The largest value in bytes: what a NATS server takes in a message by default. Where a server takes less, so does its
/// bucket.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// The most bytes of a bucket that the host makes, unless its broker is configured otherwise. With 100 bytes an entry that is
/// more than a million of them; and sixteen such buckets are no more than the queue may keep in messages.
pub const DEFAULT_MAX_BYTES: u64 = 256 << 20;
/// What an entry takes of its bucket besides key and value: about what it takes on the disk.
pub(crate) const ENTRY_BYTES: u64 = 64;
/// The longest name of a bucket in bytes.
const MAX_NAME_BYTES: usize = 64;
/// How the names of a cluster's own buckets begin: what hosts run is not for a handler to read or write.
pub(crate) const RESERVED: &str = "tidegate-";

/// What a handler may do with a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Look.
    Read,
    /// Look and change.
    #[default]
    ReadWrite,
}

impl Access {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "read-write",
        }
    }
}

/// What stands under a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The value; `None`: there is none.
    pub value: Option<Bytes>,
    /// Another one after each change of this key: what [`Bucket::swap`] asks for.
    pub revision: u64,
}

/// Some keys of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// In order. There is at least one when there is more.
    pub keys: Vec<String>,
    /// Whether there may be more behind the last of them.
    pub more: bool,
}

/// A bucket of a broker.
#[async_trait]
pub trait Bucket: Send + Sync + Debug {
    /// Sees to it that the bucket can be used: one that may be written is made where it is missing, and one that stands there
    /// is looked at. Need not be called before the others, which see to it themselves.
    ///
    /// # Errors
    /// When the broker is away, or what stands there cannot be used; the text says what to do.
    async fn ready(&self) -> Result<(), BucketError>;

    /// Whether [`Bucket::ready`] would succeed now, as far as can be learnt without making anything.
    ///
    /// # Errors
    /// As [`Bucket::ready`].
    async fn check(&self) -> Result<(), BucketError>;

    /// What stands under a key.
    ///
    /// # Errors
    /// When the key cannot be one, or the broker is away.
    async fn find(&self, key: &str) -> Result<Held, BucketError>;

    /// Whether anything stands under a key.
    ///
    /// # Errors
    /// As [`Bucket::find`].
    async fn exists(&self, key: &str) -> Result<bool, BucketError> {
        Ok(self.find(key).await?.value.is_some())
    }

    /// Puts a value under a key, in the place of what stands there. Durable when it returns.
    ///
    /// # Errors
    /// When key or value cannot be taken, the bucket is full, or the broker is away.
    async fn set(&self, key: &str, value: Bytes) -> Result<(), BucketError>;

    /// Removes what stands under a key; no error when there is nothing. A full bucket takes this.
    ///
    /// # Errors
    /// When the key cannot be one, or the broker is away.
    async fn delete(&self, key: &str) -> Result<(), BucketError>;

    /// Adds to the whole number that stands under a key, in decimal digits, and gives back the sum; where nothing stands, to
    /// zero. Two who do so at once are both counted, on whichever hosts.
    ///
    /// # Errors
    /// When there is something else than such a number, the sum does not fit, or as [`Bucket::set`].
    async fn increment(&self, key: &str, by: i64) -> Result<i64, BucketError>;

    /// Puts a value under a key, if what stands there is still what was found at a revision. False: it is not.
    ///
    /// # Errors
    /// As [`Bucket::set`].
    async fn swap(&self, key: &str, revision: u64, value: Bytes) -> Result<bool, BucketError>;

    /// The first keys behind a given one, so many at the most, in the order of their bytes. Whoever asks for page after page
    /// sees each key that is there all the time once, whatever is written meanwhile.
    ///
    /// # Errors
    /// When the broker is away.
    async fn keys(&self, after: Option<&str>, limit: NonZeroU32) -> Result<KeyPage, BucketError>;
}

/// Why something was not done with a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// Such a key cannot be.
    #[error("a key has from 1 to {MAX_KEY_BYTES} bytes, and this one has {0}")]
    Key(usize),
    /// The value is larger than the bucket takes.
    #[error("the value has {size} bytes, and the bucket takes at most {limit}")]
    TooLarge {
        /// Bytes of this value.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The bucket or the disk is full. Whoever removes keys makes room.
    #[error("the bucket is full: {0}")]
    Full(String),
    /// What is to be added to is no whole number in decimal digits, or the sum does not fit into 64 bits.
    #[error("what stands under the key is not a whole number that this can be added to")]
    NotANumber,
    /// Somebody else was first, time after time. Nothing was done.
    #[error("others change this key all the time; try again later")]
    Contended,
    /// A person has to act: what stands on the broker cannot be used, or may not be.
    #[error("the bucket cannot be used: {0}")]
    Refused(String),
    /// Try again: the broker is away, or did not confirm. It may have been done.
    #[error("the broker did not confirm: {0}")]
    Unavailable(String),
}

/// Looks whether a key can be one.
pub(crate) fn check_key(key: &str) -> Result<(), BucketError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(BucketError::Key(key.len()));
    }
    Ok(())
}

/// Looks whether a value can be one.
pub(crate) fn check_value(value: &[u8]) -> Result<(), BucketError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(BucketError::TooLarge { size: value.len(), limit: MAX_VALUE_BYTES });
    }
    Ok(())
}

/// Looks whether a bucket can have a name.
///
/// # Errors
/// With what would do instead.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(fits) {
        return Err(format!(
            "`{name}` cannot be the name of a bucket; use letters, digits, `-` and `_`, at most {MAX_NAME_BYTES} characters"
        ));
    }
    if name.starts_with(RESERVED) {
        return Err(format!(
            "`{name}` is kept for what the hosts of a cluster share; a bucket of handlers must not begin with `{RESERVED}`"
        ));
    }
    Ok(())
}

/// Adds to the number in a value; nothing there is zero.
pub(crate) fn sum(value: Option<&[u8]>, by: i64) -> Result<i64, BucketError> {
    let number = match value {
        None => Some(0),
        Some(digits) => std::str::from_utf8(digits).ok().and_then(|text| text.parse::<i64>().ok()),
    };
    number.and_then(|number| number.checked_add(by)).ok_or(BucketError::NotANumber)
}

/// A bucket without anything in it, for runs that have no host and no effects: there is nothing to write to.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyBucket;

#[async_trait]
impl Bucket for EmptyBucket {
    async fn ready(&self) -> Result<(), BucketError> {
        Ok(())
    }

    async fn check(&self) -> Result<(), BucketError> {
        Ok(())
    }

    async fn find(&self, key: &str) -> Result<Held, BucketError> {
        check_key(key)?;
        Ok(Held::default())
    }

    async fn set(&self, _key: &str, _value: Bytes) -> Result<(), BucketError> {
        Err(nowhere())
    }

    async fn delete(&self, _key: &str) -> Result<(), BucketError> {
        Err(nowhere())
    }

    async fn increment(&self, _key: &str, _by: i64) -> Result<i64, BucketError> {
        Err(nowhere())
    }

    async fn swap(&self, _key: &str, _revision: u64, _value: Bytes) -> Result<bool, BucketError> {
        Err(nowhere())
    }

    async fn keys(&self, _after: Option<&str>, _limit: NonZeroU32) -> Result<KeyPage, BucketError> {
        Ok(KeyPage::default())
    }
}

fn nowhere() -> BucketError {
    BucketError::Refused("there is no broker behind it".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn whole_numbers_in_digits_are_added_to_and_nothing_else() {
        for (value, by, expected) in [
            (None, 3, Some(3)),
            (Some("39"), 3, Some(42)),
            (Some("-5"), -1, Some(-6)),
            (Some("9223372036854775807"), 1, None),
            (Some("9223372036854775808"), 0, None),
            (Some("-9223372036854775808"), -1, None),
            (Some(""), 1, None),
            (Some("1.5"), 1, None),
            (Some(" 1"), 1, None),
            (Some("one"), 1, None),
        ] {
            let sum = sum(value.map(str::as_bytes), by);
            assert_eq!(sum, expected.ok_or(BucketError::NotANumber), "{value:?} and {by}");
        }
        assert_eq!(sum(Some(&[0xff]), 1), Err(BucketError::NotANumber));
    }

    #[test]
    fn keys_and_names_are_bounded_and_what_a_cluster_shares_is_kept_for_it() {
        assert_eq!(check_key(""), Err(BucketError::Key(0)));
        check_key("a").unwrap();
        check_key(&"k".repeat(MAX_KEY_BYTES)).unwrap();
        assert_eq!(check_key(&"k".repeat(MAX_KEY_BYTES + 1)), Err(BucketError::Key(MAX_KEY_BYTES + 1)));
        for (name, fits) in [
            ("seen", true),
            ("Seen_2-b", true),
            ("tidegate", true),
            ("", false),
            ("a.b", false),
            ("a b", false),
            ("../x", false),
            ("s\u{e9}en", false),
            ("tidegate-main-desired", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fits, "{name}");
        }
        assert!(check_name(&"n".repeat(MAX_NAME_BYTES + 1)).is_err());
    }

    #[test]
    fn the_words_for_access_are_those_of_the_configuration() {
        for access in [Access::Read, Access::ReadWrite] {
            let word = format!("\"{}\"", access.name());
            assert_eq!(serde_json::to_string(&access).unwrap(), word);
            assert_eq!(serde_json::from_str::<Access>(&word).unwrap(), access);
        }
    }
}
