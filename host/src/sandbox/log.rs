//! A run's log: what the guest wrote through the log import, stdout and stderr, in order and within the limits; and the
//! spans that it was written in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::clock::Clock;
use super::fault::Stop;
use super::limits::Limits;
use super::spans::SpanBook;
use crate::handler::{LogLevel, LogLine, Spans};

/// What a line or a field takes of the byte limit besides its text, so that a million empty ones are not free.
const OVERHEAD_BYTES: usize = 16;

/// Shared by the imports and the standard streams of one store.
#[derive(Debug, Clone)]
pub(super) struct LogBook(Arc<Mutex<Pages>>);

#[derive(Debug)]
struct Pages {
    lines: Vec<LogLine>,
    /// How many of the lines are the host's own.
    remarks: usize,
    bytes: usize,
    line_limit: u32,
    byte_limit: usize,
    clock: Arc<Clock>,
    spans: SpanBook,
    /// Lines of stdout and stderr that have not ended yet.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// One of the standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Its lines are information.
    Stdout,
    /// Its lines are warnings.
    Stderr,
}

impl LogBook {
    /// An empty log.
    pub(super) fn new(limits: &Limits, clock: Arc<Clock>) -> Self {
        Self(Arc::new(Mutex::new(Pages {
            lines: Vec::new(),
            remarks: 0,
            bytes: 0,
            line_limit: limits.log_lines,
            byte_limit: limits.log_bytes,
            clock,
            spans: SpanBook::default(),
            stdout: Vec::new(),
            stderr: Vec::new(),
        })))
    }

    /// Takes a structured line.
    pub(super) fn write(&self, level: LogLevel, text: String, fields: Vec<(String, String)>) -> Result<(), Stop> {
        let size = |(name, value): &(String, String)| name.len() + value.len() + OVERHEAD_BYTES;
        let bytes = text.len() + fields.iter().map(size).sum::<usize>();
        self.with(|pages| {
            pages.take(bytes)?;
            pages.line(level, text, fields)
        })
    }

    /// Takes a line of the host's own. It counts against no limit, because what the host says must end no run; so whoever
    /// calls this sees to it that there are few in a run.
    pub(super) fn remark(&self, level: LogLevel, text: String) {
        self.with(|pages| {
            let (at, span) = (pages.now(), pages.spans.innermost());
            pages.lines.push(LogLine { level, text, fields: Vec::new(), at, span });
            pages.remarks = pages.remarks.saturating_add(1);
        });
    }

    /// Takes bytes of a standard stream; each line becomes a line of the log.
    pub(super) fn stream(&self, stream: Stream, bytes: &[u8]) -> Result<(), Stop> {
        self.with(|pages| {
            pages.take(bytes.len())?;
            let mut rest = bytes;
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let (line, after) = rest.split_at(end);
                pages.part(stream).extend_from_slice(line);
                pages.end_line(stream)?;
                rest = after.get(1..).unwrap_or_default();
            }
            pages.part(stream).extend_from_slice(rest);
            Ok(())
        })
    }

    /// Does something with the spans, at this moment of the run.
    pub(super) fn spans<T>(&self, act: impl FnOnce(&mut SpanBook, Duration) -> T) -> T {
        self.with(|pages| {
            let now = pages.now();
            act(&mut pages.spans, now)
        })
    }

    /// Bytes that may still be written.
    pub(super) fn room(&self) -> usize {
        self.with(|pages| pages.byte_limit.saturating_sub(pages.bytes))
    }

    /// Ends lines and spans that have no end, hands them over, and is empty for the next run.
    pub(super) fn finish(&self) -> (Vec<LogLine>, Spans) {
        self.with(|pages| {
            for stream in [Stream::Stdout, Stream::Stderr] {
                if !pages.part(stream).is_empty() {
                    // One line too many at the very end is dropped: the run is over.
                    drop(pages.end_line(stream));
                }
            }
            pages.bytes = 0;
            pages.remarks = 0;
            let now = pages.now();
            (std::mem::take(&mut pages.lines), pages.spans.finish(now))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Pages) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pages {
    fn take(&mut self, bytes: usize) -> Result<(), Stop> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.byte_limit {
            return Err(Stop::TooMany { what: "bytes of log", limit: self.byte_limit as u64 });
        }
        Ok(())
    }

    fn line(&mut self, level: LogLevel, text: String, fields: Vec<(String, String)>) -> Result<(), Stop> {
        let written = self.lines.len().saturating_sub(self.remarks);
        if written >= usize::try_from(self.line_limit).unwrap_or(usize::MAX) {
            return Err(Stop::TooMany { what: "lines of log", limit: self.line_limit.into() });
        }
        let (at, span) = (self.now(), self.spans.innermost());
        self.lines.push(LogLine { level, text, fields, at, span });
        Ok(())
    }

    fn now(&self) -> Duration {
        self.clock.elapsed(Instant::now())
    }

    fn end_line(&mut self, stream: Stream) -> Result<(), Stop> {
        let bytes = std::mem::take(self.part(stream));
        let text = String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
        let level = match stream {
            Stream::Stdout => LogLevel::Info,
            Stream::Stderr => LogLevel::Warn,
        };
        self.line(level, text, Vec::new())
    }

    fn part(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_the_host_says_costs_the_handler_nothing() {
        let limits = Limits { log_lines: 1, log_bytes: 4, ..Limits::default() };
        let log = LogBook::new(&limits, Arc::new(Clock::new(Instant::now())));
        for _run in 0..2 {
            log.remark(LogLevel::Warn, "longer than all that the handler may write".to_owned());
            assert_eq!(log.room(), 4);
            log.write(LogLevel::Info, "said".to_owned(), Vec::new()).unwrap();
            assert!(log.write(LogLevel::Info, String::new(), Vec::new()).is_err());
            let levels: Vec<LogLevel> = log.finish().0.iter().map(|line| line.level).collect();
            assert_eq!(levels, [LogLevel::Warn, LogLevel::Info]);
        }
    }
}
