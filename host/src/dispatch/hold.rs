//! An operator's word on a subscription: whether it takes messages. It outlives the subscription, which may be stopped and
//! started by a changed configuration meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Whether a subscription takes messages.
#[derive(Debug, Default)]
pub struct Hold {
    /// Asked for each message that is about to run.
    closed: AtomicBool,
    /// Whether somebody may have closed it elsewhere, and is asked first.
    asks: AtomicBool,
    /// When it was opened again.
    resumed_at: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Hold {
    /// From now on it takes none.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// From now on it takes them again, few at first. Changes nothing when it was not closed.
    pub fn open(&self, now: Instant) {
        let mut resumed_at = self.resumed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.swap(false, Ordering::AcqRel) {
            *resumed_at = Some(now);
        }
        drop(resumed_at);
        self.changed.notify_waiters();
    }

    /// Whether it takes none.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// For how long it has taken messages again; `None`: it was never told otherwise, or takes none.
    #[must_use]
    pub fn resumed_for(&self, now: Instant) -> Option<Duration> {
        let resumed_at = *self.resumed_at.lock().unwrap_or_else(PoisonError::into_inner);
        resumed_at.filter(|_| !self.is_closed()).map(|since| now.saturating_duration_since(since))
    }

    /// Whether somebody is to be asked first: from now on nothing more is received until they were. What is held goes on.
    pub fn ask_first(&self, asks: bool) {
        self.asks.store(asks, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until somebody is to be asked first, or was.
    pub(crate) async fn until_asks(&self, asks: bool) {
        loop {
            let changed = self.changed.notified();
            if self.asks.load(Ordering::Acquire) == asks {
                return;
            }
            changed.await;
        }
    }

    /// Waits until it is closed, or open.
    pub(crate) async fn until(&self, closed: bool) {
        loop {
            let changed = self.changed.notified();
            if self.is_closed() == closed {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_each_change() {
        let hold = Hold::default();
        hold.open(Instant::now());
        assert_eq!(hold.resumed_for(Instant::now()), None, "what was never paused has no ramp");
        hold.until(false).await;
        let mut closed = std::pin::pin!(hold.until(true));
        assert!(futures_util::poll!(closed.as_mut()).is_pending());
        hold.close();
        closed.await;
        let mut open = std::pin::pin!(hold.until(false));
        assert!(futures_util::poll!(open.as_mut()).is_pending());
        hold.open(Instant::now());
        open.await;
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(hold.resumed_for(Instant::now()), Some(Duration::from_secs(3)));
        hold.close();
        assert_eq!(hold.resumed_for(Instant::now()), None);
    }
}
