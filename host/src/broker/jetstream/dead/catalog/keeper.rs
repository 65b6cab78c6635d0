//! The task that reads where a request would wait too long for it, and gives the rows back when nobody asks any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Inner;
use super::follow::Met;
use crate::broker::DeadLetterError;

/// How reading in the background goes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loads {
    /// It is to be read, or is read: so many messages.
    pub(super) under_way: Option<u64>,
    /// How often it ended.
    pub(super) ended: u64,
    /// Whether it failed the last time.
    pub(super) failed: bool,
    /// Whether there is a task that reads.
    pub(super) is_kept: bool,
}

/// That there is a task that reads. However it ends, also by a panic or before it began, whoever waits for it is told: its drop ends what
/// is under way.
#[derive(Debug)]
pub(super) struct Kept(Arc<Inner>);

impl Kept {
    /// `None`: there is one already.
    pub(super) fn begin(inner: &Arc<Inner>) -> Option<Self> {
        let begins = inner.loads.send_if_modified(|loads| !std::mem::replace(&mut loads.is_kept, true));
        begins.then(|| Self(Arc::clone(inner)))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.loads.send_modify(|loads| loads.is_kept = false);
        ended(&self.0.loads, true);
    }
}

/// Reads whenever it is wanted, until the broker is closed.
pub(super) async fn keep(kept: Kept) {
    let inner = &*kept.0;
    loop {
        let now = Instant::now();
        let over = inner.lock().asked + inner.options.kept_for;
        // Given back already, it has as long again.
        let look_again = if over > now { over } else { now + inner.options.kept_for };
        tokio::select! {
            () = inner.link.closing().cancelled() => return,
            () = inner.wanted.notified() => {
                tokio::select! {
                    () = inner.link.closing().cancelled() => return,
                    failed = load(inner) => ended(&inner.loads, failed),
                }
            }
            () = tokio::time::sleep_until(look_again) => inner.give_back(),
        }
    }
}

fn ended(loads: &watch::Sender<Loads>, failed: bool) {
    loads.send_modify(|loads| *loads = Loads { under_way: None, ended: loads.ended + 1, failed, ..*loads });
}

/// Reads all; whether that failed, or the rows are not as the stream is all the same: while others go on removing, whoever waited
/// reads the stream, and whoever asks next compares again.
async fn load(inner: &Inner) -> bool {
    let read = read(inner).await;
    let is_current = matches!(read, Ok(Met::Current(_)));
    let failed = read.err();
    let mut state = inner.lock();
    let tell = failed.is_some() && !state.told;
    state.told = failed.is_some();
    drop(state);
    if let (true, Some(error)) = (tell, &failed) {
        tracing::warn!(stream = inner.stream, %error, "the list of dead letters in memory could not be read; it is tried again when it is asked for");
    }
    !is_current
}

async fn read(inner: &Inner) -> Result<Met, DeadLetterError> {
    let session = inner.link.wait(Duration::from_secs(1)).await.map_err(DeadLetterError::Store)?;
    let _turn = inner.turn().await;
    inner.meet(&session, u64::MAX).await
}
