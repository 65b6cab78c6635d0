//! What is paused on all hosts of a cluster: the JSON that stands under one key, and changes of it. One key, so that the
//! subscriptions of a handler are paused all or none.
//!
//! ```json
//! {"layout": 1, "by": "ann on a", "subscriptions": {"orders": {"by": "ann on a", "since": "..."}}}
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
    /// The bucket that it stands in: when that was created, which tells it from one that was lost.
    pub bucket: String,
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
    /// Reads what stood under the key of a bucket at a revision; nothing is paused when that was removed.
    ///
    /// # Errors
    /// When it is none of these, or was written by a later host.
    fn read(bucket: String, value: Option<&[u8]>, revision: u64) -> Result<Self, PausesError> {
        let Some(json) = value else {
            // Removed by hand, or nothing ever stood there.
            return Ok(Self { bucket, subscriptions: BTreeMap::new(), by: "somebody".to_owned(), revision });
        };
        let unreadable = |detail: String| PausesError::Unreadable { detail };
        let Stored { layout, by, subscriptions } =
            serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        match layout {
            LAYOUT => Ok(Self { bucket, subscriptions, by, revision }),
            other => Err(unreadable(format!("it has the layout {other}, and this host knows {LAYOUT}"))),
        }
    }

    /// Whether a host knows of pauses from a bucket that was lost: it never heard that they ended.
    pub(crate) fn lacks(&self, known: &OfAllHosts) -> bool {
        self.bucket != known.bucket && !known.subscriptions.is_empty()
    }

    /// The same with what a host knows of a bucket that was lost.
    pub(crate) fn with(mut self, known: &OfAllHosts) -> Self {
        if self.lacks(known) {
            for (name, pause) in &known.subscriptions {
                self.subscriptions.entry(name.clone()).or_insert_with(|| pause.clone());
            }
        }
        self
    }
}

impl Cluster {
    /// What is paused on all hosts now.
    ///
    /// # Errors
    /// When NATS is away, or what stands there cannot be read.
    pub async fn pauses(&self) -> Result<AllPaused, PausesError> {
        let bucket = self.buckets.created(Keys::Pauses).await.map_err(PausesError::Bucket)?;
        let Held { value, revision } = self.buckets.get(Keys::Pauses, KEY).await.map_err(PausesError::Bucket)?;
        // What stands in a bucket that was made anew in between is not what stood in this one.
        if self.buckets.created(Keys::Pauses).await.map_err(PausesError::Bucket)? != bucket {
            return Err(PausesError::Bucket(BucketError::Away("the bucket was made anew just now".to_owned())));
        }
        AllPaused::read(bucket, value.as_deref(), revision)
    }

    /// Whether a change of the bucket is one of what is paused: people may put other keys there.
    pub(crate) fn is_of_pauses(changed: &Changed) -> bool {
        changed.key == KEY
    }

    /// Changes what is paused on all hosts, by compare-and-set; gives back what it was before, and what it is now. What this
    /// host knows of a bucket that was lost is put into the new one. Where NATS does not confirm a change it is made again, and
    /// comes to the same.
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
        // The first change that was not confirmed, with what it found: it may have been done, and may yet be.
        let mut unconfirmed: Option<(String, AllPaused)> = None;
        let mut ended = PausesError::Contended;
        for _ in 0..TRIES {
            let found = match self.pauses().await {
                Ok(found) => found,
                Err(error) => {
                    ended = error;
                    break;
                }
            };
            let before = found.clone().with(known);
            let mut subscriptions = before.subscriptions.clone();
            change(&mut subscriptions);
            let first = unconfirmed.as_ref().map_or(before, |(_, first)| first.clone());
            if subscriptions == found.subscriptions {
                return Ok((first, found));
            }
            // Plain data of ours with text keys always has a JSON form.
            let stored = Stored { layout: LAYOUT, by: by.to_owned(), subscriptions };
            let json = serde_json::to_vec(&stored).unwrap_or_default();
            match self.buckets.swap(Keys::Pauses, KEY, json.clone().into(), found.revision).await {
                // As everybody reads it: moments have milliseconds there.
                Ok(revision) => return Ok((first, AllPaused::read(found.bucket, Some(&json), revision)?)),
                Err(SwapError::NotDone(error)) => {
                    ended = PausesError::Bucket(error);
                    break;
                }
                Err(SwapError::Conflict) => {}
                Err(SwapError::Unconfirmed(detail)) if unconfirmed.is_some() => {
                    return Err(PausesError::Unconfirmed { detail });
                }
                Err(SwapError::Unconfirmed(detail)) => unconfirmed = Some((detail, first)),
            }
        }
        Err(unconfirmed.map_or(ended, |(detail, _)| PausesError::Unconfirmed { detail }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn read(json: Option<&str>, revision: u64) -> Result<AllPaused, PausesError> {
        AllPaused::read("now".to_owned(), json.map(str::as_bytes), revision)
    }

    #[test]
    fn what_stands_under_the_key_is_read_as_it_was_written() {
        let record = r#"{"by":"ann on a","why":"the database moves","since":"2026-11-30T06:00:00.000Z"}"#;
        let json = format!(r#"{{"layout":1,"by":"bob on b","subscriptions":{{"orders":{record}}}}}"#);
        let AllPaused { subscriptions, by, revision, .. } = read(Some(&json), 7).unwrap();
        assert_eq!((revision, subscriptions.keys().map(String::as_str).collect::<Vec<_>>()), (7, vec!["orders"]));
        assert_eq!(serde_json::to_string(&Stored { layout: LAYOUT, by, subscriptions }).unwrap(), json);
        assert!(read(None, 9).unwrap().subscriptions.is_empty(), "somebody removed it");
        for (bad, why) in [(json.replace("1,", "2,"), "layout 2"), ("{}".to_owned(), "missing field")] {
            let error = read(Some(&bad), 7).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("mend it"), "{error}");
        }
    }

    #[test]
    fn what_a_lost_bucket_had_is_missing_and_what_was_removed_is_over() {
        let pause =
            PauseRecord { by: "ann on a".into(), why: None, since: std::time::SystemTime::UNIX_EPOCH, until: None };
        let known = |bucket: &str, names: &[&str]| OfAllHosts {
            cluster: "main".into(),
            bucket: bucket.into(),
            subscriptions: names.iter().map(|name| ((*name).to_owned(), pause.clone())).collect(),
        };
        let names = |known: OfAllHosts| -> Vec<String> {
            read(None, 6).unwrap().with(&known).subscriptions.into_keys().collect()
        };
        assert_eq!(names(known("lost", &["orders"])), ["orders"]);
        assert_eq!(names(known("now", &["orders"])), [] as [String; 0]);
        assert_eq!(names(OfAllHosts::default()), [] as [String; 0], "a host that is new");
    }
}
