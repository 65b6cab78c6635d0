//! Compiled code: from the cache when it is there and whole, else as the compiler made it.
//!
//! Invariants:
//! - Native code is taken only from our own compiler, or from the cache's own directory when its digest is the one we wrote.
//! - A broken entry is compiled anew and written again; the cache is never a reason to refuse a module.

use std::path::Path;
use std::time::Instant;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::{Cache, Found};
use super::error::LoadError;
use super::module::Module;

/// What the cache has of a module.
pub(super) enum Kept {
    /// Its compiled code.
    Code(Component),
    /// Nothing, so far.
    Nothing,
    /// Something that is damaged, or not of this engine; a warning said so.
    Unusable,
}

/// The component of a module out of the cache, ready to be linked.
pub(super) fn kept(engine: &Engine, module: &Module, cache: Option<&Cache>, handler: &str) -> Kept {
    let started = Instant::now();
    let Some(cache) = cache else { return Kept::Nothing };
    let entry = cache.entry(engine, &module.cache_name());
    match entry.look() {
        Found::Whole(path) => match map(engine, path, handler) {
            Some(component) => {
                let took = started.elapsed();
                tracing::debug!(handler, digest = module.digest, ?took, "took compiled code from the cache");
                Kept::Code(component)
            }
            None => Kept::Unusable,
        },
        Found::Nothing => Kept::Nothing,
        Found::Damaged => Kept::Unusable,
    }
}

/// The component of machine code that the compiler just made, which is kept where there is a cache.
pub(super) fn made(
    engine: &Engine,
    module: &Module,
    code: &[u8],
    cache: Option<&Cache>,
    handler: &str,
) -> Result<Component, LoadError> {
    let entry = cache.map(|cache| cache.entry(engine, &module.cache_name()));
    // Mapped from the file, the code is shared with the page cache instead of being a copy in our own memory.
    let mapped = entry.as_ref().filter(|entry| entry.store(code).is_some()).and_then(|entry| match entry.look() {
        Found::Whole(path) => map(engine, path, handler),
        Found::Nothing | Found::Damaged => None,
    });
    mapped.map_or_else(|| read(engine, code), Ok)
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
    // SAFETY: the bytes come from this engine's compiler, for this load: in this process, or over its own pipe from a
    // process of the program that the host's owner named, which is its own.
    unsafe { Component::deserialize(engine, code) }.map_err(|source| LoadError::Invalid { source })
}
