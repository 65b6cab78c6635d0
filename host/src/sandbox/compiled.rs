//! Compiled code: from the cache when it is there and whole, else from the compiler.
//!
//! Invariants:
//! - Native code is taken only from the cache's own directory, and only when its digest is the one we wrote.
//! - A broken entry is compiled anew and written again; the cache is never a reason to refuse a module.

use std::path::Path;
use std::time::Instant;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::Cache;
use super::error::LoadError;
use super::module::Module;

/// The component of a module, ready to be linked. Takes as long as the compiler does: call it where that may be.
pub(super) fn component(
    engine: &Engine,
    module: &Module,
    cache: Option<&Cache>,
    handler: &str,
) -> Result<Component, LoadError> {
    let started = Instant::now();
    let Some(cache) = cache else {
        let component =
            Component::new(engine, module.component(engine)?).map_err(|source| LoadError::Invalid { source })?;
        tracing::info!(handler, digest = module.digest, took = ?started.elapsed(), "compiled a module");
        return Ok(component);
    };
    let entry = cache.entry(engine, &module.cache_name());
    if let Some(component) = entry.verified().and_then(|path| map(engine, path, handler)) {
        tracing::debug!(handler, digest = module.digest, took = ?started.elapsed(), "took compiled code from the cache");
        return Ok(component);
    }
    let code =
        engine.precompile_component(&module.component(engine)?).map_err(|source| LoadError::Invalid { source })?;
    let stored = entry.store(&code);
    tracing::info!(handler, digest = module.digest, took = ?started.elapsed(), "compiled a module");
    // Mapped from the file, the code is shared with the page cache instead of being a copy in our own memory.
    if let Some(component) = stored.and_then(|()| entry.verified()).and_then(|path| map(engine, path, handler)) {
        return Ok(component);
    }
    read(engine, &code)
}

/// Maps compiled code from a verified file.
#[expect(unsafe_code, reason = "native code is trusted by construction; this module is where that is argued")]
fn map(engine: &Engine, path: &Path, handler: &str) -> Option<Component> {
    // SAFETY: the file was written by `Entry::store` of this user from this compiler's output: its directory is ours
    // alone (0700, checked when it was opened), its sha256 is the one recorded beside it, and its name holds the
    // engine's version and settings. Whoever can still change it runs as this user already.
    let component = unsafe { Component::deserialize_file(engine, path) };
    component.inspect_err(|error| tracing::warn!(handler, %error, "compiled code in the cache is not usable")).ok()
}

/// Takes compiled code from memory.
#[expect(unsafe_code, reason = "native code is trusted by construction; this module is where that is argued")]
fn read(engine: &Engine, code: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: the bytes come from this engine's compiler, in this call.
    unsafe { Component::deserialize(engine, code) }.map_err(|source| LoadError::Invalid { source })
}
