//! Connections that wait for the next request: a new one costs some round trips, and a port for a minute.
//!
//! Invariants:
//! - A connection is used again by the version alone that made it, for the very same host.
//! - What waits is bounded in number and in time, and makes room when there is none for a new connection.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::client::{Client, Connection};
use crate::sandbox::granted::hosts::Target;

/// The most that wait, of all versions: an eighth of the connections that there may be.
const MOST: usize = 64;
/// The longest wait. Servers close a connection that they hear nothing of after five seconds at the earliest (Node), and
/// a request that meets the close is lost.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// The longest that one is used: after that the name is looked up anew.
const LONGEST_LIFE: Duration = Duration::from_secs(60);

/// All that wait, the oldest first.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<Waiting>>);

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
        self.with(|waiting| {
            waiting.retain(|one| one.is_fresh(now));
            let mine = |one: &Waiting| {
                std::ptr::eq(one.client.as_ptr(), Arc::as_ptr(client))
                    && one.target == *target
                    && one.connection.is_ready()
            };
            // The newest: the others come to their end.
            let place = waiting.iter().rposition(mine)?;
            Some(waiting.remove(place).connection)
        })
    }

    /// Keeps one for the next request.
    pub(super) fn keep(&self, client: &Arc<Client>, target: Target, connection: Connection) {
        let now = Instant::now();
        if now.saturating_duration_since(connection.made_at()) > LONGEST_LIFE {
            return;
        }
        self.with(|waiting| {
            waiting.retain(|one| one.is_fresh(now));
            if waiting.len() >= MOST {
                waiting.remove(0);
            }
            waiting.push(Waiting { client: Arc::downgrade(client), target, connection, since: now });
        });
    }

    /// Drops the one that has waited longest, for somebody who has no place.
    pub(super) fn make_room(&self) {
        drop(self.with(|waiting| if waiting.is_empty() { None } else { Some(waiting.remove(0)) }));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Waiting>) -> T) -> T {
        // What the lock guards is whole after each step.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Waiting {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) <= LONGEST_WAIT && !self.connection.is_closed()
    }
}
