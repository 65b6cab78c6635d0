//! The sandbox takes a module's bytes, makes a version of them, and runs it on one message at a time.
//!
//! Invariants:
//! - Whatever a guest does is an [`Outcome`](crate::outcome::Outcome): nothing that it does reaches the host as a
//!   panic, an error, unbounded memory or a blocked thread.
//! - Fuel, wall clock, memory, outputs, logs and host calls are limited in every run, the start function included, and
//!   what was used is told on every path.
//! - A message sees nothing of the one before it, unless the operator asked for reuse by name.
//! - Only this folder knows wasmtime.

mod adapters;
mod bindings;
mod cache;
mod clock;
mod compiled;
mod compiler;
mod contract;
mod convert;
mod disposer;
mod engine;
mod entry;
mod error;
mod fault;
pub mod granted;
mod grants;
mod imports;
mod invocation;
pub mod limits;
mod load;
mod log;
mod module;
mod repeatable;
mod sample;
mod span_calls;
mod spans;
mod state;
mod ticker;
mod version;
mod warm;
mod wasi;
mod wrap;

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use cache::{Cache, Needed};
use compiler::Compiler;
pub use compiler::{COMPILE_VERB, CompileIn, compile_as_told};
pub use contract::Contract;
use disposer::Disposer;
use engine::{EngineKind, Station};
pub use error::{LoadError, SandboxError};
pub use fault::FRAMES;
use granted::{Granted, Outlet};
use limits::Limits;
use load::{LOOKS_AT_ONCE, Load, Looked, look};
pub use sample::Profile;
use ticker::Ticker;
pub use version::Version;

/// The most instances of a host at once. Address space, not memory: 256 slots of 4 GiB and its guard are 1 TiB of the 128
/// there are, and at the default memory limit the most that all can hold is 16 GiB.
pub const MAX_INSTANCES: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

/// How a sandbox is set up. The limits of single runs are in [`Limits`].
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Where compiled code is kept between starts. `None`: it is compiled anew each time.
    pub cache_dir: Option<PathBuf>,
    /// The most instances there are at once, over all versions. A run beyond it waits.
    pub max_instances: NonZeroU32,
    /// The most modules that are compiled at once.
    pub compile_threads: NonZeroU32,
    /// Where modules are compiled.
    pub compile_in: CompileIn,
    /// The most memory that one compilation in a process of its own may take, in bytes. `None`: half of what the machine or the
    /// container has, 2 GiB at the most. On Linux; elsewhere the system does not enforce it.
    pub compile_memory: Option<NonZeroU64>,
    /// How long a module may take to compile.
    pub compile_timeout: Duration,
    /// Whether every run of a message sees the same time, which begins when the message was published, and the same random
    /// numbers: for tests and comparisons. Not for messages that count: whoever knows the numbers can guess at hashes.
    pub repeatable: bool,
    /// The most frames that are looked at of a guest's stack. What a fault keeps of them is bounded by itself.
    pub frames: NonZeroUsize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compile_in: CompileIn::default(),
            compile_memory: None,
            max_instances: MAX_INSTANCES,
            // Each compilation uses all cores by itself; the second one is there so that a small module does not wait
            // for a big one.
            compile_threads: NonZeroU32::MIN.saturating_add(1),
            // The biggest toolchain output we know (Python, 18 MB) takes 8 s on two cores.
            compile_timeout: Duration::from_secs(120),
            repeatable: false,
            frames: FRAMES,
        }
    }
}

/// The stages of a load, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The bytes are looked at.
    Validate,
    /// They are compiled, or their code taken from the cache.
    Compile,
    /// What the module exports and imports is compared with the contract and with what is granted.
    Imports,
}

/// Compiles modules and holds what all versions share: engines, the tick, the instance permits, the code cache.
#[derive(Debug)]
pub struct Sandbox {
    options: SandboxOptions,
    cache: Option<Arc<Cache>>,
    ticker: Arc<Ticker>,
    disposer: Arc<Disposer>,
    outlet: Arc<Outlet>,
    metered: Arc<Station>,
    /// Made when the first unmetered handler is loaded: most hosts never have one.
    unmetered: OnceLock<Arc<Station>>,
    /// For those that look whether a module was compiled before.
    looking: Arc<Semaphore>,
    compiling: Arc<Semaphore>,
    compiler: Compiler,
}

