//! A run's spans: what the guest started and ended, nested as it was, within fixed bounds.
//!
//! Invariants:
//! - What is kept of a run is bounded, however many spans it makes and whatever it says of them; more of them are no fault.
//! - A span stands behind the one that it is in, and ends no later.
//! - A number that was given out for a span is never given out again for another one of the same instance.

use std::time::Duration;

use crate::handler::{Span, SpanEnd, Spans};

/// So many spans of a run are kept, the first ones: what comes later is in one of them. A run that fans out over 64 outputs
/// and has two steps for each.
pub(super) const SPANS: usize = 128;
/// So many bytes they may take together: 128 of 512 bytes.
const BYTES: usize = 64 << 10;
/// What a span or an attribute takes of that besides its text.
const OVERHEAD_BYTES: usize = 32;
/// So many attributes of a span are kept.
pub(super) const ATTRIBUTES: usize = 16;
/// So much of a text is kept, in bytes.
pub(super) const TEXT_BYTES: usize = 256;

/// The spans of one store's run.
#[derive(Debug, Default)]
pub(super) struct SpanBook {
    keeps: bool,
    spans: Spans,
    bytes: usize,
    /// There was no room for one: there is none for what comes after it either, as that may be inside it.
    is_full: bool,
    /// Those that are open, the innermost last, by their places among the kept.
    open: Vec<usize>,
    /// How many spans runs of this instance kept before.
    before: u64,
}

/// What a guest says of a span when it starts it. Its texts are cut.
#[derive(Debug, Default)]
pub(super) struct Started {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) attributes_dropped: usize,
}

