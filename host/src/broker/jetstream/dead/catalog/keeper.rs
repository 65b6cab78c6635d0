//! The task that reads where a request would wait too long for it, and gives the rows back when nobody asks any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Inner, Needs};
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
}

/// Reads whenever it is wanted, until the broker is closed.
pub(super) async fn keep(inner: Arc<Inner>) {
    loop {
        let now = Instant::now();
        let over = inner.lock().asked + inner.options.kept_for;
        // Given back already, it has as long again.
        let look_again = if over > now { over } else { now + inner.options.kept_for };
        tokio::select! {
            () = inner.link.closing().cancelled() => return,
            () = inner.wanted.notified() => {
                tokio::select! {
                    () = inner.link.closing().cancelled() => return ended(&inner.loads, true),
                    failed = load(&inner) => ended(&inner.loads, failed),
                }
            }
            () = tokio::time::sleep_until(look_again) => inner.give_back(),
        }
    }
}

fn ended(loads: &watch::Sender<Loads>, failed: bool) {
    loads.send_modify(|loads| *loads = Loads { under_way: None, ended: loads.ended + 1, failed });
}

/// Reads all; whether that failed.
async fn load(inner: &Inner) -> bool {
    let failed = read(inner).await.err();
    let mut state = inner.lock();
    let tell = failed.is_some() && !state.told;
    state.told = failed.is_some();
    drop(state);
    if let (true, Some(error)) = (tell, &failed) {
        tracing::warn!(stream = inner.stream, %error, "the list of dead letters in memory could not be read; it is tried again when it is asked for");
    }
    failed.is_some()
}

async fn read(inner: &Inner) -> Result<(), DeadLetterError> {
    let session = inner.link.wait(Duration::from_secs(1)).await.map_err(DeadLetterError::Store)?;
    let _turn = inner.turn().await;
    // When others go on removing, whoever asks next compares again.
    inner.meet(&session, Needs::Exact, u64::MAX).await.map(drop)
}
