//! Runs a handler natively in `cargo test`, with a host that records.
//!
//! `#[handler] fn charge(..)` leaves the function as it is, so a test can simply call it. To see what the host would see
//! (a payload that does not parse, outputs, logs, metrics, spans), build a message and run the handler on it by its name:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tidegate_sdk::{Failure, Message, Output, handler, info};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Charge { card: String, cents: u32 }
//!
//! #[handler]
//! fn charge(charge: Charge, message: &Message) -> Result<Output, Failure> {
//!     match charge.card.as_str() {
//!         "stolen" => Err(Failure::reject("card-stolen")),
//!         "busy" if !message.last_chance() => Err(Failure::retry("gateway-busy")),
//!         _ => {
//!             info!(cents = charge.cents, "charged");
//!             Output::to("receipts").json(&charge)
//!         }
//!     }
//! }
//!
//! # fn main() {
//! use tidegate_sdk::testing::TestMessage;
//!
//! let ran = TestMessage::json(&Charge { card: "good".into(), cents: 5 }).run::<charge>();
//! assert_eq!(ran.output().text(), r#"{"card":"good","cents":5}"#);
//! assert_eq!(ran.log_lines(), ["info charged cents=5"]);
//!
//! TestMessage::json(&Charge { card: "stolen".into(), cents: 5 }).run::<charge>().rejected("card-stolen");
//! TestMessage::json(&Charge { card: "busy".into(), cents: 5 }).attempt(2).run::<charge>().retried("gateway-busy");
//! TestMessage::text("not json").run::<charge>().rejected("invalid-payload");
//! # }
//! ```
//!
//! The checks panic with what the handler did do: they are meant for tests.

mod message;
mod ran;
mod span;

pub use message::TestMessage;
pub use ran::{LogLine, Measured, Measurement, Ran, TestOutput};
pub use span::TestSpan;
