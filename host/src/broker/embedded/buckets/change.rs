//! What a write makes of what stands under its key. Pure.

use bytes::Bytes;

use crate::broker::bucket::{BucketError, ENTRY_BYTES, sum};

/// What is to be done with a key.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Set(Bytes),
    Delete,
    Increment(i64),
    /// Only if what stands there has this revision.
    Swap {
        revision: u64,
        value: Bytes,
    },
}

/// What stands under a key before a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stands {
    pub(super) revision: u64,
    pub(super) bytes: i64,
    /// The value where it is short enough to be a number.
    pub(super) short: Option<Vec<u8>>,
}

/// What a change comes to in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Put(Bytes),
    Remove,
    /// It stays as it is.
    Leave,
}

/// What whoever asked is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Of an increment: what stands there now.
    pub(super) sum: i64,
    /// Of a swap: whether the value is there.
    pub(super) swapped: bool,
}

impl Change {
    /// Bytes that it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set(value) | Self::Swap { value, .. } => value.len(),
            Self::Delete | Self::Increment(_) => 0,
        }
    }

    pub(super) fn decide(&self, stands: Option<&Stands>) -> Result<(Step, Done), BucketError> {
        match self {
            Self::Set(value) => Ok((Step::Put(value.clone()), Done::default())),
            Self::Delete if stands.is_some() => Ok((Step::Remove, Done::default())),
            Self::Delete => Ok((Step::Leave, Done::default())),
            Self::Increment(by) => {
                let value = match stands {
                    None => None,
                    Some(stands) => Some(stands.short.as_deref().ok_or(BucketError::NotANumber)?),
                };
                let sum = sum(value, *by)?;
                Ok((Step::Put(sum.to_string().into()), Done { sum, swapped: false }))
            }
            Self::Swap { revision, value } if stands.map_or(0, |stands| stands.revision) == *revision => {
                Ok((Step::Put(value.clone()), Done { sum: 0, swapped: true }))
            }
            Self::Swap { .. } => Ok((Step::Leave, Done::default())),
        }
    }
}

/// What an entry counts against its bucket's bytes.
pub(super) fn entry_bytes(key: &str, value: usize) -> i64 {
    let bytes = (key.len() as u64).saturating_add(value as u64).saturating_add(ENTRY_BYTES);
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_depends_on_what_stands_there() {
        let stands = |revision, value: &str| Stands { revision, bytes: 1, short: Some(value.as_bytes().to_vec()) };
        let long = Stands { revision: 9, bytes: 100, short: None };
        let value = Bytes::from_static(b"new");
        let swap = |revision| Change::Swap { revision, value: value.clone() };
        let put = |sum, swapped| Ok((Step::Put(value.clone()), Done { sum, swapped }));
        let left = Ok((Step::Leave, Done::default()));
        let sum = |sum: i64| Ok((Step::Put(sum.to_string().into()), Done { sum, swapped: false }));
        for (change, before, expected) in [
            (Change::Set(value.clone()), None, put(0, false)),
            (Change::Set(value.clone()), Some(stands(3, "old")), put(0, false)),
            (Change::Delete, Some(stands(3, "old")), Ok((Step::Remove, Done::default()))),
            (Change::Delete, None, left.clone()),
            (Change::Increment(2), None, sum(2)),
            (Change::Increment(-2), Some(stands(3, "5")), sum(3)),
            (Change::Increment(1), Some(stands(3, "five")), Err(BucketError::NotANumber)),
            (Change::Increment(1), Some(long), Err(BucketError::NotANumber)),
            (swap(3), Some(stands(3, "old")), put(0, true)),
            (swap(2), Some(stands(3, "old")), left.clone()),
            (swap(3), None, left.clone()),
            (swap(0), None, put(0, true)),
            (swap(0), Some(stands(3, "old")), left),
        ] {
            assert_eq!(change.decide(before.as_ref()), expected, "{change:?} on {before:?}");
        }
    }
}
