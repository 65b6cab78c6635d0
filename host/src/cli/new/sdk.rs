//! The SDK's sources, which a project in Rust begins with: they are in the program, so that `new` needs no network for
//! them, and a handler is built against the contract of the very host that made it.
//!
//! A version on crates.io would be simpler for its user, and takes this one's place once the SDK is published there. A
//! git repository would have to be reached, and would be of any version.

use std::path::Path;

use anyhow::Context as _;
use toml::{Table, Value};

/// Files of the SDK with their contents.
macro_rules! sources {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../../../../guest-sdk/", $path)))),*] };
}

/// All that the SDK is built from, by paths in it.
const SOURCES: &[(&str, &str)] = sources![
    "README.md",
    "macros/src/check.rs",
    "macros/src/expand.rs",
    "macros/src/lib.rs",
    "src/argument.rs",
    "src/bindings.rs",
    "src/delivery.rs",
    "src/export.rs",
    "src/failure.rs",
    "src/host/imports.rs",
    "src/host/mod.rs",
    "src/host/recorder.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/message.rs",
    "src/metrics.rs",
    "src/misfit.rs",
    "src/output.rs",
    "src/returned.rs",
    "src/span.rs",
    "src/testing/message.rs",
    "src/testing/mod.rs",
    "src/testing/ran.rs",
    "src/testing/span.rs",
];
/// Its manifests, which inherit from the workspace's.
const MANIFESTS: &[(&str, &str)] = sources!["Cargo.toml", "macros/Cargo.toml"];
/// What they inherit from.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");
const LICENSE: &str = include_str!("../../../../LICENSE");

/// Every file of the SDK as a package that stands by itself, by its path.
pub(super) fn files() -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut files: Vec<_> = SOURCES.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
    for (path, manifest) in MANIFESTS {
        let manifest = standalone(manifest, WORKSPACE).with_context(|| format!("reading the SDK's {path}"))?;
        files.push((path, manifest));
    }
    files.push(("LICENSE", LICENSE.to_owned()));
    Ok(files)
}

/// Whether a folder has the SDK.
pub(super) fn is_sdk(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let name = |table: Table| Some(table.get("package")?.get("name")?.as_str()? == "tidegate-sdk");
    manifest.parse::<Table>().ok().and_then(name).unwrap_or_default()
}

/// A manifest without its workspace: what it inherits is filled in, and what only its own tests and lints need is left
/// out. It is what cargo does to publish a package.
fn standalone(manifest: &str, workspace: &str) -> anyhow::Result<String> {
    let mut manifest: Table = manifest.parse().context("the manifest is no TOML")?;
    let workspace: Table = workspace.parse().context("the workspace's manifest is no TOML")?;
    let workspace = workspace.get("workspace").and_then(Value::as_table).context("there is no [workspace]")?;
    for section in ["package", "dependencies"] {
        let Some(entries) = manifest.get_mut(section).and_then(Value::as_table_mut) else { continue };
        for (key, value) in entries.iter_mut().filter(|(_, value)| inherits(value)) {
            let inherited = workspace.get(section).and_then(|table| table.get(key));
            *value = inherited.with_context(|| format!("the workspace has no {section}.{key}"))?.clone();
        }
    }
    for section in ["dev-dependencies", "lints"] {
        manifest.remove(section);
    }
    Ok(manifest.to_string())
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::new::listing::files_below;

    #[test]
    fn every_source_of_the_sdk_is_in_the_program() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk");
        let mut found = BTreeSet::from(["README.md".to_owned(), "Cargo.toml".into(), "macros/Cargo.toml".into()]);
        found.extend(files_below(&sdk, &["src", "macros/src"]));
        let listed = SOURCES.iter().chain(MANIFESTS).map(|(path, _)| (*path).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(listed, found, "the lists above have what the SDK is built from, and nothing else");
    }

    #[test]
    fn a_manifest_stands_without_its_workspace() {
        let workspace =
            "[workspace.package]\nversion = \"1.2.3\"\n[workspace.dependencies]\nserde = { version = \"1\" }";
        let manifest = "[package]\nname = \"a\"\nversion.workspace = true\n[lints]\nworkspace = true\n\
                        [dependencies]\nserde.workspace = true\nb = \"2\"\n[dev-dependencies]\nc = \"3\"";
        let expected = "[package]\nname = \"a\"\nversion = \"1.2.3\"\n[dependencies]\nb = \"2\"\nserde.version = \"1\"";
        let found: Table = standalone(manifest, workspace).unwrap().parse().unwrap();
        assert_eq!(found, expected.parse::<Table>().unwrap());
        let stranger = "[package]\nedition.workspace = true";
        let refused = standalone(stranger, workspace).unwrap_err().to_string();
        assert_eq!(refused, "the workspace has no package.edition");
        assert!(files().unwrap().iter().all(|(_, text)| !text.contains("workspace = true")));
    }
}
