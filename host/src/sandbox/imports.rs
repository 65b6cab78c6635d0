//! What every handler may import from the contract: log, delivery and metrics, and spans by `span_calls.rs`.
//!
//! Invariants: every call is counted; what it hands over is counted before it is kept.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::tidegate::events::{delivery, log, metrics, types};
use super::clock::ExtendRefused;
use super::fault::Stop;
use super::span_calls;
use super::state::State;
use crate::handler::{LogLevel, MeasuredValue, Measurement};

/// What a measurement or a label takes of the byte limit besides its text.
const OVERHEAD_BYTES: usize = 32;

/// Makes the contract's imports known to a linker.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    log::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    delivery::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    metrics::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    span_calls::link(linker)
}

impl types::Host for State {}

impl log::Host for State {
    fn write(&mut self, level: log::Level, text: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.count_call()?;
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        Ok(self.log.write(level, text, fields)?)
    }
}

impl delivery::Host for State {
    fn previous_failure(&mut self) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(self.previous_failure.clone())
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u32> {
        self.count_call()?;
        Ok(millis(self.clock.remaining(Instant::now())))
    }

    fn extend(&mut self, ms: u32) -> wasmtime::Result<Result<u32, delivery::ExtendError>> {
        self.count_call()?;
        Ok(match self.clock.extend(Instant::now(), Duration::from_millis(ms.into())) {
            Ok(left) => Ok(millis(left)),
            Err(ExtendRefused::OverLimit) => Err(delivery::ExtendError::OverLimit),
            Err(ExtendRefused::LeaseLost) => Err(delivery::ExtendError::LeaseLost),
        })
    }
}

impl metrics::Host for State {
    fn count(&mut self, name: String, value: u64, labels: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.measure(name, labels, MeasuredValue::Count(value))
    }

    fn record_value(&mut self, name: String, value: f64, labels: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.measure(name, labels, MeasuredValue::Value(value))
    }
}

impl State {
    fn measure(&mut self, name: String, labels: Vec<(String, String)>, value: MeasuredValue) -> wasmtime::Result<()> {
        self.count_call()?;
        let mut series = DefaultHasher::new();
        (&name, &labels).hash(&mut series);
        self.series.insert(series.finish());
        if self.series.len() > usize::try_from(self.limits.metric_series).unwrap_or(usize::MAX) {
            let limit = self.limits.metric_series.into();
            return Err(wasmtime::Error::new(Stop::TooMany { what: "series of metrics", limit }));
        }
        let size = |(name, value): &(String, String)| name.len() + value.len() + OVERHEAD_BYTES;
        let bytes = name.len() + OVERHEAD_BYTES + labels.iter().map(size).sum::<usize>();
        self.measured_bytes = self.measured_bytes.saturating_add(bytes);
        // What calls may hand over in all, at 64 bytes each: with the defaults 640 KB.
        let limit = u64::from(self.limits.host_calls).saturating_mul(64);
        if self.measured_bytes as u64 > limit {
            return Err(wasmtime::Error::new(Stop::TooMany { what: "bytes of metrics", limit }));
        }
        self.measurements.push(Measurement { name, labels, value });
        Ok(())
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