impl SpanBook {
    /// A run begins; whether its spans are kept.
    pub(super) const fn begin(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// Whether one that starts now may be kept. When not, it is counted, and what is said of it need not be read.
    pub(super) fn has_room(&mut self) -> bool {
        self.is_full |= self.spans.kept.len() >= SPANS;
        let has_room = self.keeps && !self.is_full;
        if self.keeps && !has_room {
            self.spans.dropped = self.spans.dropped.saturating_add(1);
        }
        has_room
    }

    /// Starts a span for which there may be room, and gives back its number.
    pub(super) fn start(&mut self, started: Started, at: Duration) -> u64 {
        let Started { name, attributes, attributes_dropped } = started;
        let size = |(name, value): &(String, String)| name.len() + value.len() + OVERHEAD_BYTES;
        self.bytes += name.len() + OVERHEAD_BYTES + attributes.iter().map(size).sum::<usize>();
        if self.bytes > BYTES {
            self.is_full = true;
            self.spans.dropped = self.spans.dropped.saturating_add(1);
            return 0;
        }
        let place = self.spans.kept.len();
        let parent = self.innermost();
        // How it ends is put right when it does.
        let (took, end) = (Duration::ZERO, SpanEnd::WithRun);
        self.spans.kept.push(Span { name, attributes, attributes_dropped, parent, at, took, end });
        self.open.push(place);
        self.before + place as u64 + 1
    }

    /// Whether a number is of a span that is open. When it is of none, that is counted.
    pub(super) fn is_open(&mut self, number: u64) -> bool {
        let is_open = self.place(number).is_some();
        if self.keeps && !is_open && number != 0 {
            self.spans.stray_ends = self.spans.stray_ends.saturating_add(1);
        }
        is_open
    }

    /// Ends an open span, and what is open inside it.
    pub(super) fn end(&mut self, number: u64, failure: Option<String>, at: Duration) {
        let Some(place) = self.place(number) else { return };
        while let Some(innermost) = self.open.pop() {
            let is_it = innermost == place;
            if let Some(span) = self.spans.kept.get_mut(innermost) {
                span.took = at.saturating_sub(span.at);
                span.end = SpanEnd::WithOuter;
                if is_it {
                    span.end = failure.map_or(SpanEnd::Ended, SpanEnd::Failed);
                    return;
                }
            }
        }
    }

    /// The innermost span that is open, by its place among the kept.
    pub(super) fn innermost(&self) -> Option<usize> {
        self.open.last().copied()
    }

    /// Ends what is open, hands over the spans, and is empty for the next run.
    pub(super) fn finish(&mut self, at: Duration) -> Spans {
        for place in self.open.drain(..) {
            if let Some(span) = self.spans.kept.get_mut(place) {
                span.took = at.saturating_sub(span.at);
            }
        }
        let spans = std::mem::take(&mut self.spans);
        *self = Self { before: self.before + spans.kept.len() as u64, ..Self::default() };
        spans
    }

    /// The place of an open span.
    fn place(&self, number: u64) -> Option<usize> {
        let place = usize::try_from(number.checked_sub(self.before)?.checked_sub(1)?).ok()?;
        self.open.contains(&place).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn kept() -> SpanBook {
        SpanBook { keeps: true, ..SpanBook::default() }
    }

    fn start(book: &mut SpanBook, name: &str, at: u64) -> u64 {
        if !book.has_room() {
            return 0;
        }
        book.start(Started { name: name.to_owned(), ..Started::default() }, ms(at))
    }

    fn end(book: &mut SpanBook, number: u64, failure: Option<&str>, at: u64) {
        if book.is_open(number) {
            book.end(number, failure.map(str::to_owned), ms(at));
        }
    }

    #[test]
    fn spans_nest_and_whatever_is_open_ends_with_what_is_around_it() {
        let mut book = kept();
        let order = start(&mut book, "order", 1);
        let parse = start(&mut book, "parse", 2);
        end(&mut book, parse, None, 3);
        let price = start(&mut book, "price", 4);
        let _left = start(&mut book, "rate", 5);
        end(&mut book, price, Some("no rate"), 7);
        let _left = start(&mut book, "store", 8);
        for stray in [parse, price, 99, u64::MAX, 0] {
            end(&mut book, stray, None, 9);
        }
        let spans = book.finish(ms(10));
        let seen: Vec<_> = spans
            .kept
            .iter()
            .map(|span| (span.name.as_str(), span.parent, span.at, span.took, span.end.clone()))
            .collect();
        assert_eq!(
            seen,
            [
                ("order", None, ms(1), ms(9), SpanEnd::WithRun),
                ("parse", Some(0), ms(2), ms(1), SpanEnd::Ended),
                ("price", Some(0), ms(4), ms(3), SpanEnd::Failed("no rate".to_owned())),
                ("rate", Some(2), ms(5), ms(2), SpanEnd::WithOuter),
                ("store", Some(0), ms(8), ms(2), SpanEnd::WithRun),
            ]
        );
        assert_eq!((spans.dropped, spans.stray_ends), (0, 4), "0 is of a span that was not kept, and no mistake");

        book.begin(true);
        assert!(!book.is_open(order), "what is of an earlier run is of no span of this one");
        assert_ne!(start(&mut book, "again", 1), order);
        assert_eq!(book.finish(ms(2)).stray_ends, 1);
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let mut book = kept();
        let numbers: Vec<u64> = (0..1000).map(|at| start(&mut book, "again", at)).collect();
        assert_eq!(numbers.iter().filter(|number| **number != 0).count(), SPANS);
        let spans = book.finish(ms(1000));
        assert_eq!((spans.kept.len(), spans.dropped), (SPANS, 1000 - SPANS as u64));

        book.begin(true);
        let long = "x".repeat(TEXT_BYTES);
        for _span in 0..1000 {
            if book.has_room() {
                let attributes = vec![(long.clone(), long.clone()); ATTRIBUTES];
                book.start(Started { name: long.clone(), attributes, attributes_dropped: 0 }, ms(0));
            }
        }
        assert_eq!(start(&mut book, "short", 1), 0, "it may be inside one that is not kept");
        let spans = book.finish(ms(1));
        let bytes = spans.kept.len() * TEXT_BYTES * (1 + 2 * ATTRIBUTES);
        assert!(bytes <= BYTES && bytes > BYTES / 2, "{bytes}");
        assert_eq!(spans.kept.len() as u64 + spans.dropped, 1001);
    }

    #[test]
    fn where_nobody_looks_nothing_is_kept_or_counted() {
        let mut book = SpanBook::default();
        for at in 0..1000 {
            assert_eq!(start(&mut book, "again", at), 0);
            end(&mut book, at, None, at);
        }
        assert_eq!(book.finish(ms(1000)), Spans::default());
    }
}
