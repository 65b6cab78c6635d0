//! Spans of a handler's own: the steps of a run, timed by the host, in the trace of its message.
//!
//! [`span!`](crate::span!) starts one and gives back a guard, which ends it when it goes. What is logged meanwhile is an
//! event of it, and what is started meanwhile is inside it.
//!
//! ```
//! use tidegate_sdk::{Failure, Message, Output, handler, info, span};
//!
//! #[handler]
//! fn invoice(message: &Message) -> Result<Output, Failure> {
//!     let _invoice = span!("invoice", order.id = message.id());
//!     let text = {
//!         let _parse = span!("parse", bytes = message.body().len());
//!         message.text()?
//!     };
//!     // What comes of it is passed on; an error ends the span as failed, with its words.
//!     let cents: u64 = span!("price").run(|| text.trim().parse())?;
//!     info!(cents, "priced");
//!     Ok(Output::to("invoices").text(format!("{cents} cents")))
//! }
//!
//! # fn main() {
//! use tidegate_sdk::testing::TestMessage;
//!
//! let ran = TestMessage::text("many").id("m-1").run::<invoice>();
//! assert_eq!(
//!     ran.span_lines(),
//!     ["invoice order.id=m-1", "  parse bytes=4", "  price: failed: invalid digit found in string"]
//! );
//! # }
//! ```
//!
//! Name a guard: `let _ = span!("parse");` ends the span at once. A trap ends the instance and runs no guard: then the host
//! ends what is open, and marks it as what failed.
//!
//! The host keeps the first 128 spans of a run and counts the rest; whether anybody records the trace makes no difference to
//! the handler or to its fuel. Names take few values, what differs from message to message is an attribute.

use std::fmt::Display;
use std::marker::PhantomData;

use crate::host;

/// A span that is open. It ends when this goes.
#[derive(Debug)]
#[must_use = "the span ends when its guard goes: `let _span = span!(...)`"]
pub struct Span {
    id: u64,
    failure: Option<String>,
    /// Spans nest as calls of one thread do.
    of_this_thread: PhantomData<*const ()>,
}

impl Span {
    /// Starts a span; the macro calls it.
    pub fn start(name: &str, attributes: &[(&str, &dyn Display)]) -> Self {
        let attributes: Vec<_> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
        Self { id: host::start_span(name, &attributes), failure: None, of_this_thread: PhantomData }
    }

    /// Does something within the span and ends it, as failed where an error came of it.
    ///
    /// # Errors
    /// Those of what is done.
    pub fn run<T, E: Display>(self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let done = work();
        if let Err(error) = &done {
            self.fail(error);
        }
        done
    }

    /// Ends the span as failed.
    pub fn fail(mut self, why: impl Display) {
        self.failure = Some(why.to_string());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        host::end_span(self.id, self.failure.as_deref());
    }
}

/// Starts a span: its name, then named values. `?` before a value writes its `Debug` form. See [`span`](mod@crate::span).
///
/// ```
/// # let (order, card) = (7, Some("visa"));
/// let _charge = tidegate_sdk::span!("charge", order, cents = 1999, card = ?card);
/// ```
#[macro_export]
macro_rules! span {
    ($name:expr $(,)?) => { $crate::Span::start($name, &[]) };
    ($name:expr, $($attributes:tt)+) => { $crate::__span!($name, [] $($attributes)+) };
}

// A macro, because values are taken by name. It takes one named value at a time from the front; a name may have dots in it,
// as the names of OpenTelemetry's conventions have.
#[doc(hidden)]
#[macro_export]
macro_rules! __span {
    ($name:expr, [$($taken:tt)*]) => { $crate::Span::start($name, &[$($taken)*]) };
    ($name:expr, [$($taken:tt)*] $($key:ident).+ = ?$value:expr $(, $($rest:tt)*)?) => {
        $crate::__span!($name, [$($taken)* ($crate::__dotted!($($key).+), &format_args!("{:?}", $value)),] $($($rest)*)?)
    };
    ($name:expr, [$($taken:tt)*] $($key:ident).+ = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__span!($name, [$($taken)* ($crate::__dotted!($($key).+), &$value),] $($($rest)*)?)
    };
    ($name:expr, [$($taken:tt)*] $key:ident $(, $($rest:tt)*)?) => {
        $crate::__span!($name, [$($taken)* (stringify!($key), &$key),] $($($rest)*)?)
    };
}

// `stringify!` of several tokens may put spaces between them.
#[doc(hidden)]
#[macro_export]
macro_rules! __dotted {
    ($first:ident $(. $rest:ident)*) => { concat!(stringify!($first), $(".", stringify!($rest)),*) };
}
