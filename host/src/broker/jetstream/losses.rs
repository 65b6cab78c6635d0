//! Whether the server has lost outputs or dead letters whose storing it had confirmed.
//!
//! A NATS server writes behind: with the power it may lose an output, or a dead letter, and the acknowledgement of the message that
//! it came of, and still have the message. That comes back then, and to acknowledge it as done would leave nothing of it. A stream
//! loses its end, so it shows in how far the stream is, as long as others have not filled it up again.
//!
//! Invariants:
//! - On a new connection, and when something showed that a server was away (see `upsets`), nothing is handed out and nothing is
//!   stored before this was looked at, as far as the server tells it.
//! - While it does not tell of a stream, nothing that comes back is acknowledged as done.
//! - What was handed out before such a loss was found is not acknowledged by what was stored before that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::session::{RequestError, Session, Unanswered};
use super::setup::stream_info;
use super::wire::ApiError;
use crate::broker::done::DoneRecord;

/// A server that has just begun to lead a stream may tell of it before it has worked off all that it has.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How soon streams are asked for anew that were not told of: they have no leader.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Streams that are asked for at once.
const AT_ONCE: usize = 64;

/// What a broker's streams of outputs and dead letters have lost.
#[derive(Debug)]
pub(super) struct Losses {
    record: Arc<DoneRecord>,
    looked: Mutex<Looked>,
    turn: tokio::sync::Mutex<()>,
}

/// What was looked at, and what came of it.
#[derive(Debug, Default)]
struct Looked {
    /// The session on which it was looked last; 0: on none.
    session: u64,
    /// When that began.
    at: Option<Instant>,
    /// Whether a stream was not told of.
    is_untold: bool,
    /// How often something was found.
    found: u64,
}

/// What a stream that has outputs is now.
enum Found {
    /// As far as it was, or further; or of somebody else, or gone for good.
    Whole,
    /// Not as far as it was.
    FellBack(FellBack),
    /// Nobody tells of it.
    Untold(String),
}

/// A stream that is not as far as it was.
struct FellBack {
    stream: String,
    furthest: u64,
    last: u64,
}

impl Looked {
    /// Whether it is time to look, on a session and after an upset.
    fn is_due(&self, session: u64, upset_at: Option<Instant>, now: Instant) -> bool {
        self.session < session
            || upset_at > self.at
            || self.is_untold && self.at.is_none_or(|at| now >= at + ASK_AGAIN_AFTER)
    }
}

impl Losses {
    pub(super) fn new(record: Arc<DoneRecord>) -> Self {
        Self { record, looked: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// How many losses were found so far.
    pub(super) fn found(&self) -> u64 {
        self.looked().found
    }

    /// Whether some stream is not told of, so that what is done may have lost what it came to.
    pub(super) fn is_untold(&self) -> bool {
        self.looked().is_untold
    }

    /// Looks at the streams that outputs and dead letters went to, once a session and after each upset, and forgets what is done
    /// when one of them fell back. Dropped in the middle, it is done by whoever comes next.
    pub(super) async fn look(&self, session: &Session, upset_at: Option<Instant>) {
        let is_due = || self.looked().is_due(session.number, upset_at, Instant::now());
        if !is_due() {
            return;
        }
        let _turn = self.turn.lock().await;
        if !is_due() {
            return;
        }
        let began_at = Instant::now();
        let (mut fell_back, mut untold) = sorted(look_at(session, self.record.furthest()).await);
        if !fell_back.is_empty() {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            let again = fell_back.into_iter().map(|found| (found.stream, found.furthest)).collect();
            let (still, not_told) = sorted(look_at(session, again).await);
            fell_back = still;
            untold.extend(not_told);
        }
        let is_found = !fell_back.is_empty();
        for FellBack { stream, furthest, last } in fell_back {
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
        let mut looked = self.looked();
        if !untold.is_empty() && !looked.is_untold {
            tracing::warn!(
                streams = untold.join(", "),
                "nobody tells of these streams of outputs or dead letters; messages that are done and come back wait until \
                 somebody does"
            );
        }
        looked.session = looked.session.max(session.number);
        looked.at = Some(began_at);
        looked.is_untold = !untold.is_empty();
        looked.found += u64::from(is_found);
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at some streams, each with how far it was.
async fn look_at(session: &Session, streams: Vec<(String, u64)>) -> Vec<Found> {
    let looks = futures_util::stream::iter(streams).map(|(stream, furthest)| async move {
        match stream_info(session, &stream).await {
            Ok(Some(info)) if info.state.last_seq < furthest => {
                Found::FellBack(FellBack { stream, furthest, last: info.state.last_seq })
            }
            Ok(Some(_) | None) => Found::Whole,
            // Where these credentials may not ask for it there is nothing to wait for.
            Err(ApiError::Away(RequestError::Unanswered(Unanswered::Denied(_)))) => Found::Whole,
            Err(ApiError::Away(_) | ApiError::Refused(_) | ApiError::Unreadable(_)) => Found::Untold(stream),
        }
    });
    looks.buffer_unordered(AT_ONCE).collect().await
}

/// Those that fell back, and those that nobody tells of.
fn sorted(found: Vec<Found>) -> (Vec<FellBack>, Vec<String>) {
    let (mut fell_back, mut untold) = (Vec::new(), Vec::new());
    for found in found {
        match found {
            Found::Whole => {}
            Found::FellBack(stream) => fell_back.push(stream),
            Found::Untold(stream) => untold.push(stream),
        }
    }
    (fell_back, untold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_once_a_session_after_each_upset_and_again_while_a_stream_is_not_told_of() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert!(Looked::default().is_due(1, None, now));
        let looked = Looked { session: 1, at: Some(now), is_untold: false, found: 0 };
        assert!(!looked.is_due(1, None, now + second * 60));
        assert!(looked.is_due(2, None, now));
        assert!(looked.is_due(1, Some(now + second), now + second));
        assert!(!looked.is_due(1, Some(now - second), now + second), "it was looked since");
        let untold = Looked { is_untold: true, ..looked };
        assert!(!untold.is_due(1, None, now + second));
        assert!(untold.is_due(1, None, now + ASK_AGAIN_AFTER));
    }
}
