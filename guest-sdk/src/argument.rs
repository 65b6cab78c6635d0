//! What a handler may take: the message itself, or something made from it.

use serde::Deserialize;

use crate::{Failure, Message};

/// Something that a handler takes and that is made from a message it leaves in place.
///
/// Every type that implements serde's `Deserialize` is one: the body is parsed as JSON. Implement it for a type of your
/// own to read another format:
///
/// ```
/// use tidegate_sdk::{Failure, FromMessage, Message, handler};
///
/// /// Comma-separated numbers.
/// struct Numbers(Vec<f64>);
///
/// impl FromMessage<'_> for Numbers {
///     fn from_message(message: &Message) -> Result<Self, Failure> {
///         let parsed: Result<_, _> = message.text()?.split(',').map(str::parse).collect();
///         parsed.map(Numbers).map_err(|error| Failure::reject("not-a-number").detail(error.to_string()))
///     }
/// }
///
/// #[handler]
/// fn sum(numbers: Numbers) {
///     tidegate_sdk::metrics::record("sum", numbers.0.iter().sum(), &[]);
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler can't take `{Self}`",
    label = "not something that can be made from a message",
    note = "derive `serde::Deserialize` for a payload, take `Message` or `&Message`, or implement `FromMessage`"
)]
pub trait FromMessage<'m>: Sized {
    /// Makes it from the message.
    ///
    /// # Errors
    /// What the handler returns in its place. A message that can't be read today can't be read tomorrow: reject it.
    fn from_message(message: &'m Message) -> Result<Self, Failure>;
}

impl<'m, T: Deserialize<'m>> FromMessage<'m> for T {
    fn from_message(message: &'m Message) -> Result<Self, Failure> {
        message.json()
    }
}

impl<'m> FromMessage<'m> for &'m Message {
    fn from_message(message: &'m Message) -> Result<Self, Failure> {
        Ok(message)
    }
}

/// What a handler with one parameter takes: anything that is [`FromMessage`], or the [`Message`] itself by value.
#[diagnostic::on_unimplemented(
    message = "a handler can't take `{Self}`",
    label = "not something that can be made from a message",
    note = "derive `serde::Deserialize` for a payload, take `Message` or `&Message`, or implement `FromMessage`"
)]
pub trait TakeMessage<'m>: Sized {
    /// Makes it from the message, or takes the message out of its place.
    ///
    /// # Errors
    /// What the handler returns in its place.
    fn take_message(place: &'m mut Message) -> Result<Self, Failure>;
}

impl<'m, T: FromMessage<'m>> TakeMessage<'m> for T {
    fn take_message(place: &'m mut Message) -> Result<Self, Failure> {
        T::from_message(place)
    }
}

impl<'m> TakeMessage<'m> for Message {
    fn take_message(place: &'m mut Message) -> Result<Self, Failure> {
        Ok(Self::take(place))
    }
}
