//! The load of one module: out of the cache where it was compiled before, else by the compiler.
//!
//! Invariants:
//! - A module whose compiled code is kept waits for none that is being compiled.
//! - Both are bounded: so many at once look, so many compile, and whoever waits too long is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;

use super::Stage;
use super::cache::Cache;
use super::compiled::{self, Kept};
use super::compiler::{Compiler, Made};
use super::engine::Station;
use super::error::LoadError;
use super::granted::Granted;
use super::limits::Limits;
use super::module::Module;
use super::version::Version;

/// Modules that are looked at and taken out of the cache at once. Each hashes its module and the compiled code, 18 and 40 MB at
/// the most that we know, which takes a tenth of a second of one core.
pub(super) const LOOKS_AT_ONCE: usize = 4;
/// How long one may take: only a disk that hangs comes near it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(120);

/// A module that is to become a version.
pub(super) struct Load<F> {
    /// The handler's name.
    pub(super) label: String,
    pub(super) station: Arc<Station>,
    pub(super) limits: Limits,
    pub(super) granted: Arc<Granted>,
    pub(super) cache: Option<Arc<Cache>>,
    /// Told when each stage begins.
    pub(super) begins: F,
}

/// What a look at a module came to.
pub(super) enum Looked<F> {
    /// It was compiled before.
    Done(Arc<Version>),
    /// It has to be compiled.
    ToCompile(Box<Load<F>>, Module, Kept),
}

impl<F: Fn(Stage)> Load<F> {
    /// Looks at the bytes, and takes the compiled code from the cache where it is.
    fn look(self, bytes: Vec<u8>) -> Result<Looked<F>, LoadError> {
        (self.begins)(Stage::Validate);
        let module = Module::examine(bytes, &self.limits)?;
        (self.begins)(Stage::Compile);
        Box::new(self).from_cache(module)
    }

    /// Takes the compiled code from the cache where it is.
    fn from_cache(self: Box<Self>, module: Module) -> Result<Looked<F>, LoadError> {
        match compiled::kept(&self.station.engine, &module, self.cache.as_deref(), &self.label) {
            Kept::Code(component) => self.link(module, &component).map(Looked::Done),
            kept @ (Kept::Nothing | Kept::Unusable) => Ok(Looked::ToCompile(self, module, kept)),
        }
    }

    /// Looks once more, when the place is there: whoever had it before may have compiled the very module.
    fn look_again(self: Box<Self>, module: Module, kept: Kept) -> Result<Looked<F>, LoadError> {
        match kept {
            Kept::Nothing => self.from_cache(module),
            kept @ (Kept::Code(_) | Kept::Unusable) => Ok(Looked::ToCompile(self, module, kept)),
        }
    }

    /// Takes what the compiler made.
    fn take(self, made: Made) -> Result<Arc<Version>, LoadError> {
        let Made { module, code, place: _place } = made;
        let component = compiled::made(&self.station.engine, &module, &code, self.cache.as_deref(), &self.label)?;
        drop(code);
        self.link(module, &component)
    }

    fn link(self, module: Module, component: &Component) -> Result<Arc<Version>, LoadError> {
        (self.begins)(Stage::Imports);
        Version::link(&self.label, module, component, self.station, self.limits, self.granted).map(Arc::new)
    }
}

impl<F: Fn(Stage) + Send + 'static> Load<F> {
    /// Compiles it, when one of the places is free; `kept` is what the look found. Dropped or out of time, what the compiler does
    /// goes on in its place until it is done, or is killed, as the [`Compiler`] has it.
    pub(super) async fn compile(
        self: Box<Self>,
        module: Module,
        kept: Kept,
        compiler: &Compiler,
        places: &Arc<Semaphore>,
        limit: Duration,
    ) -> Result<Arc<Version>, LoadError> {
        let place = place(places, limit).await?;
        let compiled = async {
            let looked = on_a_thread(move || self.look_again(module, kept)).await??;
            let (load, module) = match looked {
                Looked::Done(version) => return Ok(version),
                Looked::ToCompile(load, module, _kept) => (load, module),
            };
            let started = Instant::now();
            let made = compiler.make(&load.station, module, place).await?;
            tracing::info!(handler = load.label, digest = made.module.digest, took = ?started.elapsed(), "compiled a module");
            on_a_thread(move || load.take(made)).await?
        };
        tokio::time::timeout(limit, compiled).await.map_err(|_elapsed| LoadError::CompileTimeout { limit })?
    }
}

/// Looks at a module, when one of the places is free. Out of time, the look goes on in its place until it is done.
pub(super) async fn look<F: Fn(Stage) + Send + 'static>(
    load: Load<F>,
    bytes: Vec<u8>,
    places: &Arc<Semaphore>,
) -> Result<Looked<F>, LoadError> {
    let place = place(places, LOOK_TIMEOUT).await?;
    let looked = on_a_thread(move || {
        let _place = place;
        load.look(bytes)
    });
    let limit = LOOK_TIMEOUT;
    tokio::time::timeout(limit, looked).await.map_err(|_elapsed| LoadError::CompileTimeout { limit })??
}

async fn place(places: &Arc<Semaphore>, limit: Duration) -> Result<OwnedSemaphorePermit, LoadError> {
    let place = tokio::time::timeout(limit, Arc::clone(places).acquire_owned()).await;
    place.map_err(|_elapsed| LoadError::CompilerBusy { limit })?.map_err(|_closed| LoadError::Stopped)
}

/// Does work on a thread where it may take long.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| LoadError::Compiler { source })
}
