//! The steps of builds: other programs, run in the project's folder, with their output shown as it comes.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

use anyhow::{Context as _, ensure};

use super::super::{language::Language, say};
use super::running::Running;

/// The program that makes a module of Python.
const COMPONENTIZE_PY: &str = "componentize-py";
/// The compiler that the template's Makefile names.
const CLANG: &str = "clang-19";

/// Installs what `package.json` names when nothing is, and runs its script `build`.
pub(super) fn js(at: Place<'_>) -> anyhow::Result<()> {
    if !at.folder.join("node_modules").is_dir() {
        at.run("npm", &["install", "--no-audit", "--no-fund"])?;
    }
    at.run("npm", &["run", "build"])
}

/// Runs componentize-py: that of `.venv`, that of the PATH, or one that is installed into `.venv` as `requirements.txt`
/// says.
pub(super) fn python(at: Place<'_>) -> anyhow::Result<()> {
    let own = at.folder.join(".venv/bin").join(COMPONENTIZE_PY);
    if !own.is_file() && find(COMPONENTIZE_PY).is_none() {
        if !at.folder.join(".venv/bin/pip").is_file() {
            let hint = "making a virtual environment (Debian: `apt install python3-venv`)";
            at.run("python3", &["-m", "venv", ".venv"]).context(hint)?;
        }
        at.run(".venv/bin/pip", &["install", "--quiet", "--requirement", "requirements.txt"])?;
    }
    let program = if own.is_file() { ".venv/bin/componentize-py" } else { COMPONENTIZE_PY };
    let arguments = ["-d", "wit", "-w", "message-handler", "componentize", "app", "-o", super::MODULE];
    at.run(program, &arguments)
}

/// Runs make.
pub(super) fn c(at: Place<'_>) -> anyhow::Result<()> {
    let made = at.run("make", &[]);
    // Another compiler may be named in the Makefile or its variables; only where there is none at all it is the likely
    // reason.
    if made.is_err() && find(CLANG).is_none() && env::var_os("WASM_CC").is_none() {
        let (_, how) = Language::C.tool();
        return made.context(format!("there is no `{CLANG}`: {how}"));
    }
    made
}

/// Where the steps of a build run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The project's folder.
    pub(super) folder: &'a Path,
    /// Knows the program that runs.
    pub(super) running: &'a Running,
}

impl Place<'_> {
    /// Says what is run, and runs it. What it says goes to standard error: standard output is for what is built.
    pub(super) fn run(self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let shown = shown(program, arguments);
        say::talk(&format!("$ {shown}"));
        let said = io::stderr().as_fd().try_clone_to_owned().context("opening standard error once more")?;
        let mut command = command(self.folder, program, arguments);
        let started = self.running.spawn(command.stdin(Stdio::null()).stdout(said));
        let mut child = started.with_context(|| format!("starting `{shown}`"))?;
        let status = self.running.wait(&mut child).with_context(|| format!("waiting for `{shown}`"))?;
        ensure!(status.success(), "`{shown}` failed ({status}); what it said stands above");
        Ok(())
    }
}

/// A program in the project's folder. A path with a slash is one in that folder.
pub(super) fn command(folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let full = if program.contains('/') {
        // It is looked for before or after the folder is changed to, by the system: a full path is the same in both.
        env::current_dir().unwrap_or_default().join(folder).join(program)
    } else {
        PathBuf::from(program)
    };
    let mut command = Command::new(full);
    command.args(arguments).current_dir(folder);
    command
}

/// A command line as a person would type it.
pub(super) fn shown(program: &str, arguments: &[&str]) -> String {
    std::iter::once(&program).chain(arguments).copied().collect::<Vec<_>>().join(" ")
}

/// Where a program is on the PATH.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|folder| folder.join(program)).find(|path| path.is_file())
}
