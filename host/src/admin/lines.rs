//! Lines out of a stream of chunks, each with its number, none longer than a limit. Pure.

use bytes::{Bytes, BytesMut};

/// A line is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineTooLong {
    /// Which, counted from 1.
    pub(super) line: u64,
}

/// Splits chunks into lines. Holds at most one line and one chunk.
pub(super) struct Lines {
    buffer: BytesMut,
    /// Where to look on for a newline: what lies before has none.
    searched: usize,
    limit: usize,
    /// The number of the line that comes next.
    number: u64,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, limit, number: 1 }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line that is not empty, with its number; `None` when more has to be pushed.
    pub(super) fn next_line(&mut self) -> Result<Option<(u64, Bytes)>, LineTooLong> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(offset) = unsearched.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return if self.buffer.len() > self.limit { Err(LineTooLong { line: self.number }) } else { Ok(None) };
            };
            let line = self.buffer.split_to(self.searched + offset + 1).freeze();
            self.searched = 0;
            if let Some(found) = self.count(line.slice(..line.len().saturating_sub(1)))? {
                return Ok(Some(found));
            }
        }
    }

    /// What is left when the stream has ended without a newline.
    pub(super) fn last_line(&mut self) -> Result<Option<(u64, Bytes)>, LineTooLong> {
        let line = self.buffer.split().freeze();
        self.count(line)
    }

    /// Gives a line its number; empty ones are counted and passed over.
    fn count(&mut self, line: Bytes) -> Result<Option<(u64, Bytes)>, LineTooLong> {
        let number = self.number;
        if line.len() > self.limit {
            return Err(LineTooLong { line: number });
        }
        self.number += 1;
        let blank = line.iter().all(u8::is_ascii_whitespace);
        Ok((!blank).then_some((number, line)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Whatever the chunks, the lines are the same.
    #[test]
    fn chunks_do_not_matter() {
        let text = b"one\n\n two \r\nthree";
        for size in 1..=text.len() {
            let mut lines = Lines::new(100);
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk);
                while let Some(line) = lines.next_line().unwrap() {
                    found.push(line);
                }
            }
            found.extend(lines.last_line().unwrap());
            let expected: [(u64, &[u8]); 3] = [(1, b"one"), (3, b" two \r"), (4, b"three")];
            assert_eq!(found, expected.map(|(number, line)| (number, Bytes::from(line))), "chunks of {size}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_refused_before_it_fills_the_memory() {
        let mut lines = Lines::new(10);
        lines.push(b"ok\n0123456789");
        assert_eq!(lines.next_line().unwrap().unwrap().0, 1);
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"0");
        assert_eq!(lines.next_line(), Err(LineTooLong { line: 2 }));
    }
}
