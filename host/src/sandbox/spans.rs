//! A run's spans: what the guest started and ended, nested as it was, within fixed bounds.
//!
//! Invariants:
//! - What is kept of a run is bounded, however many spans it makes and whatever it says of them; more of them are no fault.
//! - A span stands behind the one that it is in, and ends no later.
//! - The spans of a run have the numbers from 1, in the order of their starts, whether they are kept or not: a guest sees no
//!   difference. Those that are kept are the first ones.

use std::time::Duration;

use crate::handler::{Span, SpanEnd, Spans};

/// So many spans of a run are kept, the first ones: what comes later is in one of them. A run that fans out over 64 outputs
/// and has two steps for each.
pub(super) const SPANS: usize = 128;
/// So many bytes they may take together, with what failed in them: 128 of 512 bytes.
const BYTES: usize = 64 << 10;
/// What a span or an attribute takes of that besides its text.
const OVERHEAD_BYTES: usize = 32;
/// So many attributes of a span are kept.
pub(super) const ATTRIBUTES: usize = 16;
/// So much of a text is kept, in bytes.
pub(super) const TEXT_BYTES: usize = 256;

/// When so many bytes of texts were read for a run's spans, no more are: 64 times what may be kept.
pub(super) const READ_BYTES: usize = 4 << 20;

/// The spans of one store's run.
#[derive(Debug, Default)]
pub(super) struct SpanBook {
    keeps: bool,
    spans: Spans,
    bytes: usize,
    /// How many bytes of the guest's texts were read for them.
    read: usize,
    /// There was no room for one: there is none for what comes after it either, as that may be inside it.
    is_full: bool,
    /// Those that are open, the innermost last, by their places among the kept.
    open: Vec<usize>,
    /// How many were started, kept or not: the last one's number.
    given: u64,
}

/// What a guest says of a span when it starts it. Its texts are cut.
#[derive(Debug, Default)]
pub(super) struct Started {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) attributes_dropped: usize,
    /// How many bytes were read for that.
    pub(super) read: usize,
}

impl SpanBook {
    /// A run begins; whether its spans are kept.
    pub(super) fn begin(&mut self, keeps: bool) {
        *self = Self { keeps, ..Self::default() };
    }

    /// Gives out the number of a span that starts now, and says whether it may be kept. When not, it is counted, and what is
    /// said of it need not be read.
    pub(super) fn admit(&mut self) -> (u64, bool) {
        self.given = self.given.saturating_add(1);
        self.is_full |= self.spans.kept.len() >= SPANS || !self.may_read();
        let may_be_kept = self.keeps && !self.is_full;
        if self.keeps && !may_be_kept {
            self.spans.dropped = self.spans.dropped.saturating_add(1);
        }
        (self.given, may_be_kept)
    }

    /// Whether more of the guest's texts may be read.
    pub(super) const fn may_read(&self) -> bool {
        self.read < READ_BYTES
    }

    /// Starts the span that was admitted last, where there is room for it.
    pub(super) fn start(&mut self, started: Started, at: Duration) {
        let Started { name, attributes, attributes_dropped, read } = started;
        self.read = self.read.saturating_add(read);
        let size = |(name, value): &(String, String)| name.len() + value.len() + OVERHEAD_BYTES;
        let bytes = self.bytes + name.len() + OVERHEAD_BYTES + attributes.iter().map(size).sum::<usize>();
        if bytes > BYTES {
            self.is_full = true;
            self.spans.dropped = self.spans.dropped.saturating_add(1);
            return;
        }
        self.bytes = bytes;
        let place = self.spans.kept.len();
        let parent = self.innermost();
        // How it ends is put right when it does.
        let (took, end) = (Duration::ZERO, SpanEnd::WithRun);
        self.spans.kept.push(Span { name, attributes, attributes_dropped, parent, at, took, end });
        self.open.push(place);
    }

    /// Whether a number is of a span that is kept and open. When it is of none, that is counted; of one that is not kept it is
    /// not known whether it is open.
    pub(super) fn is_open(&mut self, number: u64) -> bool {
        let is_open = self.place(number).is_some();
        let is_unkept = number > self.spans.kept.len() as u64 && number <= self.given;
        if self.keeps && !is_open && !is_unkept {
            self.spans.stray_ends = self.spans.stray_ends.saturating_add(1);
        }
        is_open
    }

