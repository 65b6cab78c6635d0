//! How much one subscription may hold at once, in messages and in bytes. Taken before the work is taken.
//!
//! Invariant: only the receive loop takes, so what it saw free is still free when the messages arrive; a single message
//! that is larger than all that is free comes alone, and nothing more until it is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::broker::Demand;
use crate::telemetry::SubscriptionMetrics;

/// The budget of one subscription.
#[derive(Debug)]
pub(crate) struct Budget {
    messages: Gauge,
    bytes: Gauge,
    given_back: Notify,
    metrics: Arc<SubscriptionMetrics>,
}

#[derive(Debug)]
struct Gauge {
    /// May change; what is held beyond a lower one is settled first.
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl Gauge {
    fn free(&self) -> usize {
        self.limit.load(Ordering::Acquire).saturating_sub(self.used.load(Ordering::Acquire))
    }
}

impl Budget {
    pub(crate) fn new(messages: usize, bytes: usize, metrics: Arc<SubscriptionMetrics>) -> Self {
        let gauge = |limit| Gauge { limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) };
        Self { messages: gauge(messages), bytes: gauge(bytes), given_back: Notify::new(), metrics }
    }

    /// Waits until there is room worth asking for: a quarter of the messages, so that a busy subscription fetches in
    /// handfuls and not one by one, and any bytes. `at_most` further bounds the messages that are held in all.
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn room(&self, at_most: impl Fn() -> usize) -> Demand {
        loop {
            let given_back = self.given_back.notified();
            let cap = at_most().clamp(1, self.messages.limit.load(Ordering::Acquire).max(1));
            let free = cap.saturating_sub(self.messages.used.load(Ordering::Acquire));
            let bytes = self.bytes.free();
            if free >= cap.div_ceil(4) && bytes > 0 {
                return Demand { messages: free, bytes };
            }
            given_back.await;
        }
    }

    /// From now on at most so many bytes.
    pub(crate) fn limit_bytes(&self, limit: usize) {
        self.bytes.limit.store(limit, Ordering::Release);
        self.given_back.notify_one();
    }

    /// Takes what has arrived.
    pub(crate) fn take(&self, messages: usize, bytes: usize) {
        self.messages.used.fetch_add(messages, Ordering::AcqRel);
        self.bytes.used.fetch_add(bytes, Ordering::AcqRel);
        self.metrics.hold(messages, bytes);
    }

    /// Gives back what was settled or abandoned.
    pub(crate) fn give_back(&self, messages: usize, bytes: usize) {
        self.messages.used.fetch_sub(messages, Ordering::AcqRel);
        self.bytes.used.fetch_sub(bytes, Ordering::AcqRel);
        self.metrics.release(messages, bytes);
        self.given_back.notify_one();
    }

    /// Whether no message more fits by its bytes.
    pub(crate) fn is_full_of_bytes(&self) -> bool {
        self.bytes.free() == 0
    }

    /// Messages that are held now.
    pub(crate) fn messages_held(&self) -> usize {
        self.messages.used.load(Ordering::Acquire)
    }

    /// Bytes that are held now.
    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes.used.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_given_only_when_messages_and_bytes_are_free() {
        let budget = Budget::new(8, 100, crate::telemetry::Metrics::new().subscription("test", "embedded"));
        assert_eq!(budget.room(|| 8).await, Demand { messages: 8, bytes: 100 });
        assert_eq!(budget.room(|| 4).await, Demand { messages: 4, bytes: 100 });
        // One message may be larger than what was free; then nothing more comes.
        budget.take(1, 130);
        let waiting = budget.room(|| 8);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        budget.give_back(1, 130);
        assert_eq!(waiting.await, Demand { messages: 8, bytes: 100 });
        // Less than a quarter of the messages is not worth a fetch.
        budget.take(7, 0);
        assert!(futures_util::poll!(std::pin::pin!(budget.room(|| 8))).is_pending());
        budget.give_back(1, 0);
        assert_eq!(budget.room(|| 8).await, Demand { messages: 2, bytes: 100 });
        budget.take(0, 60);
        budget.limit_bytes(50);
        assert!(futures_util::poll!(std::pin::pin!(budget.room(|| 8))).is_pending(), "more is held than may be");
        budget.limit_bytes(80);
        assert_eq!(budget.room(|| 8).await, Demand { messages: 2, bytes: 20 });
    }
}
