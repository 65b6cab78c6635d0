//! Everything that is checked without running the code.

use anyhow::Result;

use crate::run::{cargo, command, is_installed, step};
use crate::tidy;

/// Formatting, clippy, documentation, tidy, and the dependency policy where `cargo deny` is installed.
pub(crate) fn lint() -> Result<()> {
    step("checking the format", &mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::check()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    step("clippy", &mut cargo(&clippy))?;
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"];
    step("documentation", cargo(&doc).env("RUSTDOCFLAGS", "--deny warnings"))?;
    if is_installed("cargo-deny", &["--version"]) {
        step("dependency policy", &mut command("cargo-deny", &["--all-features", "check"]))?;
    } else {
        eprintln!("==> dependency policy not checked: cargo-deny is not installed");
    }
    Ok(())
}
