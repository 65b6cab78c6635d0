//! Applying a configuration to a host that runs: what changes, whether it can, and what is to be done about it. The doing
//! is in [`crate::app`], which wires everything.
//!
//! ```text
//! the host's own file -> changes (shown, with a digest) -> the same digest comes back -> prepare -> carry out
//!                                                            (nothing has changed until here)
//! ```
//!
//! Invariants:
//! - What is applied is what was shown: the digest covers the configuration that runs, what the file says, the modules that it
//!   names, and the versions that they replace. A version that came meanwhile is not replaced.
//! - When anything of a configuration cannot be applied, nothing of it is.
//! - What is not changed is not touched.

mod error;
mod plan;
pub mod report;

use async_trait::async_trait;

pub use error::ApplyError;
pub use plan::{Plan, Work, plan, share};
use report::{Applied, Changes};

/// The configuration of a host that runs, for whoever may change it.
#[async_trait]
pub trait Configuration: Send + Sync {
    /// What the host's file changes against what runs. Changes nothing.
    ///
    /// # Errors
    /// When the file cannot be used; the text is that of `tidegate check`.
    async fn changes(&self) -> Result<Changes, ApplyError>;

    /// Applies the host's file, all of it or nothing. `shown`: the digest of the changes that somebody was shown; `None`
    /// applies whatever stands there.
    ///
    /// # Errors
    /// When any part of it cannot be applied. Nothing has changed then.
    async fn apply(&self, shown: Option<&str>, by: &str) -> Result<Applied, ApplyError>;
}
