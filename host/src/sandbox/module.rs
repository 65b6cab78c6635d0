//! A module before it is compiled: what its bytes are, and why they are not a module that can run when they are not.
//!
//! Invariants:
//! - The bytes are looked at here without running or compiling anything, and never past their end.
//! - The digest is that of the bytes as they were uploaded, whatever is made of them later.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::error::LoadError;
use super::limits::Limits;
use super::wrap::{ENCODER, wrap};

/// The four bytes that WebAssembly begins with.
const MAGIC: &[u8] = b"\0asm";
/// Version and layer of a core module.
const CORE: [u8; 4] = [1, 0, 0, 0];
/// Version and layer of a component.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
/// Where the sections begin.
const HEADER_BYTES: usize = 8;
/// The custom sections in which toolchains leave what a component can be made from.
const METADATA: &[u8] = b"component-type";

/// What whole bytes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Form {
    /// A component.
    Component,
    /// A core module from whose metadata a component can be made.
    Core,
}

/// The bytes of a module that are within the limits and whole.
#[derive(Debug)]
pub(super) struct Module {
    /// The bytes, as they were uploaded.
    pub(super) bytes: Vec<u8>,
    pub(super) form: Form,
    /// Their sha256, in hex.
    pub(super) digest: String,
}

impl Module {
    /// Looks at uploaded bytes.
    pub(super) fn examine(bytes: Vec<u8>, limits: &Limits) -> Result<Self, LoadError> {
        if bytes.len() > limits.module_size {
            return Err(LoadError::TooLarge { size: bytes.len(), limit: limits.module_size });
        }
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(not_wasm(&bytes));
        };
        let Some(version) = rest.first_chunk::<4>() else {
            return Err(LoadError::Truncated { offset: 0, missing: (HEADER_BYTES - bytes.len()) as u64 });
        };
        let form = match *version {
            COMPONENT => whole(&bytes).map(|_metadata| Form::Component)?,
            CORE if whole(&bytes)? => Form::Core,
            CORE => return Err(LoadError::CoreModule),
            version => return Err(LoadError::UnknownVersion { version: u32::from_le_bytes(version) }),
        };
        let digest = hex::encode(Sha256::digest(&bytes));
        Ok(Self { bytes, form, digest })
    }

    /// The name of its compiled code: what is compiled depends on the bytes, and on the encoder where one wraps them.
    pub(super) fn cache_name(&self) -> String {
        match self.form {
            Form::Component => self.digest.clone(),
            Form::Core => format!("{}-{ENCODER}", self.digest),
        }
    }
}

impl Form {
    /// The component to compile.
    pub(super) fn component<'a>(self, engine: &Engine, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, LoadError> {
        match self {
            Self::Component => Ok(Cow::Borrowed(bytes)),
            Self::Core => wrap(engine, bytes).map(Cow::Owned),
        }
    }
}

fn not_wasm(bytes: &[u8]) -> LoadError {
    if bytes.is_empty() {
        return LoadError::Empty;
    }
    if Engine::detect_precompiled(bytes).is_some() {
        return LoadError::CompiledCode;
    }
    if MAGIC.starts_with(bytes) {
        return LoadError::Truncated { offset: 0, missing: (HEADER_BYTES - bytes.len()) as u64 };
    }
    // The first kilobyte tells: binary formats have zero bytes or broken UTF-8 there.
    let head = bytes.get(..1024).unwrap_or(bytes);
    let valid = String::from_utf8_lossy(head);
    let broken = valid.trim_end_matches('\u{fffd}').contains(['\0', '\u{fffd}']);
    if broken {
        let begins = hex::encode(bytes.get(..4).unwrap_or(bytes));
        return LoadError::NotWasm { begins };
    }
    let text = valid.trim_start();
    LoadError::Text { wat: text.starts_with("(module") || text.starts_with("(component") || text.starts_with(";;") }
}

/// Walks over the sections. Says whether component metadata is among them, or which section is cut off.
fn whole(bytes: &[u8]) -> Result<bool, LoadError> {
    let mut offset = HEADER_BYTES;
    let mut metadata = false;
    while let Some(id) = bytes.get(offset) {
        let rest = bytes.get(offset + 1..).unwrap_or_default();
        let Some((size, width)) = leb128(rest) else {
            // Five bytes are there and make no number: damaged, which the compiler explains better. Fewer: cut off.
            if rest.len() >= 5 {
                return Ok(metadata);
            }
            return Err(LoadError::Truncated { offset, missing: 1 });
        };
        let content = rest.get(width..).unwrap_or_default();
        let have = content.len() as u64;
        if u64::from(size) > have {
            return Err(LoadError::Truncated { offset, missing: u64::from(size) - have });
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        metadata |= *id == 0 && is_metadata(content);
        offset = offset.saturating_add(1 + width).saturating_add(size);
    }
    Ok(metadata)
}

/// Whether a custom section's content begins with a name for component metadata.
fn is_metadata(content: &[u8]) -> bool {
    leb128(content).and_then(|(_length, width)| content.get(width..)).is_some_and(|name| name.starts_with(METADATA))
}

/// A number of at most 32 bits, and how many bytes it takes.
fn leb128(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().map(|value| (value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn examine(bytes: &[u8]) -> String {
        match Module::examine(bytes.to_vec(), &Limits { module_size: 4096, ..Limits::default() }) {
            Ok(module) => format!("ok {}", module.digest.len()),
            Err(error) => error.to_string().split([':', ';']).next().unwrap().to_owned(),
        }
    }

    #[test]
    fn each_kind_of_bytes_has_its_own_answer() {
        let rows: [(&[u8], &str); 12] = [
            (b"", "the module is empty"),
            (b"\0asm\x0d\0\x01\0", "ok 64"),
            (b"\0as", "the module is cut off"),
            (b"\0asm\x01\0", "the module is cut off"),
            (b"\0asm\x01\0\0\0", "this is a core module without component metadata, so nothing says what it handles"),
            (b"\0asm\x01\0\0\0\0\x10\x0ecomponent-type\0", "ok 64"),
            (b"\0asm\x0d\0\x01\0\x01\x7f\0", "the module is cut off"),
            (b"\0asm\x0d\0\x01\0\x01", "the module is cut off"),
            (b"\0asm\x02\0\0\0", "this is WebAssembly of an unknown version (0x00000002)"),
            (b"(module)", "this is text, not a WebAssembly binary"),
            (b"\x7fELF\0\0", "this is not WebAssembly (it begins with 7f454c46)"),
            (&[0xff; 4097], "the module has 4097 bytes and the limit is 4096"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(examine(bytes), expected, "{bytes:?}");
        }
    }
}
