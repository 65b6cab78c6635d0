//! `tidegate compile-for-host`: what a host starts to compile a module. Not for people, and so not in the help.

use std::io::IsTerminal as _;

use anyhow::{Context as _, ensure};

use super::exit::{Ended, Exit};
use crate::sandbox::compile_as_told;

pub(super) fn compile() -> Ended {
    ensure_host()?;
    compile_as_told().context("compiling for a host")?;
    Ok(Exit::Done)
}

/// A person who came here by a guess is told what it is.
fn ensure_host() -> anyhow::Result<()> {
    ensure!(!std::io::stdin().is_terminal(), "a host starts this to compile a module: `tidegate build` is for people");
    Ok(())
}
