//! Guests for the tests: built once a process from `tests/fixtures/guests`, or taken from a directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The bytes of a guest: `behaviours` (its message's subject says what it does) or `order` (a small honest handler).
///
/// They come from `TIDEGATE_GUESTS` when that is set, a directory with `<name>.wasm` in it; else cargo builds them, in
/// a target directory of their own, so that an unchanged guest costs a fraction of a second.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| match std::env::var_os("TIDEGATE_GUESTS") {
        Some(directory) => PathBuf::from(directory),
        None => build(),
    });
    let path = directory.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("no guest at {}: {error}", path.display()))
}

/// Builds all guests, and gives back where they are.
fn build() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = host.join("../target/guests");
    add_target();
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target)
        .current_dir(host.join("tests/fixtures/guests"))
        // What cargo sets for these tests is not meant for the guests.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    run(&mut cargo, "building the guests of the tests");
    target.join(TARGET).join("release")
}

/// The bytes of an example of the repository, by its package's name.
///
/// From `TIDEGATE_GUESTS` as for [`guest`]; else cargo builds it as its users do.
pub(crate) fn example(package: &str) -> Vec<u8> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let directory = std::env::var_os("TIDEGATE_GUESTS").map_or_else(|| build_example(package), PathBuf::from);
    let path = directory.join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("no example at {}: {error}", path.display()))
}

fn build_example(package: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    add_target();
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--profile", "guest", "--locked", "--target", TARGET, "--package", package])
        .arg("--target-dir")
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    run(&mut cargo, "building an example");
    target.join(TARGET).join("guest")
}

const TARGET: &str = "wasm32-wasip2";

/// Adds the wasm target when it is missing: rustup does not do so by itself everywhere.
fn add_target() {
    let installed = Command::new("rustup").args(["target", "list", "--installed"]).output();
    let Ok(installed) = installed else {
        // Without rustup the compiler came with its targets, or cargo says that this one is missing.
        return;
    };
    if !String::from_utf8_lossy(&installed.stdout).lines().any(|line| line == TARGET) {
        run(Command::new("rustup").args(["target", "add", TARGET]), "adding the target for guests");
    }
}

fn run(command: &mut Command, purpose: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{purpose}: {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{purpose} failed: {command:?}\n{said}");
}
