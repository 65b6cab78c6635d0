//! Changes of a bucket, as they come.
//!
//! Invariant: whoever watches either sees each key as it stands last, or is told that the watch has ended.
//!
//! The library's consumer mends itself and never gives up. When its bucket is removed it asks for it without end, and in
//! one that was made anew it waits for a sequence that is long in coming. So the server is asked now and then whether the
//! bucket is still the one that is watched, and whether it has something that was not shown.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::kv::{self, Entry, Operation};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Interval, MissedTickBehavior};

use super::{BucketError, Buckets, away, within};
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::setup::stream_info;
use crate::broker::jetstream::wire::{ApiError, StreamInfo};

/// How often the server is asked whether the watch still sees everything: what goes wrong is noticed within two of these,
/// and a question costs a round trip.
const ASKED_EVERY: Duration = Duration::from_secs(5);

/// One of the buckets with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// What is to run.
    Desired,
    /// What is paused on all hosts.
    Pauses,
    /// What each host says of itself.
    Hosts,
}

/// A key that changed, or stands there when it is looked at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The key.
    pub key: String,
    /// The value; `None`: it was removed.
    pub value: Option<Bytes>,
    /// When, by the server's clock.
    pub at: SystemTime,
    /// Where it stands among all changes of the bucket.
    pub revision: u64,
}

/// A bucket that is watched.
pub struct Watch {
    changes: kv::Watch,
    session: Arc<Session>,
    stream: String,
    /// When the bucket that is watched was created.
    created: String,
    /// The last sequence that was shown, or was there before.
    seen: u64,
    /// What the server had the last time, when that had not been shown.
    missing: Option<u64>,
    asks: Interval,
}

impl Buckets {
    /// What stands under all keys, and then each change. A bucket that is gone is made anew first.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn watch(&self, keys: Keys) -> Result<Watch, BucketError> {
        // The last watch may have ended because the bucket is gone.
        self.forget(keys).await;
        let (session, store) = self.store(keys).await?;
        let stream = store.stream_name.clone();
        let info = stream_info(&session, &stream).await?;
        let info = info.ok_or_else(|| BucketError::Refused(format!("the bucket of {stream} was just removed")))?;
        let changes = within(&session, store.watch_with_history(">")).await?.map_err(|error| away(&error))?;
        let mut asks = tokio::time::interval(ASKED_EVERY);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        asks.reset();
        let (created, seen) = (info.created, info.state.last_seq);
        Ok(Watch { changes, session, stream, created, seen, missing: None, asks })
    }
}

impl Watch {
    /// The next change; `None` when it ends: with the connection, with its bucket, or because it missed something. Whoever
    /// watches again misses nothing: a watch begins with what stands there.
    pub async fn next(&mut self) -> Option<Changed> {
        loop {
            let next = tokio::select! {
                next = self.changes.next() => Some(next?),
                () = self.session.ended() => return None,
                _ = self.asks.tick() => None,
            };
            match next {
                Some(Ok(entry)) => {
                    self.seen = self.seen.max(entry.revision);
                    return Some(changed(entry));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a watch of a bucket ended");
                    return None;
                }
                None => {
                    let info = stream_info(&self.session, &self.stream).await;
                    if let Some(why) = self.ended(info) {
                        tracing::info!(stream = self.stream, why, "a bucket is watched anew");
                        return None;
                    }
                }
            }
        }
    }

    /// Why the watch cannot go on, by what the server says of the bucket.
    fn ended(&mut self, info: Result<Option<StreamInfo>, ApiError>) -> Option<&'static str> {
        let info = match info {
            Ok(Some(info)) => info,
            Ok(None) => return Some("it was removed"),
            // Whether the connection stands is for the session to say.
            Err(_) => return None,
        };
        if info.created != self.created {
            return Some("it was removed and made anew");
        }
        let last = info.state.last_seq;
        if last <= self.seen {
            self.missing = None;
            return None;
        }
        // What came just now may still be on its way; what was there a while ago is not.
        match self.missing.replace(last) {
            Some(before) if before > self.seen => Some("a change of it was not shown"),
            Some(_) | None => None,
        }
    }
}

fn changed(entry: Entry) -> Changed {
    let nanos = u64::try_from(entry.created.unix_timestamp_nanos()).unwrap_or_default();
    Changed {
        key: entry.key,
        value: match entry.operation {
            Operation::Put => Some(entry.value),
            Operation::Delete | Operation::Purge => None,
        },
        at: SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos),
        revision: entry.revision,
    }
}
