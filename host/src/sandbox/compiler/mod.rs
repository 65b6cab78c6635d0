//! The compiler: makes machine code of a module, and keeps that from whoever runs messages.
//!
//! Invariants:
//! - What compiles gives way to what runs.
//! - Of a compilation in a process of its own nothing is left when its time is up, when it takes more memory than it may, or
//!   when the host is killed.

mod apart;
mod here;
mod order;
mod program;
mod room;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use wasmtime::Engine;

use apart::Apart;
use here::Here;
pub(super) use here::give_way;
pub use program::compile_as_told;

use super::SandboxOptions;
use super::engine::Station;
use super::error::{LoadError, SandboxError};
use super::module::{Form, Module};

/// Where modules are compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CompileIn {
    /// In this process, on threads of a lower priority. A compilation cannot be stopped there, nor its memory bounded, and a
    /// module that makes the compiler crash ends the process.
    #[default]
    ThisProcess,
    /// In a process of its own for each module, which is killed when its time is up.
    OwnProcess {
        /// The program that is started. It is to call [`compile_as_told`], as `tidegate` does when its first argument is
        /// [`COMPILE_VERB`]. It must be of the very build that runs: its machine code is trusted.
        program: PathBuf,
    },
}

/// The first argument of the program that compiles.
pub const COMPILE_VERB: &str = "compile-for-host";

impl CompileIn {
    /// In a process of the program that runs, which is `tidegate`.
    ///
    /// # Errors
    /// When the system does not tell which program runs.
    pub fn own_program() -> std::io::Result<Self> {
        // By this name it is the very file that runs also after another one was put in its place.
        let program =
            if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
        Ok(Self::OwnProcess { program })
    }
}

/// Where the compiler runs.
#[derive(Debug)]
pub(super) enum Compiler {
    Here(Arc<Here>),
    Apart(Apart),
}

/// A module and its machine code.
pub(super) struct Made {
    pub(super) module: Module,
    pub(super) code: Vec<u8>,
    /// The place among those that compile, until all is done with it.
    pub(super) place: OwnedSemaphorePermit,
}

impl Compiler {
    /// Gets ready to compile.
    pub(super) fn start(options: &SandboxOptions) -> Result<Self, SandboxError> {
        match &options.compile_in {
            CompileIn::ThisProcess => Here::start().map(Arc::new).map(Self::Here),
            CompileIn::OwnProcess { program } => {
                let memory = options.compile_memory.map_or_else(room::by_default, NonZeroU64::get);
                Ok(Self::Apart(Apart::new(program.clone(), memory)))
            }
        }
    }

    /// Compiles. Dropped, a process of its own is killed and its place is free; what runs in this process goes on in its
    /// place to its end.
    pub(super) async fn make(
        &self,
        station: &Arc<Station>,
        module: Module,
        place: OwnedSemaphorePermit,
    ) -> Result<Made, LoadError> {
        match self {
            Self::Apart(apart) => {
                let code = apart.compile(station.kind, &module).await?;
                Ok(Made { module, code, place })
            }
            Self::Here(here) => {
                let (here, station) = (Arc::clone(here), Arc::clone(station));
                let work = spawn_blocking(move || {
                    let code = here.run(|| machine_code(&station.engine, module.form, &module.bytes))?;
                    Ok(Made { module, code, place })
                });
                work.await.map_err(|source| LoadError::Compiler { source })?
            }
        }
    }
}

/// The machine code of a module. Takes as long as the compiler does.
fn machine_code(engine: &Engine, form: Form, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    engine.precompile_component(&form.component(engine, bytes)?).map_err(|source| LoadError::Invalid { source })
}
