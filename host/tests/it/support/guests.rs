//! Guests for the tests: built once a process from `tests/fixtures/guests`, or taken from a directory.
//!
//! `TIDEGATE_GUESTS` names a directory with `<name>.wasm` for each guest and the tool `wrap`, for machines that run the
//! tests and do not build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The bytes of a guest: `behaviours` (its message's subject says what it does), `ledger` (ends as the message's
/// number says) or `order` (a small honest handler).
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let path = built().guests.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("no guest at {}: {error}", path.display()))
}

/// The path of a tool that runs here.
pub(crate) fn tool(name: &str) -> PathBuf {
    built().tools.join(name)
}

struct Built {
    guests: PathBuf,
    tools: PathBuf,
}

/// What cargo has built, in a target directory of its own: when nothing has changed that takes a fraction of a second.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| match std::env::var_os("TIDEGATE_GUESTS").map(PathBuf::from) {
        Some(directory) => Built { guests: directory.clone(), tools: directory },
        None => {
            let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
            add_target();
            build(&target, &["--release", "--workspace", "--exclude", "wrap", "--target", TARGET]);
            build(&target, &["--package", "wrap"]);
            Built { guests: target.join(TARGET).join("release"), tools: target.join("debug") }
        }
    })
}

fn build(target: &Path, what: &[&str]) {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--locked"])
        .args(what)
        .arg("--target-dir")
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/guests"))
        // What cargo sets for these tests is not meant for the guests.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    run(&mut cargo, "building the guests of the tests");
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
