//! What can be seen from outside: metrics by name, and the log.
//!
//! Invariants:
//! - Every metric of the host stands in [`names`], with its unit and a sentence.
//! - Recording on the way of a message takes no label lookup and no lock: handles are resolved once a subscription.
//! - Nothing waits for what is exported, see [`otlp`].
//! - The number of series is bounded: labels are names from the configuration and reason codes, never subjects or ids;
//!   what handlers measure themselves has a limit a handler.

mod asked;
pub mod broker;
mod by_reason;
mod counts;
mod ending;
mod guest;
mod histogram;
pub mod history;
pub mod logs;
pub mod metrics;
pub mod names;
pub mod otlp;
mod rollouts;
mod shadow;
pub mod side;
pub mod subscription;
mod timed;
pub mod trace;
mod version;

pub use asked::{HeldUp, Operation};
pub use broker::BrokerMetrics;
pub use counts::{Latency, SubscriptionCounts};
pub use ending::Ending;
pub use guest::HandlerMetrics;
pub use history::Recent;
pub use metrics::Metrics;
pub use rollouts::{RolloutSide, ShownRollout};
pub use shadow::{CopyFate, ShadowCounts, ShadowFigures};
pub(crate) use side::says_something;
pub use side::{Evidence, SideFigures};
pub use subscription::SubscriptionMetrics;
pub use timed::Timings;
pub use version::{VersionCounts, VersionFigures};
