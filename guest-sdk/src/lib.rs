//! Write a Tidegate message handler: a plain function becomes a WebAssembly component.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tidegate_sdk::{Failure, Output, handler};
//!
//! #[derive(Deserialize)]
//! struct Order { id: u64, cents: u64 }
//!
//! #[derive(Serialize)]
//! struct Invoice { order: u64, total: u64 }
//!
//! #[handler]
//! fn invoice(order: Order) -> Result<Output, Failure> {
//!     if order.cents == 0 {
//!         return Err(Failure::reject("free-order").detail(format!("order {} costs nothing", order.id)));
//!     }
//!     Output::to("invoices").json(&Invoice { order: order.id, total: order.cents })
//! }
//! ```
//!
//! # What comes in
//!
//! The first parameter is what the handler wants of the message, see [`FromMessage`]:
//!
//! | parameter | is given |
//! |---|---|
//! | `order: Order` | the body, parsed as JSON. What does not parse is rejected: parsing it again can't help |
//! | `order: Order<'_>` | the same, borrowing text from the body |
//! | `message: &Message` | the message as it came |
//! | `message: Message` | the same, to take apart: `message.into_body()` copies nothing |
//!
//! A second parameter may be `&Message`: `fn invoice(order: Order, message: &Message)`.
//!
//! # What goes out
//!
//! The return value alone settles the message. The host does the rest; there is nothing to acknowledge.
//!
//! | returned | the host |
//! |---|---|
//! | `()`, [`Output`], `Option<Output>`, `Vec<Output>`, `[Output; N]`, or one of them in `Ok` | publishes the outputs, then acknowledges |
//! | [`Failure::retry`] | runs the message again later; it counts as an attempt |
//! | [`Failure::defer`] | brings it back after the delay without counting an attempt |
//! | [`Failure::reject`] | puts it into the dead-letter queue, with the reason |
//! | [`Failure::skip`] | acknowledges it, counted as skipped |
//! | any other error (`?` on a [`std::error::Error`]) | runs it again later: an error that nobody classified is a retry |
//! | a panic | records a trap and runs it again; the same trap twice ends in the dead-letter queue |
//!
//! # Test it natively
//!
//! `cargo test` needs no wasm and no host: see [`testing`].
//!
//! # Build it
//!
//! The crate is a `cdylib`; the profile makes the module small and quick to start:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! tidegate-sdk = { path = "vendor/tidegate-sdk" } # `tidegate new` puts it there
//! serde = { version = "1", features = ["derive"] }
//!
//! [profile.release]
//! opt-level = 3        # "z" makes it about a quarter smaller and slower on every message
//! lto = "fat"
//! codegen-units = 1
//! panic = "abort"      # a panic is a trap in any case
//! strip = "debuginfo"  # function names stay: they are what a dead letter shows of a trap
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` writes a component that a host can load.

#[allow(missing_docs, unsafe_code, unreachable_pub, rust_2018_idioms, clippy::all, reason = "generated")]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, clippy::cast_possible_truncation, reason = "generated")]
#[doc(hidden)]
pub mod bindings;

mod argument;
mod failure;
mod message;
mod output;
mod returned;

pub mod delivery;
pub mod log;
pub mod metrics;
mod misfit;
pub mod span;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[doc(hidden)]
pub mod export;
mod host;

pub use argument::{FromMessage, TakeMessage};
pub use export::Handler;
pub use failure::{Failure, FailureKind, OrFail};
pub use message::Message;
pub use output::Output;
pub use returned::{IntoOutcome, IntoOutputs};
pub use span::Span;
pub use tidegate_sdk_macros::handler;
