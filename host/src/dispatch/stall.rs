//! Whether a subscription gets anywhere: a stall is that as many messages are held as may be handled at once, and for a stated
//! time none of them comes to its end.
//!
//! A retry is no end: what runs, fails and comes again for ever gets nowhere either. Time in which nobody looked counts as one
//! step at the most, so that a process that stood still for an hour is not stalled when it goes on.
//!
//! Deciding is apart from looking: [`Watch`] has no clock.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::dispatch::shared::Shared;

/// What counts of the time between two looks, at the most.
const STEP: Duration = Duration::from_secs(5);

/// What a look finds.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    /// As many messages are held as may be handled at once.
    is_full: bool,
    /// Messages that have come to their end until now.
    ended: u64,
}

/// What changed with a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Began,
    Ended,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Watch {
    last: Option<Seen>,
    /// For how long it has been full without an end.
    stuck: Duration,
    is_stalled: bool,
}

impl Watch {
    /// Takes in what a look found, and says what changed with it.
    fn look(&mut self, seen: Seen, after: Duration) -> Option<Change> {
        let last = self.last.replace(seen);
        let goes_on = |last: Seen| last.is_full && seen.is_full && last.ended == seen.ended;
        match last {
            Some(last) if goes_on(last) => self.stuck += seen.at.saturating_duration_since(last.at).min(STEP),
            Some(_) | None => self.stuck = Duration::ZERO,
        }
        let is_stalled = self.stuck >= after;
        let change = match (self.is_stalled, is_stalled) {
            (false, true) => Some(Change::Began),
            (true, false) => Some(Change::Ended),
            (false, false) | (true, true) => None,
        };
        self.is_stalled = is_stalled;
        change
    }
}

/// A stall that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// When it was noticed.
    pub since: SystemTime,
    /// For how long there had been no end by then.
    pub after: Duration,
    /// Messages that were held.
    pub held: usize,
    /// The subject and the position of the message that had been held longest.
    pub oldest: Option<(String, u64)>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since: _, after, held, oldest } = self;
        let (after, plural) = (humantime::format_duration(*after), if *held == 1 { "" } else { "s" });
        write!(
            f,
            "{held} message{plural} held, as many as are handled at once, and none has come to its end for {after}"
        )?;
        match oldest {
            Some((subject, sequence)) => write!(f, "; the oldest is {subject} #{sequence}"),
            None => Ok(()),
        }
    }
}

/// Watches one subscription.
#[derive(Debug)]
pub(crate) struct StallWatch {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    after: Duration,
    watch: Watch,
    shown: Option<Stall>,
    has_ended: bool,
}

impl StallWatch {
    /// It is stalled when nothing came to its end for so long.
    pub(crate) fn new(after: Duration) -> Self {
        Self { state: Mutex::new(State { after, watch: Watch::default(), shown: None, has_ended: false }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Plain values that are replaced one by one.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on after so long.
    pub(crate) fn set_after(&self, after: Duration) {
        self.state().after = after;
    }

    /// The stall that is on.
    pub(crate) fn shown(&self) -> Option<Stall> {
        self.state().shown.clone()
    }

    /// It ends, and is stalled no more whatever it holds.
    pub(crate) fn end(&self, shared: &Shared) {
        let mut state = self.state();
        (state.has_ended, state.shown) = (true, None);
        shared.metrics.set_stalled(false);
    }

    /// Looks once more; what changes is logged and shown in the metrics.
    pub(crate) fn look(&self, shared: &Shared, now: Instant) {
        let budget = shared.table.budget();
        let held = budget.messages_held();
        let is_full = held > 0 && (held >= shared.crew.size() || budget.is_full_of_bytes());
        let seen = Seen { at: now, is_full, ended: shared.metrics.done_with() };
        let mut state = self.state();
        if state.has_ended {
            return;
        }
        let after = state.after;
        let subscription = &shared.setup.identity.subscription;
        match state.watch.look(seen, after) {
            Some(Change::Began) => {
                let entries = shared.table.snapshot();
                let oldest = entries.iter().min_by_key(|entry| entry.received_at);
                let oldest = oldest.map(|entry| (entry.delivery.message.subject.clone(), entry.sequence()));
                let stall = Stall { since: shared.setup.clock.now(), after, held, oldest };
                tracing::error!(%subscription, why = %stall, "the subscription is stalled");
                state.shown = Some(stall);
            }
            Some(Change::Ended) => {
                tracing::info!(%subscription, "the subscription is stalled no more");
                state.shown = None;
            }
            None => {}
        }
        shared.metrics.set_stalled(state.watch.is_stalled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(10);

    /// Looks at these moments: seconds from the start, whether it is full, how many have ended. What changed with the last.
    fn looked(looks: &[(u64, bool, u64)]) -> (Option<Change>, bool) {
        let (start, mut watch) = (Instant::now(), Watch::default());
        let mut change = None;
        for (at, is_full, ended) in looks {
            let seen = Seen { at: start + Duration::from_secs(*at), is_full: *is_full, ended: *ended };
            change = watch.look(seen, AFTER);
        }
        (change, watch.is_stalled)
    }

    #[test]
    fn it_is_stalled_when_it_is_full_and_nothing_ends_for_the_stated_time() {
        type Row = (&'static [(u64, bool, u64)], (Option<Change>, bool));
        let rows: [Row; 9] = [
            (&[(0, true, 5), (5, true, 5), (9, true, 5)], (None, false)),
            (&[(0, true, 5), (5, true, 5), (10, true, 5)], (Some(Change::Began), true)),
            (&[(0, true, 5), (5, true, 5), (10, true, 5), (12, true, 5)], (None, true)),
            // One message that ends is enough, and one that has room.
            (&[(0, true, 5), (5, true, 6), (10, true, 6)], (None, false)),
            (&[(0, true, 5), (5, false, 5), (10, true, 5)], (None, false)),
            (&[(0, false, 5), (5, false, 5), (10, false, 5), (15, false, 5)], (None, false)),
            (&[(0, true, 5), (5, true, 5), (10, true, 5), (12, true, 6)], (Some(Change::Ended), false)),
            (&[(0, true, 5), (5, true, 5), (10, true, 5), (12, false, 5)], (Some(Change::Ended), false)),
            // The process stood still: that was no time in which a message could have ended.
            (&[(0, true, 5), (3600, true, 5)], (None, false)),
        ];
        for (looks, expected) in rows {
            assert_eq!(looked(looks), expected, "{looks:?}");
        }
    }

    #[test]
    fn a_stall_says_what_is_held() {
        let stall = |held, oldest| Stall { since: SystemTime::UNIX_EPOCH, after: AFTER, held, oldest };
        assert_eq!(
            stall(16, Some(("a.b".to_owned(), 7))).to_string(),
            "16 messages held, as many as are handled at once, and none has come to its end for 10s; the oldest is a.b #7"
        );
        assert_eq!(
            stall(1, None).to_string(),
            "1 message held, as many as are handled at once, and none has come to its end for 10s"
        );
    }
}
