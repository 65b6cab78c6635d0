//! What dead letters have in common that has few values: where they lie, and the traits that the configuration of a host sets.
//!
//! Invariant: what they take is bounded. Handlers, versions, reasons and subscriptions make some hundred groups in a year; more than
//! have room here are made by somebody else's messages among the dead letters, and then there are no rows at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::Message;

use super::rows::Row;
use crate::broker::jetstream::dead::layout::{self, LETTERS, REDRIVEN};
use crate::broker::jetstream::reply::Position;

/// Bytes that all groups together may take: some 20,000 of them.
const AT_MOST: usize = 8 << 20;
/// What one takes besides its text: the strings' own, its places in a list and in a map.
const BESIDES: usize = 256;

/// The group of a message that is no dead letter: a part of one, or somebody else's.
pub(super) const NONE: u32 = u32::MAX;

/// Where a dead letter lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Space {
    /// Among those that wait.
    Letters,
    /// Among those that were sent back.
    Redriven,
}

/// What some dead letters have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) space: Space,
    /// The tokens of its subject that the server finds it by: subscription and reason.
    pub(super) under: [String; 2],
    /// `None`: its headers do not say them.
    pub(super) traits: Option<Common>,
}

/// The traits that are in a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Common {
    pub(super) handler: String,
    pub(super) digest: String,
    pub(super) reason: String,
    pub(super) subscription: String,
    /// The id, where it is no ULID as we write it.
    pub(super) id: Option<String>,
    /// The fingerprint, where it is not as we write it.
    pub(super) fingerprint: Option<String>,
}

impl Group {
    fn bytes(&self) -> usize {
        let traits = self.traits.iter().flat_map(|traits| {
            let own = [&traits.handler, &traits.digest, &traits.reason, &traits.subscription];
            own.into_iter().chain(&traits.id).chain(&traits.fingerprint)
        });
        BESIDES + self.under.iter().chain(traits).map(String::len).sum::<usize>()
    }
}

/// All groups, by their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    list: Vec<Arc<Group>>,
    numbers: HashMap<Arc<Group>, u32>,
    bytes: usize,
}

impl Groups {
    pub(super) fn get(&self, number: u32) -> Option<&Group> {
        self.list.get(usize::try_from(number).ok()?).map(Arc::as_ref)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Group> {
        self.list.iter().map(Arc::as_ref)
    }

    /// The number of one that is there.
    pub(super) fn number(&self, group: &Group) -> Option<u32> {
        self.numbers.get(group).copied()
    }

    /// Puts one in; `None`: there is no room for it.
    pub(super) fn add(&mut self, group: Group) -> Option<u32> {
        let number = u32::try_from(self.list.len()).ok().filter(|number| *number != NONE)?;
        let bytes = self.bytes + group.bytes();
        if bytes > AT_MOST {
            return None;
        }
        let group = Arc::new(group);
        self.bytes = bytes;
        self.list.push(Arc::clone(&group));
        self.numbers.insert(group, number);
        Some(number)
    }
}

/// A message that was read, before its group has a number.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) sequence: u64,
    row: Row,
    group: Option<Group>,
}

impl Read {
    pub(super) fn of(message: &Message, position: &Position) -> Self {
        let (sequence, stored) = (position.sequence, nanos(position.stored_at));
        let nothing = Row::new(0, 0, stored, 0, NONE);
        let Some((space, under)) = place(&message.subject) else { return Self { sequence, row: nothing, group: None } };
        let Some(traits) = layout::traits(message) else {
            return Self { sequence, row: nothing, group: Some(Group { space, under, traits: None }) };
        };
        let (id, fingerprint) = (ulid(traits.id), hex(traits.fingerprint));
        let row = Row::new(id.unwrap_or(0), nanos(traits.died), stored, fingerprint.unwrap_or(0), NONE);
        let common = Common {
            handler: traits.handler.to_owned(),
            digest: traits.digest.to_owned(),
            reason: traits.reason.to_owned(),
            subscription: traits.subscription.to_owned(),
            id: id.is_none().then(|| traits.id.to_owned()),
            fingerprint: fingerprint.is_none().then(|| traits.fingerprint.to_owned()),
        };
        Self { sequence, row, group: Some(Group { space, under, traits: Some(common) }) }
    }

