//! Writes the bindings of `tidegate-sdk` from the contract in `wit/`.
//!
//! They are checked in, so that a guest's build needs neither the WIT files nor a build script nor a WIT parser. This is
//! a package of its own, because the bindings must be writable while the SDK does not compile for want of them. Run it
//! by `cargo xtask bindings` after a change of the contract; its test fails until then.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};

fn main() -> Result<()> {
    let path = checked_in();
    std::fs::write(&path, generate()?).with_context(|| format!("writing {}", path.display()))
}

fn checked_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/bindings.rs")
}

fn generate() -> Result<String> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&wit).context("reading the contract")?;
    let world = resolve.select_world(&[package], Some("message-handler")).context("finding the world")?;
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
    options.build().generate(&mut resolve, world, &mut files).context("generating the bindings")?;
    let (_, source) = files.iter().next().context("the generator wrote no file")?;
    let source = std::str::from_utf8(source).context("the generator wrote no text")?;
    Ok(format!("// @generated from wit/ by `cargo xtask bindings`. Do not edit.\n{source}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

    use super::*;

    #[test]
    fn bindings_are_current_with_the_contract() {
        let found = std::fs::read_to_string(checked_in()).unwrap();
        let current = generate().unwrap();
        assert!(found == current, "guest-sdk/src/bindings.rs is not what wit/ generates: run `cargo xtask bindings`");
    }
}
