//! Builds guests to `target/guests/<name>.wasm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, command, output, root, step, target_dir};

const TARGET: &str = "wasm32-wasip2";
/// What stands among the guests of the host's tests and runs here: it makes binary modules of text.
const TOOL: &str = "wrap";

/// The examples, by their packages' names; a module's file has the name with underscores.
const EXAMPLES: [&str; 3] = ["hello", "github-webhooks", "flaky-payment"];

/// Builds every example and the guests of the host's tests, and gives back the directory that they are in.
pub(crate) fn build() -> Result<PathBuf> {
    let guests = build_examples()?;
    build_fixtures(&guests)?;
    Ok(guests)
}

/// Builds every example, and gives back the directory that they are in.
pub(crate) fn build_examples() -> Result<PathBuf> {
    add_target()?;
    let guests = target_dir().join("guests");
    fs::create_dir_all(&guests).with_context(|| format!("making {}", guests.display()))?;

    let mut arguments = vec!["build", "--profile", "guest", "--target", TARGET];
    arguments.extend(EXAMPLES.iter().flat_map(|name| ["--package", name]));
    step(&format!("building {} examples for {TARGET}", EXAMPLES.len()), &mut cargo(&arguments))?;
    let built = target_dir().join(TARGET).join("guest");
    for name in EXAMPLES {
        install(&built, name, &guests)?;
    }
    Ok(guests)
}

/// The packages that are no default members of the workspace, as cargo wants them named.
pub(crate) fn packages() -> Vec<&'static str> {
    let sdk = ["tidegate-sdk", "tidegate-sdk-macros", "tidegate-sdk-bindgen"];
    sdk.into_iter().chain(EXAMPLES).flat_map(|name| ["--package", name]).collect()
}

/// Clippy over the SDK and the examples as they are in a module.
pub(crate) fn clippy() -> Result<Command> {
    add_target()?;
    let mut arguments = vec!["clippy", "--profile", "guest", "--target", TARGET, "--package", "tidegate-sdk"];
    arguments.extend(EXAMPLES.iter().flat_map(|name| ["--package", name]));
    arguments.extend(["--locked", "--", "--deny", "warnings"]);
    Ok(cargo(&arguments))
}

/// The guests of the host's tests are a workspace of their own. They are built where the tests would build them, so
/// that neither does the other's work again.
fn build_fixtures(guests: &Path) -> Result<()> {
    let fixtures = root().join("host/tests/fixtures/guests");
    if !fixtures.is_dir() {
        return Ok(());
    }
    let build = |what: &[&str]| {
        let mut build = cargo(&["build", "--locked", "--target-dir"]);
        build.arg(guests).args(what).current_dir(&fixtures);
        build
    };
    let arguments = ["--release", "--workspace", "--exclude", TOOL, "--target", TARGET];
    step("building the guests of the host's tests", &mut build(&arguments))?;
    step("building the tool of the host's tests", &mut build(&["--package", TOOL]))?;
    let tool = guests.join(TOOL);
    fs::copy(guests.join("debug").join(TOOL), &tool).with_context(|| format!("copying {}", tool.display()))?;
    let built = guests.join(TARGET).join("release");
    let entries = fs::read_dir(&fixtures).with_context(|| format!("reading {}", fixtures.display()))?;
    for entry in entries {
        let directory = entry.with_context(|| format!("reading {}", fixtures.display()))?;
        if directory.file_name() != TOOL && directory.path().join("Cargo.toml").is_file() {
            install(&built, &directory.file_name().to_string_lossy(), guests)?;
        }
    }
    Ok(())
}

fn install(built: &Path, package: &str, guests: &Path) -> Result<()> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let to = guests.join(&file);
    // In two steps, so that a host which watches the file never sees half of it.
    let half = guests.join(format!("{file}.new"));
    let bytes = fs::copy(built.join(&file), &half).with_context(|| format!("copying {file}"))?;
    fs::rename(&half, &to).with_context(|| format!("putting {file} in its place"))?;
    println!("{:>9} bytes  {}", bytes, to.strip_prefix(root()).unwrap_or(&to).display());
    Ok(())
}

/// Adds the wasm target when it is missing. `rust-toolchain.toml` does so only where rustup's auto-install is on;
/// elsewhere cargo fails with E0463.
fn add_target() -> Result<()> {
    if target_is_installed()? {
        return Ok(());
    }
    if command("rustup", &["--version"]).output().is_err() {
        bail!(
            "the compiler has no {TARGET} target and there is no rustup to add it; \
             install the target's standard library the way the compiler was installed"
        );
    }
    step(&format!("adding the {TARGET} target"), &mut command("rustup", &["target", "add", TARGET]))
}

/// True when the compiler that cargo runs has the target's standard library.
fn target_is_installed() -> Result<bool> {
    let libraries = output(&mut command("rustc", &["--print", "target-libdir", "--target", TARGET]))?;
    Ok(Path::new(libraries.trim()).is_dir())
}
