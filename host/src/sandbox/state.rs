//! What a store carries while a guest runs: its counters against the limits.
//!
//! Invariants:
//! - Memories and tables of a store are counted together, from their creation on.
//! - A limit that is reached is a [`Stop`], which the guest cannot catch.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use wasmtime::ResourceLimiter;

use super::adapters::outbox::Outbox;
use super::clock::Clock;
use super::fault::Stop;
use super::granted::{Client, Granted, Used};
use super::limits::Limits;
use super::log::LogBook;
use super::repeatable::Repeatable;
use super::spans::SPANS;
use super::wasi::Wasi;
use crate::handler::{Effects, Measurement};

/// What a table's element takes.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// The state of one store.
pub(super) struct State {
    pub(super) limits: Arc<Limits>,
    pub(super) clock: Arc<Clock>,
    pub(super) log: LogBook,
    pub(super) measurements: Vec<Measurement>,
    /// Hashes of the series that this run has measured.
    pub(super) series: HashSet<u64>,
    /// Bytes of names and labels of this run's measurements.
    pub(super) measured_bytes: usize,
    pub(super) previous_failure: Option<String>,
    /// The time that the guest sees, where it is not the true one.
    pub(super) repeatable: Option<Repeatable>,
    /// Made when a grant is first used. Stands before `wasi`, so that it goes first: a request that is torn off is told
    /// so before its body goes.
    pub(super) used: Option<Box<Used>>,
    /// Made when the guest first calls WASI: most handlers never do.
    pub(super) wasi: Option<Box<Wasi>>,
    /// Made when the guest first makes or sends a message by another contract than ours.
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) granted: Arc<Granted>,
    /// What requests are sent with, where any host is granted.
    pub(super) client: Option<Arc<Client>>,
    /// What becomes of what the run changes elsewhere.
    pub(super) effects: Effects,
    host_calls: u32,
    /// Those of them that started or ended a span.
    span_calls: usize,
    held: usize,
    peak: usize,
}

impl State {
    /// The state of a new store.
    pub(super) fn new(
        limits: Arc<Limits>,
        granted: Arc<Granted>,
        client: Option<Arc<Client>>,
        clock: Arc<Clock>,
        repeatable: bool,
    ) -> Self {
        let log = LogBook::new(&limits, Arc::clone(&clock));
        Self {
            limits,
            clock,
            log,
            measurements: Vec::new(),
            series: HashSet::new(),
            measured_bytes: 0,
            previous_failure: None,
            repeatable: repeatable.then(Repeatable::default),
            used: None,
            wasi: None,
            outbox: None,
            granted,
            client,
            // What a guest does at its start belongs to no message, and it may start ahead of one.
            effects: Effects::Suppressed,
            host_calls: 0,
            span_calls: 0,
            held: 0,
            peak: 0,
        }
    }

    /// Sets the counters back for the next run. What the instance holds stays counted; log and measurements were taken
    /// at the end of the run before.
    pub(super) fn begin(&mut self, previous_failure: Option<&str>) {
        if let Some(outbox) = &mut self.outbox {
            outbox.begin();
        }
        self.series.clear();
        self.measured_bytes = 0;
        self.previous_failure = previous_failure.map(ToOwned::to_owned);
        self.host_calls = 0;
        self.span_calls = 0;
        self.peak = self.held;
    }

    /// Says what becomes of what the guest changes elsewhere from here on. What it changed where that was suppressed is
    /// forgotten.
    pub(super) fn begin_effects(&mut self, effects: Effects) {
        self.effects = effects;
        if let Some(used) = &mut self.used {
            used.begin();
        }
    }

    /// Sets the time that the guest sees to that of its message, where it is not the true one.
    pub(super) fn begin_time(&self, published_at: SystemTime) {
        if let Some(repeatable) = &self.repeatable {
            repeatable.begin(published_at);
        }
    }

    /// Counts a call into the host, and stops the run at one too many.
    pub(super) fn count_call(&mut self) -> Result<(), Stop> {
        self.host_calls = self.host_calls.saturating_add(1);
        self.check_calls()
    }

    /// Counts a call that starts or ends a span. Of as many as are kept each counts; of further ones, which cost little more
    /// than the call itself, 256 count as one: a handler that makes a span for each line of a large file is not to fail
    /// for it, and one that does nothing else is still ended. Whether spans are kept makes no difference to that.
    pub(super) fn count_span_call(&mut self) -> Result<(), Stop> {
        const KEPT: usize = 2 * SPANS;
        const LATER: usize = 256;
        self.span_calls = self.span_calls.saturating_add(1);
        if self.span_calls <= KEPT || self.span_calls.is_multiple_of(LATER) { self.count_call() } else { Ok(()) }
    }

    /// Counts a call that cannot be refused where it is made; [`Self::check_tick`] and the end of the run look at it.
    pub(super) fn count_call_later(&mut self) {
        self.host_calls = self.host_calls.saturating_add(1);
    }

    /// Whether there were more calls into the host than allowed.
    pub(super) fn check_calls(&self) -> Result<(), Stop> {
        if self.host_calls > self.limits.host_calls {
            return Err(Stop::TooMany { what: "calls into the host", limit: self.limits.host_calls.into() });
        }
        Ok(())
    }

    /// What is looked at on every tick.
    pub(super) fn check_tick(&self) -> Result<(), Stop> {
        self.check_calls()?;
        self.clock.check(Instant::now())
    }

    /// The most memory and table space that was held at once in this run, in bytes.
    pub(super) fn memory_peak(&self) -> u64 {
        u64::try_from(self.peak).unwrap_or(u64::MAX)
    }

    fn grow(&mut self, by: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The guest's own maximum: it is told no, as without a host's limit, and nothing was taken.
            return Ok(false);
        }
        let wanted = self.held.saturating_add(by);
        if wanted > self.limits.memory {
            let (wanted, limit) = (wanted as u64, self.limits.memory as u64);
            return Err(wasmtime::Error::new(Stop::Memory { wanted, limit }));
        }
        self.held = wanted;
        self.peak = self.peak.max(wanted);
        Ok(true)
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current), desired, maximum)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES), desired, maximum)
    }
}
