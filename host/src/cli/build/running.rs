//! The program that a build runs at the moment, so that somebody else can end the build.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Running(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// Between two programs.
    #[default]
    Idle,
    Runs(Pid),
    /// Nothing more is started.
    Ended,
}

impl Running {
    /// Starts a program, unless the build was ended.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut state = self.state();
        if matches!(*state, State::Ended) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the build was ended"));
        }
        let child = command.spawn()?;
        *state = State::Runs(Pid::from_child(&child));
        Ok(child)
    }

    /// Waits until a program has ended.
    pub(super) fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        // Left unreaped until the lock is held: whoever ends the build never signals a stranger of the same number.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(error) = waitid(WaitId::Pid(Pid::from_child(child)), ended) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        let mut state = self.state();
        if matches!(*state, State::Runs(_)) {
            *state = State::Idle;
        }
        child.wait()
    }

    /// Ends the program that runs, and the build with it.
    pub(in super::super) fn end(&self) {
        let mut state = self.state();
        if let State::Runs(pid) = *state {
            // One that is ending by itself is as good.
            let _ = kill_process(pid, Signal::TERM);
        }
        *state = State::Ended;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_build_that_is_ended_starts_nothing_more() {
        let running = Running::default();
        let mut child = running.spawn(&mut Command::new("true")).unwrap();
        assert!(running.wait(&mut child).unwrap().success());
        let mut child = running.spawn(Command::new("cat").stdin(std::process::Stdio::piped())).unwrap();
        running.end();
        assert!(!running.wait(&mut child).unwrap().success());
        assert!(running.spawn(&mut Command::new("true")).is_err());
    }
}
