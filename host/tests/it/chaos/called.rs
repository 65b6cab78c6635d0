//! `tidegate`, as a person calls it in the directory of a host.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use super::cluster::PATIENCE;
use super::rig::Rig;
use crate::support::until;

/// How a command ended, and what it said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    /// Its answer.
    pub(super) data: String,
    /// What it told besides.
    pub(super) talk: String,
}

/// Begins a command; what it answers must fit in a pipe.
pub(super) fn begun(host: &Rig, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(host.path()).env("XDG_CONFIG_HOME", host.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for its end.
pub(super) fn ended(mut child: Child) -> Said {
    let mut status = None;
    until("the command ends", PATIENCE, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let (mut data, mut talk) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut data).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    Said { code: status.unwrap().code(), data, talk }
}

pub(super) fn call(host: &Rig, arguments: &[&str]) -> Said {
    ended(begun(host, arguments))
}
