//! The bounded way to the writer: operations in, answers out.
//!
//! Invariants:
//! - What is in the inbox is bounded in bytes and operations: an operation is admitted before it is queued.
//! - Every operation is answered exactly once, or its answer channel is dropped, which its caller reads as "unknown".
//! - Deliveries that nobody took (the caller's future was dropped) come back at once, and do not count.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::Gauge;
use super::error::Failure;
use super::filters::Filters;
use super::prepare::{DeadRow, Prepared, Settling};
use crate::broker::{
    DeadLetterError, Delivery, Demand, ForgetError, Left, PublishError, Published, ReceiveError, SendBack, SettleError,
};

/// What the inbox holds at most, in units of [`UNIT_BYTES`]: 32 MiB, or 8,192 small operations.
const UNITS: u32 = 8192;
/// A small message and its fellows.
const UNIT_BYTES: usize = 4096;

pub(super) struct Inbox {
    queue: Mutex<Queue>,
    arrived: Condvar,
    admission: Arc<Semaphore>,
}

struct Queue {
    operations: VecDeque<Operation>,
    /// The writer sleeps until there are so many.
    awaited: usize,
    shut: Option<Failure>,
}

/// How long a group that has begun to form may wait for more.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gather {
    /// For so many operations,
    pub(super) operations: usize,
    /// but no longer than this.
    pub(super) at_most: Duration,
}

/// An operation with its share of the inbox.
struct Operation {
    op: Op,
    _admitted: Option<OwnedSemaphorePermit>,
}

/// What the writer is asked to do.
pub(super) enum Op {
    Publish(Request<Vec<Prepared>, Vec<Result<Published, PublishError>>>),
    Settle(Request<SettleGroup, Vec<Result<(), SettleError>>>),
    Extend(Request<Extend, Vec<bool>>),
    Bind(Request<Bind, Result<Bound, Failure>>),
    Redrive(Request<Redrive, Result<Published, DeadLetterError>>),
    Discard(Request<String, Result<(), DeadLetterError>>),
    Restore(Request<Restore, Result<bool, DeadLetterError>>),
    ForgetRedriven(Request<Forgotten, Result<usize, DeadLetterError>>),
    Forget(Request<Forget, Result<(), ForgetError>>),
    Receive(Waiter),
    GiveBack(Vec<u64>),
}

/// A question with its answer on the way: given only after the commit.
pub(super) struct Request<T, R> {
    pub(super) input: T,
    pub(super) answer: Option<R>,
    reply: oneshot::Sender<(R, T)>,
}

/// The answer to a question, when it comes. What was asked comes back with it and is freed here, by whoever asked: the
/// writer's one thread has better things to do.
pub(super) struct Answered<T, R>(oneshot::Receiver<(R, T)>);

impl<T, R> Future for Answered<T, R> {
    /// `Err`: the writer has gone, and what became of the question is not known.
    type Output = Result<R, oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_ok(|(answer, _freed)| answer)
    }
}

pub(super) struct SettleGroup {
    pub(super) subscription: i64,
    pub(super) group: Vec<Settling>,
}

pub(super) struct Extend {
    pub(super) subscription: i64,
    pub(super) leases: Vec<(i64, u64)>,
    pub(super) ends: Instant,
}

pub(super) struct Bind {
    pub(super) name: String,
    pub(super) filters: Filters,
    /// How many kept messages up to a sequence the filters want; counted off the writer's thread.
    pub(super) counted: Counted,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) through: i64,
    pub(super) messages: i64,
}

#[derive(Clone)]
pub(super) struct Bound {
    pub(super) subscription: i64,
    pub(super) gauge: Arc<Gauge>,
}

/// A subscription that is to hold nothing any more.
pub(super) struct Forget {
    pub(super) name: String,
    pub(super) left: Left,
}

pub(super) struct Redrive {
    pub(super) id: String,
    pub(super) how: SendBack,
}

/// A dead letter that was kept elsewhere.
pub(super) struct Restore {
    pub(super) subscription: String,
    pub(super) row: DeadRow,
}

/// Dead letters that were sent back before a time are to go.
pub(super) struct Forgotten {
    pub(super) before_us: i64,
    pub(super) at_most: i64,
}

/// A caller of `receive` that waits for messages.
pub(super) struct Waiter {
    pub(super) subscription: i64,
    pub(super) demand: Demand,
    pub(super) lease: Duration,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Result<Handover, ReceiveError>>,
}

/// Deliveries on their way to a caller. Dropped on the way, they go back.
pub(super) struct Handover {
    deliveries: Vec<Delivery>,
    tokens: Vec<u64>,
    inbox: Arc<Inbox>,
}

impl<T, R> Request<T, R> {
    pub(super) fn new(input: T) -> (Self, Answered<T, R>) {
        let (reply, answered) = oneshot::channel();
        (Self { input, answer: None, reply }, Answered(answered))
    }

    fn send(self) {
        if let Some(answer) = self.answer {
            // The caller may have gone; what it asked for is done all the same.
            let _gone = self.reply.send((answer, self.input));
        }
    }

    fn send_instead(self, answer: R) {
        let _gone = self.reply.send((answer, self.input));
    }
}

impl Op {
    /// How much of a group it fills: about the rows it writes.
    fn weight(&self) -> usize {
        match self {
            Self::Publish(request) => request.input.len().max(1),
            Self::Settle(request) => request.input.group.len().max(1),
            Self::GiveBack(tokens) => tokens.len().max(1),
            Self::Extend(_)
            | Self::Bind(_)
            | Self::Redrive(_)
            | Self::Discard(_)
            | Self::Restore(_)
            | Self::ForgetRedriven(_)
            | Self::Forget(_)
            | Self::Receive(_) => 1,
        }
    }

