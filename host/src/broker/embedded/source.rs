//! A subscription's end of the embedded queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::Inner;
use super::error::Failure;
use super::inbox::{Bound, Extend, Op, Request, SettleGroup, Waiter};
use super::prepare::{Action, Settling, prepare_settle};
use super::reader::Waiting;
use super::serve::margin;
use crate::broker::{
    Backlog, Delivery, Demand, PastError, PastPage, PastQuery, Receipt, ReceiveError, Retries, Settle, SettleError,
    Source,
};

/// How long a receive waits for the first message.
const LONG_WAIT: Duration = Duration::from_secs(5);

pub(super) struct EmbeddedSource {
    inner: Arc<Inner>,
    name: String,
    bound: Bound,
    lease: Duration,
}

impl EmbeddedSource {
    pub(super) fn new(inner: Arc<Inner>, name: String, bound: Bound, lease: Duration) -> Self {
        Self { inner, name, bound, lease }
    }

    fn lease_of(&self, receipt: &Receipt) -> u64 {
        self.inner.shared.epoch.lease(&receipt.token)
    }
}

#[async_trait]
impl Source for EmbeddedSource {
    // Dropped while it waits, the writer skips it; dropped with deliveries on the way, they go back uncounted.
    async fn receive(&self, demand: Demand) -> Result<Vec<Delivery>, ReceiveError> {
        let (reply, served) = tokio::sync::oneshot::channel();
        let waiter = Waiter {
            subscription: self.bound.subscription,
            demand,
            lease: self.lease,
            until: Instant::now() + LONG_WAIT,
            reply,
        };
        self.inner.inbox.push(Op::Receive(waiter), 0).await.map_err(|failure| failure.receive())?;
        let handover = served.await.map_err(|_gone| Failure::Closed.receive())??;
        Ok(handover.accept())
    }

    // Dropped, the settlements are carried out all the same or not at all.
    async fn settle(&self, group: Vec<Settle>) -> Vec<Result<(), SettleError>> {
        let mut answers = Vec::with_capacity(group.len());
        let mut prepared = Vec::with_capacity(group.len());
        let mut bytes = 0;
        for settle in group {
            let token = self.lease_of(&settle.receipt);
            match prepare_settle(settle, token, self.inner.max_payload) {
                Ok(settling) => {
                    bytes += settling_bytes(&settling);
                    prepared.push(settling);
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let expected = prepared.len();
        let mut settled = Vec::new();
        if expected > 0 {
            let input = SettleGroup { subscription: self.bound.subscription, group: prepared };
            let (request, answered) = Request::new(input);
            settled = match self.inner.inbox.push(Op::Settle(request), bytes).await {
                Ok(()) => answered.await.unwrap_or_default(),
                Err(_shut) => Vec::new(),
            };
        }
        let mut settled = settled.into_iter();
        let unknown = || Err(Failure::Closed.settle());
        answers.into_iter().map(|answer| answer.or_else(|| settled.next()).unwrap_or_else(unknown)).collect()
    }

    async fn extend(&self, receipts: &[Receipt]) -> Vec<Option<Instant>> {
        let sent = Instant::now();
        let leases = receipts.iter().map(|receipt| (receipt.sequence.cast_signed(), self.lease_of(receipt))).collect();
        let input = Extend { subscription: self.bound.subscription, leases, ends: sent + self.lease };
        let (request, answered) = Request::new(input);
        let held = match self.inner.inbox.push(Op::Extend(request), 0).await {
            Ok(()) => answered.await.unwrap_or_default(),
            Err(_shut) => Vec::new(),
        };
        let ends = sent + self.lease.saturating_sub(margin(self.lease));
        let mut held = held.into_iter();
        receipts.iter().map(|_| held.next().unwrap_or(false).then_some(ends)).collect()
    }

    fn take_duplicates(&self) -> u64 {
        self.bound.gauge.take_duplicates()
    }

    async fn backlog(&self) -> Result<Backlog, ReceiveError> {
        let (ready, pending, floor) = self.bound.gauge.get();
        // Nothing to look for: most subscriptions of a host are asked for this every two seconds with nothing to do.
        if (ready, pending, floor) == (0, 0, i64::MAX) {
            return Ok(Backlog { retries: Some(Retries::default()), ..Backlog::default() });
        }
        let waiting = self.inner.reader.waiting(self.name.clone(), floor).await.map_err(ReceiveError::Away)?;
        let Waiting { oldest, next_due } = waiting;
        Ok(Backlog { ready, pending, oldest, limit: None, retries: Some(Retries { next_due }) })
    }

    async fn past(&self, query: &PastQuery) -> Result<PastPage, PastError> {
        self.inner.reader.past(self.name.clone(), *query).await
    }

    fn lease_duration(&self) -> Duration {
        self.lease
    }
}

/// What a settlement holds of the inbox.
fn settling_bytes(settling: &Settling) -> usize {
    match &settling.action {
        Action::Ack { outputs } => {
            outputs.iter().map(|output| output.body.len() + output.headers.len() + output.subject.len()).sum()
        }
        Action::Return { progress, .. } => progress.len(),
        Action::DeadLetter(row) => row.body.len() + row.headers.len() + row.record.len(),
    }
}
