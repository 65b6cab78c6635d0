//! What is known of the stream, and by what it is known that it still holds.
//!
//! Invariant: behind `floor` and up to `through` there is a row of every message that the stream has, after each step: whoever is
//! dropped in the middle of one leaves rows too many at worst, which the next comparison finds.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;

use super::groups::{Groups, Read};
use super::rows::Rows;
use super::view::View;
use crate::broker::jetstream::wire::StreamInfo;

/// What the rows are rows of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// When the stream was created.
    created: String,
    /// The connection: with another one the server may be one that came back without what it was told last, removals too.
    session: u64,
    /// The last sequence that was given, and when.
    last: (u64, Option<String>),
}

/// How the stream is by what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// Nothing was stored since.
    Same,
    /// Something was.
    Grown,
    /// It is another one, or from an earlier state.
    Another,
    /// The server that answers does not know yet what was read before.
    Behind,
}

/// There are too many different groups.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooVaried;

/// The rows, and what is known of them.
#[derive(Debug)]
pub(super) struct State {
    pub(super) rows: Rows,
    groups: Arc<Groups>,
    known: Option<Known>,
    /// The first sequence that may have a row, and how many messages there are before it.
    floor: u64,
    below: u64,
    /// Whether that number was counted while nothing changed, and every change since is known.
    is_below_sure: bool,
    /// Up to here all were read.
    through: u64,
    /// While somebody compares: what this host removed since the server was asked.
    gone: Option<BTreeSet<u64>>,
    /// When somebody asked last.
    pub(super) asked: Instant,
    /// There were too many different groups; it is tried again then.
    pub(super) too_varied_until: Option<Instant>,
    /// Whether it was told that they cannot be read.
    pub(super) told: bool,
}

impl State {
    pub(super) fn new(size: u32) -> Self {
        Self {
            rows: Rows::new(size),
            groups: Arc::default(),
            known: None,
            floor: 0,
            below: 0,
            is_below_sure: false,
            through: 0,
            gone: None,
            asked: Instant::now(),
            too_varied_until: None,
            told: false,
        }
    }

    /// Gives all of it back.
    pub(super) fn forget(&mut self) {
        let size = u32::try_from(self.rows.size()).unwrap_or(u32::MAX);
        (self.rows, self.groups, self.known) = (Rows::new(size), Arc::default(), None);
        (self.floor, self.below, self.is_below_sure, self.through) = (0, 0, false, 0);
    }

    /// Whether anything is known.
    pub(super) const fn is_begun(&self) -> bool {
        self.known.is_some()
    }

    /// Begins anew, with what is behind a sequence. What lies in front of it is to be counted.
    pub(super) fn begin(&mut self, info: &StreamInfo, session: u64, floor: u64) {
        self.forget();
        self.known = Some(Known { created: info.created.clone(), session, last: (0, None) });
        (self.floor, self.through) = (floor, floor.saturating_sub(1));
        self.is_below_sure = floor <= info.state.first_seq;
    }

    /// How the stream is now by what is known of it.
    pub(super) fn stands(&self, info: &StreamInfo, session: u64) -> Stands {
        let Some(known) = &self.known else { return Stands::Another };
        if known.created != info.created || known.session != session {
            return Stands::Another;
        }
        let last = info.state.last_seq;
        if last < self.through.max(known.last.0) {
            return if is_copied(info) { Stands::Behind } else { Stands::Another };
        }
        if known.last == (last, info.state.last_ts.clone()) { Stands::Same } else { Stands::Grown }
    }

    /// How many messages there are to read at most, until all are known.
    pub(super) fn to_read(&self, info: &StreamInfo) -> u64 {
        info.state.last_seq.saturating_sub(self.through).min(info.state.messages)
    }

    /// What lies in front of the first message of the stream is gone.
    pub(super) fn begins_at(&mut self, first: u64) {
        if first >= self.floor {
            self.rows.clear(self.floor..first);
            (self.floor, self.below, self.is_below_sure) = (first, 0, true);
            self.through = self.through.max(first.saturating_sub(1));
        }
    }

    /// The sequences that may have rows and were read.
    pub(super) const fn read(&self) -> Range<u64> {
        self.floor..self.through + 1
    }

