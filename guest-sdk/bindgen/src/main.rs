//! Writes the bindings of `tidegate-sdk`, and those of the C template of `tidegate new`, from the contract in `wit/`.
//!
//! They are checked in, so that a guest's build needs neither the WIT files nor a build script nor a WIT parser, and a
//! handler in C no generator. This is a package of its own, because the bindings must be writable while the SDK does not
//! compile for want of them. Run it by `cargo xtask bindings` after a change of the contract; its test fails until then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wit_bindgen_core::wit_parser::{Resolve, WorldId};
use wit_bindgen_core::{Files, WorldGenerator};

/// The bindings for Rust, and the folder of those for C, from the root of the repository.
const RUST: &str = "guest-sdk/src/bindings.rs";
const C: &str = "host/src/cli/new/templates/c/bindings";

fn main() -> Result<()> {
    for (path, content) in generate()? {
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Every generated file, by where it is checked in.
fn generate() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join("wit")).context("reading the contract")?;
    let world = resolve.select_world(&[package], Some("message-handler")).context("finding the world")?;
    let mut generated = BTreeMap::from([(root.join(RUST), rust(&mut resolve.clone(), world)?)]);
    for (name, content) in c(&mut resolve, world)?.iter() {
        generated.insert(root.join(C).join(name), content.to_vec());
    }
    Ok(generated)
}

fn rust(resolve: &mut Resolve, world: WorldId) -> Result<Vec<u8>> {
    let options = wit_bindgen_rust::Opts {
        format: true,
        generate_all: true,
        pub_export_macro: true,
        export_macro_name: Some("__export_message_handler".to_owned()),
        default_bindings_module: Some("$crate::bindings".to_owned()),
        // Tests compare outputs and messages.
        additional_derive_attributes: vec!["PartialEq".to_owned()],
        ..Default::default()
    };
    let mut files = Files::default();
    options.build().generate(resolve, world, &mut files).context("generating the bindings for Rust")?;
    let (_, source) = files.iter().next().context("the generator wrote no file")?;
    let source = std::str::from_utf8(source).context("the generator wrote no text")?;
    Ok(format!("// @generated from wit/ by `cargo xtask bindings`. Do not edit.\n{source}").into_bytes())
}

/// A header, a source and an object file; the object has the contract's types, from which a component is made of what
/// the linker writes.
fn c(resolve: &mut Resolve, world: WorldId) -> Result<Files> {
    let mut files = Files::default();
    let options = wit_bindgen_c::Opts::default();
    options.build().generate(resolve, world, &mut files).context("generating the bindings for C")?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

    use super::*;

    #[test]
    fn bindings_are_current_with_the_contract() {
        for (path, current) in generate().unwrap() {
            let found = std::fs::read(&path).unwrap_or_default();
            assert!(found == current, "{} is not what wit/ generates: run `cargo xtask bindings`", path.display());
        }
    }
}
