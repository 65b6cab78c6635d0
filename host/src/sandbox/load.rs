//! The load of one module: out of the cache where it was compiled before, else by the compiler.
//!
//! Invariants:
//! - A module whose compiled code is kept waits for none that is being compiled.
//! - Both are bounded: so many at once look, so many compile, and whoever waits too long is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::Component;

use super::Stage;
use super::cache::Cache;
use super::compiled::{self, Kept};
use super::compiler::Compiler;
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
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(120);

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
    pub(super) fn look(self, bytes: Vec<u8>) -> Result<Looked<F>, LoadError> {
        (self.begins)(Stage::Validate);
        let module = Module::examine(bytes, &self.limits)?;
        (self.begins)(Stage::Compile);
        match compiled::kept(&self.station.engine, &module, self.cache.as_deref(), &self.label) {
            Kept::Code(component) => self.link(module, &component).map(Looked::Done),
            kept @ (Kept::Nothing | Kept::Unusable) => Ok(Looked::ToCompile(Box::new(self), module, kept)),
        }
    }

    /// Compiles it; `kept` is what the look found. Takes as long as the compiler does.
    pub(super) fn compile(self, module: Module, kept: &Kept, compiler: &Compiler) -> Result<Arc<Version>, LoadError> {
        let (engine, cache) = (&self.station.engine, self.cache.as_deref());
        let component = compiler.run(|| compiled::compile(engine, &module, cache, &self.label, kept))?;
        self.link(module, &component)
    }

    fn link(self, module: Module, component: &Component) -> Result<Arc<Version>, LoadError> {
        (self.begins)(Stage::Imports);
        Version::link(&self.label, module, component, self.station, self.limits, self.granted).map(Arc::new)
    }
}

/// Does work on a thread where it may take long, when one of the places is free. Dropped or out of time, the work goes on in its
/// place until it is done.
pub(super) async fn in_place<T: Send + 'static>(
    places: &Arc<Semaphore>,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LoadError> {
    let place = tokio::time::timeout(limit, Arc::clone(places).acquire_owned()).await;
    let place = place.map_err(|_elapsed| LoadError::CompilerBusy { limit })?.map_err(|_closed| LoadError::Stopped)?;
    let work = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|source| LoadError::Compiler { source }),
        Err(_elapsed) => Err(LoadError::CompileTimeout { limit }),
    }
}