    /// Ends an open span, and what is open inside it. What failed comes with how many bytes were read for it, and is cut to the
    /// room that is left.
    pub(super) fn end(&mut self, number: u64, failure: Option<(String, usize)>, at: Duration) {
        let Some(place) = self.place(number) else { return };
        let failure = failure.map(|(mut failure, read)| {
            self.read = self.read.saturating_add(read);
            failure.truncate(failure.floor_char_boundary(BYTES.saturating_sub(self.bytes)));
            self.bytes += failure.len();
            failure
        });
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
        std::mem::take(self).spans
    }

    /// The place of an open span.
    fn place(&self, number: u64) -> Option<usize> {
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        self.open.contains(&place).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn kept() -> SpanBook {
        SpanBook { keeps: true, ..SpanBook::default() }
    }

    fn start(book: &mut SpanBook, name: &str, at: u64) -> u64 {
        let (number, may_be_kept) = book.admit();
        if may_be_kept {
            book.start(Started { name: name.to_owned(), ..Started::default() }, ms(at));
        }
        number
    }

    fn end(book: &mut SpanBook, number: u64, failure: Option<&str>, at: u64) {
        if book.is_open(number) {
            book.end(number, failure.map(|failure| (failure.to_owned(), failure.len())), ms(at));
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
        assert_eq!((spans.dropped, spans.stray_ends), (0, 5));

        book.begin(true);
        assert!(!book.is_open(price), "what is of an earlier run is of no span of this one");
        assert_eq!(start(&mut book, "again", 1), order, "each run counts for itself");
        assert_eq!(book.finish(ms(2)).stray_ends, 1);
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let mut book = kept();
        let numbers: Vec<u64> = (0..1000).map(|at| start(&mut book, "again", at)).collect();
        assert!(numbers.iter().copied().eq(1..=1000), "whether they are kept or not");
        for number in numbers.iter().rev() {
            end(&mut book, *number, None, 1000);
        }
        let spans = book.finish(ms(1000));
        assert_eq!((spans.kept.len(), spans.dropped, spans.stray_ends), (SPANS, 1000 - SPANS as u64, 0));
        assert!(spans.kept.iter().all(|span| span.end == SpanEnd::Ended));

        book.begin(true);
        let long = "x".repeat(TEXT_BYTES);
        for _span in 0..1000 {
            if book.admit().1 {
                let attributes = vec![(long.clone(), long.clone()); ATTRIBUTES];
                book.start(Started { name: long.clone(), attributes, ..Started::default() }, ms(0));
            }
        }
        start(&mut book, "short", 1);
        let spans = book.finish(ms(1));
        let bytes = spans.kept.len() * TEXT_BYTES * (1 + 2 * ATTRIBUTES);
        assert!(bytes <= BYTES && bytes > BYTES / 2, "{bytes}");
        assert_eq!(
            spans.kept.len() as u64 + spans.dropped,
            1001,
            "a short one too: it may be inside one that is not kept"
        );
    }

    #[test]
    fn what_failed_takes_of_the_room_too_and_is_cut_to_what_is_left() {
        let mut book = kept();
        let (name, failure) = ("n".repeat(TEXT_BYTES), "€".repeat(TEXT_BYTES / 3));
        let numbers: Vec<u64> = (0..SPANS as u64).map(|at| start(&mut book, &name, at)).collect();
        for number in numbers.iter().rev() {
            end(&mut book, *number, Some(&failure), 1000);
        }
        let spans = book.finish(ms(1000)).kept;
        let failed = |span: &Span| match &span.end {
            SpanEnd::Failed(failure) => failure.len(),
            SpanEnd::Ended | SpanEnd::WithOuter | SpanEnd::WithRun => panic!("{span:?}"),
        };
        let bytes: usize = spans.iter().map(|span| span.name.len() + failed(span) + OVERHEAD_BYTES).sum();
        assert_eq!((spans.len(), bytes), (SPANS, BYTES - 1), "a character of three bytes is not cut into two");
    }

    #[test]
    fn who_has_had_enough_read_has_no_more_read() {
        let mut book = kept();
        let number = book.admit().0;
        book.start(Started { read: READ_BYTES - 1, ..Started::default() }, ms(0));
        assert!(book.may_read());
        book.end(number, Some(("no".to_owned(), 1)), ms(1));
        assert!(!book.may_read() && !book.admit().1);
        assert_eq!(book.finish(ms(2)).dropped, 1);
        assert!(book.may_read(), "each run for itself");
    }

    #[test]
    fn where_nobody_looks_nothing_is_kept_or_counted() {
        let mut book = SpanBook::default();
        for at in 0..1000 {
            assert_eq!(start(&mut book, "again", at), at + 1);
            end(&mut book, at, None, at);
        }
        assert_eq!(book.finish(ms(1000)), Spans::default());
    }
}
