//! Dead letters counted by what they have in common, over all brokers, in bounded memory.
//!
//! Invariants:
//! - Every dead letter that was counted is in one group or in the rest: the sums are exact.
//! - Memory is bounded however many different errors there are: past [`MOST_GROUPS`] the rarest are counted together.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::Running;
use super::dead_letters::short_digest;
use super::timeline::{OverTime, Timeline};
use crate::settle::dead_letter::{DeadLetterId, DeadLetterRecord};

/// Groups that are counted apart: 10,000 of some 200 bytes are 2 MB. A person looks at twenty.
const MOST_GROUPS: usize = 10_000;

/// What dead letters are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The same error, whatever the version.
    Fingerprint,
    /// The handler.
    Handler,
    /// The module that ran last.
    Version,
    /// The reason code.
    Reason,
    /// The subscription.
    Subscription,
    /// How long ago the message was given up.
    Age,
}

/// How long ago a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Hour,
    SixHours,
    Day,
    Week,
    Month,
    Older,
}

impl Age {
    const ALL: [Self; 6] = [Self::Hour, Self::SixHours, Self::Day, Self::Week, Self::Month, Self::Older];

    fn of(age: Duration) -> Self {
        match age.as_secs() / 3600 {
            0 => Self::Hour,
            1..6 => Self::SixHours,
            6..24 => Self::Day,
            24..168 => Self::Week,
            168..720 => Self::Month,
            720.. => Self::Older,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Hour => "under 1h",
            Self::SixHours => "1h to 6h",
            Self::Day => "6h to 1d",
            Self::Week => "1d to 7d",
            Self::Month => "7d to 30d",
            Self::Older => "over 30d",
        }
    }
}

/// What is counted of one dead letter.
#[derive(Debug, Clone, Copy)]
pub struct Traits<'a> {
    /// Its id, or a cursor that leads to it.
    pub id: &'a str,
    /// When it was given up.
    pub died: SystemTime,
    /// Its fingerprint.
    pub fingerprint: &'a str,
    /// Its handler.
    pub handler: &'a str,
    /// The digest of the module that ran last.
    pub digest: &'a str,
    /// Its reason code.
    pub reason: &'a str,
    /// Its subscription.
    pub subscription: &'a str,
}

impl<'a> Traits<'a> {
    /// Those of a record.
    #[must_use]
    pub fn of(record: &'a DeadLetterRecord) -> Self {
        Self {
            id: &record.id.0,
            died: record.dead_at,
            fingerprint: &record.fingerprint,
            handler: &record.handler,
            digest: &record.digest,
            reason: &record.reason,
            subscription: &record.subscription,
        }
    }
}

/// Dead letters that have something in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub key: String,
    /// How many there are.
    pub letters: u64,
    /// When the oldest was given up.
    pub first: SystemTime,
    /// When the newest was given up.
    pub last: SystemTime,
    /// The broker that keeps the newest.
    pub broker: String,
    /// The newest, or a cursor that leads to it.
    pub newest: DeadLetterId,
}

/// A count of dead letters.
#[derive(Debug, Clone)]
pub struct Tally {
    by: By,
    now: SystemTime,
    most: usize,
    groups: HashMap<String, Group>,
    /// Those of groups that were too rare to be counted apart.
    folded: u64,
    matched: u64,
    examined: u64,
    is_cut: bool,
    left_out: u64,
    is_whole: bool,
    broker: String,
    /// The versions that run, where anybody knows them.
    running: Option<Running>,
    same_version: u64,
    deaths: Timeline,
}

/// What a count came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The largest groups, the largest first; by age, the youngest first.
    pub groups: Vec<Group>,
    /// Dead letters in none of these groups.
    pub others: u64,
    /// Groups that are not among them.
    pub other_groups: u64,
    /// Whether there were more of these than were counted apart, and it is a lower bound.
    pub is_at_least: bool,
    /// All that matched.
    pub matched: u64,
    /// All that were looked at.
    pub examined: u64,
    /// Whether there were older ones that were not looked at.
    pub is_cut: bool,
    /// How many these are, before they are looked at: some of them may not match.
    pub left_out: u64,
    /// Of those that matched, the ones that failed in a version that still runs; `None`: it was not asked.
    pub same_version: Option<u64>,
    /// When those died that matched; `None`: none did.
    pub deaths: Option<OverTime>,
}

