//! Builds what `tidegate new` makes, in every language, with that language's real tools, and runs it on its sample.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::run::{cargo, command, output, root, step, target_dir};

/// What the template in C needs, by Debian's names.
const C_PACKAGES: [&str; 5] = ["make", "clang-19", "lld-19", "wasi-libc", "libclang-rt-19-dev-wasm32"];
/// The languages, with their samples and how their own tests are run.
const LANGUAGES: [(&str, &str, &[&str]); 4] = [
    ("rust", "order.json", &["cargo", "test", "--quiet"]),
    ("js", "order.json", &["npm", "test"]),
    ("python", "order.json", &["python3", "-m", "unittest"]),
    ("c", "order.txt", &["make", "test"]),
];

/// Makes, tests, builds and runs a project in every language. What a machine lacks is installed where that is simple.
pub(crate) fn check() -> Result<()> {
    step("building the host", &mut cargo(&["build", "--locked", "--package", "tidegate"]))?;
    install_c_tools()?;
    let tidegate = target_dir().join("debug/tidegate");
    let folder = target_dir().join("templates/projects");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for (language, sample, tests) in LANGUAGES {
        one(&tidegate, &folder, language, sample, tests).with_context(|| format!("the template for {language}"))?;
    }
    Ok(())
}

fn one(tidegate: &Path, folder: &Path, language: &str, sample: &str, tests: &[&str]) -> Result<()> {
    let name = format!("{language}-handler");
    let project = folder.join(&name);
    let here = |program: &Path, arguments: &[&str], folder: &Path| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).env_remove("CARGO_MANIFEST_DIR");
        command
    };
    step(&format!("a project for {language}"), &mut here(tidegate, &["new", &name, "--lang", language], folder))?;
    step("its build", &mut here(tidegate, &["build"], &project))?;
    if let [program, arguments @ ..] = tests {
        step("its own tests", &mut here(Path::new(program), arguments, &project))?;
    }
    let run = output(&mut here(tidegate, &["invoke", "--handler", &name, sample, "--json"], &project))?;
    let run: serde_json::Value = serde_json::from_str(&run).context("reading what `invoke` printed")?;
    let at = |path: &str| run.pointer(path).cloned().unwrap_or_default();
    let ended = (at("/outcome/code"), at("/outputs/0/body"));
    ensure!(ended == ("completed".into(), "order 7: 1250 cents".into()), "it ended otherwise: {run}");
    step("its cases", &mut here(tidegate, &["test"], &project))?;
    println!("{language}: {} bytes, {} fuel", at("/module/size"), at("/usage/fuel"));
    Ok(())
}

/// Installs clang for wasm where that is simple: as root on Debian and its like. Elsewhere the build says what it lacks.
fn install_c_tools() -> Result<()> {
    let root_user = output(&mut command("id", &["-u"])).is_ok_and(|id| id.trim() == "0");
    let there = command("clang-19", &["--version"]).output().is_ok() && Path::new("/usr/include/wasm32-wasi").is_dir();
    if there || !root_user || !Path::new("/etc/debian_version").exists() {
        return Ok(());
    }
    // Lists of packages can be old; where they are, what they name is no longer there.
    step("looking for packages", &mut command("apt-get", &["update", "--quiet"]))?;
    let mut install = command("apt-get", &["install", "--yes", "--quiet", "--no-install-recommends"]);
    step("installing clang for wasm", install.args(C_PACKAGES).current_dir(root()))
}
