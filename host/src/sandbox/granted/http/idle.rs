//! Connections that wait for the next request: a new one costs some round trips, and a port for a minute.
//!
//! Invariants:
//! - A connection is used again by the version alone that made it, for the very same host, and goes with that version.
//! - What waits is bounded in number, and in time whether or not anybody asks; and it makes room when there is none for a
//!   new connection.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::client::{Client, Connection};
use crate::sandbox::granted::hosts::Target;

/// The most that wait, of all versions: an eighth of the connections that there may be.
const MOST: usize = 64;
/// The longest wait. Servers close a connection that they hear nothing of after five seconds at the earliest (Node), and
/// a request that meets the close is lost.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// The longest that one is used: after that the name is looked up anew.
const LONGEST_LIFE: Duration = Duration::from_secs(60);

/// All that wait.
#[derive(Default)]
pub(super) struct Idle(Mutex<Bench>);

#[derive(Default)]
struct Bench {
    /// The one that has waited longest first.
    waiting: Vec<Waiting>,
    /// Drops what has waited too long, as long as anything waits.
    sweeper: Option<AbortOnDropHandle<()>>,
}

struct Waiting {
    client: Weak<Client>,
    target: Target,
    connection: Connection,
    since: Instant,
}

impl Idle {
    /// One to that host, that waits for a request of this client.
    pub(super) fn take(&self, client: &Arc<Client>, target: &Target) -> Option<Connection> {
        let now = Instant::now();
        self.with(|bench| {
            bench.waiting.retain(|one| one.is_fresh(now));
            let mine =
                |one: &Waiting| one.is_of(Arc::as_ptr(client)) && one.target == *target && one.connection.is_ready();
            // The newest: the others come to their end.
            let place = bench.waiting.iter().rposition(mine)?;
            Some(bench.waiting.remove(place).connection)
        })
    }

    /// Keeps one for the next request.
    pub(super) fn keep(self: &Arc<Self>, client: &Arc<Client>, target: Target, connection: Connection) {
        let now = Instant::now();
        let (old, runtime) =
            (now.saturating_duration_since(connection.made_at()) > LONGEST_LIFE, Handle::try_current());
        // Without a runtime there is nobody to sweep, and nobody to ask either.
        let Some(runtime) = runtime.ok().filter(|_| !old) else { return };
        self.with(|bench| {
            bench.waiting.retain(|one| one.is_fresh(now));
            if bench.waiting.len() >= MOST {
                bench.waiting.remove(0);
            }
            bench.waiting.push(Waiting { client: Arc::downgrade(client), target, connection, since: now });
            if bench.sweeper.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
                let sweeper = runtime.spawn(sweep(Arc::downgrade(self), now + LONGEST_WAIT));
                bench.sweeper = Some(AbortOnDropHandle::new(sweeper));
            }
        });
    }

    /// Drops the one that has waited longest, for somebody who has no place.
    pub(super) fn make_room(&self) {
        drop(self.with(|bench| if bench.waiting.is_empty() { None } else { Some(bench.waiting.remove(0)) }));
    }

    /// Drops those of a client that goes.
    pub(super) fn forget(&self, client: *const Client) {
        self.with(|bench| bench.waiting.retain(|one| !one.is_of(client)));
    }

    /// Drops what has waited too long. When the next one will have; `None`: nothing waits, and whoever keeps the next one
    /// starts a sweeper.
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        self.with(|bench| {
            bench.waiting.retain(|one| one.is_fresh(now));
            let next = bench.waiting.first().map(|one| one.since + LONGEST_WAIT);
            if next.is_none() {
                // It is this one that goes, and has nothing left to do.
                bench.sweeper = None;
            }
            next
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Bench) -> T) -> T {
        // What the lock guards is whole after each step.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn sweep(idle: Weak<Idle>, mut next: Instant) {
    loop {
        sleep_until(next).await;
        let Some(then) = idle.upgrade().and_then(|idle| idle.sweep()) else { return };
        next = then;
    }
}

impl Waiting {
    fn is_of(&self, client: *const Client) -> bool {
        std::ptr::eq(self.client.as_ptr(), client)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < LONGEST_WAIT && !self.connection.is_closed()
    }
}
