//! Which subscriptions are to be looked at, and when: those to which something happened, and those whose time has come.
//!
//! Invariants:
//! - What a group costs does not depend on how many subscriptions there are to which nothing happens.
//! - A subscription with somebody who waits is looked at when something may be there for it, at the latest when something
//!   of it is due or the one who waits wants an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// When a subscription is to be looked at, by what is known of it after it was looked at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// When something happens to it.
    WhenTold,
    /// In the next group: there may be more for those who wait.
    Again,
    /// At this time.
    At(Instant),
}

/// The subscriptions that are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Something happened to them since it was planned when they are looked at.
    told: BTreeSet<i64>,
    again: BTreeSet<i64>,
    alarms: BTreeSet<(Instant, i64)>,
    /// The alarm of each that has one.
    set: BTreeMap<i64, Instant>,
}

impl Agenda {
    /// Something happens to a subscription.
    pub(super) fn tell(&mut self, id: i64) {
        self.told.insert(id);
    }

    /// Those to look at now. All of them are told of, so that it is planned anew when each is looked at next.
    pub(super) fn due(&mut self, now: Instant) -> Vec<i64> {
        let over = self.alarms.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        self.told.extend(over);
        self.told.extend(&self.again);
        self.told.iter().copied().collect()
    }

    /// Those for which it is to be planned when they are looked at next.
    pub(super) fn take_told(&mut self) -> BTreeSet<i64> {
        std::mem::take(&mut self.told)
    }

    /// Plans when a subscription is looked at next.
    pub(super) fn plan(&mut self, id: i64, look: Look) {
        self.again.remove(&id);
        if let Some(at) = self.set.remove(&id) {
            self.alarms.remove(&(at, id));
        }
        match look {
            Look::WhenTold => {}
            Look::Again => {
                self.again.insert(id);
            }
            Look::At(at) => {
                self.set.insert(id, at);
                self.alarms.insert((at, id));
            }
        }
    }

    /// When the next one is to be looked at; `None`: nobody waits.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        if self.again.is_empty() { alarm } else { Some(now) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_those_are_looked_at_to_which_something_happened_or_whose_time_has_come() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut agenda = Agenda::default();
        assert_eq!((agenda.due(start), agenda.next(start)), (vec![], None));
        for id in 0..1000 {
            agenda.plan(id, Look::At(start + second * 60));
        }
        agenda.plan(7, Look::At(start + second));
        agenda.plan(8, Look::Again);
        agenda.plan(9, Look::WhenTold);
        assert_eq!(agenda.next(start), Some(start), "one is to be looked at again at once");
        assert_eq!(agenda.due(start), [8]);
        agenda.tell(9);
        assert_eq!(agenda.due(start + second), [7, 8, 9]);
        assert_eq!(agenda.take_told().len(), 3);
        // It is the plan that counts, until another one is made.
        assert_eq!(agenda.due(start + second), [7, 8]);
        agenda.take_told();
        agenda.plan(7, Look::WhenTold);
        agenda.plan(8, Look::At(start + second * 2));
        assert_eq!((agenda.next(start), agenda.due(start + second)), (Some(start + second * 2), vec![]));
        assert_eq!(agenda.due(start + second * 60).len(), 998);
    }
}
