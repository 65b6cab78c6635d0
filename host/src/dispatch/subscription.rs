//! One subscription at work: its stages started, looked at, drained.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{Backlog, PastError, PastPage, PastQuery, ReceiveError, SubscribeError};
use crate::dispatch::budget::Budget;
use crate::dispatch::circuit::OpenCircuit;
use crate::dispatch::decided::Decided;
use crate::dispatch::gate::Pause;
use crate::dispatch::in_flight::{InFlight, Table};
use crate::dispatch::keep::keep;
use crate::dispatch::process::process;
use crate::dispatch::receive::{Line, receive};
use crate::dispatch::rest::WayBack;
use crate::dispatch::settle::settle;
use crate::dispatch::shared::{Links, Setup, Shared, Tuning};
use crate::dispatch::stall::Stall;
use crate::dispatch::turns::Turns;
use crate::telemetry::SubscriptionCounts;

/// How long the last confirmations of a drain may take once nothing runs any more.
const FLUSH: Duration = Duration::from_secs(5);

/// A subscription that receives, processes and settles. Dropping it stops all of that at once, with no false
/// acknowledgement; [`Subscription::drain`] stops it in order.
pub struct Subscription {
    shared: Arc<Shared>,
    stop: CancellationToken,
    line: Line,
    in_line: async_channel::Receiver<Arc<InFlight>>,
    /// Taken by the drain.
    stages: Mutex<Option<Stages>>,
}

/// The tasks of a subscription. Dropping them stops them.
struct Stages {
    decided: mpsc::Sender<Decided>,
    receiving: JoinSet<()>,
    processing: JoinSet<()>,
    keeping: JoinSet<()>,
    settling: JoinSet<()>,
}

/// What a drain came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Drained {
    /// Runs that were stopped at the deadline, and deliveries that had not run: all returned uncounted.
    pub returned: u64,
    /// Deliveries that could not be returned in time; the broker hands them over again when their leases end.
    pub left: usize,
    /// All counts at the end.
    pub counts: SubscriptionCounts,
}

impl Subscription {
    /// Binds to the broker and starts the stages.
    ///
    /// # Errors
    /// What the broker says against the subscription.
    pub async fn start(setup: Setup, links: Links, turns: &Arc<Turns>) -> Result<Self, SubscribeError> {
        let source = links.broker.subscribe(&setup.spec).await?;
        let room = setup.max_in_flight.get();
        links.metrics.set_concurrency(setup.concurrency.get());
        let table = Table::new(Budget::new(room, setup.max_in_flight_bytes.get(), Arc::clone(&links.metrics)));
        let shared = Arc::new(Shared::new(setup, links, source, table, turns.seat()));
        Ok(Self::spawn(shared, room))
    }

    fn spawn(shared: Arc<Shared>, room: usize) -> Self {
        // Second deliveries that take over come on top of what is held: they are as many at the most.
        let (line, in_line) = async_channel::bounded::<Arc<InFlight>>(room.saturating_mul(2));
        let (decided, to_settle) = mpsc::channel(room.saturating_mul(2));
        let stop = CancellationToken::new();
        let mut receiving = JoinSet::new();
        let back = WayBack { in_line: in_line.clone(), decided: decided.clone() };
        receiving.spawn(receive(Arc::clone(&shared), line.clone(), back, stop.clone()));
        let mut processing = JoinSet::new();
        hire(&mut processing, &shared, &in_line, &decided, shared.setup.concurrency.get());
        let mut keeping = JoinSet::new();
        keeping.spawn(keep(Arc::clone(&shared)));
        let mut settling = JoinSet::new();
        settling.spawn(settle(Arc::clone(&shared), to_settle, line.clone()));
        let stages = Mutex::new(Some(Stages { decided, receiving, processing, keeping, settling }));
        Self { shared, stop, line, in_line, stages }
    }

