//! Whether the server has lost outputs or dead letters whose storing it had confirmed.
//!
//! A NATS server writes behind: with the power it may lose an output, or a dead letter, and the acknowledgement of the message that
//! it came of, and still have the message. That comes back then, and to acknowledge it as done would leave nothing of it. A stream
//! loses its end, so it shows in how far the stream is, as long as others have not filled it up again.
//!
//! Invariants:
//! - On a new connection nothing is handed out and nothing is stored before this was looked at, as far as the server tells it.
//! - What had come before such a loss is not acknowledged by what was stored before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;

use super::session::Session;
use super::setup::stream_info;
use crate::broker::done::DoneRecord;

/// A server that has just begun to lead a stream may tell of it before it has worked off all that it has.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Streams that are asked for at once.
const AT_ONCE: usize = 64;

/// What a broker's streams of outputs and dead letters have lost.
#[derive(Debug)]
pub(super) struct Losses {
    record: Arc<DoneRecord>,
    /// The last session on which it was looked.
    looked_on: AtomicU64,
    /// The last session on which something was found.
    found_on: AtomicU64,
    turn: tokio::sync::Mutex<()>,
}

/// A stream that is not as far as it was.
struct FellBack {
    stream: String,
    furthest: u64,
    last: u64,
}

impl Losses {
    pub(super) fn new(record: Arc<DoneRecord>) -> Self {
        Self {
            record,
            looked_on: AtomicU64::default(),
            found_on: AtomicU64::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The session on which a loss was found last; 0: on none.
    pub(super) fn found_on(&self) -> u64 {
        self.found_on.load(Ordering::Acquire)
    }

    /// Looks at the streams that outputs and dead letters went to, once a session, and forgets what is done when one of them
    /// fell back. Dropped in the middle, it is done by whoever comes next.
    pub(super) async fn look(&self, session: &Session) {
        let is_looked = || self.looked_on.load(Ordering::Acquire) >= session.number;
        if is_looked() {
            return;
        }
        let _turn = self.turn.lock().await;
        if is_looked() {
            return;
        }
        let mut found = fell_back(session, self.record.furthest()).await;
        if !found.is_empty() {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            found = fell_back(session, found.into_iter().map(|found| (found.stream, found.furthest)).collect()).await;
        }
        for FellBack { stream, furthest, last } in found {
            self.found_on.fetch_max(session.number, Ordering::AcqRel);
            tracing::warn!(
                stream,
                confirmed = furthest,
                last,
                "a stream lost outputs or dead letters whose storing it had confirmed; what comes back of the messages that are done \
                 runs again"
            );
            if let Err(error) = self.record.forget_done(&stream, last).await {
                tracing::warn!(%error, "what is done is forgotten until the host is started anew, and not in the file");
            }
        }
        self.looked_on.fetch_max(session.number, Ordering::AcqRel);
    }
}

/// Those of some streams that are not so far any more.
async fn fell_back(session: &Session, streams: Vec<(String, u64)>) -> Vec<FellBack> {
    let looks = futures_util::stream::iter(streams).map(|(stream, furthest)| async move {
        let last = last(session, &stream).await.filter(|last| *last < furthest)?;
        Some(FellBack { stream, furthest, last })
    });
    looks.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

/// The last sequence of a stream; `None` where that cannot be learnt: it is another account's, or is not there any more.
async fn last(session: &Session, stream: &str) -> Option<u64> {
    Some(stream_info(session, stream).await.ok()??.state.last_seq)
}
