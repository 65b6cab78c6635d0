//! The deliveries that this host holds: from receive to settled, each once, with its lease.
//!
//! Invariants:
//! - A message stands here from before it can run until its settlement is confirmed or its lease is over.
//! - The same message is never run twice at once: a second delivery of it is held beside the first.
//! - Two messages are never taken for one: a broker that lost its newest messages gives their sequences to new ones, and
//!   when they were published tells them apart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;
use tracing::field::{DisplayValue, display};

use crate::broker::lease::Lease;
use crate::broker::{Delivery, Receipt};
use crate::dispatch::budget::Budget;
use crate::dispatch::trial::Pick;
use crate::message::Message;
use crate::telemetry::trace::{Trace, TraceId};

/// One delivery that is held.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// What was delivered.
    pub(crate) delivery: Delivery,
    /// How long it is ours.
    pub(crate) lease: Lease,
    /// When it came.
    pub(crate) received_at: Instant,
    /// Its share of the byte budget.
    size: usize,
    /// Whether it was handed to the settle stage: from then on that stage alone ends it.
    decided: AtomicBool,
    /// The version that it runs on, from the start of its run on.
    runs_on: OnceLock<Pick>,
    /// Its trace, from when it was looked at. Boxed: where traces are off there is none.
    trace: OnceLock<Box<Trace>>,
}

impl InFlight {
    fn new(delivery: Delivery, received_at: Instant) -> Self {
        let lease = Lease::until(delivery.lease_ends_at);
        let size = delivery.message.size();
        let (decided, runs_on, trace) = Default::default();
        Self { delivery, lease, received_at, size, decided, runs_on, trace }
    }

    pub(crate) const fn sequence(&self) -> u64 {
        self.delivery.message.sequence
    }

    /// Which message it is.
    const fn key(&self) -> Key {
        key(&self.delivery.message)
    }

    pub(crate) const fn receipt(&self) -> &Receipt {
        &self.delivery.receipt
    }

    /// Marks it as handed to the settle stage.
    pub(crate) fn mark_decided(&self) {
        self.decided.store(true, Ordering::Release);
    }

    /// What it runs on: what is given, unless it has something already.
    pub(crate) fn run_on(&self, pick: Pick) -> &Pick {
        self.runs_on.get_or_init(|| pick)
    }

    /// What it runs or ran on; `None` before its run.
    pub(crate) fn runs_on(&self) -> Option<&Pick> {
        self.runs_on.get()
    }

    /// Traces it, unless it is traced already.
    pub(crate) fn trace_as(&self, trace: impl FnOnce() -> Trace) {
        self.trace.get_or_init(|| Box::new(trace()));
    }

    /// Its trace; `None`: traces are off, or it was not looked at yet.
    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.trace.get().map(Box::as_ref)
    }

    /// The id of its trace, as a field of a line in the log.
    pub(crate) fn trace_id(&self) -> Option<DisplayValue<TraceId>> {
        self.trace().map(|trace| display(trace.own.trace))
    }

    pub(crate) fn is_decided(&self) -> bool {
        self.decided.load(Ordering::Acquire)
    }
}

/// How a delivery ended, for what is held beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged or dead-lettered, confirmed: a second delivery is acknowledged without a run.
    Done,
    /// Returned, confirmed: the broker hands it over again by itself, and no earlier than this. It may have done so before we heard
    /// its confirmation: then the second delivery is that one, and runs. One that came earlier is of another reason (a server that
    /// started anew), is overtaken by the return, and is left to come again.
    Returned {
        /// When the return was sent, and its delay more.
        due: Instant,
    },
    /// Nothing was sent: a second delivery takes over.
    Abandoned,
}

/// What becomes of a second delivery whose first has ended.
#[derive(Debug)]
pub(crate) enum Successor {
    /// It runs in the first one's place; it stands in the table again.
    Run(Arc<InFlight>),
    /// It is acknowledged without a run; it stands in the table again.
    Acknowledge(Arc<InFlight>),
}

/// All deliveries that one subscription holds.
#[derive(Debug)]
pub(crate) struct Table {
    budget: Budget,
    entries: Mutex<BTreeMap<Key, Slot>>,
}

/// What tells a message from all others of a subscription: its sequence, and when it was published.
type Key = (u64, SystemTime);

const fn key(message: &Message) -> Key {
    (message.sequence, message.published_at)
}

#[derive(Debug)]
struct Slot {
    running: Arc<InFlight>,
    /// A later delivery of the same message. The latest replaces an earlier one: its lease is the longest. Boxed: it is
    /// rare, and slots are moved about within the map with every message.
    held: Option<Box<Held>>,
}

/// A second delivery, and when it came.
#[derive(Debug)]
struct Held {
    delivery: Delivery,
    came_at: Instant,
}

