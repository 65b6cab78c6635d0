//! What a handler may return, and what that means to the host.

use crate::{Failure, Output};

/// What a handler may return when it is done: no output, one or several.
///
/// Implemented for `()`, [`Output`], `Option<Output>`, `Vec<Output>` and `[Output; N]`.
#[diagnostic::on_unimplemented(
    message = "a handler can't return `{Self}`",
    label = "neither an output nor a failure",
    note = "return `()`, `Output`, `Option<Output>`, `Vec<Output>` or `[Output; N]`",
    note = "or a `Result` of one of them, with `Failure` or any `std::error::Error` as its error"
)]
pub trait IntoOutputs {
    /// The outputs, in their order.
    fn into_outputs(self) -> Vec<Output>;
}

impl IntoOutputs for () {
    fn into_outputs(self) -> Vec<Output> {
        Vec::new()
    }
}

impl IntoOutputs for Output {
    fn into_outputs(self) -> Vec<Output> {
        vec![self]
    }
}

impl IntoOutputs for Option<Output> {
    fn into_outputs(self) -> Vec<Output> {
        self.into_iter().collect()
    }
}

impl IntoOutputs for Vec<Output> {
    fn into_outputs(self) -> Vec<Output> {
        self
    }
}

impl<const N: usize> IntoOutputs for [Output; N] {
    fn into_outputs(self) -> Vec<Output> {
        self.into()
    }
}

/// What a handler may return: outputs, or a `Result` of them.
#[diagnostic::on_unimplemented(
    message = "a handler can't return `{Self}`",
    label = "neither an output nor a failure",
    note = "return `()`, `Output`, `Option<Output>`, `Vec<Output>` or `[Output; N]`",
    note = "or a `Result` of one of them, with `Failure` or any `std::error::Error` as its error"
)]
pub trait IntoOutcome {
    /// The outputs to publish, or why the message is not done.
    ///
    /// # Errors
    /// The handler's own failure, or its error as a retry.
    fn into_outcome(self) -> Result<Vec<Output>, Failure>;
}

impl<T: IntoOutputs> IntoOutcome for T {
    fn into_outcome(self) -> Result<Vec<Output>, Failure> {
        Ok(self.into_outputs())
    }
}

impl<T: IntoOutputs, E: Into<Failure>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Result<Vec<Output>, Failure> {
        self.map(IntoOutputs::into_outputs).map_err(Into::into)
    }
}
