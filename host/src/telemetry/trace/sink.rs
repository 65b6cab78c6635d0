//! Where records go: a line of bounded length, which is never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;

use super::record::Record;

/// Records that may wait: a tenth of a second of a busy host whose every trace is recorded.
const RECORDS: usize = 8192;
/// What they may take together, in bytes, whatever handlers log. Most take less than a KiB.
const BYTES: usize = 16 << 20;

/// Takes records.
#[derive(Debug, Clone)]
pub struct Sink {
    queue: SyncSender<Item>,
    waiting: Arc<AtomicUsize>,
    /// Spans for which there was no room.
    dropped: Counter,
}

/// Gives records out, to one.
#[derive(Debug)]
pub struct Queue {
    queue: Receiver<Item>,
    waiting: Arc<AtomicUsize>,
}

/// What stands in the line.
#[derive(Debug)]
enum Item {
    Record(Box<Record>),
    /// Nothing: whoever takes is to look up.
    Wake,
}

/// The two ends of a line. `dropped` counts spans for which there was no room.
pub(crate) fn sink(dropped: Counter) -> (Sink, Queue) {
    let (sender, receiver) = sync_channel(RECORDS);
    let waiting = Arc::new(AtomicUsize::new(0));
    (Sink { queue: sender, waiting: Arc::clone(&waiting), dropped }, Queue { queue: receiver, waiting })
}

impl Sink {
    /// Puts a record in the line. When there is no room, or nobody takes them any more, it is dropped and counted.
    pub(crate) fn give(&self, record: Record) {
        let (size, spans) = (record.size(), record.spans());
        // Taken before it is looked at, so that many at once do not all find the same room.
        let before = self.waiting.fetch_add(size, Ordering::Relaxed);
        if before.saturating_add(size) > BYTES || self.queue.try_send(Item::Record(Box::new(record))).is_err() {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            self.dropped.inc_by(spans);
        }
    }

    /// Lets whoever waits for a record look up.
    pub(crate) fn wake(&self) {
        // With no room in the line nobody waits at its end.
        let _ = self.queue.try_send(Item::Wake);
    }
}

impl Queue {
    /// The next record; `None`: none came before a moment, or somebody wants the caller to look up.
    pub(crate) fn next(&self, until: Instant) -> Option<Record> {
        let record = match self.queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Item::Record(record)) => record,
            Ok(Item::Wake) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        self.waiting.fetch_sub(record.size(), Ordering::Relaxed);
        Some(*record)
    }
}