    /// Gives the answers out. Only after the commit.
    pub(super) fn answer(self) {
        match self {
            Self::Publish(request) => request.send(),
            Self::Settle(request) => request.send(),
            Self::Extend(request) => request.send(),
            Self::Bind(request) => request.send(),
            Self::Redrive(request) => request.send(),
            Self::Discard(request) => request.send(),
            Self::Restore(request) => request.send(),
            Self::ForgetRedriven(request) => request.send(),
            Self::Forget(request) => request.send(),
            Self::Receive(_) | Self::GiveBack(_) => {}
        }
    }

    /// Says that nothing of it was stored.
    pub(super) fn fail(self, failure: &Failure) {
        match self {
            Self::Publish(request) => {
                let answer = request.input.iter().map(|_| Err(failure.publish())).collect();
                request.send_instead(answer);
            }
            Self::Settle(request) => {
                let answer = request.input.group.iter().map(|_| Err(failure.settle())).collect();
                request.send_instead(answer);
            }
            Self::Extend(request) => {
                let answer = request.input.leases.iter().map(|_| false).collect();
                request.send_instead(answer);
            }
            Self::Bind(request) => request.send_instead(Err(failure.clone())),
            Self::Redrive(request) => request.send_instead(Err(failure.dead_letter())),
            Self::Discard(request) => request.send_instead(Err(failure.dead_letter())),
            Self::Restore(request) => request.send_instead(Err(failure.dead_letter())),
            Self::ForgetRedriven(request) => request.send_instead(Err(failure.dead_letter())),
            Self::Forget(request) => request.send_instead(Err(ForgetError::Store(failure.to_string()))),
            Self::Receive(waiter) => {
                let _gone = waiter.reply.send(Err(failure.receive()));
            }
            Self::GiveBack(_) => {}
        }
    }
}

impl Handover {
    pub(super) fn new(inbox: Arc<Inbox>, deliveries: Vec<Delivery>, tokens: Vec<u64>) -> Self {
        Self { deliveries, tokens, inbox }
    }

    pub(super) fn accept(mut self) -> Vec<Delivery> {
        self.tokens.clear();
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if !self.tokens.is_empty() {
            // Not admitted, for a drop cannot wait; bounded all the same, by what can be on its way to receivers.
            // A queue that is shut needs no word of it: what was handed out comes back when it opens.
            let _shut = self.inbox.push_unadmitted(Op::GiveBack(std::mem::take(&mut self.tokens)));
        }
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { operations: VecDeque::new(), awaited: 1, shut: None }),
            arrived: Condvar::new(),
            admission: Arc::new(Semaphore::new(UNITS as usize)),
        }
    }

    /// Waits for room, then queues an operation that holds so many bytes.
    pub(super) async fn push(&self, op: Op, bytes: usize) -> Result<(), Failure> {
        let units = u32::try_from(1 + bytes / UNIT_BYTES).unwrap_or(UNITS).min(UNITS);
        let admitted =
            Arc::clone(&self.admission).acquire_many_owned(units).await.map_err(|_closed| Failure::Closed)?;
        self.put(Operation { op, _admitted: Some(admitted) })
    }

    fn push_unadmitted(&self, op: Op) -> Result<(), Failure> {
        self.put(Operation { op, _admitted: None })
    }

    fn put(&self, operation: Operation) -> Result<(), Failure> {
        let mut queue = self.lock();
        if let Some(failure) = &queue.shut {
            let failure = failure.clone();
            drop(queue);
            // Answered here: no caller of a queue that is shut waits for a writer that is gone.
            operation.op.fail(&failure);
            return Ok(());
        }
        queue.operations.push_back(operation);
        let enough = queue.operations.len() >= queue.awaited;
        drop(queue);
        if enough {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Lets nothing more in. What is in already is still worked off, or failed by [`Inbox::fail_rest`].
    pub(super) fn shut(&self, failure: Failure) {
        self.lock().shut.get_or_insert(failure);
        self.arrived.notify_one();
    }

    /// Takes operations up to a weight; waits for the first of them until an instant, and then for its fellows.
    /// `None`: shut and empty.
    pub(super) fn take(&self, weight: usize, until: std::time::Instant, gather: Gather) -> Option<Vec<Op>> {
        let mut queue = self.wait_for(1, until, self.lock());
        if queue.operations.is_empty() {
            return if queue.shut.is_some() { None } else { Some(Vec::new()) };
        }
        if queue.operations.len() < gather.operations {
            queue = self.wait_for(gather.operations, std::time::Instant::now() + gather.at_most, queue);
        }
        let mut taken = Vec::new();
        let mut sum = 0;
        while sum < weight
            && let Some(operation) = queue.operations.pop_front()
        {
            sum += operation.op.weight();
            taken.push(operation.op);
        }
        Some(taken)
    }

    /// Answers everything that is still in with a failure.
    pub(super) fn fail_rest(&self, failure: &Failure) {
        loop {
            // In pieces, so that no answer is given under the lock.
            let Some(operation) = self.lock().operations.pop_front() else { return };
            operation.op.fail(failure);
        }
    }

    /// Sleeps until there are so many operations, the inbox is shut, or it is time.
    fn wait_for<'q>(
        &'q self,
        operations: usize,
        until: std::time::Instant,
        mut queue: MutexGuard<'q, Queue>,
    ) -> MutexGuard<'q, Queue> {
        queue.awaited = operations;
        while queue.operations.len() < operations && queue.shut.is_none() {
            let wait = until.saturating_duration_since(std::time::Instant::now());
            if wait.is_zero() {
                break;
            }
            queue = self.arrived.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.awaited = 1;
        queue
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements, so a panic elsewhere leaves nothing half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
