//! What is paused on all hosts of a cluster: the JSON that stands under one key, and changes of it. One key, so that the
//! subscriptions of a handler are paused all or none.
//!
//! ```json
//! {"layout": 1, "id": "...", "by": "ann on a", "subscriptions": {"orders": {"by": "ann on a", "since": "..."}}}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Cluster;
use crate::broker::jetstream::{BucketError, Changed, Held, Keys, SwapError};
use crate::pause::{OfAllHosts, PauseRecord};

/// The layout of the JSON. A host that finds a later one leaves it alone.
const LAYOUT: u32 = 1;
/// The key.
const KEY: &str = "pauses";
/// How often a change is begun anew when somebody else was first.
const TRIES: usize = 10;

/// What is paused on all hosts, as it stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllPaused {
    /// Tells it from what stood in a bucket that was lost; empty: nothing stands there.
    pub id: String,
    /// By subscription.
    pub subscriptions: BTreeMap<String, PauseRecord>,
    /// Who changed it last, and on which host.
    pub by: String,
    /// Where it stands among all changes of the bucket; 0: nothing ever stood there.
    pub revision: u64,
}

/// As it stands under the key.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    layout: u32,
    id: String,
    by: String,
    subscriptions: BTreeMap<String, PauseRecord>,
}

/// Why what is paused on all hosts was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum PausesError {
    /// The cluster cannot be asked.
    #[error("the cluster cannot be asked, and no host was told; a pause of this host alone needs no cluster")]
    Bucket(#[source] BucketError),
    /// What stands there cannot be read.
    #[error(
        "what is paused on all hosts cannot be read, and this host goes by what it saw last ({detail}): mend it, or remove the \
         key `{KEY}` from the cluster's bucket of pauses, and then nothing is paused on all hosts"
    )]
    Unreadable {
        /// What is wrong with it.
        detail: String,
    },
    /// Whether it was done is not known.
    #[error(
        "NATS did not confirm it ({detail}): when it is back, `tidegate status` tells what is paused; it is safe to do it again"
    )]
    Unconfirmed {
        /// What happened.
        detail: String,
    },
    /// Others changed it all the time.
    #[error("others pause and resume on all hosts at this moment, and no host was told: try again")]
    Contended,
}

impl AllPaused {
    /// Reads what stood under the key at a revision; nothing is paused when that was removed.
    ///
    /// # Errors
    /// When it is none of these, or was written by a later host.
    pub(crate) fn read(value: Option<&[u8]>, revision: u64) -> Result<Self, PausesError> {
        let Some(json) = value else {
            // Removed by hand, or nothing ever stood there.
            let (id, by) = (String::new(), "somebody".to_owned());
            return Ok(Self { id, subscriptions: BTreeMap::new(), by, revision });
        };
        let unreadable = |detail: String| PausesError::Unreadable { detail };
        let Stored { layout, id, by, subscriptions } =
            serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        match layout {
            LAYOUT => Ok(Self { id, subscriptions, by, revision }),
            other => Err(unreadable(format!("it has the layout {other}, and this host knows {LAYOUT}"))),
        }
    }

    /// Whether a host knows of pauses that this does not have because the bucket was lost: it never heard that they ended. What
    /// a person removed is over.
    pub(crate) fn lacks(&self, known: &OfAllHosts) -> bool {
        let was_removed = self.id.is_empty() && self.revision > 0;
        !was_removed && self.id != known.id && !known.subscriptions.is_empty()
    }
}

impl Cluster {
    /// What is paused on all hosts now.
    ///
    /// # Errors
    /// When NATS is away, or what stands there cannot be read.
    pub async fn pauses(&self) -> Result<AllPaused, PausesError> {
        let Held { value, revision } = self.buckets.get(Keys::Pauses, KEY).await.map_err(PausesError::Bucket)?;
        AllPaused::read(value.as_deref(), revision)
    }

    /// Whether a change of the bucket is one of what is paused: people may put other keys there.
    pub(crate) fn is_of_pauses(changed: &Changed) -> bool {
        changed.key == KEY
    }

