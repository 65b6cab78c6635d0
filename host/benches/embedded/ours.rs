//! The queue, as the host uses it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidegate::broker::embedded::{EmbeddedQueue, Options};
use tidegate::broker::{Broker, Demand, Settle, Settlement, Source, SubscriptionSpec};
use tidegate::message::{Headers, Publish};

use super::{AT_ONCE, BODY, DEMAND, PUBLISHERS, RECEIVERS, message_id};

pub(super) struct Ours {
    queue: Arc<EmbeddedQueue>,
    source: Arc<dyn Source>,
    published: u64,
}

impl Ours {
    pub(super) async fn open(directory: &Path, window: u64) -> Self {
        let mut options = Options::new(directory);
        options.dedupe_max = usize::try_from(window).unwrap();
        let queue = EmbeddedQueue::open(options).await.unwrap();
        let spec = SubscriptionSpec {
            name: "bench".to_owned(),
            stream: None,
            subjects: vec!["bench.>".to_owned()],
            ack_wait: Duration::from_secs(600),
            max_in_flight: 1000,
            create: true,
        };
        let source = queue.subscribe(&spec).await.unwrap();
        Self { queue, source, published: 0 }
    }

    /// The messages that are left.
    pub(super) async fn close(self) -> u64 {
        let left = self.queue.stats().messages;
        self.queue.close().await;
        left
    }

    /// Transactions so far.
    pub(super) fn commits(&self) -> u64 {
        self.queue.stats().commits
    }

    pub(super) async fn publish(&mut self, count: u64) {
        let next = Arc::new(AtomicU64::new(self.published));
        self.published += count;
        let end = self.published;
        let publishers = (0..PUBLISHERS).map(|_| {
            let (queue, next) = (Arc::clone(&self.queue), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let first = next.fetch_add(AT_ONCE, Ordering::Relaxed);
                    if first >= end {
                        return;
                    }
                    let group = (first..end.min(first + AT_ONCE)).map(message).collect();
                    for published in queue.publish(group).await {
                        assert!(!published.unwrap().duplicate);
                    }
                }
            })
        });
        for publisher in publishers.collect::<Vec<_>>() {
            publisher.await.unwrap();
        }
    }

    pub(super) async fn consume(&mut self, count: u64) {
        let left = Arc::new(AtomicU64::new(count));
        let receivers = (0..RECEIVERS).map(|_| {
            let (source, left) = (Arc::clone(&self.source), Arc::clone(&left));
            tokio::spawn(async move {
                loop {
                    // Claimed before it is received, so that all of them together take just so many.
                    let claim = |left: u64| (left > 0).then(|| left.saturating_sub(DEMAND as u64));
                    let Ok(before) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim) else { return };
                    receive(source.as_ref(), usize::try_from(before).unwrap().min(DEMAND)).await;
                }
            })
        });
        for receiver in receivers.collect::<Vec<_>>() {
            receiver.await.unwrap();
        }
    }
}

async fn receive(source: &dyn Source, mut wanted: usize) {
    while wanted > 0 {
        let came = source.receive(Demand { messages: wanted, bytes: usize::MAX }).await.unwrap();
        wanted -= came.len();
        let group = came.into_iter().map(|delivery| Settle {
            receipt: delivery.receipt,
            settlement: Settlement::Ack { outputs: Vec::new() },
            lease_ends_at: delivery.lease_ends_at,
        });
        for settled in source.settle(group.collect()).await {
            settled.unwrap();
        }
    }
}

fn message(n: u64) -> Publish {
    Publish {
        subject: "bench.event".to_owned(),
        id: Some(message_id(n)),
        headers: Headers::default(),
        body: Bytes::from_static(&BODY),
    }
}
