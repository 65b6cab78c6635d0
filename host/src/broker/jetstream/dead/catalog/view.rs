//! The rows as they were at one moment, for whoever counts or looks for something.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use super::groups::{Common, Group, Groups, NONE, Space, moment, nanos, ulid};
use super::rows::{Row, Rows};
use crate::broker::jetstream::dead::layout;
use crate::broker::jetstream::dead::scan::CLOCK_DIFFERENCE;
use crate::broker::{DeadLetterFilter, Traits};

/// Rows that are looked at before others have their turn: a tenth of a millisecond or two.
const AT_ONCE: u64 = 1_024;

/// The rows at one moment.
#[derive(Debug)]
pub(in crate::broker::jetstream::dead) struct View {
    pub(super) rows: Rows,
    pub(super) groups: Arc<Groups>,
    /// The first message of the stream.
    pub(super) first: u64,
    /// What lies in front of this has no rows.
    pub(super) floor: u64,
    /// Behind the last message of the stream.
    pub(super) end: u64,
}

/// Texts of one row after another, without room of their own for each.
#[derive(Debug, Default)]
pub(in crate::broker::jetstream::dead) struct Texts {
    id: String,
    fingerprint: String,
}

impl View {
    /// That of no stream.
    pub(super) fn empty() -> Self {
        Self { rows: Rows::new(1), groups: Arc::default(), first: 1, floor: 1, end: 1 }
    }

    /// Where reading those that are meant would begin, by when they were stored, where every message has a row.
    pub(in crate::broker::jetstream::dead) fn start(&self, filter: &DeadLetterFilter) -> u64 {
        let Some(since) = filter.since else { return self.first };
        let since = since.checked_sub(CLOCK_DIFFERENCE).unwrap_or(SystemTime::UNIX_EPOCH);
        self.rows.stored_from(nanos(since)).unwrap_or(self.end).max(self.first)
    }

    /// The sequences that may have rows.
    pub(in crate::broker::jetstream::dead) fn span(&self) -> Range<u64> {
        self.first.max(self.floor)..self.end
    }

    /// Whether every message has a row.
    pub(in crate::broker::jetstream::dead) const fn is_whole(&self) -> bool {
        self.floor <= self.first
    }

    /// What lies in front of this has no rows.
    pub(in crate::broker::jetstream::dead) const fn floor(&self) -> u64 {
        self.floor
    }

    /// The rows of a range of sequences, in their order.
    pub(in crate::broker::jetstream::dead) fn range(
        &self,
        range: Range<u64>,
    ) -> impl DoubleEndedIterator<Item = (u64, &Row)> {
        self.rows.range(range)
    }

    /// Its traits, with the cursor that leads to it; `None`: its headers do not say them.
    pub(in crate::broker::jetstream::dead) fn traits<'a>(
        &'a self,
        sequence: u64,
        row: &Row,
        texts: &'a mut Texts,
    ) -> Option<Traits<'a>> {
        let common = self.groups.get(row.group)?.traits.as_ref()?;
        let Texts { id, fingerprint } = texts;
        id.clear();
        match &common.id {
            Some(other) => id.push_str(other),
            None => id.push_str(ulid::Ulid(row.id).array_to_str(&mut [0; ulid::ULID_LEN])),
        }
        // Writing into a text does not fail.
        let _ = write!(id, "@{sequence}");
        let fingerprint: &str = match &common.fingerprint {
            Some(other) => other,
            None => {
                fingerprint.clear();
                let _ = write!(fingerprint, "{:016x}", row.fingerprint);
                fingerprint
            }
        };
        Some(Traits {
            id,
            died: moment(row.died),
            fingerprint,
            handler: &common.handler,
            digest: &common.digest,
            reason: &common.reason,
            subscription: &common.subscription,
        })
    }

    /// Whether an id that has no row is no dead letter's: nothing lies among them whose headers do not say what it is.
    pub(in crate::broker::jetstream::dead) fn tells_all_ids(&self) -> bool {
        self.is_whole() && self.groups.all().all(|group| group.traits.is_some())
    }

    /// Where a dead letter lies; of two that have this id, the one that waits. Nothing for one that was sent back, where the one that
    /// waits may lie among those that have no rows.
    pub(in crate::broker::jetstream::dead) async fn find(&self, id: &str) -> Option<u64> {
        let wanted = ulid(id);
        let mut redriven = None;
        for (looked_at, (sequence, row)) in (1u64..).zip(self.rows.range(self.floor..self.end)) {
            breathe(looked_at).await;
            // A row without a ULID has zero, and its id in its group.
            if row.group == NONE || row.id != wanted.unwrap_or(0) {
                continue;
            }
            let Some(group) = self.groups.get(row.group) else { continue };
            let is_it = |traits: &Common| traits.id.as_deref().is_none_or(|other| other == id);
            if !group.traits.as_ref().is_some_and(is_it) {
                continue;
            }
            match group.space {
                Space::Letters => return Some(sequence),
                Space::Redriven => redriven = redriven.or(Some(sequence)),
            }
        }
        redriven.filter(|_| self.is_whole())
    }
}

