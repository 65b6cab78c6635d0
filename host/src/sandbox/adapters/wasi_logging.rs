//! `wasi:logging@0.1.0-draft`, by which modules of others write what ours write by `tidegate:events/log`.
//!
//! Older ones import it without a version: by both names it is the same.

use wasmtime::component::{HasSelf, Linker};

use crate::handler::LogLevel;
use crate::sandbox::bindings::wasi_logging::Imports;
use crate::sandbox::bindings::wasi_logging::wasi::logging::logging::{Host, Level};
use crate::sandbox::state::State;

/// The field of a line that has the context.
const CONTEXT: &str = "context";

/// Makes it known to a linker.
pub(in crate::sandbox) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Imports::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.instance("wasi:logging/logging")?.func_wrap(
        "log",
        |mut store: wasmtime::StoreContextMut<'_, State>, (level, context, message): (Level, String, String)| {
            store.data_mut().log(level, context, message)
        },
    )
}

impl Host for State {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        self.count_call()?;
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error | Level::Critical => LogLevel::Error,
        };
        let fields = if context.is_empty() { Vec::new() } else { vec![(CONTEXT.to_owned(), context)] };
        Ok(self.log.write(level, message, fields)?)
    }
}