    /// One that is no dead letter.
    #[cfg(test)]
    pub(super) const fn part(sequence: u64) -> Self {
        Self { sequence, row: Row::new(0, 0, sequence, 0, NONE), group: None }
    }

    /// Its row; `None`: there is no room for its group.
    pub(super) fn into_row(self, groups: &mut Arc<Groups>) -> Option<Row> {
        let mut row = self.row;
        row.group = match self.group {
            None => NONE,
            Some(group) => match groups.number(&group) {
                Some(number) => number,
                None => Arc::make_mut(groups).add(group)?,
            },
        };
        Some(row)
    }
}

/// Where a subject lies, as the server tells it by a filter: the space, the subscription and the reason.
fn place(subject: &str) -> Option<(Space, [String; 2])> {
    let mut tokens = subject.split('.');
    let space = match tokens.next()? {
        LETTERS => Space::Letters,
        REDRIVEN => Space::Redriven,
        _ => return None,
    };
    let under = [tokens.next()?.to_owned(), tokens.next()?.to_owned()];
    (tokens.count() == 2).then_some((space, under))
}

/// The number of a ULID, where it is written as we write it.
pub(super) fn ulid(text: &str) -> Option<u128> {
    let ulid = ulid::Ulid::from_string(text).ok()?;
    // Zero stands for none.
    (ulid.0 != 0 && ulid.to_string() == text).then_some(ulid.0)
}

/// The number of a fingerprint, where it is written as we write it.
fn hex(text: &str) -> Option<u64> {
    let is_ours = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_ours.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// A time in nanoseconds since 1970: until 2554, which a dead letter that says it died later is taken for.
pub(super) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The way back.
pub(super) fn moment(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(fingerprint: String) -> Group {
        let text = |text: &str| text.to_owned();
        let (handler, digest, reason, subscription) = (text("a"), text("b"), text("c"), text("d"));
        let traits = Common { handler, digest, reason, subscription, id: None, fingerprint: Some(fingerprint) };
        Group { space: Space::Letters, under: [text("d"), text("c")], traits: Some(traits) }
    }

    #[test]
    fn what_groups_take_is_bounded() {
        let mut groups = Groups::default();
        let first = groups.add(group("0".to_owned()));
        assert_eq!((first, groups.number(&group("0".to_owned()))), (Some(0), Some(0)));
        let added =
            (1..).take_while(|number| groups.add(group("x".repeat(100) + &number.to_string())).is_some()).count();
        assert!((10_000..40_000).contains(&added), "{added}");
        assert_eq!(groups.number(&group("0".to_owned())), Some(0), "what is there stays");
    }

    #[test]
    fn what_is_written_as_we_write_it_is_a_number_and_comes_back() {
        let id = "01KB6ZQ0V4Y8T2J5M9N3C7D1FG";
        assert_eq!(ulid(id).map(|number| ulid::Ulid(number).to_string()).as_deref(), Some(id));
        for other in ["", "1", "01kb6zq0v4y8t2j5m9n3c7d1fg", "00000000000000000000000000", "nonsense"] {
            assert_eq!(ulid(other), None, "{other}");
        }
        assert_eq!((hex("00000000000000ff"), hex("62324982debe2072")), (Some(255), Some(0x6232_4982_debe_2072)));
        for other in ["", "ff", "00000000000000FF", "+0000000000000ff", "0000000000000000f"] {
            assert_eq!(hex(other), None, "{other}");
        }
    }

    #[test]
    fn a_subject_says_where_a_dead_letter_lies() {
        let under = |one: &str, two: &str| [one.to_owned(), two.to_owned()];
        assert_eq!(place("dlq.orders.timeout.S.7-0"), Some((Space::Letters, under("orders", "timeout"))));
        assert_eq!(place("dlq-redriven.orders.timeout.S.7-0"), Some((Space::Redriven, under("orders", "timeout"))));
        for other in ["dlq", "dlq.a.b.c", "dlq.a.b.c.d.e", "dlq-body.a.b.c.d", "orders.a.b.c.d"] {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
