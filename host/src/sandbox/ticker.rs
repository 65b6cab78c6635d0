//! The tick: one thread that moves the epoch of every engine each millisecond.
//!
//! Invariants:
//! - There is one thread for a sandbox, whatever the number of engines, versions and runs.
//! - It ends when nobody needs it any more: the sandbox and each engine hold it, it holds none of them.

use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

use super::error::SandboxError;

/// How often a running guest gives way. A spinning guest holds a worker thread for one tick, two at the most.
const TICK: Duration = Duration::from_millis(1);

type Engines = Arc<Mutex<Vec<EngineWeak>>>;

/// The thread's handle.
pub(super) struct Ticker {
    engines: Engines,
    /// Dropped to wake and end the thread.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Ticker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticker").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start() -> Result<Self, SandboxError> {
        let engines = Engines::default();
        let watched = Arc::clone(&engines);
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let thread = std::thread::Builder::new()
            .name("sandbox-tick".to_owned())
            .spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                    let engines = watched.lock().unwrap_or_else(PoisonError::into_inner);
                    engines.iter().filter_map(EngineWeak::upgrade).for_each(|engine| engine.increment_epoch());
                }
            })
            .map_err(|source| SandboxError::Ticker { source })?;
        Ok(Self { engines, stop: Some(stop), thread: Some(thread) })
    }

    /// Ticks for one more engine.
    pub(super) fn watch(&self, engine: &Engine) {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine.weak());
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread runs nothing that can panic; if it did, the process has said so already.
            drop(thread.join());
        }
    }
}