    /// Takes in what was read behind the last, in order.
    pub(super) fn append(&mut self, read: Vec<Read>, most: u64) -> Result<(), TooVaried> {
        if let Some(last) = read.last().map(|read| read.sequence) {
            self.put(read)?;
            self.through = self.through.max(last);
        }
        if let Some((gone, first)) = self.rows.shorten(most) {
            self.below += gone;
            self.floor = first;
        }
        Ok(())
    }

    /// All that the stream had when it was asked was read: whoever calls knows that nothing lies behind what was.
    pub(super) fn is_read_through(&mut self, info: &StreamInfo) {
        self.through = self.through.max(info.state.last_seq);
        if let Some(known) = &mut self.known {
            known.last = (info.state.last_seq, info.state.last_ts.clone());
        }
    }

    /// Takes in what a range has, all of it.
    pub(super) fn replace(&mut self, range: Range<u64>, read: Vec<Read>) -> Result<(), TooVaried> {
        self.rows.clear(range);
        self.put(read)
    }

    fn put(&mut self, read: Vec<Read>) -> Result<(), TooVaried> {
        for read in read {
            let sequence = read.sequence;
            // It was removed after it was read.
            if self.gone.as_ref().is_some_and(|gone| gone.contains(&sequence)) {
                continue;
            }
            let Some(row) = read.into_row(&mut self.groups) else { return Err(TooVaried) };
            self.rows.put(sequence, row);
        }
        Ok(())
    }

    /// The server is asked now: what this host removes from here on counts in its answer.
    pub(super) fn watch(&mut self) {
        self.gone = Some(BTreeSet::new());
    }

    /// Nobody compares any more.
    pub(super) fn unwatch(&mut self) {
        self.gone = None;
    }

    /// This host removed a message.
    pub(super) fn deleted(&mut self, sequence: u64) {
        if let Some(gone) = &mut self.gone {
            gone.insert(sequence);
        }
        if sequence < self.floor {
            self.below = self.below.saturating_sub(1);
        }
        self.rows.remove(sequence);
    }

    /// The stream does not have a message.
    pub(super) fn missing(&mut self, sequence: u64) {
        self.rows.remove(sequence);
    }

    /// How many messages the stream had by all that is known, when it was asked.
    pub(super) fn expected(&self, info: &StreamInfo) -> u64 {
        let end = info.state.last_seq + 1;
        let gone = self.gone.as_ref().map_or(0, |gone| gone.range(..end).count() as u64);
        self.below + self.rows.count(self.floor..end) + gone
    }

    /// Whether messages may lie in front of the rows whose number is not sure.
    pub(super) const fn is_below_to_count(&self, info: &StreamInfo) -> bool {
        self.floor > info.state.first_seq && !self.is_below_sure
    }

    /// So many messages lie in front of the rows, counted while nothing changed.
    pub(super) const fn set_below(&mut self, below: u64) {
        (self.below, self.is_below_sure) = (below, true);
    }

    /// Rows and stream differ: that may lie in front of the rows.
    pub(super) const fn doubt_below(&mut self) {
        self.is_below_sure = false;
    }

    /// The newest row before a sequence, and when it was stored.
    pub(super) fn newest_before(&self, end: u64) -> Option<(u64, u64)> {
        self.rows.range(self.floor..end).next_back().map(|(sequence, row)| (sequence, row.stored))
    }

    /// All rows of the messages that the stream had when it was asked.
    pub(super) fn view(&self, info: &StreamInfo) -> View {
        View {
            rows: self.rows.clone(),
            groups: Arc::clone(&self.groups),
            first: info.state.first_seq,
            floor: self.floor,
            end: info.state.last_seq + 1,
        }
    }
}

/// Whether a stream has copies, of which one that is read may lag behind.
pub(super) fn is_copied(info: &StreamInfo) -> bool {
    info.cluster.as_ref().is_some_and(|cluster| !cluster.raft_group.is_empty())
}

