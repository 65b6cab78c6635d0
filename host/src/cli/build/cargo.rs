//! Builds with cargo, for the target that makes components.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;

use super::steps;

const TARGET: &str = "wasm32-wasip2";

/// What cargo says of its work, of which a module is one line.
#[derive(Debug, Deserialize)]
struct Line {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Adds the target when it is missing, builds, and gives back the module that cargo says it wrote.
pub(super) fn build(at: steps::Place<'_>) -> anyhow::Result<PathBuf> {
    let folder = at.folder;
    add_target(at)?;
    let arguments = ["build", "--release", "--target", TARGET];
    let shown = steps::shown("cargo", &arguments);
    super::say::talk(&format!("$ {shown}"));
    // The compiler's words go to standard error as ever; standard output tells which files are written.
    let mut command = steps::command(folder, "cargo", &arguments);
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = at.running.spawn(&mut command).with_context(|| format!("starting `{shown}`"))?;
    let output = child.stdout.take().context("cargo has no output")?;
    let modules = modules(folder, BufReader::new(output).lines().map_while(Result::ok));
    let status = at.running.wait(&mut child).with_context(|| format!("waiting for `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status}); what it said stands above");
    match modules.as_slice() {
        [module] => Ok(short(module)),
        [] => bail!(
            "cargo built no module: the package needs `crate-type = [\"cdylib\"]` under [lib] in {}",
            folder.join("Cargo.toml").display()
        ),
        several => {
            let named = several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            bail!("cargo built several modules ({named}): say the folder of one package")
        }
    }
}

/// The modules among what cargo wrote: of the package in the folder, or of all where the folder is a workspace of many.
fn modules(folder: &Path, lines: impl Iterator<Item = String>) -> Vec<PathBuf> {
    let own = folder.canonicalize().map(|folder| folder.join("Cargo.toml")).unwrap_or_default();
    let mut all = Vec::new();
    for line in lines {
        let Ok(Line { reason, manifest_path, filenames }) = serde_json::from_str(&line) else { continue };
        if reason == "compiler-artifact" {
            let wasm = filenames.into_iter().filter(|file| file.extension().is_some_and(|end| end == "wasm"));
            all.extend(wasm.map(|file| (manifest_path == own, file)));
        }
    }
    let is_package = all.iter().any(|(own, _)| *own);
    all.into_iter().filter(|(own, _)| *own || !is_package).map(|(_, file)| file).collect()
}

/// A path from where we are, when it is below.
fn short(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

/// Adds the target when it is missing. A `rust-toolchain.toml` that names it does so only where rustup's auto-install is
/// on; elsewhere cargo fails with E0463.
fn add_target(at: steps::Place<'_>) -> anyhow::Result<()> {
    let mut rustc = steps::command(at.folder, "rustc", &["--print", "target-libdir", "--target", TARGET]);
    let output = rustc.stderr(Stdio::inherit()).output().context("starting `rustc`")?;
    ensure!(output.status.success(), "`rustc` does not know the target {TARGET}: install Rust 1.82 or later");
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    if steps::find("rustup").is_none() {
        return Err(anyhow!(
            "the compiler has no {TARGET} target and there is no rustup to add it; install the target's standard \
             library the way the compiler was installed"
        ));
    }
    at.run("rustup", &["target", "add", TARGET])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_module_is_the_one_that_cargo_says_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().canonicalize().unwrap();
        let line = |package: &Path, file: &str| {
            let manifest = package.join("Cargo.toml");
            let value =
                serde_json::json!({"reason": "compiler-artifact", "manifest_path": manifest, "filenames": [file]});
            value.to_string()
        };
        let other = Path::new("/other");
        let lines = [
            line(other, "/t/libserde.rlib"),
            line(other, "/t/other.wasm"),
            "not JSON".to_owned(),
            line(&own, "/t/mine.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found = |lines: &[String]| modules(folder.path(), lines.iter().cloned());
        assert_eq!(found(&lines), [PathBuf::from("/t/mine.wasm")]);
        assert_eq!(found(&[line(other, "/t/a.wasm"), line(other, "/t/b.wasm")]).len(), 2);
        assert!(found(&lines[..1]).is_empty());
    }
}
