//! Takes in what comes on the inboxes of a source, the moment it comes, and says from when its lease counts.
//!
//! A message may lie in a socket while this process stands still (stopped by a signal, a suspended machine, a starved
//! runtime), and the server's clock on it runs. So a tick measures whether we stood still; if we did, what comes counts
//! from before the standstill, until a marker that we send to ourselves has come back: all that the server had sent
//! before is in front of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::Stream as _;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pull::{PullLimits, Pulls, SLOTS};
use super::session::{RequestError, Session};

/// Messages that are taken in one go before they are handed over.
const CHUNK: usize = 256;
/// The token of markers, where pulls have a number.
const MARKER: &str = "marker";

/// The inboxes of a source on one session, with the task that empties them. The task ends when this is dropped.
#[derive(Debug)]
pub(super) struct Inboxes {
    /// The session that they are on.
    pub(super) session: Arc<Session>,
    /// One a slot, without the last token.
    pub(super) prefixes: [String; SLOTS],
    pulls: Arc<Mutex<Pulls>>,
    arrived: Arc<Notify>,
    /// Cancelled when this is dropped.
    stopped: CancellationToken,
    _stop: DropGuard,
}

impl Inboxes {
    /// Listens on new inboxes.
    pub(super) async fn open(
        session: Arc<Session>,
        limits: PullLimits,
        standstill: Duration,
    ) -> Result<Self, RequestError> {
        let prefixes: [String; SLOTS] = std::array::from_fn(|_| session.inbox());
        let mut subscribers = Vec::with_capacity(SLOTS);
        for prefix in &prefixes {
            subscribers.push(session.subscribe(format!("{prefix}.*")).await?);
        }
        let pulls = Arc::new(Mutex::new(Pulls::new(limits)));
        let arrived = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let pump = Pump {
            session: Arc::clone(&session),
            markers: prefixes.iter().map(|prefix| format!("{prefix}.{MARKER}")).collect(),
            subscribers,
            pulls: Arc::clone(&pulls),
            arrived: Arc::clone(&arrived),
            clock: Clock::new(standstill, Instant::now()),
        };
        // Not joined: it holds nothing that must be finished, and ends with the guard or the session.
        tokio::spawn(pump.run(stop.clone()));
        Ok(Self { session, prefixes, pulls, arrived, stopped: stop.clone(), _stop: stop.drop_guard() })
    }

    /// The pulls.
    pub(super) fn pulls(&self) -> MutexGuard<'_, Pulls> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, for whoever has no turn.
    pub(super) fn shared_pulls(&self) -> &Arc<Mutex<Pulls>> {
        &self.pulls
    }

    /// Woken when something came.
    pub(super) fn arrived(&self) -> &Arc<Notify> {
        &self.arrived
    }

    /// Cancelled when these are dropped.
    pub(super) fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }
}

struct Pump {
    session: Arc<Session>,
    markers: Vec<String>,
    subscribers: Vec<Subscriber>,
    pulls: Arc<Mutex<Pulls>>,
    arrived: Arc<Notify>,
    clock: Clock,
}

impl Pump {
    async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.clock.standstill / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut chunk: Vec<(usize, Message)> = Vec::with_capacity(CHUNK);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                open = fill(&mut self.subscribers, &mut chunk) => {
                    let now = Instant::now();
                    self.notice(now).await;
                    self.hand_over(&mut chunk, now);
                    if !open {
                        // The connection ended, and all that came over it was handed over.
                        self.arrived.notify_one();
                        return;
                    }
                }
                _ = tick.tick() => self.notice(Instant::now()).await,
            }
        }
    }

    /// Sends the markers when we stood still.
    async fn notice(&mut self, now: Instant) {
        if !self.clock.tick(now, self.subscribers.len()) {
            return;
        }
        tracing::warn!("this process stood still; what came meanwhile counts from before");
        for marker in &self.markers {
            // If it cannot be sent the session is over, and with it all that it carried.
            let _ = self.session.send(marker.as_str().into(), Bytes::copy_from_slice(&self.clock.round())).await;
        }
    }

    fn hand_over(&mut self, chunk: &mut Vec<(usize, Message)>, now: Instant) {
        if chunk.is_empty() {
            return;
        }
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, message) in chunk.drain(..) {
            if message.status.is_none() && message.reply.is_none() && message.subject.ends_with(MARKER) {
                self.clock.marker(slot, &message.payload);
            } else {
                pulls.take_in(slot, message, self.clock.arrival(slot, now));
            }
        }
        drop(pulls);
        self.arrived.notify_one();
    }
}