/// Which dead letters are meant, told by rows.
#[derive(Debug)]
pub(in crate::broker::jetstream::dead) struct Meant<'a> {
    filter: &'a DeadLetterFilter,
    /// The tokens of subjects that the server would be asked for.
    subscription: Option<String>,
    reason: Option<String>,
    /// From here on a server is asked for them, by when they were stored.
    start: u64,
    /// Who died since then is looked at wherever it was stored: the clock of the host where it died may be far ahead of the server's.
    since: u64,
}

impl<'a> Meant<'a> {
    /// `start`: where reading them would begin.
    pub(in crate::broker::jetstream::dead) fn new(filter: &'a DeadLetterFilter, start: u64) -> Self {
        let token = |text: &Option<String>| text.as_deref().map(layout::token);
        let since = filter.since.map_or(0, nanos);
        Self { filter, subscription: token(&filter.subscription), reason: token(&filter.reason), start, since }
    }

    /// Whether a server that is asked for them would send it, or would if all clocks were the same.
    pub(in crate::broker::jetstream::dead) fn is_sent(&self, view: &View, sequence: u64, row: &Row) -> bool {
        if sequence < self.start && row.died < self.since {
            return false;
        }
        let Some(Group { space, under: [subscription, reason], .. }) = view.groups.get(row.group) else { return false };
        let is = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|wanted| wanted == has);
        (self.filter.include_redriven || *space == Space::Letters)
            && is(&self.subscription, subscription)
            && is(&self.reason, reason)
    }

    /// Takes the sequences of so many that may be meant out of a span, from its newest or its oldest end on; those whose headers do
    /// not say their traits among them.
    pub(in crate::broker::jetstream::dead) async fn pick(
        &self,
        view: &View,
        span: &mut Range<u64>,
        most: usize,
        oldest_first: bool,
    ) -> Vec<u64> {
        let (mut picked, mut texts) = (Vec::new(), Texts::default());
        let mut rows = view.range(span.clone());
        let mut looked_at = 0u64;
        while picked.len() < most {
            let next = if oldest_first { rows.next() } else { rows.next_back() };
            let Some((sequence, row)) = next else {
                span.start = span.end;
                break;
            };
            if oldest_first {
                span.start = sequence + 1;
            } else {
                span.end = sequence;
            }
            let is_taken = |traits: Traits<'_>| self.filter.takes(&traits, "");
            if self.is_sent(view, sequence, row) && view.traits(sequence, row, &mut texts).is_none_or(is_taken) {
                picked.push(sequence);
            }
            looked_at += 1;
            breathe(looked_at).await;
        }
        picked
    }
}

/// Lets others have their turn now and then, so that a long walk holds up nobody.
pub(in crate::broker::jetstream::dead) async fn breathe(looked_at: u64) {
    if looked_at.is_multiple_of(AT_ONCE) {
        tokio::task::yield_now().await;
    }
}
