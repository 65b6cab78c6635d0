//! The threads that compile: one a core, of a lower priority than those that run handlers.
//!
//! Invariant: what compiles gives way to what runs. With both cores of two at work on messages a compilation still has a
//! tenth of them, so that it ends.

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::error::SandboxError;

/// How far the kernel puts these threads back. Each step is a factor of 1.25: ten of them leave a tenth of a core that
/// others want, and the largest module that we know (16 s of one core) ends within its two minutes even then.
const NICE: i32 = 10;

/// The same for what takes a millisecond or so and should not be long in coming: five steps leave a quarter of a core.
const NICE_FOR_SHORT_WORK: i32 = 5;

/// Where the compiler runs.
#[derive(Debug)]
pub(super) struct Compiler {
    pool: ThreadPool,
}

impl Compiler {
    /// Starts the threads.
    pub(super) fn start() -> Result<Self, SandboxError> {
        let pool = ThreadPoolBuilder::new()
            .thread_name(|number| format!("compile-{number}"))
            .start_handler(|_| be_nice(NICE))
            .build();
        Ok(Self { pool: pool.map_err(|source| SandboxError::Compiler { source })? })
    }

    /// Does work there, and waits for it. What the work does in parallel is done there too.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }
}

/// From here on the thread that calls, which has no long work to do, gives way to those that run handlers.
pub(super) fn give_way() {
    be_nice(NICE_FOR_SHORT_WORK);
}

fn be_nice(steps: i32) {
    // On Linux this is the thread's own, not the process's. Where it is not allowed, it works all the same.
    if let Err(error) = rustix::process::nice(steps) {
        tracing::debug!(%error, "the priority of a thread beside the handlers could not be lowered");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_what_compiles_gives_way() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let own = priority();
        let compiler = Compiler::start().unwrap();
        assert_eq!(compiler.run(priority), (own + NICE).min(19));
        assert_eq!(priority(), own, "the thread that waits keeps its own");
    }
}