/// Waits for messages and takes all that are there, up to the size of a chunk. False when a stream has ended.
async fn fill(subscribers: &mut [Subscriber], chunk: &mut Vec<(usize, Message)>) -> bool {
    std::future::poll_fn(|ctx| {
        for (slot, subscriber) in subscribers.iter_mut().enumerate() {
            while chunk.len() < CHUNK {
                match std::pin::Pin::new(&mut *subscriber).poll_next(ctx) {
                    Poll::Ready(Some(message)) => chunk.push((slot, message)),
                    Poll::Ready(None) => return Poll::Ready(false),
                    Poll::Pending => break,
                }
            }
        }
        if chunk.is_empty() { Poll::Pending } else { Poll::Ready(true) }
    })
    .await
}

/// Knows from when a message's lease counts.
#[derive(Debug)]
struct Clock {
    /// A gap between two ticks that counts as a standstill.
    standstill: Duration,
    last: Instant,
    round: u64,
    /// For each slot that has not seen the marker of this round: when the standstill began.
    since: Vec<Option<Instant>>,
}

impl Clock {
    fn new(standstill: Duration, now: Instant) -> Self {
        Self { standstill, last: now, round: 0, since: Vec::new() }
    }

    /// Notes that we are alive. True when we were not for a while: markers are to be sent.
    fn tick(&mut self, now: Instant, slots: usize) -> bool {
        let before = std::mem::replace(&mut self.last, now);
        if now.duration_since(before) < self.standstill {
            return false;
        }
        self.round += 1;
        self.since.resize(slots, None);
        for since in &mut self.since {
            since.get_or_insert(before);
        }
        true
    }

    fn round(&self) -> [u8; 8] {
        self.round.to_le_bytes()
    }

    /// A marker came back.
    fn marker(&mut self, slot: usize, payload: &[u8]) {
        if payload == self.round()
            && let Some(since) = self.since.get_mut(slot)
        {
            *since = None;
        }
    }

    /// From when a message that came now counts.
    fn arrival(&self, slot: usize, now: Instant) -> Instant {
        self.since.get(slot).copied().flatten().unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lay_in_the_socket_while_we_stood_still_counts_from_before() {
        // The story: a host was stopped for twice the lease. On waking it read messages from its socket and took them
        // for fresh, while another host was running them.
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut clock = Clock::new(second, start);
        assert!(!clock.tick(start + second / 4, SLOTS));
        assert_eq!(clock.arrival(0, start + second / 2), start + second / 2);

        let woken = start + second * 60;
        assert!(clock.tick(woken, SLOTS), "a standstill was not noticed");
        assert_eq!(clock.arrival(0, woken), start + second / 4);
        clock.marker(0, &[0; 8]);
        assert_eq!(clock.arrival(0, woken), start + second / 4, "a marker of another round proves nothing");
        let round = clock.round();
        clock.marker(0, &round);
        assert_eq!(clock.arrival(0, woken), woken);
        assert_eq!(clock.arrival(1, woken), start + second / 4, "each inbox has its own marker");

        // Stopped again before the marker came: it counts from before the first time.
        assert!(clock.tick(woken + second * 10, SLOTS));
        assert_eq!(clock.arrival(1, woken + second * 10), start + second / 4);
    }
}