impl Sandbox {
    /// Starts the engine and its tick.
    ///
    /// # Errors
    ///
    /// When the engine cannot reserve its address space or the threads of the tick and the compiler cannot start. A cache directory that
    /// cannot be trusted is not an error: it is not used, and a warning says why.
    pub fn new(options: SandboxOptions) -> Result<Arc<Self>, SandboxError> {
        let ticker = Arc::new(Ticker::start()?);
        let disposer = Arc::new(Disposer::start()?);
        let outlet = Outlet::new();
        let metered = Arc::new(Station::new(EngineKind::Metered, &options, &ticker, &disposer, &outlet)?);
        let cache = options.cache_dir.as_deref().and_then(|dir| Cache::open(dir).map(Arc::new));
        let compiling = Arc::new(Semaphore::new(usize::try_from(options.compile_threads.get()).unwrap_or(1)));
        let looking = Arc::new(Semaphore::new(LOOKS_AT_ONCE));
        let compiler = Compiler::start(&options)?;
        let unmetered = OnceLock::new();
        Ok(Arc::new(Self {
            options,
            cache,
            ticker,
            disposer,
            outlet,
            metered,
            unmetered,
            looking,
            compiling,
            compiler,
        }))
    }

    /// Makes a version of a module: checks it, compiles it or takes the compiled code from the cache, and links it. It is
    /// granted nothing.
    ///
    /// `name` is the handler's, for logs. Dropping the future kills a compilation in a process of its own; one in this process
    /// finishes by itself, and holds its compile permit until then.
    ///
    /// # Errors
    ///
    /// Each [`LoadError`] says what is wrong with the module and what to do about it.
    pub async fn load(&self, bytes: Vec<u8>, name: &str, limits: &Limits) -> Result<Arc<Version>, LoadError> {
        self.load_granted(bytes, name, limits, Granted::default()).await
    }

    /// As [`Sandbox::load`], with what the version may reach in mid-run.
    ///
    /// # Errors
    ///
    /// As [`Sandbox::load`].
    pub async fn load_granted(
        &self,
        bytes: Vec<u8>,
        name: &str,
        limits: &Limits,
        granted: Granted,
    ) -> Result<Arc<Version>, LoadError> {
        self.load_in_stages(bytes, name, limits, granted, |_stage| {}).await
    }

    /// As [`Sandbox::load_granted`]. Says when each stage begins, on the thread that does the work; the wait for a place among
    /// those that compile belongs to [`Stage::Compile`].
    ///
    /// # Errors
    ///
    /// As [`Sandbox::load`].
    pub async fn load_in_stages(
        &self,
        bytes: Vec<u8>,
        name: &str,
        limits: &Limits,
        granted: Granted,
        begins: impl Fn(Stage) + Send + 'static,
    ) -> Result<Arc<Version>, LoadError> {
        let kind = if limits.fuel.is_some() { EngineKind::Metered } else { EngineKind::Unmetered };
        let load = Load {
            label: name.to_owned(),
            station: self.station(kind)?,
            limits: limits.clone(),
            granted: Arc::new(granted),
            cache: self.cache.clone(),
            begins,
        };
        // What was compiled before takes none of the places of those that compile, which may be held for minutes: whoever goes
        // back to a version waits for no other module.
        match look(load, bytes, &self.looking).await? {
            Looked::Done(version) => Ok(version),
            Looked::ToCompile(load, module, kept) => {
                load.compile(module, kept, &self.compiler, &self.compiling, self.options.compile_timeout).await
            }
        }
    }

    /// Makes a version ready for its first messages: the pool has slots for it on every core. When its instances are
    /// reused, as many wait for messages afterwards as the version that it is to replace has now, at the most. This
    /// gives way to what runs, takes half a second at the most, and is no check: what a module cannot do here its messages
    /// will meet, as far as [`Version::init`] has not.
    pub async fn warm(&self, version: &Arc<Version>, replaced: Option<&Version>) {
        let (version, runtime) = (Arc::clone(version), tokio::runtime::Handle::current());
        let keep = replaced.map_or(0, Version::kept);
        // Only a panic or the runtime's end can fail it, and both are told elsewhere.
        let _ended = tokio::task::spawn_blocking(move || warm::warm(&version, keep, &runtime)).await;
    }

    /// Removes compiled code that nobody needs: of modules that were `forgotten`, and whatever was not used for a day that is
    /// of another engine, or of a module that no version names. Both are sha256 in hex. Dropped, it goes on to its end.
    pub async fn clean_cache(&self, named: BTreeSet<String>, forgotten: BTreeSet<String>) {
        let Some(cache) = self.cache.clone() else { return };
        let needed = Needed { named, forgotten };
        let work = move || cache.clean(&needed);
        // Only a panic or the runtime's end can fail it, and the next time does it again.
        let _ended = tokio::task::spawn_blocking(work).await;
    }

    fn station(&self, kind: EngineKind) -> Result<Arc<Station>, SandboxError> {
        match kind {
            EngineKind::Metered => Ok(Arc::clone(&self.metered)),
            EngineKind::Unmetered => {
                if let Some(station) = self.unmetered.get() {
                    return Ok(Arc::clone(station));
                }
                let made = Station::new(kind, &self.options, &self.ticker, &self.disposer, &self.outlet)?;
                let made = Arc::new(made);
                Ok(Arc::clone(self.unmetered.get_or_init(|| made)))
            }
        }
    }
}
