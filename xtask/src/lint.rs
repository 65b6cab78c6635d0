//! Everything that is checked without running the code.

use anyhow::Result;

use crate::run::{cargo, step};
use crate::{guests, tidy};

/// Private items are documented too, so a link to one leads somewhere.
const RUSTDOC: &str = "--deny warnings --allow rustdoc::private_intra_doc_links";

/// Formatting, clippy, documentation and tidy, with the dependency policy in it.
pub(crate) fn lint() -> Result<()> {
    step("checking the format", &mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::check()?;
    // The host and the guests apart, for the reason that `test` has.
    lint_packages("the host", &[])?;
    lint_packages("the SDK and the examples", &guests::packages())?;
    // What the SDK has for wasm alone is not compiled natively.
    step("clippy of the guests for wasm", &mut guests::clippy()?)
}

fn lint_packages(what: &str, packages: &[&str]) -> Result<()> {
    let mut clippy = cargo(&["clippy", "--all-targets", "--locked"]);
    step(&format!("clippy of {what}"), clippy.args(packages).args(["--", "--deny", "warnings"]))?;
    let mut doc = cargo(&["doc", "--no-deps", "--document-private-items", "--locked"]);
    step(&format!("documentation of {what}"), doc.args(packages).env("RUSTDOCFLAGS", RUSTDOC))
}
