//! What `#[handler]` writes: the handler behind the function, and its export from the module.

use crate::bindings::tidegate::events::types;
use crate::{Failure, IntoOutcome, Message, Output};

pub use crate::argument::{FromMessage, TakeMessage};

/// A handler as the host sees it. `#[handler]` implements it for a type with the function's name, which is what
/// [`testing`](crate::testing) takes.
pub trait Handler {
    /// Runs the handler on one message.
    ///
    /// # Errors
    /// Why the message is not done.
    fn handle(message: Message) -> Result<Vec<Output>, Failure>;
}

/// [`Handler::handle`], as a value.
pub type Entry = fn(Message) -> Result<Vec<Output>, Failure>;

/// Turns what the function returned into what the host is told.
///
/// # Errors
/// Why the message is not done.
pub fn outcome<R: IntoOutcome>(returned: R) -> Result<Vec<Output>, Failure> {
    returned.into_outcome()
}

/// Runs a handler on a message of the contract, for the contract.
///
/// # Errors
/// Why the message is not done.
pub fn call<H: Handler>(message: types::Message) -> Result<Vec<types::Outgoing>, types::Failure> {
    match H::handle(Message { raw: message }) {
        Ok(outputs) => Ok(outputs.into_iter().map(|output| output.raw).collect()),
        Err(failure) => Err(failure.into_raw()),
    }
}
