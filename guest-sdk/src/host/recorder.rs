//! The host of a native test: it answers from what the test has set, and keeps what the handler said.
//!
//! Invariants: one recorder a thread, there only while a handler runs under [`record`]; without one, questions get the
//! answers of an idle host and what is said is dropped.

use std::cell::RefCell;

use crate::delivery::ExtendError;
use crate::log::Level;
use crate::testing::{LogLine, Measured, Measurement, TestSpan};

/// What the test has set, and what the handler said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder {
    pub(crate) remaining_ms: u32,
    pub(crate) extendable_ms: u32,
    pub(crate) lease_lost: bool,
    pub(crate) previous_failure: Option<String>,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) metrics: Vec<Measurement>,
    pub(crate) spans: Vec<TestSpan>,
    /// The spans that are open, the innermost last.
    pub(crate) open: Vec<usize>,
}

thread_local! {
    static CURRENT: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Runs something under a recorder, and gives back what was recorded.
pub(crate) fn record<R>(recorder: Recorder, run: impl FnOnce() -> R) -> (R, Recorder) {
    /// Puts back the recorder before this one, on a panic too: the next test on this thread must not see ours.
    struct Restore(Option<Recorder>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with_borrow_mut(|current| *current = self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(Some(recorder)));
    let returned = run();
    (returned, CURRENT.take().unwrap_or_default())
}

fn with(write: impl FnOnce(&mut Recorder)) {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(write));
}

fn ask<R>(idle: R, read: impl FnOnce(&mut Recorder) -> R) -> R {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(read)).unwrap_or(idle)
}

pub(crate) fn log(level: Level, text: &str, fields: &[(String, String)]) {
    with(|recorder| recorder.logs.push(LogLine { level, text: text.to_owned(), fields: fields.to_vec() }));
}

pub(crate) fn count(name: &str, value: u64, labels: &[(String, String)]) {
    measure(name, Measured::Count(value), labels);
}

pub(crate) fn record_value(name: &str, value: f64, labels: &[(String, String)]) {
    measure(name, Measured::Value(value), labels);
}

fn measure(name: &str, value: Measured, labels: &[(String, String)]) {
    with(|recorder| recorder.metrics.push(Measurement { name: name.to_owned(), value, labels: labels.to_vec() }));
}

/// Starts a span in the innermost one that is open, as the host does.
pub(crate) fn start_span(name: &str, attributes: &[(String, String)]) -> u64 {
    ask(0, |recorder| {
        let depth = recorder.open.len();
        recorder.open.push(recorder.spans.len());
        recorder.spans.push(TestSpan::open(name, attributes, depth));
        recorder.spans.len() as u64
    })
}

/// Ends a span that is open, and those that are open inside it.
pub(crate) fn end_span(span: u64, failure: Option<&str>) {
    with(|recorder| {
        let index = usize::try_from(span).ok().and_then(|span| span.checked_sub(1));
        let Some(at) = recorder.open.iter().position(|open| Some(*open) == index) else { return };
        recorder.open.truncate(at);
        if let Some(span) = index.and_then(|index| recorder.spans.get_mut(index)) {
            span.end(failure);
        }
    });
}

pub(crate) fn remaining_ms() -> u32 {
    ask(u32::MAX, |recorder| recorder.remaining_ms)
}

pub(crate) fn previous_failure() -> Option<String> {
    ask(None, |recorder| recorder.previous_failure.clone())
}

pub(crate) fn extend(ms: u32) -> Result<u32, ExtendError> {
    ask(Ok(u32::MAX), |recorder| {
        if recorder.lease_lost {
            return Err(ExtendError::LeaseLost);
        }
        recorder.extendable_ms = recorder.extendable_ms.checked_sub(ms).ok_or(ExtendError::OverLimit)?;
        recorder.remaining_ms = recorder.remaining_ms.saturating_add(ms);
        Ok(recorder.remaining_ms)
    })
}
