//! Structured log lines, tied by the host to the message and its trace.
//!
//! Each level has a macro at the root of the crate. Named values come first, then the text, which takes what `format!`
//! takes. `?` before a value writes its `Debug` form.
//!
//! ```
//! use tidegate_sdk::{debug, info, warn};
//!
//! let order = 17;
//! info!("charged order {order}");
//! info!(order, cents = 1999, "charged");
//! warn!(reply = ?Some(503), "the gateway is down, attempt {}", 3);
//! debug!("nothing to do");
//! ```

use std::borrow::Cow;
use std::fmt::{Arguments, Display};

use crate::host;

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The finest.
    Trace,
    /// For whoever mends the handler.
    Debug,
    /// What happens when all is well.
    Info,
    /// Recovered by itself.
    Warn,
    /// Needs a person.
    Error,
}

/// Writes one line; the macros call it.
pub fn write(level: Level, text: Arguments<'_>, fields: &[(&str, &dyn Display)]) {
    let text = text.as_str().map_or_else(|| Cow::Owned(text.to_string()), Cow::Borrowed);
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    host::log(level, &text, &fields);
}

/// Writes a line of the finest level: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! trace {
    ($($line:tt)+) => { $crate::__log_line!(Trace [] $($line)+) };
}

/// Writes a line for whoever mends the handler: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::__log_line!(Debug [] $($line)+) };
}

/// Writes a line about what happens when all is well: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::__log_line!(Info [] $($line)+) };
}

/// Writes a line about something that was recovered from: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::__log_line!(Warn [] $($line)+) };
}

/// Writes a line about something that needs a person: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::__log_line!(Error [] $($line)+) };
}

// A macro, because values are taken by name and the text is formatted in place. It takes one named value at a time from
// the front, until the text is reached.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_line {
    ($level:ident [$($fields:tt)*] $name:ident = ?$value:expr, $($rest:tt)+) => {
        $crate::__log_line!($level [$($fields)* (stringify!($name), &format_args!("{:?}", $value)),] $($rest)+)
    };
    ($level:ident [$($fields:tt)*] $name:ident = $value:expr, $($rest:tt)+) => {
        $crate::__log_line!($level [$($fields)* (stringify!($name), &$value),] $($rest)+)
    };
    ($level:ident [$($fields:tt)*] $name:ident, $($rest:tt)+) => {
        $crate::__log_line!($level [$($fields)* (stringify!($name), &$name),] $($rest)+)
    };
    ($level:ident [$($fields:tt)*] $text:literal $($arguments:tt)*) => {
        $crate::log::write($crate::log::Level::$level, format_args!($text $($arguments)*), &[$($fields)*])
    };
}
