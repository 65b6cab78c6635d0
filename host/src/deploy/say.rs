//! What a deploy says of itself, step by step, to whoever listens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::report::{Line, Step, StepDone};

/// A listener, or none.
pub(super) struct Say {
    state: Mutex<State>,
}

struct State {
    /// `None`: nobody listens, or the last line was said.
    lines: Option<mpsc::Sender<Line>>,
    step: Step,
    begun: Instant,
    /// Whether the step goes on.
    open: bool,
}

impl Say {
    /// To a listener.
    pub(super) fn to(lines: mpsc::Sender<Line>) -> Arc<Self> {
        Self::with(Some(lines))
    }

    /// To nobody.
    pub(super) fn nothing() -> Arc<Self> {
        Self::with(None)
    }

    fn with(lines: Option<mpsc::Sender<Line>>) -> Arc<Self> {
        let state = State { lines, step: Step::Upload, begun: Instant::now(), open: true };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// A step begins; the one before it, when nothing was said of it, is done.
    pub(super) fn begin(&self, step: Step) {
        let mut state = self.lock();
        if state.open {
            let took = state.begun.elapsed();
            state.done(took, String::new());
        }
        (state.step, state.begun, state.open) = (step, Instant::now(), true);
    }

    /// The step is done.
    pub(super) fn done(&self, detail: String) {
        let mut state = self.lock();
        let took = state.begun.elapsed();
        state.done(took, detail);
    }

    /// The step is done, and took so long.
    pub(super) fn done_in(&self, took: Duration, detail: String) {
        self.lock().done(took, detail);
    }

    /// The step that goes on, or was done last.
    pub(super) fn step(&self) -> Step {
        self.lock().step
    }

    /// The last line. What is said after it, by a compilation that ran out of its time, is not passed on.
    pub(super) fn end(&self, line: Line) {
        let mut state = self.lock();
        state.line(line);
        state.lines = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in steps that cannot panic: it is whole even if a holder died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn done(&mut self, took: Duration, detail: String) {
        self.open = false;
        let name = self.step;
        self.line(Line::Step(StepDone { name, ms: took.as_secs_f64() * 1e3, detail }));
    }

    fn line(&self, line: Line) {
        // Whoever listened may have gone: the deploy goes on.
        if let Some(lines) = &self.lines {
            let _ = lines.try_send(line);
        }
    }
}
