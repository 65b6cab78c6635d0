//! Core modules with component metadata, made into components: what builds for `wasm32-unknown-unknown` and
//! `wasm32-wasip1`, clang and others leave for a later step of the toolchain.
//!
//! Invariants:
//! - Nothing is run or compiled here; what comes out is checked by the compiler like any other component.
//! - WASI preview 1 reaches the host through the adapter only, which imports preview 2 and so is granted no more.

use std::error::Error;
use std::panic::catch_unwind;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmtime::Engine;
use wit_component::ComponentEncoder;

use super::error::LoadError;

/// The version of the encoder that the crate is pinned to: compiled code is kept under it. The adapter's version is
/// wasmtime's own. A test compares both with the lock file.
pub(super) const ENCODER: &str = "0.254.2";

/// The component of a core module, from the metadata that its toolchain left in it.
pub(super) fn wrap(engine: &Engine, module: &[u8]) -> Result<Vec<u8>, LoadError> {
    // The encoder is made for what toolchains write, so what it is given is valid.
    wasmtime::Module::validate(engine, module).map_err(|source| LoadError::Invalid { source })?;
    // It is told of metadata that contradicts itself by an error in most cases, and by a panic in some.
    catch_unwind(|| encode(module))
        .unwrap_or_else(|_panic| Err("the encoder stopped at metadata that contradicts itself".into()))
        .map_err(|source| LoadError::Wrap { source })
}

fn encode(module: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    // The adapter is left out again of a module that imports nothing of it.
    let component = ComponentEncoder::default()
        .module(module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
        .encode()?;
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoder_and_the_adapter_are_of_the_versions_that_are_built_in() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wit-component\"\nversion = \"{ENCODER}\"\n")));
        let wasmtime = crate::sandbox::cache::WASMTIME;
        assert!(
            lock.contains(&format!("name = \"wasi-preview1-component-adapter-provider\"\nversion = \"{wasmtime}\"\n"))
        );
    }
}
