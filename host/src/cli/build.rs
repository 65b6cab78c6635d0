//! `tidegate build`: a handler's module, by its language's ordinary tools, checked as a host would.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::exit::{Ended, Exit, Failure};
use super::language::Language;
use super::{say, table};
use crate::config::{Config, FILE_NAME};
use crate::deploy::beside_host;
use crate::handler::Handler as _;
use crate::sandbox::granted::Granted;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Sandbox, SandboxOptions};

mod cargo;
mod project;
mod running;
mod steps;

pub(super) use project::Project;

/// Where the builds of all languages but Rust leave the module, from the project's folder.
pub(super) const MODULE: &str = "handler.wasm";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The project's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The language, where the folder's files tell of several
    #[arg(long, value_enum)]
    lang: Option<Language>,
    /// Print what was built as JSON
    #[arg(long)]
    json: bool,
}

/// What came of a build.
#[derive(Debug, Serialize)]
struct Built {
    language: &'static str,
    module: String,
    digest: String,
    size: usize,
    imports: Vec<String>,
    build_ms: u64,
    load_ms: u64,
}

pub(super) fn build(arguments: &Arguments) -> Ended {
    let project = Project::find(&arguments.folder, arguments.lang).map_err(Failure::usage)?;
    let begun = Instant::now();
    let module = project.build()?;
    let built = check(&project, &module, begun.elapsed())?;
    if arguments.json {
        say::json(&built)?
    } else {
        say::data(&built.for_people())?
    }
    Ok(Exit::Done)
}

/// Loads a module as a host would, within the limits that the project's configuration has for it.
fn check(project: &Project, module: &Path, took: Duration) -> anyhow::Result<Built> {
    let shown = module.display();
    let bytes = std::fs::read(module).with_context(|| format!("reading the module {shown}"))?;
    let (limits, granted, cache_dir) = settings(project.folder(), module);
    let runtime = tokio::runtime::Runtime::new()?;
    let sandbox = Sandbox::new(SandboxOptions { cache_dir, ..SandboxOptions::default() })?;
    let begun = Instant::now();
    let version = runtime.block_on(sandbox.load_granted(bytes, &shown.to_string(), &limits, granted));
    let version = version.with_context(|| format!("it was built, and no host would run {shown}"))?;
    Ok(Built {
        language: project.language().name(),
        module: shown.to_string(),
        digest: version.digest().to_owned(),
        size: version.size(),
        imports: version.imports().map(str::to_owned).collect(),
        build_ms: millis(took),
        load_ms: millis(begun.elapsed()),
    })
}

/// The limits and grants of the handler whose module this is, and where compiled code is kept, by the configuration beside
/// it. Where nothing is said of it, nothing is known of what it will be granted.
fn settings(folder: &Path, module: &Path) -> (Limits, Granted, Option<PathBuf>) {
    let path = folder.join(FILE_NAME);
    if !path.is_file() {
        return (Limits::default(), Granted::anything(), None);
    }
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(error) => {
            // What is built does not depend on it; `check` says it in full.
            say::talk(&format!("checking the module by the default limits, because of the configuration\n{error}"));
            return (Limits::default(), Granted::anything(), None);
        }
    };
    let module = module.canonicalize().ok();
    let handler = config.handlers.values().find(|handler| {
        let configured = handler.module.as_ref().and_then(|path| path.canonicalize().ok());
        configured.is_some() && configured == module
    });
    let granted = handler.map_or_else(Granted::anything, beside_host);
    (handler.map_or_else(Limits::default, |handler| handler.limits.clone()), granted, Some(config.host.cache_dir))
}

impl Built {
    fn for_people(&self) -> String {
        let digest = self.digest.get(..12).unwrap_or(&self.digest);
        let (built, loaded) = (Duration::from_millis(self.build_ms), Duration::from_millis(self.load_ms));
        format!(
            "module    {} ({digest}, {})\nimports   {}\nbuilt     in {}, loads in {}\n",
            self.module,
            table::size(self.size as u64),
            self.imports.join("\n          "),
            table::duration(built),
            table::duration(loaded)
        )
    }
}

/// Whether a program is on the PATH.
pub(super) fn is_there(program: &str) -> bool {
    steps::find(program).is_some()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