    /// Changes what can be changed without stopping anything: workers come, or leave after the message that they have;
    /// the next decisions are made by the new policy. After a drain it changes nothing.
    pub fn tune(&self, tuning: Tuning) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stages) = stages.as_mut() else { return };
        self.shared.set_policy(tuning.policy);
        self.shared.stall.set_after(tuning.stalled_after);
        self.shared.circuit.set_policy(tuning.circuit, Instant::now(), self.shared.setup.clock.now());
        self.shared.table.budget().limit_bytes(tuning.max_in_flight_bytes.get());
        self.shared.metrics.set_concurrency(tuning.concurrency.get());
        // Those that have left are not kept until the drain.
        while stages.processing.try_join_next().is_some() {}
        hire(&mut stages.processing, &self.shared, &self.in_line, &stages.decided, tuning.concurrency.get());
    }

    /// The subscription's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.setup.identity.subscription
    }

    /// The handler's name.
    #[must_use]
    pub fn handler_name(&self) -> &str {
        &self.shared.setup.identity.handler
    }

    /// The broker's name in the configuration.
    #[must_use]
    pub fn broker_name(&self) -> &str {
        &self.shared.setup.identity.broker
    }

    /// What happened so far, counted.
    #[must_use]
    pub fn counts(&self) -> SubscriptionCounts {
        self.shared.metrics.counts()
    }

    /// Messages and bytes that are held now.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let budget = self.shared.table.budget();
        (budget.messages_held(), budget.bytes_held())
    }

    /// Why nothing new is taken, when that is so.
    #[must_use]
    pub fn paused(&self) -> Option<Pause> {
        self.shared.gate.closed(Instant::now())
    }

    /// Why there is nothing on the broker that it could receive from, for a person; it goes on trying.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.shared.lost()
    }

    /// Why dead letters are held and tried again and again, for a person; `None` while all are taken.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.shared.refused.shown()
    }

    /// Why nothing is taken, or one message at a time to see how it goes: too many failed.
    #[must_use]
    pub fn open_circuit(&self) -> Option<OpenCircuit> {
        self.shared.circuit.shown(Instant::now(), self.shared.setup.clock.now())
    }

    /// Closes the circuit, as somebody says that it is over. False when it was closed.
    pub fn close_circuit(&self) -> bool {
        self.shared.circuit.close_by_hand(Instant::now(), self.shared.setup.clock.now())
    }

    /// The stall that is on: as many messages are held as may be handled at once, and none of them ends.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        self.shared.stall.shown()
    }

    /// Looks whether it gets anywhere, and what keeps it from taking messages. To be asked every few seconds.
    pub fn watch(&self) {
        let now = Instant::now();
        self.shared.stall.look(&self.shared, now);
        if !self.stop.is_cancelled() {
            self.shared.metrics.set_held_up(self.shared.held_up(now));
        }
    }

    /// A page of the messages that its stream still has; looking changes nothing.
    ///
    /// # Errors
    /// When the broker is away, or has no way to do it.
    pub async fn past(&self, query: &PastQuery) -> Result<PastPage, PastError> {
        self.shared.source().past(query).await
    }

    /// How much waits on the broker; shown in the metrics from then on.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn backlog(&self) -> Result<Backlog, ReceiveError> {
        let backlog = self.shared.source().backlog().await?;
        self.shared.metrics.set_backlog(&backlog, self.shared.setup.clock.now());
        Ok(backlog)
    }

    /// Stops in order: takes nothing new, returns what has not run, lets what runs finish until the deadline, stops the
    /// rest and returns it uncounted, waits for the last confirmations.
    pub async fn drain(&self, deadline: Instant) -> Drained {
        let before = self.shared.metrics.counts().returned;
        self.stop.cancel();
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stages) = stages {
            self.wind_down(stages, deadline).await;
        }
        let counts = self.shared.metrics.counts();
        let left = self.shared.table.snapshot().len();
        Drained { returned: counts.returned - before, left, counts }
    }

    async fn wind_down(&self, mut stages: Stages, deadline: Instant) {
        self.shared.stall.end(&self.shared);
        self.shared.metrics.set_held_up(None);
        while stages.receiving.join_next().await.is_some() {}
        // The workers may still take from the line while it is emptied: what they take, they finish.
        self.line.close();
        while let Ok(entry) = self.in_line.try_recv() {
            self.give_back(&stages.decided, &entry);
        }
        let finished = async { while stages.processing.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, finished).await.is_err() {
            stages.processing.shutdown().await;
        }
        for entry in self.shared.table.snapshot() {
            if !entry.is_decided() {
                self.give_back(&stages.decided, &entry);
            }
        }
        // The settle stage ends when nobody can hand it anything any more.
        drop(stages.decided);
        let flushed = async { while stages.settling.join_next().await.is_some() {} };
        // Past the time for the last confirmations, what is unknown stays with the broker.
        let _ = tokio::time::timeout(FLUSH, flushed).await;
        stages.settling.shutdown().await;
        stages.keeping.shutdown().await;
    }

    /// Hands a delivery that did not run, or whose run was stopped, to the settle stage to be returned.
    fn give_back(&self, decided: &mpsc::Sender<Decided>, entry: &Arc<InFlight>) {
        entry.mark_decided();
        if decided.try_send(Decided::interrupted(&self.shared, entry)).is_err() {
            tracing::error!(subscription = self.name(), "the settle stage is gone");
        }
    }
}

/// Starts the workers that are missing for so many.
fn hire(
    processing: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    in_line: &async_channel::Receiver<Arc<InFlight>>,
    decided: &mpsc::Sender<Decided>,
    wanted: usize,
) {
    for number in 0..shared.crew.resize(wanted) {
        let seed = shared.setup.seed.wrapping_add(number as u64);
        processing.spawn(process(Arc::clone(shared), in_line.clone(), decided.clone(), seed));
    }
}
