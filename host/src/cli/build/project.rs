//! A project: which language its folder is of, and what builds it.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use clap::ValueEnum as _;

use super::super::language::Language;
use super::running::Running;
use super::{cargo, steps};

/// A folder that a module is built from.
#[derive(Debug)]
pub(in super::super) struct Project {
    folder: PathBuf,
    language: Language,
    running: Running,
}

impl Project {
    /// Finds out which language a folder is of, unless it is said.
    ///
    /// # Errors
    /// When there is no such folder, or its files tell of no language or of several.
    pub(in super::super) fn find(folder: &Path, said: Option<Language>) -> anyhow::Result<Self> {
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        let language = match said {
            Some(language) => language,
            None => language_of(folder, |mark| folder.join(mark).is_file())?,
        };
        Ok(Self { folder: folder.to_owned(), language, running: Running::default() })
    }

    pub(in super::super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(in super::super) const fn language(&self) -> Language {
        self.language
    }

    /// By which its builds can be ended from elsewhere.
    pub(in super::super) fn running(&self) -> Running {
        self.running.clone()
    }

    /// Gets what the build lacks, builds, and says where the module is. What the tools say goes to standard error.
    ///
    /// # Errors
    /// When a tool is missing, with how to come by it; when one fails; when there is no module afterwards.
    pub(in super::super) fn build(&self) -> anyhow::Result<PathBuf> {
        let (tool, how) = self.language.tool();
        ensure!(steps::find(tool).is_some(), "there is no `{tool}` to build {} with: {how}", self.language.name());
        let at = steps::Place { folder: &self.folder, running: &self.running };
        match self.language {
            Language::Rust => return cargo::build(at),
            Language::Js => steps::js(at)?,
            Language::Python => steps::python(at)?,
            Language::C => steps::c(at)?,
        }
        let module = self.folder.join(super::MODULE);
        ensure!(
            module.is_file(),
            "the build went well and left no {}: let it write the module there, where a host's configuration and this \
             command look for it",
            module.display()
        );
        Ok(module)
    }
}

/// The language that a folder's files tell of.
fn language_of(folder: &Path, has: impl Fn(&str) -> bool) -> anyhow::Result<Language> {
    let all = Language::value_variants();
    let found: Vec<Language> = all.iter().copied().filter(|language| has(language.mark())).collect();
    let marks = |languages: &[Language]| {
        let marks = languages.iter().map(|language| format!("{} ({})", language.mark(), language.name()));
        marks.collect::<Vec<_>>().join(", ")
    };
    match found.as_slice() {
        [language] => Ok(*language),
        [] => bail!("{} is no project of a handler: it has none of {}", folder.display(), marks(all)),
        several => bail!("{} has {}: say with --lang which is the handler's", folder.display(), marks(several)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_folder_is_of_the_language_that_its_files_tell() {
        let found =
            |files: &[&str]| language_of(Path::new("f"), |mark| files.contains(&mark)).map_err(|e| e.to_string());
        assert_eq!(found(&["Cargo.toml", "README.md"]).unwrap(), Language::Rust);
        assert_eq!(found(&["Makefile"]).unwrap(), Language::C);
        assert_eq!(
            found(&["package.json", "Cargo.toml"]).unwrap_err(),
            "f has Cargo.toml (Rust), package.json (JavaScript): say with --lang which is the handler's"
        );
        assert!(
            found(&["setup.py"]).unwrap_err().starts_with("f is no project of a handler: it has none of Cargo.toml")
        );
    }
}
