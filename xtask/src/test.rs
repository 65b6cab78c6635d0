//! Runs every test: the host's on real brokers and real guests, the SDK's and the examples' natively.

use anyhow::Result;

use crate::guests;
use crate::run::{cargo, step};

/// Builds what the tests need, then runs them all.
pub(crate) fn test() -> Result<()> {
    let guests = guests::build()?;
    step("testing", cargo(&["test", "--workspace", "--locked"]).env("TIDEGATE_GUESTS", guests))
}