impl Tally {
    /// An empty count.
    #[must_use]
    pub fn new(by: By, now: SystemTime) -> Self {
        let (groups, broker) = (HashMap::new(), String::new());
        let (folded, matched, examined, left_out) = (0, 0, 0, 0);
        Self {
            by,
            now,
            most: MOST_GROUPS,
            groups,
            folded,
            matched,
            examined,
            is_cut: false,
            left_out,
            is_whole: false,
            broker,
            running: None,
            same_version: 0,
            deaths: Timeline::default(),
        }
    }

    /// Counts all, however long that takes: for what is done with as many as were counted.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { is_whole: true, ..self }
    }

    /// Counts too which of them failed in a version that still runs.
    #[must_use]
    pub fn on(self, running: Option<Running>) -> Self {
        Self { running, ..self }
    }

    /// Whether all are to be counted, also where a broker looks at the newest alone otherwise.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// What is counted from here on is kept by this broker.
    #[must_use]
    pub fn at(self, broker: &str) -> Self {
        Self { broker: broker.to_owned(), ..self }
    }

    /// One was looked at that does not match.
    pub fn pass(&mut self) {
        self.examined += 1;
    }

    /// There are so many older ones that are not looked at.
    pub fn cut(&mut self, left_out: u64) {
        self.is_cut = true;
        self.left_out += left_out;
    }

    /// Counts one.
    pub fn count(&mut self, traits: &Traits<'_>) {
        self.examined += 1;
        self.matched += 1;
        self.deaths.count(traits.died);
        self.same_version += u64::from(self.running.as_ref().is_some_and(|running| running.failed_in(traits)));
        let key = match self.by {
            By::Fingerprint => traits.fingerprint,
            By::Handler => traits.handler,
            By::Version => short_digest(traits.digest),
            By::Reason => traits.reason,
            By::Subscription => traits.subscription,
            By::Age => Age::of(self.now.duration_since(traits.died).unwrap_or_default()).words(),
        };
        if let Some(group) = self.groups.get_mut(key) {
            group.letters += 1;
            group.first = group.first.min(traits.died);
            if traits.died > group.last {
                group.last = traits.died;
                group.newest = DeadLetterId(traits.id.to_owned());
                group.broker.clone_from(&self.broker);
            }
            return;
        }
        let group = Group {
            key: key.to_owned(),
            letters: 1,
            first: traits.died,
            last: traits.died,
            broker: self.broker.clone(),
            newest: DeadLetterId(traits.id.to_owned()),
        };
        self.groups.insert(group.key.clone(), group);
        if self.groups.len() > self.most {
            self.fold();
        }
    }

    /// Puts the rarer half of the groups into the rest. What is frequent stays: it comes back before it could fall behind.
    fn fold(&mut self) {
        let mut counts: Vec<u64> = self.groups.values().map(|group| group.letters).collect();
        counts.sort_unstable();
        let middle = counts.get(counts.len() / 2).copied().unwrap_or(1);
        let folded = &mut self.folded;
        self.groups.retain(|_, group| {
            let stays = group.letters > middle;
            if !stays {
                *folded += group.letters;
            }
            stays
        });
    }

    /// The largest groups, and what is not in them.
    #[must_use]
    pub fn finish(self, top: usize) -> Counted {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        let place = |group: &Group| Age::ALL.iter().position(|age| age.words() == group.key);
        match self.by {
            By::Age => groups.sort_by_key(place),
            By::Fingerprint | By::Handler | By::Version | By::Reason | By::Subscription => {
                groups.sort_by(|a, b| (Reverse(a.letters), &a.key).cmp(&(Reverse(b.letters), &b.key)));
            }
        }
        let rest = groups.split_off(top.min(groups.len()));
        // Where groups were put into the rest, there were more of them at once than are counted apart.
        let other_groups = if self.folded > 0 { (self.most + 1).saturating_sub(groups.len()) } else { rest.len() };
        Counted {
            groups,
            others: self.folded + rest.iter().map(|group| group.letters).sum::<u64>(),
            other_groups: other_groups as u64,
            is_at_least: self.folded > 0,
            matched: self.matched,
            examined: self.examined,
            is_cut: self.is_cut,
            left_out: self.left_out,
            same_version: self.running.map(|_| self.same_version),
            deaths: self.deaths.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test that cannot go on should say where")]
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 24 * 3600)
    }

    fn traits<'a>(id: &'a str, fingerprint: &'a str, hours_ago: u64) -> Traits<'a> {
        Traits {
            id,
            died: now() - Duration::from_secs(hours_ago * 3600),
            fingerprint,
            handler: "invoice",
            digest: "abababababababab",
            reason: "timeout",
            subscription: "orders",
        }
    }

    #[test]
    fn the_largest_come_first_and_the_rest_is_counted() {
        let mut tally = Tally::new(By::Fingerprint, now()).at("main");
        for (id, fingerprint, ago) in [("1", "a", 9), ("2", "b", 8), ("3", "b", 2), ("4", "b", 5), ("5", "c", 1)] {
            tally.count(&traits(id, fingerprint, ago));
        }
        tally.pass();
        let counted = tally.finish(1);
        let group = &counted.groups[0];
        assert_eq!((group.key.as_str(), group.letters, group.newest.0.as_str()), ("b", 3, "3"));
        assert_eq!((group.first, group.last), (traits("", "", 8).died, traits("", "", 2).died));
        assert_eq!((counted.others, counted.other_groups, counted.matched, counted.examined), (2, 2, 5, 6));
        assert!(!counted.is_at_least);
    }

    #[test]
    fn ages_are_shown_the_youngest_first() {
        let mut tally = Tally::new(By::Age, now());
        for ago in [0, 800, 2, 2, 30, 7, 200] {
            tally.count(&traits("x", "a", ago));
        }
        let counted = tally.finish(20);
        let seen: Vec<_> = counted.groups.iter().map(|group| (group.key.as_str(), group.letters)).collect();
        let expected =
            [("under 1h", 1), ("1h to 6h", 2), ("6h to 1d", 1), ("1d to 7d", 1), ("7d to 30d", 1), ("over 30d", 1)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn ten_thousand_different_errors_take_bounded_room_and_hide_no_frequent_one() {
        let mut tally = Tally { most: 100, ..Tally::new(By::Fingerprint, now()) };
        for number in 0..10_000 {
            tally.count(&traits("x", &format!("rare {number}"), 1));
            if number % 10 == 0 {
                tally.count(&traits("y", "frequent", 1));
            }
            assert!(tally.groups.len() <= 100);
        }
        let counted = tally.finish(5);
        assert_eq!((counted.groups[0].key.as_str(), counted.groups[0].letters), ("frequent", 1000));
        let shown: u64 = counted.groups.iter().map(|group| group.letters).sum();
        assert_eq!((shown + counted.others, counted.matched), (11_000, 11_000), "each is counted once");
        let groups = counted.groups.len() as u64 + counted.other_groups;
        assert!(counted.is_at_least);
        assert_eq!(groups, 101, "there were as many at once, before the rarer half of them was put together");
    }

    #[test]
    fn each_way_of_counting_takes_its_own_trait() {
        let rows = [
            (By::Handler, "invoice"),
            (By::Version, "abababababab"),
            (By::Reason, "timeout"),
            (By::Subscription, "orders"),
        ];
        for (by, key) in rows {
            let mut tally = Tally::new(by, now());
            tally.count(&traits("1", "a", 1));
            assert_eq!(tally.finish(1).groups[0].key, key, "{by:?}");
        }
    }
}
