//! `tidegate completions`: a completion script on standard output.

use clap::Args;
use clap_complete::Shell;

use super::exit::{Ended, Exit};
use super::say;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell to write the script for
    shell: Shell,
}

pub(super) fn completions(arguments: &Arguments) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "tidegate", &mut script);
    say::data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