impl Table {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, entries: Mutex::default() }
    }

    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes deliveries in and gives back those that may run now, in their order.
    pub(crate) fn admit(&self, deliveries: Vec<Delivery>, now: Instant) -> Vec<Arc<InFlight>> {
        let mut admitted = Vec::with_capacity(deliveries.len());
        let mut bytes = 0;
        {
            let mut entries = self.lock();
            for delivery in deliveries {
                if let Some(slot) = entries.get_mut(&key(&delivery.message)) {
                    slot.held = Some(Box::new(Held { delivery, came_at: now }));
                    continue;
                }
                let entry = Arc::new(InFlight::new(delivery, now));
                bytes += entry.size;
                entries.insert(entry.key(), Slot { running: Arc::clone(&entry), held: None });
                admitted.push(entry);
            }
        }
        self.budget.take(admitted.len(), bytes);
        admitted
    }

    /// Ends deliveries, gives their budget back, and says what becomes of second deliveries of them.
    pub(crate) fn finish(&self, ended: &[(Arc<InFlight>, Fate)], now: Instant) -> Vec<Successor> {
        let mut successors = Vec::new();
        let mut messages = 0;
        let mut bytes = 0;
        {
            let mut entries = self.lock();
            for (entry, ending) in ended {
                let Some(slot) = entries.remove(&entry.key()) else { continue };
                messages += 1;
                bytes += entry.size;
                let Some(held) = slot.held else { continue };
                let came_at = held.came_at;
                let next = Arc::new(InFlight::new(held.delivery, now));
                let successor = match ending {
                    Fate::Done => Successor::Acknowledge(Arc::clone(&next)),
                    Fate::Abandoned => Successor::Run(Arc::clone(&next)),
                    Fate::Returned { due } if came_at >= *due => Successor::Run(Arc::clone(&next)),
                    Fate::Returned { .. } => continue,
                };
                self.budget.take(1, next.size);
                entries.insert(next.key(), Slot { running: next, held: None });
                successors.push(successor);
            }
        }
        self.budget.give_back(messages, bytes);
        successors
    }

    /// Everything that is held now.
    pub(crate) fn snapshot(&self) -> Vec<Arc<InFlight>> {
        self.lock().values().map(|slot| Arc::clone(&slot.running)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Slot>> {
        // Nothing that is done under the lock can panic half-way: the map is whole even if a holder died.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests say what went wrong by failing")]

    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::message::Headers;
    use crate::settle::progress::Progress;

    fn table() -> Table {
        Table::new(Budget::new(4, 1000, crate::telemetry::Metrics::new().subscription("test", "embedded")))
    }

    fn delivery(sequence: u64, token: &'static str) -> Delivery {
        Delivery {
            message: Message {
                id: sequence.to_string(),
                subject: "a".into(),
                headers: Headers::default(),
                body: Bytes::from_static(b"0123456789"),
                sequence,
                published_at: SystemTime::UNIX_EPOCH,
            },
            progress: Progress::first(SystemTime::UNIX_EPOCH),
            receipt: Receipt { sequence, token: Bytes::from_static(token.as_bytes()) },
            lease_ends_at: Instant::now() + Duration::from_secs(30),
            standing: crate::broker::Standing::Due,
        }
    }

    #[tokio::test]
    async fn another_message_at_the_same_sequence_runs_by_itself() {
        // The story: a server came back from an earlier copy while a message ran, and gave its sequence to a new one. The
        // end of the first was taken for that of the second.
        let now = Instant::now();
        let table = table();
        let mut later = delivery(1, "two");
        later.message.published_at += Duration::from_secs(1);
        let both = table.admit(vec![delivery(1, "one"), later], now);
        assert_eq!(both.len(), 2);
        assert!(table.finish(&[(Arc::clone(&both[0]), Fate::Done)], now).is_empty());
        let left = table.snapshot();
        assert!(left.len() == 1 && left[0].receipt().token == "two", "{left:?}");
    }

    #[tokio::test]
    async fn a_second_delivery_waits_for_the_first_and_follows_its_ending() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let rows = [
            (Fate::Done, "acknowledge"),
            (Fate::Abandoned, "run"),
            // The broker was faster than its own confirmation.
            (Fate::Returned { due: now }, "run"),
            (Fate::Returned { due: now + second }, "nothing"),
        ];
        for (ending, expected) in rows {
            let table = table();
            let first = table.admit(vec![delivery(1, "one"), delivery(1, "two")], now);
            assert_eq!(first.len(), 1, "the same message runs once at a time");
            let successors = table.finish(&[(Arc::clone(&first[0]), ending)], now);
            let (got, held) = match successors.as_slice() {
                [] => ("nothing", 0),
                [Successor::Run(next)] => (if next.receipt().token == "two" { "run" } else { "wrong" }, 1),
                [Successor::Acknowledge(next)] => {
                    (if next.receipt().token == "two" { "acknowledge" } else { "wrong" }, 1)
                }
                more => unreachable!("{more:?}"),
            };
            assert_eq!(got, expected);
            assert_eq!(table.budget().messages_held(), held);
            assert_eq!(table.snapshot().len(), held);
        }
    }

    #[tokio::test]
    async fn the_budget_counts_what_is_held_and_nothing_after_the_end() {
        let now = Instant::now();
        let table = table();
        let held = table.admit(vec![delivery(1, "x"), delivery(2, "x")], now);
        assert_eq!((table.budget().messages_held(), table.budget().bytes_held()), (2, 24));
        let ended: Vec<_> = held.into_iter().map(|entry| (entry, Fate::Done)).collect();
        assert!(table.finish(&ended, now).is_empty());
        assert!(table.finish(&ended, now).is_empty(), "ending twice gives nothing back twice");
        assert_eq!((table.budget().messages_held(), table.budget().bytes_held()), (0, 0));
    }
}
