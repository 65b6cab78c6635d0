//! Whether the server has lost outputs or dead letters whose storing it had confirmed.
//!
//! A NATS server writes behind: with the power it may lose an output, or a dead letter, and the acknowledgement of the message that
//! it came of, and still have the message. That comes back then, and to acknowledge it as done would leave nothing of it. A stream
//! loses its end, so it shows in how far the stream is, as long as others have not filled it up again.
//!
//! Invariant: on a new connection nothing is handed out before this was looked at, as far as the server tells it.

use std::time::Duration;

use super::session::Session;
use super::setup::stream_info;
use super::source::JetStreamSource;

/// A server that has just begun to lead a stream may tell of it before it has worked off all that it has.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl JetStreamSource {
    /// Looks at the streams that outputs and dead letters went to, and forgets what is done when one of them fell back.
    pub(super) async fn look_for_losses(&self, session: &Session) {
        for (stream, furthest) in self.record.furthest() {
            let fell_back = |last: Option<u64>| last.filter(|last| *last < furthest);
            if fell_back(last(session, &stream).await).is_none() {
                continue;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            let Some(last) = fell_back(last(session, &stream).await) else { continue };
            tracing::warn!(
                stream,
                confirmed = furthest,
                last,
                "a stream lost outputs or dead letters whose storing it had confirmed; what comes back of the messages that are done \
                 runs again"
            );
            self.record.forget_done(&stream, last);
        }
    }
}

/// The last sequence of a stream; `None` where that cannot be learnt: it is another account's, or is not there any more.
async fn last(session: &Session, stream: &str) -> Option<u64> {
    Some(stream_info(session, stream).await.ok()??.state.last_seq)
}
