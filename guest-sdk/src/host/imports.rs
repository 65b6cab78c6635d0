//! The imports of the contract, in the words of this crate.

pub(crate) use crate::bindings::tidegate::events::delivery::{previous_failure, remaining_ms};
pub(crate) use crate::bindings::tidegate::events::metrics::{count, record_value};
pub(crate) use crate::bindings::tidegate::events::spans::{end as end_span, start as start_span};

use crate::bindings::tidegate::events::{delivery, log as lines};
use crate::delivery::ExtendError;
use crate::log::Level;

pub(crate) fn log(level: Level, text: &str, fields: &[(String, String)]) {
    let level = match level {
        Level::Trace => lines::Level::Trace,
        Level::Debug => lines::Level::Debug,
        Level::Info => lines::Level::Info,
        Level::Warn => lines::Level::Warn,
        Level::Error => lines::Level::Error,
    };
    lines::write(level, text, fields);
}

pub(crate) fn extend(ms: u32) -> Result<u32, ExtendError> {
    delivery::extend(ms).map_err(|error| match error {
        delivery::ExtendError::OverLimit => ExtendError::OverLimit,
        delivery::ExtendError::LeaseLost => ExtendError::LeaseLost,
    })
}
