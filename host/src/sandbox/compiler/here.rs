//! The compiler in this process: threads, one a core, of a lower priority than those that run handlers.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::sandbox::error::SandboxError;

/// How far the kernel puts back what compiles. Each step is a factor of 1.25: ten of them leave a tenth of a core that
/// others want, and the largest module that we know (16 s of one core) ends within its two minutes even then.
pub(super) const NICE: i32 = 10;

/// The same for what takes a millisecond or so and should not be long in coming: five steps leave a quarter of a core.
const NICE_FOR_SHORT_WORK: i32 = 5;

/// The threads.
#[derive(Debug)]
pub(in crate::sandbox) struct Here {
    pool: ThreadPool,
}

impl Here {
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
pub(in crate::sandbox) fn give_way() {
    be_nice(NICE_FOR_SHORT_WORK);
}

/// Lowers the priority of whoever calls.
pub(super) fn be_nice(steps: i32) {
    // On Linux this is the thread's own, and that of the threads that it starts. Where it is not allowed, it works all the same.
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
        let compiler = Here::start().unwrap();
        assert_eq!(compiler.run(priority), (own + NICE).min(19));
        assert_eq!(priority(), own, "the thread that waits keeps its own");
    }
}
