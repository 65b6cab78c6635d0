//! Writes the SDK's bindings anew from the contract.

use anyhow::Result;

use crate::run::{cargo, step};

/// Runs the generator, which is a package of its own so that this one stays quick to build.
pub(crate) fn write() -> Result<()> {
    step("writing guest-sdk/src/bindings.rs", &mut cargo(&["run", "--quiet", "--package", "tidegate-sdk-bindgen"]))
}
