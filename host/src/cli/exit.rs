//! How the program ends: the exit codes, in one place.

use std::process::ExitCode;

/// The codes, for the end of `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  it failed
  2  the command line or the configuration is wrong
  3  what was asked for is not there
  4  some of it was done, and some was not; in a cluster: some host does not run the version (deploy, rollback)
     or has not said that it holds the pause (pause); another pause still holds it (resume); it is not recorded yet (abort)
  5  the handler did not complete the message (invoke), or did something else than is expected (test);
     the candidate would do something else than the active version (replay)
  6  the host refused the module or the configuration, and nothing was changed (deploy, apply)";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// What was asked for is done.
    Done,
    /// It failed.
    Failed,
    /// The command line or the configuration is wrong; clap uses the same code.
    Usage,
    /// What was asked for is not there.
    NotFound,
    /// Some of it was done, and some was not.
    Partly,
    /// `invoke`: the handler did not complete the message. `test`: it did something else than is expected. `replay`: the
    /// candidate would do something else than the active version.
    NotCompleted,
    /// `deploy`, `apply`: the host refused the module or the configuration.
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Partly => 4,
            Exit::NotCompleted => 5,
            Exit::Refused => 6,
        })
    }
}

/// A command that did not do what was asked, and the code to end with.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) error: anyhow::Error,
}

impl Failure {
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }

    pub(super) fn not_found(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::NotFound, error: error.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::Failed, error }
    }
}

/// What a command gives back.
pub(super) type Ended = Result<Exit, Failure>;
