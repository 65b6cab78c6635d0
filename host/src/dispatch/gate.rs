//! Whether a subscription takes new messages: open, or paused for a reason and until a time.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::outcome::ReasonCode;

/// Why nothing new is taken, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// `output-unavailable` or `dlq-unavailable`.
    pub reason: ReasonCode,
    /// It ends by itself then.
    pub until: Instant,
}

/// The gate before the receive loop.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pause: Mutex<Option<Pause>>,
    changed: Notify,
}

impl Gate {
    /// Closes the gate, or keeps it closed for longer. True when it was open before.
    pub(crate) fn close(&self, pause: Pause, now: Instant) -> bool {
        let mut present = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        let was_open = present.is_none_or(|present| present.until <= now);
        if was_open || present.is_some_and(|present| present.until < pause.until) {
            *present = Some(pause);
        }
        drop(present);
        self.changed.notify_waiters();
        was_open
    }

    /// Why it is closed, if it is.
    pub(crate) fn closed(&self, now: Instant) -> Option<Pause> {
        let pause = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        pause.filter(|pause| pause.until > now)
    }

    /// Waits until it is open.
    pub(crate) async fn open(&self) {
        loop {
            let changed = self.changed.notified();
            let Some(pause) = self.closed(Instant::now()) else { return };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(pause.until) => {}
                () = changed => {}
            }
        }
    }
}
