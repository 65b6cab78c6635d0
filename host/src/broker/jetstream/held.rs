//! What of a source is handed out: which message, until when, and on which connection it came.
//!
//! Invariants:
//! - A message is held once, however often it comes while its lease lasts.
//! - A sequence is held for the message that came with it last: a server that lost its newest messages gives their
//!   sequences to new ones, and what becomes of an earlier one says nothing about those.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::broker::done::MessageIdentity;

/// The connection on which a message came, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// The session's number.
    pub(super) session: u64,
    /// When it came at the latest.
    pub(super) at: Instant,
    /// How many losses of outputs or dead letters were found by then.
    pub(super) losses: u64,
}

/// All that is handed out.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_sequence: Mutex<HashMap<u64, Hold>>,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    message: MessageIdentity,
    origin: Origin,
    until: Instant,
}

/// All that is handed out, while more is added.
pub(super) struct Holding<'a> {
    by_sequence: MutexGuard<'a, HashMap<u64, Hold>>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Hold>> {
        self.by_sequence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to hold more. When there are more than so many, those whose time is over go first.
    pub(super) fn begin(&self, now: Instant, most: usize) -> Holding<'_> {
        let mut by_sequence = self.lock();
        if by_sequence.len() > most {
            by_sequence.retain(|_, hold| hold.until > now);
        }
        Holding { by_sequence }
    }

    /// Whether a sequence is held now.
    pub(super) fn holds(&self, sequence: u64, now: Instant) -> bool {
        self.lock().get(&sequence).is_some_and(|hold| hold.until > now)
    }

    /// Where each of some messages came from; `None`: it is not held, or its sequence is another message's by now.
    pub(super) fn origins(&self, messages: impl Iterator<Item = MessageIdentity>) -> Vec<Option<Origin>> {
        let held = self.lock();
        let origin = |message: MessageIdentity| {
            held.get(&message.sequence).filter(|hold| hold.message == message).map(|hold| hold.origin)
        };
        messages.map(origin).collect()
    }

    /// Holds a message anew that was fetched by its place, whether it is held or not.
    pub(super) fn renew(&self, message: MessageIdentity, origin: Origin, until: Instant) {
        self.lock().insert(message.sequence, Hold { message, origin, until });
    }

    /// Holds a message for longer, if it is held.
    pub(super) fn extend(&self, message: MessageIdentity, until: Instant) {
        if let Some(hold) = self.lock().get_mut(&message.sequence)
            && hold.message == message
        {
            hold.until = until.max(hold.until);
        }
    }

    /// Holds messages no more.
    pub(super) fn let_go(&self, messages: impl Iterator<Item = MessageIdentity>) {
        let mut held = self.lock();
        for message in messages {
            if let Entry::Occupied(entry) = held.entry(message.sequence)
                && entry.get().message == message
            {
                entry.remove();
            }
        }
    }
}

impl Holding<'_> {
    /// Holds a message that came; `false`: it is held already.
    pub(super) fn hold(&mut self, message: MessageIdentity, origin: Origin, until: Instant, now: Instant) -> bool {
        let hold = Hold { message, origin, until };
        match self.by_sequence.entry(message.sequence) {
            Entry::Occupied(entry) if entry.get().message == message && entry.get().until > now => false,
            entry => {
                entry.insert_entry(hold);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn at(stored: u64) -> MessageIdentity {
        MessageIdentity { sequence: 7, stored_at: SystemTime::UNIX_EPOCH + Duration::from_secs(stored) }
    }

    #[test]
    fn a_message_is_held_once_and_another_in_its_place_is_another() {
        let now = Instant::now();
        let (lease, origin) = (now + Duration::from_secs(10), |session| Origin { session, at: now, losses: 0 });
        let held = Held::default();
        assert!(held.begin(now, 10).hold(at(1), origin(1), lease, now));
        assert!(!held.begin(now, 10).hold(at(1), origin(2), lease, now), "it was handed out twice");
        assert_eq!(held.origins([at(1), at(2)].into_iter()), [Some(origin(1)), None]);

        assert!(held.begin(now, 10).hold(at(2), origin(2), lease, now), "another message was held back");
        held.let_go(std::iter::once(at(1)));
        held.extend(at(1), lease + Duration::from_secs(1));
        assert!(held.holds(7, now) && !held.holds(7, lease));
        assert_eq!(held.origins([at(1), at(2)].into_iter()), [None, Some(origin(2))]);
        held.extend(at(2), lease + Duration::from_secs(1));
        assert!(held.holds(7, lease));
        held.let_go(std::iter::once(at(2)));
        assert!(!held.holds(7, now));
    }

    #[test]
    fn what_is_over_is_held_no_more_and_makes_room() {
        let now = Instant::now();
        let lease = now + Duration::from_secs(10);
        let origin = Origin { session: 1, at: now, losses: 0 };
        let held = Held::default();
        assert!(held.begin(now, 10).hold(at(1), origin, lease, now));
        assert!(
            held.begin(lease, 10).hold(at(1), origin, lease + Duration::from_secs(10), lease),
            "its lease was over"
        );
        drop(held.begin(lease + Duration::from_secs(10), 0));
        assert_eq!(held.origins(std::iter::once(at(1))), [None]);
    }
}