/// Whether nobody leads the copies: then whoever answers tells of its own.
pub(super) fn is_led_by_nobody(info: &StreamInfo) -> bool {
    is_copied(info) && info.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn info(first: u64, last: u64, messages: u64, raft_group: &str) -> StreamInfo {
        let state =
            json!({ "first_seq": first, "last_seq": last, "messages": messages, "last_ts": format!("of {last}") });
        let cluster = json!({ "leader": "a", "raft_group": raft_group });
        serde_json::from_value(json!({ "config": {}, "created": "today", "state": state, "cluster": cluster })).unwrap()
    }

    fn filled(last: u64) -> State {
        let mut state = State::new(4);
        state.begin(&info(1, last, last, ""), 1, 1);
        assert_eq!(state.append((1..=last).map(Read::part).collect(), 100), Ok(()));
        state.is_read_through(&info(1, last, last, ""));
        state
    }

    #[test]
    fn a_stream_is_the_same_only_while_it_goes_on_from_where_it_was() {
        let state = filled(10);
        let rows = [
            (info(1, 10, 10, ""), 1, Stands::Same),
            (info(1, 10, 3, ""), 1, Stands::Same),
            (info(1, 11, 10, ""), 1, Stands::Grown),
            (StreamInfo { created: "tomorrow".to_owned(), ..info(1, 10, 10, "") }, 1, Stands::Another),
            (info(1, 10, 10, ""), 2, Stands::Another),
            (info(1, 9, 9, ""), 1, Stands::Another),
            (info(1, 9, 9, "S-R3F"), 1, Stands::Behind),
        ];
        for (info, session, expected) in rows {
            assert_eq!(state.stands(&info, session), expected, "{info:?}");
        }
        let mut given_twice = info(1, 10, 10, "");
        given_twice.state.last_ts = Some("of another".to_owned());
        assert_eq!(state.stands(&given_twice, 1), Stands::Grown);
        assert_eq!(State::new(4).stands(&info(1, 10, 10, ""), 1), Stands::Another);
    }

    #[test]
    fn what_this_host_removes_after_the_question_counts_in_its_answer() {
        let (mut state, answer) = (filled(10), info(1, 10, 10, ""));
        state.watch();
        for removed in [3, 10, 12] {
            state.deleted(removed);
        }
        assert_eq!((state.expected(&answer), state.rows.count(0..100)), (10, 8));
        state.missing(4);
        assert_eq!(state.expected(&answer), 9, "that was somebody else");
        // What was read before it was removed does not come back.
        assert_eq!(state.replace(1..6, vec![Read::part(3), Read::part(5)]), Ok(()));
        assert_eq!(state.append(vec![Read::part(11), Read::part(12)], 100), Ok(()));
        let left: Vec<u64> = state.rows.range(0..100).map(|(sequence, _)| sequence).collect();
        assert_eq!((left, state.read().end), (vec![5, 6, 7, 8, 9, 11], 13));
        state.watch();
        assert_eq!(state.expected(&answer), 5);
    }

    #[test]
    fn what_lies_in_front_of_the_rows_is_counted_until_it_is_sure() {
        let mut state = State::new(4);
        let answer = info(1, 10, 10, "");
        state.begin(&answer, 1, 5);
        assert_eq!(state.append((5..=10).map(Read::part).collect(), 4), Ok(()));
        assert!(state.is_below_to_count(&answer), "it began behind messages that nobody counted");
        state.set_below(7);
        state.deleted(2);
        assert!(!state.is_below_to_count(&answer) && state.expected(&answer) == 9, "{state:?}");
        state.doubt_below();
        assert!(state.is_below_to_count(&answer));
        // All in front of the rows went.
        let answer = info(8, 10, 3, "");
        state.begins_at(8);
        assert!(!state.is_below_to_count(&answer) && state.expected(&answer) == 3, "{state:?}");
        // Rows that make room are known by their number.
        assert_eq!(state.append((11..=16).map(Read::part).collect(), 4), Ok(()));
        assert!(!state.is_below_to_count(&info(8, 16, 9, "")) && state.expected(&info(8, 16, 9, "")) == 9, "{state:?}");
    }

    #[test]
    fn what_lies_in_front_of_the_stream_is_gone() {
        let mut state = filled(10);
        state.begins_at(5);
        assert_eq!((state.expected(&info(5, 10, 6, "")), state.read()), (6, 5..11));
        state.begins_at(20);
        assert_eq!((state.expected(&info(20, 19, 0, "")), state.read()), (0, 20..20));
    }
}