    /// Changes what is paused on all hosts, by compare-and-set; gives back what it was before, and what it is now. What this
    /// host knows of a bucket that was lost is put into the new one. A change comes to the same when it is made twice: it is,
    /// where NATS did not confirm the first time.
    ///
    /// # Errors
    /// When NATS is away, and when others change it again and again; whether it was done is not known when NATS does not
    /// confirm it.
    pub async fn change_pauses(
        &self,
        by: &str,
        known: &OfAllHosts,
        change: impl Fn(&mut BTreeMap<String, PauseRecord>),
    ) -> Result<(AllPaused, AllPaused), PausesError> {
        let mut unconfirmed = None;
        for _ in 0..TRIES {
            let found = match (self.pauses().await, &unconfirmed) {
                (Ok(found), _) => found,
                (Err(_), Some((detail, _))) => return Err(PausesError::Unconfirmed { detail: String::clone(detail) }),
                (Err(error), None) => return Err(error),
            };
            let mut before = found.clone();
            if found.lacks(known) {
                for (name, pause) in &known.subscriptions {
                    before.subscriptions.entry(name.clone()).or_insert_with(|| pause.clone());
                }
            }
            let mut subscriptions = before.subscriptions.clone();
            change(&mut subscriptions);
            // What an unconfirmed change of ours found is what it was before.
            let first = unconfirmed.take().map(|(_, first)| first);
            let before = first.unwrap_or(before);
            if subscriptions == found.subscriptions {
                return Ok((before, found));
            }
            let id = if found.id.is_empty() { ulid::Ulid::generate().to_string() } else { found.id };
            // Plain data of ours with text keys always has a JSON form.
            let stored = Stored { layout: LAYOUT, id, by: by.to_owned(), subscriptions };
            let json = serde_json::to_vec(&stored).unwrap_or_default();
            match self.buckets.swap(Keys::Pauses, KEY, json.clone().into(), found.revision).await {
                // As everybody reads it: moments have milliseconds there.
                Ok(revision) => return Ok((before, AllPaused::read(Some(&json), revision)?)),
                Err(SwapError::NotDone(error)) => return Err(PausesError::Bucket(error)),
                Err(SwapError::Conflict) => {}
                Err(SwapError::Unconfirmed(detail)) => unconfirmed = Some((detail, before)),
            }
        }
        Err(unconfirmed.map_or(PausesError::Contended, |(detail, _)| PausesError::Unconfirmed { detail }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_stands_under_the_key_is_read_as_it_was_written() {
        let record = r#"{"by":"ann on a","why":"the database moves","since":"2026-11-30T06:00:00.000Z"}"#;
        let json = format!(r#"{{"layout":1,"id":"x","by":"bob on b","subscriptions":{{"orders":{record}}}}}"#);
        let read = AllPaused::read(Some(json.as_bytes()), 7).unwrap();
        assert_eq!(
            (read.revision, read.subscriptions.keys().map(String::as_str).collect::<Vec<_>>()),
            (7, vec!["orders"])
        );
        let again = serde_json::to_string(&Stored {
            layout: LAYOUT,
            id: read.id,
            by: read.by,
            subscriptions: read.subscriptions,
        })
        .unwrap();
        assert_eq!(again, json);
        assert!(AllPaused::read(None, 9).unwrap().subscriptions.is_empty(), "somebody removed it");
        for (bad, why) in [(json.replace("1,", "2,"), "layout 2"), ("{}".to_owned(), "missing field")] {
            let error = AllPaused::read(Some(bad.as_bytes()), 7).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("mend it"), "{error}");
        }
    }

    #[test]
    fn what_a_lost_bucket_had_is_missing_and_what_a_person_removed_is_over() {
        let record =
            PauseRecord { by: "ann on a".into(), why: None, since: std::time::SystemTime::UNIX_EPOCH, until: None };
        let known = |id: &str, count: usize| OfAllHosts {
            cluster: "main".into(),
            id: id.into(),
            subscriptions: ["orders"].into_iter().take(count).map(|name| (name.to_owned(), record.clone())).collect(),
        };
        let stands = |id: &str, revision| AllPaused {
            id: id.into(),
            subscriptions: BTreeMap::new(),
            by: String::new(),
            revision,
        };
        let rows = [
            (stands("one", 5), known("one", 1), false),
            (stands("", 0), known("one", 1), true),
            (stands("two", 1), known("one", 1), true),
            (stands("two", 1), known("one", 0), false),
            (stands("", 6), known("one", 1), false),
            // A host that is new.
            (stands("two", 1), OfAllHosts::default(), false),
        ];
        for (number, (stands, known, lacks)) in rows.into_iter().enumerate() {
            assert_eq!(stands.lacks(&known), lacks, "row {number}");
        }
    }
}
