//! The newest dead letters over all brokers: a page of each, merged by when they died.
//!
//! Invariants:
//! - A page has at most as many as were asked for, and at most as many are looked at of each broker.
//! - Going on behind a page gives none twice and leaves none out: the position says of each broker how far it was shown, and
//!   each keeps its own order.
//! - What is shown is never followed by a newer one of another broker, as far as each broker's own order is by time: where it is
//!   not known what a broker has next, the page ends.

use std::collections::VecDeque;

use crate::broker::DeadLetterPage;
use crate::settle::dead_letter::{DeadLetterId, StoredDeadLetter};

/// How far the dead letters of a broker were shown. A broker that is not in a position was shown to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// None of them was.
    None,
    /// All down to this one.
    Through(DeadLetterId),
}

impl Shown {
    pub(super) fn through(&self) -> Option<DeadLetterId> {
        match self {
            Self::None => None,
            Self::Through(id) => Some(id.clone()),
        }
    }
}

/// How far brokers were shown, as it goes over the wire: `broker/id`, and with a comma between them where several are not at
/// their end; nothing behind the stroke says that a broker's newest come next.
pub(super) fn position(text: &str) -> Option<Vec<(&str, Shown)>> {
    let shown = |id: &str| if id.is_empty() { Shown::None } else { Shown::Through(DeadLetterId(id.to_owned())) };
    text.split(',').map(|part| part.split_once('/').map(|(name, id)| (name, shown(id)))).collect()
}

/// The dead letters of a broker that were looked at for a page.
pub(super) struct Part<'a> {
    pub(super) broker: &'a str,
    pub(super) shown: Shown,
    letters: VecDeque<StoredDeadLetter>,
    next: Option<DeadLetterId>,
}

impl<'a> Part<'a> {
    pub(super) fn new(broker: &'a str, shown: Shown, page: DeadLetterPage) -> Self {
        Self { broker, shown, letters: page.letters.into(), next: page.next }
    }

    /// What it has next is not known.
    fn is_cut(&self) -> bool {
        self.letters.is_empty() && self.next.is_some()
    }

    /// The part of the position that is left of it.
    fn rest(self) -> Option<String> {
        let behind = match (self.letters.is_empty(), self.next) {
            (false, _) => self.shown.through(),
            (true, Some(next)) => Some(next),
            (true, None) => return None,
        };
        Some(format!("{}/{}", self.broker, behind.map(|id| id.0).unwrap_or_default()))
    }
}

/// So many of the newest, and where to go on when there may be more.
pub(super) fn newest(mut parts: Vec<Part<'_>>, limit: usize) -> (Vec<(&str, StoredDeadLetter)>, Option<String>) {
    let mut page = Vec::new();
    while page.len() < limit && !parts.iter().any(Part::is_cut) {
        let with_head = parts.iter_mut().filter_map(|part| Some((part.letters.front()?.letter.record.dead_at, part)));
        // Of two that died at the same time that of the first broker goes first, on every page.
        let first = with_head.reduce(|first, other| if other.0 > first.0 { other } else { first });
        let Some((_, part)) = first else { break };
        let Some(letter) = part.letters.pop_front() else { break };
        part.shown = Shown::Through(letter.handle.clone());
        page.push((part.broker, letter));
    }
    let rest: Vec<String> = parts.into_iter().filter_map(Part::rest).collect();
    (page, (!rest.is_empty()).then(|| rest.join(",")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::message::Headers;
    use crate::settle::dead_letter::{DeadLetter, DeadLetterRecord};

    fn letter(died: u64) -> StoredDeadLetter {
        let id = DeadLetterId(format!("{died}"));
        let dead_at = SystemTime::UNIX_EPOCH + Duration::from_secs(died);
        let record = DeadLetterRecord { dead_at, ..DeadLetterRecord::bare(id.clone(), "timeout", "") };
        let letter = DeadLetter { record, headers: Headers::default(), body: "".into() };
        StoredDeadLetter { letter, body_size: 0, redriven_at: None, handle: id }
    }

    /// A page of a broker whose dead letters died at these times; `looks`: so many are looked at for it.
    fn listed(
        all: &[u64],
        behind: Option<DeadLetterId>,
        limit: usize,
        looks: usize,
        wanted: fn(u64) -> bool,
    ) -> DeadLetterPage {
        let from = behind.map_or(0, |id| all.iter().position(|died| died.to_string() == id.0).unwrap() + 1);
        let mut page = DeadLetterPage::default();
        for (index, died) in all.iter().enumerate().skip(from) {
            if page.letters.len() == limit || index - from == looks {
                page.next = Some(DeadLetterId(all[index - 1].to_string()));
                break;
            }
            page.letters.extend(wanted(*died).then(|| letter(*died)));
        }
        page
    }

    /// All pages one behind the other, by the position that the one before gave.
    fn pages(
        brokers: &[(&str, &[u64])],
        limit: usize,
        looks: usize,
        wanted: fn(u64) -> bool,
    ) -> Vec<Vec<(String, u64)>> {
        let all: BTreeMap<&str, &[u64]> = brokers.iter().copied().collect();
        let mut at = all.keys().map(|name| format!("{name}/")).collect::<Vec<_>>().join(",");
        let mut pages = Vec::new();
        loop {
            let parts = position(&at).unwrap().into_iter().map(|(name, shown)| {
                let page = listed(all[name], shown.through(), limit, looks, wanted);
                let (name, _) = all.get_key_value(name).unwrap();
                Part::new(name, shown, page)
            });
            let (page, next) = newest(parts.collect(), limit);
            pages.push(
                page.iter().map(|(name, stored)| ((*name).to_owned(), stored.handle.0.parse().unwrap())).collect(),
            );
            match next {
                Some(next) => at = next,
                None => return pages,
            }
        }
    }

    #[test]
    fn the_newest_of_all_brokers_come_first_and_pages_join() {
        let (a, b): (&[u64], &[u64]) = (&[90, 70, 50, 30, 10], &[95, 60, 55, 20]);
        for limit in 1..=10 {
            for looks in [limit, 100] {
                let pages = pages(&[("a", a), ("b", b)], limit, looks.max(1), |_| true);
                assert!(pages.iter().all(|page| page.len() <= limit), "{limit} {looks}");
                let died: Vec<u64> = pages.concat().iter().map(|(_, died)| *died).collect();
                assert_eq!(died, [95, 90, 70, 60, 55, 50, 30, 20, 10], "{limit} {looks}");
            }
        }
        assert_eq!(pages(&[("a", a), ("b", b)], 2, 100, |_| true)[0], [("b".to_owned(), 95), ("a".to_owned(), 90)]);
    }

    /// A broker that looks at few of its dead letters for a page may have a newer one behind them.
    #[test]
    fn nothing_is_shown_before_what_a_broker_has_not_looked_at_yet() {
        let (a, b): (&[u64], &[u64]) = (&[91, 89, 87, 85, 70], &[80, 60]);
        let pages = pages(&[("a", a), ("b", b)], 2, 2, |died| died % 10 == 0);
        let died: Vec<u64> = pages.concat().iter().map(|(_, died)| *died).collect();
        assert_eq!(died, [80, 70, 60]);
    }

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let through = |id: &str| Shown::Through(DeadLetterId(id.to_owned()));
        assert_eq!(position("a/x@7,b/"), Some(vec![("a", through("x@7")), ("b", Shown::None)]));
        assert_eq!(position("a"), None);
        assert_eq!(position(""), None);
    }
}
